"""The casts and checks that all readers and writers share."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from inspo.data.arrays import AXES, ROW_FIELDS, Sizes
from inspo.data.episode_data import EpisodeData, Finding
from inspo.utils.errors import DatasetError
from inspo.utils.memory import free_memory

FLAGS = ("avail_actions", "terminated", "truncated", "filled")

# report_problem(field, problem, bad): bad marks the wrong entries along the first axis.
ReportProblem = Callable[[str, str, np.ndarray], None]
REWARDS_DIFFER = "the agents' rewards differ"
JOIN_REWARDS = (
    "the setting reward_scalarisation=mean, or =sum, makes one reward of them "
    "(dataset.py convert --reward-scalarisation)"
)
INDEX_BYTES = 64  # for each episode, or each row of a timeline, while episodes are found
SMALL_INDEX = 1 << 20  # bytes; never refused
log = logging.getLogger(__name__)


class ReadOptions(NamedTuple):
    """What the user states about data that say it differently, or not at all.

    Attributes:
        reward_scalarisation: how rewards per agent become the team's: `mean`, `sum`, or None, which
            refuses rewards that differ.
        assume: options of `inspo.data.formats.assume`, for padded arrays.
    """

    reward_scalarisation: str | None = None
    assume: frozenset[str] = frozenset()


def raise_problems(path: Path | str, problems: Sequence[Finding | str]) -> None:
    """Raises one DatasetError that lists all `problems`, if there are any."""
    if len(problems) == 1:
        raise DatasetError(f"{path}: {problems[0]}")
    if problems:
        lines = [f"{path}:", *map(str, problems)]
        raise DatasetError("\n  ".join(lines))


def array_problem(array: Any, n_axes: int | None) -> str:
    """Why a NumPy or h5 array cannot be a field of so many axes (None: any); empty if it can."""
    if array.dtype.kind not in "biuf":
        return f"holds {array.dtype}, not numbers"
    if n_axes is not None and array.ndim != n_axes:
        return f"has shape {array.shape}; expected {n_axes} axes"
    if not array.ndim:
        return "is a single number, not an array"
    if not array.size:
        return f"has shape {array.shape}: there is nothing in it"
    return ""


def cast(name: str, array: np.ndarray, report_problem: ReportProblem) -> np.ndarray:
    """`array`, of numbers, in the dtype of field `name`.

    Values that do not fit are reported, never rounded.
    """
    if name in ("actions", "lengths"):
        return _cast_integers(name, array, report_problem)
    if name in FLAGS:
        return _cast_flags(name, array, report_problem)
    # Numbers too large for float32 become infinity, which the checks find.
    with np.errstate(over="ignore"):
        return array.astype(ROW_FIELDS[name], copy=False)


def _cast_integers(name: str, array: np.ndarray, report_problem: ReportProblem) -> np.ndarray:
    if array.dtype.kind == "f":
        whole = array == np.rint(array)
        if not whole.all():
            report_problem(name, "must hold integers", _entries(~whole))
            array = np.where(whole, array, 0)
        return array.astype(np.float64).clip(-(2.0**62), 2.0**62).astype(np.int64)
    if array.dtype == np.uint64:
        array = array.clip(max=2**62)
    return array.astype(np.int64, copy=False)


def _cast_flags(name: str, array: np.ndarray, report_problem: ReportProblem) -> np.ndarray:
    if array.dtype == bool:
        return array
    bad = (array != 0) & (array != 1)
    if bad.any():
        report_problem(name, f"must hold 0 and 1 only, not {array[bad][0]}", _entries(bad))
    return array != 0


def team_reward(
    rewards: np.ndarray, scalarisation: str | None, report_problem: ReportProblem
) -> np.ndarray:
    """The team's reward of each row, [M], from those of the agents, [M, N] or [M, N, 1].

    Without a scalarisation, rewards that differ are reported.
    """
    rewards = rewards.reshape(len(rewards), -1)
    if scalarisation is not None and rewards.shape[1] > 1:
        join = np.sum if scalarisation == "sum" else np.mean
        return join(rewards, axis=1, dtype=np.float64)
    first = rewards[:, 0]
    # NaN differs from itself; the checks find it.
    differing = (rewards != first[:, None]) & ~(np.isnan(rewards) & np.isnan(first)[:, None])
    if differing.any():
        report_problem("reward", REWARDS_DIFFER, differing.any(axis=1))
    return first


def _entries(bad: np.ndarray) -> np.ndarray:
    """Which entries along the first axis hold anything bad."""
    return bad.reshape(len(bad), -1).any(axis=1)


def empty_data(
    sizes: Sizes, lengths: np.ndarray, metadata: dict[str, Any], path: str
) -> EpisodeData:
    """Uninitialised arrays for episodes of these lengths."""
    n_rows = int((lengths + 1).sum())
    dtypes = sizes.dtypes()
    arrays = {}
    for name, shape in sizes.shapes().items():
        arrays[name] = np.empty((n_rows, *shape), dtypes[name])
    return EpisodeData(lengths=lengths, **arrays, metadata=metadata, path=path)


def subset_of(data: EpisodeData, episodes: np.ndarray) -> EpisodeData:
    """The episodes with these numbers, in this order."""
    lengths = data.lengths[episodes]
    n_rows = lengths + 1
    new_starts = np.cumsum(n_rows) - n_rows
    within = np.arange(int(n_rows.sum())) - np.repeat(new_starts, n_rows)
    rows = np.repeat(data.starts[episodes], n_rows) + within
    arrays = {name: getattr(data, name)[rows] for name in ROW_FIELDS}
    return EpisodeData(lengths=lengths, **arrays, metadata=data.metadata, path=data.path)


def same_content(first: EpisodeData, second: EpisodeData) -> str:
    """The name of the first array in which two datasets differ; empty if they are equal."""
    for name in AXES:
        if not np.array_equal(getattr(first, name), getattr(second, name)):
            return name
    return ""


def check_memory(path: Path, n_bytes: int) -> None:
    """Raises DatasetError if so many bytes do not fit into the free memory."""
    free = free_memory()
    mib, gib, free_gib = n_bytes / 2**20, n_bytes / 2**30, free / 2**30
    log.info("%s will take %.1f MiB of memory; %.1f GiB are free", path, mib, free_gib)
    if n_bytes > 0.9 * free:
        raise DatasetError(
            f"{path}: needs {gib:.1f} GiB of memory, {free_gib:.1f} GiB are free; "
            "train on a part of it with max_episodes=N"
        )


def check_index(path: Path, n_entries: int, unit: str) -> None:
    """Raises DatasetError if finding the episodes among so many entries needs too much memory.

    Packed zeros make a small file of very many. Nothing of it is unpacked before this check.

    Args:
        n_entries: episodes, or rows of a timeline.
        unit: what they are, for the message.
    """
    needed, free = INDEX_BYTES * n_entries, free_memory()
    if needed > max(0.9 * free, SMALL_INDEX):
        raise DatasetError(
            f"{path}: claims {n_entries} {unit}; to list them takes about "
            f"{needed / 2**30:.1f} GiB of memory, {free / 2**30:.1f} GiB are free"
        )


def count_rows(lengths: np.ndarray) -> int:
    """Rows of episodes of these lengths. Whatever a file claims, the sum does not overflow."""
    about = lengths.sum(dtype=np.float64) + len(lengths)
    exact = about < 2.0**53
    return int(lengths.sum()) + len(lengths) if exact else int(about)
