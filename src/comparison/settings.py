"""Settings of runs: which of them make variants of an algorithm, and how labels write them."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from inspo.comparison.runs import RunRecord
from inspo.run.checkpoint import FREE_SETTINGS

# How a run is trained and evaluated. Scores are comparable only if these are the same.
# test_interval matters only for scores that use several evaluations.
PROTOCOL = ("test_nepisode", "test_greedy", "t_max", "test_interval")

# Settings that make no variant: they change no number, or they are the row, column or seed.
NOT_VARIANTS = FREE_SETTINGS | {"name", "seed", "env", "env_config", "max_episodes"}
MISSING = "(none)"  # stands for the value of a setting that a run does not have
LONGEST_VALUE = 24  # characters; labels show a hash of longer values


def variant_settings(run: RunRecord, allow: Sequence[str]) -> dict[str, Any]:
    """The settings in which runs of one algorithm may differ within a column.

    Args:
        allow: keys of `PROTOCOL` that count as well.
    """
    return {
        key: value
        for key, value in run.settings.items()
        if key in allow or not (key in NOT_VARIANTS or key.startswith("env_args."))
    }


def differing(several: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The keys whose values differ between the mappings, each with its distinct values."""
    several = list(several)
    result = {}
    for key in sorted({key for settings in several for key in settings}):
        distinct = []
        for settings in several:
            value = settings.get(key, MISSING)
            if value not in distinct:
                distinct.append(value)
        if len(distinct) > 1:
            result[key] = sorted(distinct, key=str)
    return result


def label(name: str, settings: Mapping[str, Any]) -> str:
    """`name`, or `name (key=value, ...)`."""
    if not settings:
        return name
    pairs = ", ".join(f"{key}={short(value)}" for key, value in settings.items())
    return f"{name} ({pairs})"


def values_text(values: Mapping[str, Iterable[Any]]) -> str:
    """`key (value, value); key (value, value)`."""
    return "; ".join(f"{key} ({', '.join(map(short, found))})" for key, found in values.items())


def short(value: Any) -> str:
    """A setting's value for a label."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    if len(text) <= LONGEST_VALUE:
        return text
    return f"#{hashlib.blake2b(text.encode(), digest_size=3).hexdigest()}"
