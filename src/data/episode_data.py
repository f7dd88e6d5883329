"""Recorded episodes in memory: flat rows in compact dtypes, checked before anything is learnt from them."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from inspo.envs import RUNNING_ARGS, EnvInfo
from inspo.utils.errors import DatasetError

ROWS_PER_CHECK = 1 << 14  # bounds the temporary memory of a check
PLACES_NAMED = 3  # of one problem
ORIGIN = ("environment", "env_args", "simulator", "game_version")  # keys of the metadata
UNKNOWN = "unknown"  # as a dataset's environment: whoever made it did not say


class Finding(NamedTuple):
    """One thing that training could not use, and where."""

    field: str
    problem: str
    places: tuple[str, ...] = ()  # the first few, as `episode e, step t, agent i`
    count: int = 1  # of all places

    def __str__(self) -> str:
        where = f" at {self.places[0]}" if self.places else ""
        return f"field '{self.field}': {self.problem}{where}"


@dataclass
class EpisodeData:
    """E episodes laid end to end. An episode of L steps has L + 1 rows; M is the number of all rows.

    Row t < L holds what was seen before action t, the action, and the reward and end flags after it. Row L holds the
    final observation, state and available actions; its action, reward and flags are zero and mean nothing.
    """

    lengths: np.ndarray  # int64 [E], steps L of each episode
    state: np.ndarray  # float32 [M, S]
    obs: np.ndarray  # float32 [M, N, O]
    actions: np.ndarray  # uint8 or int16 [M, N]
    avail_actions: np.ndarray  # bool [M, N, A]
    reward: np.ndarray  # float32 [M], shared by all agents
    terminated: np.ndarray  # bool [M], the game ended here by its own rules
    truncated: np.ndarray  # bool [M], the recording was cut here; the game would have gone on
    metadata: dict[str, Any]
    path: str  # where it was read from, for messages
    first_episode: int = 0  # number, in the whole dataset, of the first episode held here

    @property
    def n_episodes(self) -> int:
        return len(self.lengths)

    @property
    def n_transitions(self) -> int:
        return int(self.lengths.sum())

    @cached_property
    def starts(self) -> np.ndarray:
        """First row of each episode, int64 [E]."""
        return np.concatenate(([0], np.cumsum(self.lengths + 1)[:-1]))

    @property
    def final_rows(self) -> np.ndarray:
        """Row L of each episode, int64 [E]."""
        return self.starts + self.lengths

    @cached_property
    def returns(self) -> np.ndarray:
        """Undiscounted return of each episode, float64 [E]."""
        return np.add.reduceat(self.reward.astype(np.float64), self.starts)

    @property
    def n_bytes(self) -> int:
        return sum(getattr(self, field.name).nbytes for field in fields(self)[1:8])

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the content, whatever file format it came in."""
        digest = hashlib.blake2b(digest_size=8)
        for field in fields(self)[:8]:
            array = np.ascontiguousarray(getattr(self, field.name))
            digest.update(f"{field.name}{array.dtype}{array.shape}".encode())
            digest.update(array.data)
        return digest.hexdigest()

    def summary(self) -> str:
        """One line for the log."""
        truncated = int(self.truncated.sum())
        return (
            f"{self.path}: {self.n_episodes} episodes, {self.n_transitions} transitions, "
            f"length {self.lengths.min()}-{self.lengths.max()}, "
            f"return {self.returns.mean():.3f} +- {self.returns.std():.3f} "
            f"({self.returns.min():.3f} to {self.returns.max():.3f}), {truncated} truncated, "
            f"{self.n_bytes / 2**20:.1f} MiB, fingerprint {self.fingerprint}"
        )

    def score_statistics(self) -> dict[str, float]:
        """Mean, standard deviation, smallest and largest return; and the share of battles won, if the file has it.

        Names are those of the test scores without their `test_`.
        """
        values, won = self.returns, self.metadata.get("battle_won_mean")
        whole = self.metadata.get("episodes") == self.n_episodes  # not its first `max_episodes`
        share = (
            isinstance(won, int | float) and 0 <= won <= 1
        )  # a file of another hand may have per cents
        return ({"battle_won_mean": float(won)} if whole and share else {}) | {
            "return_mean": float(values.mean()),
            "return_std": float(values.std()),
            "return_min": float(values.min()),
            "return_max": float(values.max()),
        }

    def locate(self, row: int) -> str:
        """`episode e, step t` of a flat row."""
        episode = int(np.searchsorted(self.starts, row, side="right")) - 1
        return f"episode {self.first_episode + episode}, step {row - self.starts[episode]}"

    def check(self) -> None:
        """Raises DatasetError for the first thing that training could not use, with field, episode and step."""
        for finding in self.findings():
            raise DatasetError(f"{self.path}: {finding}")

    def findings(self) -> Iterator[Finding]:
        """All that training could not use. What does not even have the right shape is not looked into."""
        wrong_shapes = list(self._wrong_shapes())
        yield from wrong_shapes
        if wrong_shapes:
            return
        rows = len(self.reward)
        for name in ("state", "obs", "reward"):
            values = getattr(self, name)
            yield from self._find(
                name, rows, lambda part, v=values: ~np.isfinite(v[part]), "NaN or infinity"
            )
        n_actions = self.avail_actions.shape[-1]
        step = np.ones(rows, dtype=bool)  # rows with an executed action
        step[self.final_rows] = False
        yield from self._find(
            "reward",
            rows,
            lambda part: ~step[part] & (self.reward[part] != 0),
            "a reward after the last step",
        )

        def outside(part: slice) -> np.ndarray:
            return (self.actions[part] < 0) | (self.actions[part] >= n_actions)

        yield from self._find("actions", rows, outside, f"an action outside 0..{n_actions - 1}")
        yield from self._find(
            "actions",
            rows,
            lambda part: (
                step[part, None]
                & ~outside(part)
                & ~_chosen(self.avail_actions[part], self.actions[part])
            ),
            "the action taken was not available",
        )
        last = np.zeros(rows, dtype=bool)
        last[self.final_rows - 1] = True
        for name in ("terminated", "truncated"):
            flags = getattr(self, name)
            yield from self._find(
                name, rows, lambda part, f=flags: f[part] & ~last[part], "set before the last step"
            )
        yield from self._find(
            "terminated",
            rows,
            lambda part: last[part] & (self.terminated[part] == self.truncated[part]),
            "the last step must be either terminated or truncated",
        )
        needed = step.copy()
        needed[self.final_rows] = self.truncated[self.final_rows - 1]
        yield from self._find(
            "avail_actions",
            rows,
            lambda part: needed[part, None] & ~self.avail_actions[part].any(-1),
            "an agent has no available action",
        )

    def check_env(self, info: EnvInfo) -> None:
        """Raises DatasetError if the sizes are not the environment's."""
        found = self.env_info(info.episode_limit)
        differing = [
            f"{field.name} is {getattr(found, field.name)}, the environment's is {getattr(info, field.name)}"
            for field in fields(EnvInfo)
            if getattr(found, field.name) != getattr(info, field.name)
        ]
        if differing:
            raise DatasetError(f"{self.path} does not fit the environment: {'; '.join(differing)}")

    def origin(self) -> dict[str, Any]:
        """What of the metadata says where the episodes were played."""
        return {name: self.metadata[name] for name in ORIGIN if name in self.metadata}

    def made_elsewhere(
        self, environment: str, env_args: dict[str, Any], provenance: dict[str, str] | None = None
    ) -> str:
        """In what the metadata's environment differs from this one: see `differences`."""
        return differences(self.origin(), environment, env_args, provenance)

    def env_info(self, episode_limit: int) -> EnvInfo:
        """The sizes that the data shows."""
        n_agents, n_actions = self.avail_actions.shape[1:]
        return EnvInfo(n_agents, n_actions, self.obs.shape[-1], self.state.shape[-1], episode_limit)

    def _wrong_shapes(self) -> Iterator[Finding]:
        if self.n_episodes == 0:
            yield Finding("lengths", "there is no episode")
            return
        if (too_short := np.flatnonzero(self.lengths < 1)).size:
            episode = too_short[0]
            yield Finding(
                "lengths",
                f"episode {self.first_episode + episode} has {self.lengths[episode]} steps",
            )
            return
        rows = int((self.lengths + 1).sum())
        dimensions = {
            "state": 2,
            "obs": 3,
            "actions": 2,
            "avail_actions": 3,
            "reward": 1,
            "terminated": 1,
        }
        wrong = False
        for name, ndim in (dimensions | {"truncated": 1}).items():
            shape = getattr(self, name).shape
            if len(shape) != ndim or shape[0] != rows or 0 in shape:
                wrong = True
                needed = f"the episode lengths need {rows} rows in an array of {ndim} axes"
                yield Finding(name, f"has shape {shape}; {needed}")
        agents = (
            {}
            if wrong
            else {
                name: getattr(self, name).shape[1] for name in ("obs", "actions", "avail_actions")
            }
        )
        if len(set(agents.values())) > 1:
            yield Finding("obs", f"the fields disagree on the number of agents: {agents}")

    def _find(
        self, name: str, rows: int, bad: Callable[[slice], np.ndarray], problem: str
    ) -> Iterator[Finding]:
        for start in range(0, rows, ROWS_PER_CHECK):
            found = bad(slice(start, min(start + ROWS_PER_CHECK, rows)))
            if found.any():
                # One place for each row (and agent), however many of its numbers are bad.
                kept = 2 if name in ("obs", "actions", "avail_actions") else 1
                places = np.argwhere(found.any(axis=tuple(range(kept, found.ndim))))
                named = tuple(
                    self.locate(start + int(place[0]))
                    + "".join(f", agent {agent}" for agent in place[1:])
                    for place in places[:PLACES_NAMED]
                )
                yield Finding(name, problem, named, len(places))


