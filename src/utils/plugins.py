"""Imports learners, controllers, environments and mixers that live outside of this repository."""

import difflib
import importlib
import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

from inspo.utils.errors import ConfigError


def import_class(name: str, what: str) -> type:
    """The class that `package.module:Class` names.

    While the module is imported, Python also searches the current folder, after its usual path; and
    before it the folders of `searching`. A package that lies there needs no installation.

    Args:
        what: the setting that holds the name, for error messages.

    Raises:
        ConfigError: the module does not exist or fails to import, or has no such class.
    """
    setting = f"{what}={name}"
    module_name, _, class_name = name.partition(":")
    if not re.fullmatch(r"\w+(\.\w+)*", module_name) or not class_name.isidentifier():
        raise ConfigError(f"{setting}: must have the form package.module:Class")
    module = import_module(module_name, setting)
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        raise ConfigError(
            f"{setting}: there is no class '{class_name}' in {module.__file__}; "
            f"{_nearest_classes(module, class_name)}"
        )
    return found


def import_module(name: str, setting: str) -> ModuleType:
    """A module, which may lie in the current folder or in one of `searching`.

    Args:
        setting: the setting that names it, for error messages.

    Raises:
        ConfigError: it does not exist, fails to import, or another one has its name already.
    """
    with searching([Path.cwd()]):
        _check_not_another(name, setting)
        try:
            return importlib.import_module(name)
        except (Exception, SystemExit) as error:  # a script may end the process
            missing = getattr(error, "name", None)
            is_missing = isinstance(error, ModuleNotFoundError)
            if is_missing and f"{name}.".startswith(f"{missing}."):
                raise ConfigError(
                    f"{setting}: there is no module '{missing}'; searched {_search_path(missing)}"
                ) from None
            line = traceback.extract_tb(error.__traceback__)[-1]
            raise ConfigError(
                f"{setting}: importing {name} failed with {type(error).__name__}: {error} "
                f"({line.filename}, line {line.lineno})"
            ) from error


def _check_not_another(name: str, setting: str) -> None:
    """Python imports a name once: a later module of that name, from another folder, has no effect.

    Raises:
        ConfigError: this would happen.
    """
    if name.split(".")[0] == __name__.split(".")[0]:
        return  # scripts import the project from their own folder, wherever another copy is
    folders, module = None, ""  # None: sys.path
    for part in name.split("."):
        module = f"{module}.{part}" if module else part
        spec = PathFinder.find_spec(module, folders)
        if spec is None:
            return
        imported = getattr(sys.modules.get(module), "__file__", None)
        known = imported and spec.origin
        if known and Path(imported).resolve() != Path(spec.origin).resolve():
            raise ConfigError(
                f"{setting}: this process has imported {module} from {imported}, not "
                f"{spec.origin}; start a new process, or rename one of the two"
            )
        folders = spec.submodule_search_locations
        if folders is None:
            return


@contextmanager
def searching(folders: Iterable[Path]) -> Iterator[None]:
    """Python also searches these folders for modules, after all others."""
    added = [str(folder) for folder in folders]
    sys.path += added
    try:
        yield
    finally:
        for folder in added:
            sys.path.remove(folder)


def _search_path(module: str) -> str:
    """The folders in which Python looks for a module, or for a submodule of a package."""
    package = sys.modules.get(module.rpartition(".")[0])
    folders = getattr(package, "__path__", sys.path)
    return ", ".join(folder or "." for folder in folders)


def _nearest_classes(module: ModuleType, name: str) -> str:
    classes = [key for key, value in vars(module).items() if isinstance(value, type)]
    near = difflib.get_close_matches(name, classes, n=3)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"it has {', '.join(classes) or 'no class'}"
