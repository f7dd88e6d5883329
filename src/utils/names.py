"""Names that users write: found in a registry, or answered with the nearest one."""

import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from inspo.utils.errors import ConfigError
from inspo.utils.plugins import import_class
from inspo.utils.pymarl_names import answer_to_name
from inspo.utils.values import shown_name

# How papers write the algorithms.
TITLES = {
    "alberdice": "AlberDICE",
    "bc": "BC",
    "cfcql": "CFCQL",
    "icq": "ICQ",
    "inspo": "InSPO",
    "iql": "IQL",
    "iql_cql": "IQL + CQL",
    "macql": "MACQL",
    "mappo": "MAPPO",
    "omar": "OMAR",
    "omiga": "OMIGA",
    "qmix": "QMIX",
    "qmix_cql": "QMIX + CQL",
    "vdn": "VDN",
    "vdn_cql": "VDN + CQL",
}
NEAR = 0.66  # how alike two names are, from 0 to 1, to be taken for a typing error
NEAR_SHORT = 0.5  # the same of names of three letters or less, as of maps
VERY_NEAR = 0.75  # among many names
MAX_LENGTH = 100  # of a name that is compared


def suggestion(name: str, valid: Iterable[str]) -> str:
    """`; did you mean 'x'?` with the nearest valid name. If none is near: a list of all."""
    valid = sorted(valid)
    near = _nearest(name, valid, NEAR if len(name) > 3 else NEAR_SHORT)
    if not near and name:
        containing = [known for known in valid if name.lower() in known.lower()]
        near = min(containing, key=len, default="")
    return f"; did you mean '{near}'?" if near else f"; known: {', '.join(valid)}"


def near_key(name: str, valid: Iterable[str]) -> str:
    """As `suggestion`, for a setting among many: nothing rather than a far name or a long list."""
    near = _nearest(name, valid, VERY_NEAR)
    return f"; did you mean '{near}'?" if near else ""


def _nearest(name: str, valid: Iterable[str], cutoff: float) -> str:
    by_lower_case = {known.lower(): known for known in valid}
    name = name.lower()[:MAX_LENGTH]
    # What all names end in, as `_learner`, would make them look alike.
    ending = _common_ending([*by_lower_case])
    if ending and name.endswith(ending):
        name = name.removesuffix(ending)
        by_lower_case = {low.removesuffix(ending): known for low, known in by_lower_case.items()}
    near = difflib.get_close_matches(name, by_lower_case, n=1, cutoff=cutoff)
    return by_lower_case[near[0]] if near else ""


def _common_ending(names: Collection[str]) -> str:
    """`_x`, if all names end in it."""
    endings = {f"_{name.rpartition('_')[2]}" for name in names}
    if len(endings) != 1:
        return ""
    (ending,) = endings
    return ending if all(name.endswith(ending) for name in names) else ""


def lookup(registry: Mapping[str, Any], name: str, what: str, base: type | None = None) -> Any:
    """The entry `name` of a registry, or the class that `package.module:Class` names.

    The second form is for classes outside of this repository, see `inspo.utils.plugins`.

    Args:
        what: the setting that holds the name, for error messages.
        base: what the class must extend.

    Raises:
        ConfigError: there is no such entry, module or class, the module fails to import, or the
            class does not extend `base`.
    """
    if name in registry:
        return registry[name]
    if ":" in name:
        found = import_class(name, what)
        if base is not None and not issubclass(found, base):
            raise ConfigError(f"{what}={name}: {found.__name__} does not extend {base.__name__}")
        return found
    answer = answer_to_name(what, name) or suggestion(name, registry)
    raise ConfigError(f"unknown {what} '{shown_name(name)}'{answer}")
