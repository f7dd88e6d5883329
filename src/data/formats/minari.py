"""Minari's datasets with discrete actions, read from main_data.hdf5 without the package.

Each episode of L steps is a group `episode_K` with L + 1 `observations`, and L `actions`,
`rewards`, `terminations` and `truncations`. metadata.json beside the file states the action space.
The agent becomes a team of one, whose state is its observation.
"""

import json
import logging
import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from inspo.data.arrays import Sizes, in_parts
from inspo.data.episode_data import Finding
from inspo.data.formats.h5_files import find_fields, find_item, h5_errors, h5_keys, open_h5, reading
from inspo.data.formats.metadata import load_json
from inspo.data.formats.reader import BLOCK_BYTES, Reader
from inspo.data.formats.schema import raise_problems
from inspo.data.formats.timeline import CONTINUOUS, not_flags
from inspo.utils.errors import DatasetError

FILES = ("main_data.hdf5", "data/main_data.hdf5")  # in a dataset's folder
FIELDS = ("observations", "actions", "rewards", "terminations", "truncations")
log = logging.getLogger(__name__)


class MinariReader(Reader):
    """Reads main_data.hdf5, or the folder of a Minari dataset."""

    layout = "Minari's hdf5"

    def __init__(self, path: Path, *arguments: Any):
        super().__init__(path, *arguments)
        found = _data_file(path)
        stated = _read_metadata(found.with_name("metadata.json"))
        space = _action_space(stated)
        self.start = int(space.get("start", 0))  # the first action's number
        self.file = open_h5(found)
        with reading(self.file, path):
            self.episodes = self._find_episodes()
            lengths = [len(episode["rewards"]) for episode in self.episodes]
            self.lengths = np.array(lengths, dtype=np.int64)
            first = self.episodes[0]["observations"]
            n_obs = math.prod(first.shape[1:])
            n_actions = int(space.get("n", 0)) or self._count_actions()
            self.sizes = Sizes(n_agents=1, n_actions=n_actions, obs=n_obs, state=n_obs)
            raise_problems(path, self._unusable_sizes())
        name = str(stated.get("dataset_id", path.name))
        self.metadata = {"behaviour": f"Minari {name}", "source": str(path)}

    @classmethod
    def recognises(cls, path: Path) -> bool:
        found = _data_file(path)
        return found.is_file() and bool(h5_keys(found, ["episode_0"]))

    def close(self) -> None:
        self.file.close()

    def _find_episodes(self) -> list[dict[str, h5py.Dataset]]:
        """The arrays of each episode, checked for shape and dtype."""
        episodes: list[dict[str, h5py.Dataset]] = []
        while True:
            name = f"episode_{len(episodes)}"
            try:
                group = find_item(self.file, name)
            except KeyError:
                break
            except DatasetError as error:
                raise_problems(self.path, [Finding(name, str(error))])
            if not isinstance(group, h5py.Group):
                raise_problems(self.path, [Finding(name, "not a group")])
            fields, problems = find_fields(group, dict.fromkeys(FIELDS))
            if not problems:
                first = episodes[0] if episodes else fields
                problems = _wrong_shapes(fields, first)
            raise_problems(self.path, [f"{name}: {problem}" for problem in problems])
            episodes.append(fields)
        n_named = sum(name.startswith("episode_") for name in self.file)
        if n_named > len(episodes):
            problem = f"missing, though the file has {n_named} episodes"
            raise_problems(self.path, [Finding(name, problem)])
        return episodes

    def _count_actions(self) -> int:
        """The largest action plus one, where the action space is not stated."""
        largest = 0
        for episode in self.episodes:
            parts = in_parts(episode["actions"], BLOCK_BYTES)
            largest = max(largest, *(int(part.max()) for part in parts))
        log.warning("%s: no metadata.json states the actions; %d are seen", self.path, largest + 1)
        return largest + 1

    def _rows(self, first: int, last: int) -> dict[str, np.ndarray]:
        with h5_errors(self.path):
            episodes = [self._episode(number) for number in range(first, last)]
        return {name: np.concatenate([rows[name] for rows in episodes]) for name in episodes[0]}

    def _episode(self, number: int) -> dict[str, np.ndarray]:
        stored = {name: field[:] for name, field in self.episodes[number].items()}
        for name in ("terminations", "truncations"):
            problems = not_flags(name, stored[name])
            raise_problems(self.path, [f"episode_{number}: {problem}" for problem in problems])
        n_rows = len(stored["observations"])
        obs = stored["observations"].reshape(n_rows, -1)
        last = np.arange(n_rows) == n_rows - 2
        terminated = _with_final(stored["terminations"].reshape(n_rows - 1)) != 0
        # A step that ends the game and the time at once ends the game.
        truncated = last & ~terminated
        return {
            "state": obs,
            "obs": obs[:, None],
            "actions": _with_final(stored["actions"].reshape(n_rows - 1, 1) - self.start),
            "avail_actions": np.ones((n_rows, 1, self.sizes.n_actions), dtype=bool),
            "reward": _with_final(stored["rewards"].reshape(n_rows - 1)),
            "terminated": terminated,
            "truncated": truncated,
        }


def _with_final(values: np.ndarray) -> np.ndarray:
    """The values with a zero for the final row."""
    return np.concatenate([values, np.zeros_like(values[:1])])


def _wrong_shapes(fields: dict[str, h5py.Dataset], first: dict[str, h5py.Dataset]) -> list[Finding]:
    """What is wrong with one episode's arrays, `first` being those of the first episode."""
    observations, actions = fields["observations"], fields["actions"]
    n_steps = len(fields["rewards"])
    problems = []
    for name in FIELDS[1:]:
        if math.prod(fields[name].shape) != n_steps or len(fields[name]) != n_steps:
            problems.append(Finding(name, f"has shape {fields[name].shape}; rewards: {n_steps}"))
    if actions.dtype.kind not in "iu":
        problem = CONTINUOUS.format(shape=actions.shape, dtype=actions.dtype)
        problems = [Finding("actions", problem)]
    if len(observations) != n_steps + 1:
        problem = f"has {len(observations)} rows; {n_steps} steps need one more"
        problems.append(Finding("observations", problem))
    if observations.ndim > 2:
        shape = observations.shape
        problem = f"has shape {shape}; flatten each, and give the episodes to inspo.from_episodes"
        problems.append(Finding("observations", problem))
    if observations.shape[1:] != first["observations"].shape[1:]:
        problem = f"has rows of shape {observations.shape[1:]}, unlike those of episode 0"
        problems.append(Finding("observations", problem))
    return problems


def _data_file(path: Path) -> Path:
    """The file of the data: `path` itself, or one in that folder."""
    if path.is_dir():
        for name in FILES:
            if (path / name).is_file():
                return path / name
    return path


def _read_metadata(path: Path) -> dict[str, Any]:
    """The record in metadata.json; empty if there is no such file.

    Raises:
        DatasetError: it cannot be read.
    """
    if not path.is_file():
        return {}
    try:
        stated = load_json(path)
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: cannot be read: {error}") from None
    return stated if isinstance(stated, dict) else {}


def _action_space(stated: dict[str, Any]) -> dict[str, Any]:
    """`n` and `start` of the discrete action space in a Minari record; empty if it states none."""
    space = stated.get("action_space")
    try:
        space = json.loads(space) if isinstance(space, str) else space
    except (ValueError, RecursionError):
        return {}
    if not isinstance(space, dict) or space.get("type") != "Discrete":
        return {}
    numbers = {key: space.get(key, 0) for key in ("n", "start")}
    return numbers if all(type(value) is int for value in numbers.values()) else {}