def differences(
    origin: dict[str, Any],
    environment: str,
    env_args: dict[str, Any],
    provenance: dict[str, str] | None = None,
) -> str:
    """In what an environment differs from the one that `origin` says; empty if in nothing, or if it does not say.

    Args:
        origin: a dataset's, as `EpisodeData.origin` has it.
        provenance: the environment's, which recordings have in their metadata.
    """
    recorded = origin.get("env_args", {})
    # env_args only ask for a simulator and a version; which it was says the provenance.
    ignored = {"dataset", "datasets", *RUNNING_ARGS, *({"simulator", "game_version"} & {*origin})}
    differing = [
        f"env_args.{key} was {recorded[key]!r}, is {env_args[key]!r}"
        for key in sorted({*recorded} & {*env_args} - ignored)
        if recorded[key] != env_args[key]
    ]
    differing += [
        f"{name} was {origin[name]}, is {value}"
        for name, value in (provenance or {}).items()
        if origin.get(name, value) != value
    ]
    if origin.get("environment", UNKNOWN) not in (UNKNOWN, environment):
        differing = [f"environment was {origin['environment']}, is {environment}"]
    return "; ".join(differing)


def compact_actions(actions: np.ndarray, n_actions: int) -> np.ndarray:
    """`actions` in the smallest integer dtype. Values outside 0..n_actions-1 stay outside, for the check to find."""
    limited = np.where((actions < 0) | (actions > n_actions), n_actions, actions)
    return limited.astype(
        np.uint8 if n_actions < 256 else np.int16 if n_actions < 2**15 else np.int32
    )


def _chosen(avail_actions: np.ndarray, actions: np.ndarray) -> np.ndarray:
    inside = actions.clip(0, avail_actions.shape[-1] - 1)
    return np.take_along_axis(avail_actions, inside[..., None].astype(np.int64), axis=-1)[..., 0]
