"""What a dataset must hold, and the casts and checks that all readers and writers share."""

import json
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil

from inspo.data.episode_data import EpisodeData, Finding, compact_actions
from inspo.utils.errors import DatasetError

MUST_SAY = {
    "environment": str,
    "env_args": dict,
    "behaviour": str,
    "command": str,
}  # what only its maker knows
ROW_FIELDS: dict[str, type] = {
    "state": np.float32,
    "obs": np.float32,
    "actions": np.int64,
    "avail_actions": np.bool_,
    "reward": np.float32,
    "terminated": np.bool_,
    "truncated": np.bool_,
}
FLAGS = ("avail_actions", "terminated", "truncated", "filled")
METADATA_LIMIT = 60_000  # bytes of its JSON: an h5 attribute holds no more than 64 KiB

# report_problem(field, problem, bad rows): bad rows as a mask over the first axis, or None where no row is to blame.
ReportProblem = Callable[[str, str, np.ndarray | None], None]
log = logging.getLogger(__name__)


class Sizes(NamedTuple):
    """What all episodes of a dataset have in common."""

    n_agents: int
    n_actions: int
    obs: int
    state: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one row of each field."""
        return {
            "state": (self.state,),
            "obs": (self.n_agents, self.obs),
            "actions": (self.n_agents,),
            "avail_actions": (self.n_agents, self.n_actions),
            "reward": (),
            "terminated": (),
            "truncated": (),
        }

    def dtypes(self) -> dict[str, np.dtype]:
        """The compact dtype of each field, in memory and in our files."""
        actions = compact_actions(np.zeros(1, dtype=np.int64), self.n_actions).dtype
        return {
            name: actions if name == "actions" else np.dtype(dtype)
            for name, dtype in ROW_FIELDS.items()
        }

    def bytes_per_row(self) -> int:
        """Of all fields together, in compact dtypes."""
        dtypes = self.dtypes()
        return sum(
            math.prod(shape) * dtypes[name].itemsize for name, shape in self.shapes().items()
        )

    @classmethod
    def of(cls, data: EpisodeData) -> "Sizes":
        """The sizes that the data shows."""
        return cls(*data.avail_actions.shape[1:], data.obs.shape[-1], data.state.shape[-1])


def raise_problems(path: Path | str, problems: Sequence[Finding | str]) -> None:
    """Raises one DatasetError that tells all `problems`, if there are any."""
    if len(problems) == 1:
        raise DatasetError(f"{path}: {problems[0]}")
    if problems:
        raise DatasetError(f"{path}:" + "".join(f"\n  {problem}" for problem in problems))


def cast(name: str, array: np.ndarray, report_problem: ReportProblem) -> np.ndarray:
    """`array`, of numbers, in the dtype of field `name`. What does not fit into it is complained of, never rounded."""
    if name in ("actions", "lengths"):
        if array.dtype.kind == "f":
            whole = array == np.rint(array)
            if not whole.all():
                report_problem(name, "must hold integers", _rows(~whole))
                array = np.where(whole, array, 0)
            return array.astype(np.float64).clip(-(2.0**62), 2.0**62).astype(np.int64)
        return (
            array.clip(max=2**62).astype(np.int64)
            if array.dtype == np.uint64
            else array.astype(np.int64, copy=False)
        )
    if name in FLAGS:
        if array.dtype == bool:
            return array
        bad = (array != 0) & (array != 1)
        if bad.any():
            report_problem(name, f"must hold 0 and 1 only, not {array[bad][0]}", _rows(bad))
        return array != 0
    with np.errstate(over="ignore"):  # too large for float32: infinity, which the checks find
        return array.astype(ROW_FIELDS[name], copy=False)


def _rows(bad: np.ndarray) -> np.ndarray:
    return bad.reshape(len(bad), -1).any(axis=1)


def from_episodes(
    episodes: Iterable[dict[str, np.ndarray]], metadata: dict[str, Any], path: str
) -> EpisodeData:
    """Joins episodes, each a dict of the row fields with L + 1 rows, into one EpisodeData.

    Raises:
        DatasetError: there is no episode, or one lacks a field or has fields of different lengths or other shapes than
            the first.
    """
    episodes = list(episodes)
    if not episodes:
        raise DatasetError(f"{path}: there is no episode")
    for number, episode in enumerate(episodes):
        if missing := [name for name in ROW_FIELDS if name not in episode]:
            raise DatasetError(f"{path}: episode {number} lacks {', '.join(missing)}")
        if odd := [name for name in ROW_FIELDS if not _is_array(episode[name])]:
            raise DatasetError(
                f"{path}: field '{odd[0]}' of episode {number} is no array: {episode[odd[0]]!r:.80}"
            )
        lengths = {name: len(episode[name]) for name in ROW_FIELDS}
        if len(set(lengths.values())) > 1:
            raise DatasetError(
                f"{path}: the fields of episode {number} differ in their number of rows: {lengths}"
            )
        for name in ROW_FIELDS:
            if (shape := np.shape(episode[name])[1:]) != (first := np.shape(episodes[0][name])[1:]):
                raise DatasetError(
                    f"{path}: field '{name}' has rows of shape {shape} in episode {number}, {first} in 0"
                )
    lengths = np.array([len(episode["reward"]) - 1 for episode in episodes], dtype=np.int64)
    starts = np.concatenate(([0], np.cumsum(lengths + 1)[:-1]))

    def report_problem(field: str, problem: str, bad: np.ndarray | None) -> None:
        row = int(np.argmax(bad))
        episode = int(np.searchsorted(starts, row, side="right")) - 1
        raise DatasetError(
            f"{path}: field '{field}': {problem} at episode {episode}, step {row - starts[episode]}"
        )

    rows = {name: np.concatenate([episode[name] for episode in episodes]) for name in ROW_FIELDS}
    for name, array in rows.items():
        if array.dtype.kind not in "biuf":
            raise DatasetError(f"{path}: field '{name}' holds {array.dtype}, not numbers")
    rows = {name: cast(name, array, report_problem) for name, array in rows.items()}
    if rows["avail_actions"].ndim != 3:
        shape = rows["avail_actions"].shape
        raise DatasetError(
            f"{path}: field 'avail_actions' has shape {shape}; expected [rows, agents, actions]"
        )
    rows["actions"] = compact_actions(rows["actions"], rows["avail_actions"].shape[-1])
    return EpisodeData(lengths=lengths, **rows, metadata=metadata, path=path)


def _is_array(values: Any) -> bool:
    """Whether it is an array of rows, or lists as one; ragged lists are none."""
    try:
        return np.ndim(values) > 0
    except ValueError:
        return False


def empty_data(
    sizes: Sizes, lengths: np.ndarray, metadata: dict[str, Any], path: str
) -> EpisodeData:
    """Room for episodes of these lengths, nothing in it yet."""
    rows, dtypes = int((lengths + 1).sum()), sizes.dtypes()
    arrays = {
        name: np.empty((rows, *shape), dtypes[name]) for name, shape in sizes.shapes().items()
    }
    return EpisodeData(lengths=lengths, **arrays, metadata=metadata, path=path)


def subset_of(data: EpisodeData, episodes: np.ndarray) -> EpisodeData:
    """The episodes with these numbers, in this order."""
    lengths = data.lengths[episodes]
    within = np.arange(int((lengths + 1).sum())) - np.repeat(
        np.cumsum(lengths + 1) - lengths - 1, lengths + 1
    )
    rows = np.repeat(data.starts[episodes], lengths + 1) + within
    arrays = {name: getattr(data, name)[rows] for name in ROW_FIELDS}
    return EpisodeData(lengths=lengths, **arrays, metadata=data.metadata, path=data.path)


def check_metadata(path: Path, metadata: dict[str, Any]) -> None:
    """Raises DatasetError if `metadata` does not say what its maker must say, or not in the right form."""
    if missing := [key for key in MUST_SAY if key not in metadata]:
        raise DatasetError(f"{path}: the metadata must also say: {', '.join(missing)}")
    for key, kind in MUST_SAY.items():
        if not isinstance(metadata[key], kind):
            wanted = "text" if kind is str else "a record"
            raise DatasetError(
                f"{path}: the metadata's '{key}' must be {wanted}, not {metadata[key]!r:.80}"
            )


def metadata_json(path: Path, metadata: dict[str, Any]) -> str:
    """`metadata` as text, checked: it says what it must and fits where it goes."""
    check_metadata(path, metadata)
    try:
        text = json.dumps(metadata)
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{path}: the metadata must be plain JSON values: {error}") from None
    if len(text.encode()) > METADATA_LIMIT:
        raise DatasetError(
            f"{path}: the metadata takes {len(text.encode())} bytes; at most {METADATA_LIMIT} fit"
        )
    return text


def check_memory(path: Path, n_bytes: int) -> None:
    """Raises DatasetError before an allocation that the memory cannot take."""
    free = psutil.virtual_memory().available
    log.info(
        "%s will take %.1f MiB of memory; %.1f GiB are free", path, n_bytes / 2**20, free / 2**30
    )
    if n_bytes > 0.9 * free:
        raise DatasetError(
            f"{path}: needs {n_bytes / 2**30:.1f} GiB of memory, {free / 2**30:.1f} GiB are free; "
            f"train on a part of it with max_episodes=N"
        )


def same_content(first: EpisodeData, second: EpisodeData) -> str:
    """The first array in which two datasets differ, by name; empty if they hold the same."""
    for field in fields(first)[:8]:
        if not np.array_equal(getattr(first, field.name), getattr(second, field.name)):
            return field.name
    return ""
