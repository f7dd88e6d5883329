"""Action and observation spaces. Gymnasium's, or anything with the same attributes."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from inspo.envs.contract import described
from inspo.utils.errors import EnvContractError

MASK_NAMES = ("action_mask", "avail_actions")  # in an info


class Actions:
    """The actions of one agent, 0 to n - 1. The environment counts them from `start`."""

    def __init__(self, space: Any, name: str, agent: Any):
        is_discrete = hasattr(space, "n") and type(space).__name__ != "MultiBinary"
        if not is_discrete:
            raise EnvContractError(
                f"environment {name}: the action space of agent {agent} is {space}; "
                "only a number of discrete actions (Discrete) can be played here"
            )
        self.n = int(space.n)
        self.start = int(getattr(space, "start", 0))


def parts_of(space: Any) -> list | None:
    """The spaces of the agents in a tuple, list or dict of spaces; None if it is one space."""
    parts = getattr(space, "spaces", space)
    if isinstance(parts, Mapping):
        return list(parts.values())
    return list(parts) if isinstance(parts, (tuple, list)) else None


def names_of(space: Any) -> list | None:
    """The agents of a dict of spaces; None if it is something else."""
    parts = getattr(space, "spaces", space)
    return list(parts) if isinstance(parts, Mapping) else None


def size_of(space: Any) -> int | None:
    """How many numbers `flattened` makes of an observation; None if the space does not tell."""
    kind = type(space).__name__
    if space is None:
        return None
    if (parts := parts_of(space)) is not None:
        sizes = [size_of(part) for part in parts]
        return None if None in sizes else sum(sizes)
    if hasattr(space, "nvec"):
        return int(np.sum(space.nvec))
    if hasattr(space, "n") and kind != "MultiBinary":
        return int(space.n)
    shape = getattr(space, "shape", None)
    return None if shape is None else int(np.prod(shape))


def flattened(space: Any, value: Any) -> Any:
    """An observation as flat numbers: Discrete ones one-hot, the parts of others joined.

    Without a space, or with a Box, the value is only raveled. What cannot be flattened is returned
    as it is; the contract reports it.
    """
    kind = type(space).__name__
    try:
        if (parts := parts_of(space)) is not None and space is not None:
            keys = getattr(space, "spaces", space)
            values = [value[key] for key in keys] if isinstance(keys, Mapping) else list(value)
            pairs = zip(parts, values, strict=True)
            return np.concatenate([flattened(part, item) for part, item in pairs])
        if hasattr(space, "nvec"):
            sizes = np.ravel(space.nvec)
            digits = zip(sizes, np.ravel(value), strict=True)
            return np.concatenate([_one_hot(size, digit) for size, digit in digits])
        if hasattr(space, "n") and kind != "MultiBinary":
            return _one_hot(int(space.n), value - int(getattr(space, "start", 0)))
        return value if isinstance(value, Mapping) else np.ravel(np.asarray(value))
    except (ValueError, TypeError, KeyError, IndexError):
        return value


def observed(space: Any, value: Any) -> tuple[Any, Any]:
    """Observation and mask of an agent.

    A dict may hold the mask. What is observed is then its `observation`, or all of the rest.
    """
    if not isinstance(value, Mapping):
        return flattened(space, value), None
    numbers = value.get("observation", value)
    return flattened(observation_part(space), numbers), mask_in(value)


def observation_part(space: Any) -> Any:
    """The space of the observation alone, where the mask is part of a dict."""
    inner = getattr(space, "spaces", None)
    if not isinstance(inner, Mapping):
        return space
    others = {name: part for name, part in inner.items() if name not in MASK_NAMES}
    return inner.get("observation", others)


def mask_in(info: Any) -> Any:
    """The available actions that an info holds, or None."""
    if not isinstance(info, Mapping):
        return None
    return next((info[name] for name in MASK_NAMES if name in info), None)


def state_method(env: Any) -> Callable | None:
    """The environment's method that returns its state; None if it has none."""
    for holder in (env, getattr(env, "unwrapped", None)):
        for name in ("state", "get_state"):
            method = getattr(holder, name, None)
            if callable(method):
                return method
    return None


def _one_hot(size: int, index: Any) -> np.ndarray:
    if not 0 <= int(index) < size or int(index) != index:
        raise ValueError(f"{described(index)} is not in 0..{size - 1}")
    return np.eye(1, size, int(index), dtype=np.float32)[0]
