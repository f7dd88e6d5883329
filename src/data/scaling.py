"""Scaling of rewards, observations and states, computed once from a dataset.

`standardise_rewards` divides rewards by their root mean square over all steps. Their mean is not
subtracted: that would reward or punish every further step, and so change the task wherever episodes
differ in length.

`standardise_obs` subtracts from every number of an observation and of the state its mean over all
steps (and agents), divides by its standard deviation, and bounds the result. A number that never
changes in the data becomes 0.

Shapes: O numbers per observation, S numbers per state.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from inspo.data.arrays import in_parts
from inspo.data.episode_data import EpisodeData

# obs_mean, obs_std: float32 [O]; state_mean, state_std: float32 [S]; reward_scale: float32 [1].
# Empty if nothing is scaled.
Scaling = dict[str, np.ndarray]
BOUND = 10.0  # standard deviations: what is rare or never seen in the data stays near the rest
PART_BYTES = 1 << 24


def scaling_of(data: EpisodeData, rewards: bool, observations: bool) -> Scaling:
    """The scaling that a dataset's steps imply. Final rows do not count.

    Args:
        rewards, observations: which of the two is asked for.
    """
    scaling: Scaling = {}
    if observations:
        steps = data.is_step
        for name in ("obs", "state"):
            mean, std = _moments(getattr(data, name), steps)
            scaling |= {f"{name}_mean": mean, f"{name}_std": std}
    if rewards:
        mean_square = np.square(data.reward[data.is_step], dtype=np.float64).mean()
        scale = np.float32(np.sqrt(mean_square)) or np.float32(1)
        scaling["reward_scale"] = np.array([scale])
    return scaling


def scaled(data: EpisodeData, scaling: Scaling) -> EpisodeData:
    """The dataset with scaled copies of its arrays; itself if the scaling is empty."""
    changed = {}
    for name in ("obs", "state"):
        if f"{name}_mean" in scaling:
            mean, std = scaling[f"{name}_mean"], scaling[f"{name}_std"]
            changed[name] = _standardised(getattr(data, name), mean, std)
    if "reward_scale" in scaling:
        changed["reward"] = data.reward / scaling["reward_scale"]
    return replace(data, **changed) if changed else data


def standardise(values: Any, mean: Any, std: Any) -> Any:
    """(values - mean) / std within [-BOUND, BOUND]; arrays or tensors [..., O] or [..., S]."""
    return ((values - mean) / std).clip(-BOUND, BOUND)


def _standardised(array: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    result = np.empty_like(array)
    pairs = zip(in_parts(array, PART_BYTES), in_parts(result, PART_BYTES), strict=True)
    for values, target in pairs:
        with np.errstate(over="ignore"):  # infinity is clipped, too
            target[:] = standardise(values, mean, std)
    return result


def _moments(array: np.ndarray, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation along the last axis, float32; 1 where nothing deviates.

    Args:
        array: [M, ..., O].
        steps: which of the rows count, bool [M].
    """
    size = array.shape[-1]

    def parts() -> Iterator[np.ndarray]:
        start = 0
        for part in in_parts(array, PART_BYTES):
            counted = part[steps[start : start + len(part)]]
            start += len(part)
            yield counted.reshape(-1, size).astype(np.float64)

    count = int(steps.sum()) * int(np.prod(array.shape[1:-1]))
    mean = sum(part.sum(axis=0) for part in parts()) / count
    variance = sum(np.square(part - mean).sum(axis=0) for part in parts()) / count
    mean, std = mean.astype(np.float32), np.sqrt(variance).astype(np.float32)
    # Rounding leaves a little of a constant's variance.
    constant = std <= np.finfo(np.float32).eps * np.abs(mean)
    return mean, np.where(constant, np.float32(1), std)
