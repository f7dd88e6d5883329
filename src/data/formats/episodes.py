"""Episodes as dicts of arrays, joined into one EpisodeData."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from inspo.data.arrays import ROW_FIELDS, compact_actions
from inspo.data.episode_data import EpisodeData
from inspo.data.formats.schema import JOIN_REWARDS, REWARDS_DIFFER, cast, team_reward
from inspo.utils.errors import DatasetError


def from_episodes(
    episodes: Iterable[dict[str, np.ndarray]],
    metadata: dict[str, Any],
    path: str,
    reward_scalarisation: str | None = None,
) -> EpisodeData:
    """Joins episodes into one EpisodeData.

    Args:
        episodes: for each, a dict of the row fields with L + 1 rows, as arrays or nested lists.
        metadata: see `docs/dataset-format.md`.
        path: the dataset's name in messages.
        reward_scalarisation: `mean` or `sum`: how rewards per agent, [L + 1, N], become the team's.
            None refuses rewards that differ between agents.

    Raises:
        DatasetError: there is no episode. Or one lacks a field, has fields of different lengths, or
            fields of other shapes than the first episode. Or a value does not fit its field.
    """
    if isinstance(episodes, Mapping):
        raise DatasetError(f"{path}: give a list of episodes, not one dict")
    episodes = [_as_arrays(path, number, episode) for number, episode in enumerate(episodes)]
    if not episodes:
        raise DatasetError(f"{path}: there is no episode")
    for number, episode in enumerate(episodes):
        _check_episode(path, number, episode, episodes[0])
    lengths = [len(episode["reward"]) - 1 for episode in episodes]
    lengths = np.array(lengths, dtype=np.int64)
    rows = {}
    for name in ROW_FIELDS:
        rows[name] = np.concatenate([episode[name] for episode in episodes])
    rows = _cast_rows(path, rows, lengths, reward_scalarisation)
    return EpisodeData(lengths=lengths, **rows, metadata=metadata, path=path)


def _as_arrays(path: str, number: int, episode: Any) -> dict[str, np.ndarray]:
    """The fields of an episode as NumPy arrays.

    Raises:
        DatasetError: it is no dict, lacks fields, or one cannot become an array.
    """
    if not isinstance(episode, Mapping):
        kind = type(episode).__name__
        raise DatasetError(
            f"{path}: episode {number} is a {kind}; it must be a dict of arrays by name"
        )
    if missing := [name for name in ROW_FIELDS if name not in episode]:
        raise DatasetError(f"{path}: episode {number} lacks {', '.join(missing)}")
    arrays = {}
    for name in ROW_FIELDS:
        values = episode[name]
        where = f"{path}: field '{name}' of episode {number}"
        if np.ma.is_masked(values):
            raise DatasetError(
                f"{where} has masked values, which would be lost; fill them with .filled(value)"
            )
        try:
            arrays[name] = np.asarray(values)
        except (ValueError, TypeError, RuntimeError) as error:  # ragged lists, or torch's tensors
            raise DatasetError(f"{where} is not an array: {error}") from None
        if not arrays[name].ndim:
            raise DatasetError(f"{where} is not an array: {values!r:.80}")
    return arrays


def _check_episode(path: str, number: int, episode: dict, first: dict) -> None:
    """Raises DatasetError if fields differ in length, or in shape from the first episode's."""
    lengths = {name: len(episode[name]) for name in ROW_FIELDS}
    if len(set(lengths.values())) > 1:
        raise DatasetError(
            f"{path}: the fields of episode {number} differ in their number of rows: {lengths}"
        )
    for name in ROW_FIELDS:
        shape = np.shape(episode[name])[1:]
        expected = np.shape(first[name])[1:]
        if shape != expected:
            where = f"{shape} in episode {number}, {expected} in 0"
            raise DatasetError(f"{path}: field '{name}' has rows of shape {where}")


def _cast_rows(
    path: str, rows: dict[str, np.ndarray], lengths: np.ndarray, reward_scalarisation: str | None
) -> dict[str, np.ndarray]:
    """The joined rows in the dtypes of a dataset."""
    starts = np.concatenate(([0], np.cumsum(lengths + 1)[:-1]))

    def report_problem(field: str, problem: str, bad: np.ndarray) -> None:
        row = int(np.argmax(bad))
        episode = int(np.searchsorted(starts, row, side="right")) - 1
        place = f"episode {episode}, step {row - starts[episode]}"
        hint = f"; {JOIN_REWARDS}" if problem == REWARDS_DIFFER else ""
        raise DatasetError(f"{path}: field '{field}': {problem} at {place}{hint}")

    for name, array in rows.items():
        if array.dtype.kind not in "biuf":
            raise DatasetError(f"{path}: field '{name}' holds {array.dtype}, not numbers")
    reward, actions = rows["reward"], rows["actions"]
    if reward.ndim == 2 and reward.shape[1] in (1, *actions.shape[1:2]):
        rows["reward"] = team_reward(reward, reward_scalarisation, report_problem)
    rows = {name: cast(name, array, report_problem) for name, array in rows.items()}
    shape = rows["avail_actions"].shape
    if len(shape) != 3:
        problem = f"has shape {shape}; expected [rows, agents, actions]"
        raise DatasetError(f"{path}: field 'avail_actions' {problem}")
    rows["actions"] = compact_actions(rows["actions"], n_actions=shape[-1])
    return rows
