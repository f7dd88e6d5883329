"""Finds what `env_args.key` names, and says which package is missing."""

import os
import re
from collections.abc import Collection
from types import ModuleType
from typing import Any

from inspo.utils.errors import ConfigError, SimulatorError
from inspo.utils.plugins import import_module
from inspo.utils.pymarl_names import answer_to_key

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # pygame, which mpe2 imports, greets
# Packages of environments, and the project's extra that installs them.
EXTRAS = {
    "gymnasium": "gymnasium",
    "jaxmarl": "smax",
    "lbforaging": "lbf",
    "mpe2": "mpe",
    "pettingzoo": "mpe",
    "rware": "rware",
}


def module_of(name: str, setting: str) -> ModuleType:
    """A module of an installed package, or in the current folder.

    Raises:
        ConfigError: it does not exist, or fails to import.
        SimulatorError: its package is known, but not installed.
    """
    if not re.fullmatch(r"\w+(\.\w+)*", name):
        raise ConfigError(f"{setting}: '{name}' is no name of a module")
    try:
        return import_module(name, setting)
    except ConfigError as error:
        package = name.partition(".")[0]
        if package in EXTRAS and f"no module '{package}'" in str(error):
            raise SimulatorError(
                f"{setting}: the package {package} is not installed: "
                f"pip install -e '.[{EXTRAS[package]}]'"
            ) from None
        if name.startswith("pettingzoo.mpe."):
            moved = name.replace("pettingzoo.mpe", "mpe2")
            raise ConfigError(
                f"{setting}: PettingZoo's MPE is a package of its own: {moved}"
            ) from None
        raise


def attribute_of(module: ModuleType, name: str, setting: str) -> Any:
    """A function or class of a module.

    Raises:
        ConfigError: there is none of this name.
    """
    found = getattr(module, name, None)
    if not callable(found):
        raise ConfigError(f"{setting}: there is no function or class '{name}' in {module.__name__}")
    return found


def refuse_renamed(settings: Collection[str]) -> None:
    """Raises ConfigError for a former name, which would go to the environment's constructor."""
    if "common_reward" in settings:
        key = "env_args.common_reward"
        raise ConfigError(f"unknown key '{key}'{answer_to_key(key)}")
