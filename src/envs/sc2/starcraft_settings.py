"""What the settings of StarCraft II may be: SMAC itself finds a wrong one only during a battle."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from inspo.utils.errors import ConfigError

DIFFICULTIES = (*"123456789", "A")  # SMAC's names, from very easy to one that cheats
KINDS = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "text",
}
ABOVE_0 = ("move_amount", "reward_scale_rate", "start_timeout", "step_timeout")
GRIDS = ("obs_pathing_grid", "obs_terrain_height")
AT_LEAST = {"step_mul": 1, "start_retries": 0, "n_workers": 1}


def check_settings(settings: Mapping[str, Any], types: Mapping[str, Any]) -> None:
    """Checks the values of StarCraft II's `env_args`, except places and names of maps.

    Args:
        settings: the values by name.
        types: what they have to be. Those of types that are not in KINDS are not checked.

    Raises:
        ConfigError: some are wrong. Names all of them.
    """
    if problems := list(_problems(settings, types)):
        raise ConfigError("; ".join(problems))


def _problems(settings: Mapping[str, Any], types: Mapping[str, Any]) -> Iterator[str]:
    for name, value in settings.items():
        kind = types[name]
        if kind in KINDS and not _is(value, kind):
            yield f"env_args.{name} is {value!r}; it must be {KINDS[kind]}"
        elif name in ABOVE_0 and value <= 0:
            yield f"env_args.{name} is {value!r}; it must be a number above 0"
        elif name in AT_LEAST and value < AT_LEAST[name]:
            yield f"env_args.{name} is {value!r}; it must be at least {AT_LEAST[name]}"
    if settings["difficulty"] not in DIFFICULTIES:
        known = ", ".join(DIFFICULTIES)
        yield f"env_args.difficulty is {settings['difficulty']!r}; it must be one of {known}"
    yield from _moves(settings)
    version = settings["game_version"]
    if version is not None and not isinstance(version, str):
        yield (
            f"env_args.game_version is the number {version}; "
            "a version needs quotes, as in '\"4.10\"'"
        )
    if "/" in str(settings["replay_prefix"]):
        prefix = settings["replay_prefix"]
        yield (
            f"env_args.replay_prefix is {prefix!r}; it is part of the files' names and holds no "
            "slash: the folder is env_args.replay_dir"
        )


def _moves(settings: Mapping[str, Any]) -> Iterator[str]:
    amount = settings["move_amount"]
    grids = [name for name in GRIDS if settings[name] is True]
    if grids and _is(amount, float) and amount % 1:
        yield (
            f"env_args.move_amount is {amount!r}; with {' and '.join(grids)}, SMAC needs a whole "
            "number"
        )


def _is(value: Any, kind: type) -> bool:
    if kind is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and math.isfinite(value)
    return type(value) is kind
