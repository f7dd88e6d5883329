"""Names that users write: found in a registry, or answered with the nearest one."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from inspo.utils.errors import ConfigError
from inspo.utils.foreign import foreign_name
from inspo.utils.plugins import import_class

NEAR = 0.5  # how alike two names are, from 0 to 1, to be taken for a slip of the pen
VERY_NEAR = 0.75  # among many names


def suggestion(name: str, valid: Iterable[str]) -> str:
    """`; did you mean 'x'?` with the nearest valid name. If none is near: a list of all."""
    valid = sorted(valid)
    near = _nearest(name, valid, NEAR)
    if not near and name:
        near = next((known for known in valid if name.lower() in known.lower()), "")
    return f"; did you mean '{near}'?" if near else f"; known: {', '.join(valid)}"


def near_key(name: str, valid: Iterable[str]) -> str:
    """As `suggestion`, for a setting among many: nothing rather than a far name or a long list."""
    near = _nearest(name, valid, VERY_NEAR)
    return f"; did you mean '{near}'?" if near else ""


def _nearest(name: str, valid: Iterable[str], cutoff: float) -> str:
    by_lower_case = {known.lower(): known for known in valid}
    near = difflib.get_close_matches(name.lower(), by_lower_case, n=1, cutoff=cutoff)
    return by_lower_case[near[0]] if near else ""


def lookup(registry: Mapping[str, Any], name: str, what: str) -> Any:
    """The entry `name` of a registry, or the class that `package.module:Class` names.

    The second form is for classes outside of this repository, see `inspo.utils.plugins`.

    Args:
        what: the setting that holds the name, for error messages.

    Raises:
        ConfigError: there is no such entry, module or class, or the module fails to import.
    """
    if name in registry:
        return registry[name]
    if ":" in name:
        return import_class(name, what)
    answer = foreign_name(what, name) or suggestion(name, registry)
    raise ConfigError(f"unknown {what} '{name}'{answer}")
