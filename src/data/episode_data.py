"""Recorded episodes in memory: flat rows in compact dtypes, checked before training."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from inspo.data.arrays import AXES, ROW_FIELDS, Sizes, fingerprint
from inspo.envs import NOT_THE_GAME, EnvInfo
from inspo.utils.errors import DatasetError

ROWS_PER_CHECK = 1 << 14  # bounds the temporary memory of a check
PLACES_NAMED = 3  # of one problem
# Arrays whose second axis is the agent.
PER_AGENT = ("obs", "actions", "avail_actions")
# Keys of the metadata that tell where episodes were played.
ORIGIN = ("environment", "env_args", "simulator", "game_version")
UNKNOWN = "unknown"  # the environment of a dataset whose maker did not state it


class Finding(NamedTuple):
    """One problem that makes data unfit for training, and where it is."""

    field: str
    problem: str
    places: tuple[str, ...] = ()  # the first few, as `episode e, step t, agent i`
    count: int = 1  # of all places
    hint: str = ""  # what helps

    def __str__(self) -> str:
        where = f" at {self.places[0]}" if self.places else ""
        hint = f"; {self.hint}" if self.hint else ""
        return f"field '{self.field}': {self.problem}{where}{hint}"


@dataclass
class EpisodeData:
    """E episodes laid end to end. An episode of L steps has L + 1 rows; M is the number of rows.

    Row t < L holds the state, observations and available actions before action t, the action, and
    the reward and end flags after it. Row L holds the final state, observations and available
    actions; its action, reward and flags are zero and carry no meaning.
    """

    lengths: np.ndarray  # int64 [E], steps L of each episode
    state: np.ndarray  # float32 [M, S]
    obs: np.ndarray  # float32 [M, N, O]
    actions: np.ndarray  # uint8, int16 or int32 [M, N]
    avail_actions: np.ndarray  # bool [M, N, A]
    reward: np.ndarray  # float32 [M], shared by all agents
    terminated: np.ndarray  # bool [M], the game ended here by its own rules
    truncated: np.ndarray  # bool [M], the recording was cut here; the game would have continued
    metadata: dict[str, Any]
    path: str  # where it was read from, for messages
    first_episode: int = 0  # number, in the whole dataset, of the first episode held here
    hint: Callable[[str, str], str] | None = None  # from a field and its problem to what helps

    @property
    def n_episodes(self) -> int:
        """Number of episodes E."""
        return len(self.lengths)

    @property
    def n_transitions(self) -> int:
        """Number of steps of all episodes."""
        return int(self.lengths.sum())

    @cached_property
    def starts(self) -> np.ndarray:
        """First row of each episode, int64 [E]."""
        return np.concatenate(([0], np.cumsum(self.lengths + 1)[:-1]))

    @property
    def final_rows(self) -> np.ndarray:
        """Row L of each episode, int64 [E]."""
        return self.starts + self.lengths

    @property
    def is_step(self) -> np.ndarray:
        """Rows with an executed action: all but the final ones, bool [M]."""
        steps = np.ones(len(self.reward), dtype=bool)
        steps[self.final_rows] = False
        return steps

    @cached_property
    def returns(self) -> np.ndarray:
        """Undiscounted return of each episode, float64 [E]."""
        return np.add.reduceat(self.reward.astype(np.float64), self.starts)

    @property
    def n_bytes(self) -> int:
        """Memory of the row fields."""
        return sum(getattr(self, name).nbytes for name in ROW_FIELDS)

    @property
    def sizes(self) -> Sizes:
        """Numbers of agents and actions, lengths of an observation and of the state."""
        return Sizes.of({name: getattr(self, name) for name in ROW_FIELDS})

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the content, the same for every file format."""
        return fingerprint({name: getattr(self, name) for name in AXES})

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
        """Statistics of the returns and, where the metadata states it, the share of battles won.

        Keys are those of the test scores without their `test_`.
        """
        scores = {}
        won = self.metadata.get("battle_won_mean")
        # With `max_episodes` only a part is loaded.
        is_whole = self.metadata.get("episodes") == self.n_episodes
        # Files of other projects may state a percentage.
        is_share = isinstance(won, int | float) and 0 <= won <= 1
        if is_whole and is_share:
            scores["battle_won_mean"] = float(won)
        return scores | {
            "return_mean": float(self.returns.mean()),
            "return_std": float(self.returns.std()),
            "return_min": float(self.returns.min()),
            "return_max": float(self.returns.max()),
        }

    @property
    def reference_return(self) -> list[float] | None:
        """The returns that count as 0 and 1 in normalised scores, if the metadata states them.

        Metadata of other makers that is no pair of a number and a larger one counts as none.
        """
        pair = self.metadata.get("reference_return")
        if not isinstance(pair, list) or len(pair) != 2:
            return None
        numbers = [isinstance(x, int | float) and math.isfinite(x) for x in pair]
        return [float(x) for x in pair] if all(numbers) and pair[0] < pair[1] else None

    def locate(self, row: int) -> str:
        """`episode e, step t` of a flat row."""
        episode = int(np.searchsorted(self.starts, row, side="right")) - 1
        return f"episode {self.first_episode + episode}, step {row - self.starts[episode]}"

    def env_info(self, episode_limit: int) -> EnvInfo:
        """The sizes of the environment, taken from the arrays."""
        return EnvInfo(*self.sizes, episode_limit)

    def check_env(self, info: EnvInfo) -> None:
        """Raises DatasetError if the sizes are not the environment's."""
        found = self.env_info(info.episode_limit)
        differing = []
        for field in fields(EnvInfo):
            ours, theirs = getattr(found, field.name), getattr(info, field.name)
            if ours != theirs:
                differing.append(f"{field.name} is {ours}, the environment's is {theirs}")
        if differing:
            text = "; ".join(differing)
            raise DatasetError(f"{self.path} does not fit the environment: {text}")

    def origin(self) -> dict[str, Any]:
        """The part of the metadata that tells where the episodes were played."""
        return {name: self.metadata[name] for name in ORIGIN if name in self.metadata}

    def made_elsewhere(
        self,
        environment: str,
        env_args: dict[str, Any],
        provenance: dict[str, str] | None = None,
    ) -> str:
        """How the given environment differs from the metadata's: see `differences`."""
        return differences(self.origin(), environment, env_args, provenance)

    def check(self) -> None:
        """Raises DatasetError for the first problem, with its field, episode and step."""
        for finding in self.findings():
            raise DatasetError(f"{self.path}: {finding}")

    def findings(self) -> Iterator[Finding]:
        """All problems that make the data unfit for training.

        The content of the arrays is only checked if all shapes are right.
        """
        for finding in self._findings():
            hint = self.hint(finding.field, finding.problem) if self.hint else ""
            yield finding._replace(hint=hint)

    def _findings(self) -> Iterator[Finding]:
        wrong_shapes = list(self._wrong_shapes())
        yield from wrong_shapes
        if not wrong_shapes:
            yield from self._wrong_numbers()
            yield from self._wrong_actions()
            yield from self._wrong_ends()
            yield from self._missing_actions()

    def _wrong_shapes(self) -> Iterator[Finding]:
        if self.n_episodes == 0:
            yield Finding("lengths", "there is no episode")
            return
        if (too_short := np.flatnonzero(self.lengths < 1)).size:
            steps = self.lengths[too_short[0]]
            number = self.first_episode + too_short[0]
            yield Finding("lengths", f"episode {number} has {steps} steps")
            return
        n_rows = int((self.lengths + 1).sum())
        wrong = False
        for name in ROW_FIELDS:
            shape, n_axes = getattr(self, name).shape, AXES[name]
            if len(shape) != n_axes or shape[0] != n_rows or 0 in shape:
                wrong = True
                needed = f"the episode lengths need {n_rows} rows in an array of {n_axes} axes"
                yield Finding(name, f"has shape {shape}; {needed}")
        if not wrong:
            arrays = {name: getattr(self, name) for name in PER_AGENT}
            yield from differing_agents(arrays)

    def _wrong_numbers(self) -> Iterator[Finding]:
        for name in ("state", "obs", "reward"):
            values = getattr(self, name)

            def infinite(part: slice, values: np.ndarray = values) -> np.ndarray:
                return ~np.isfinite(values[part])

            yield from self._find(name, "NaN or infinity", infinite)
        final = ~self.is_step

        def after_the_end(part: slice) -> np.ndarray:
            return final[part] & (self.reward[part] != 0)

        yield from self._find("reward", "a reward after the last step", after_the_end)

    def _wrong_actions(self) -> Iterator[Finding]:
        n_actions = self.avail_actions.shape[-1]
        steps = self.is_step

        def outside(part: slice) -> np.ndarray:
            return (self.actions[part] < 0) | (self.actions[part] >= n_actions)

        def unavailable(part: slice) -> np.ndarray:
            available = _chosen(self.avail_actions[part], self.actions[part])
            return steps[part, None] & ~outside(part) & ~available

        yield from self._find("actions", f"an action outside 0..{n_actions - 1}", outside)
        yield from self._find("actions", "the action taken was not available", unavailable)

    def _wrong_ends(self) -> Iterator[Finding]:
        last = np.zeros(len(self.reward), dtype=bool)
        last[self.final_rows - 1] = True
        final = ~self.is_step
        for name in ("terminated", "truncated"):
            flags = getattr(self, name)

            def early(part: slice, flags: np.ndarray = flags) -> np.ndarray:
                return flags[part] & ~last[part] & ~final[part]

            yield from self._find(name, "set before the last step", early)

            def late(part: slice, flags: np.ndarray = flags) -> np.ndarray:
                return flags[part] & final[part]

            yield from self._find(name, "set after the last step, in the final row", late)

        def undecided(part: slice) -> np.ndarray:
            return last[part] & (self.terminated[part] == self.truncated[part])

        problem = "the last step must be either terminated or truncated"
        yield from self._find("terminated", problem, undecided)

    def _missing_actions(self) -> Iterator[Finding]:
        needed = self.is_step
        # Values are bootstrapped from the final row of a truncated episode.
        needed[self.final_rows] = self.truncated[self.final_rows - 1]

        def missing(part: slice) -> np.ndarray:
            return needed[part, None] & ~self.avail_actions[part].any(-1)

        yield from self._find("avail_actions", "an agent has no available action", missing)

    def _find(
        self, name: str, problem: str, bad: Callable[[slice], np.ndarray]
    ) -> Iterator[Finding]:
        """One finding per ROWS_PER_CHECK rows in which `bad` marks anything."""
        n_rows = len(self.reward)
        for start in range(0, n_rows, ROWS_PER_CHECK):
            found = bad(slice(start, min(start + ROWS_PER_CHECK, n_rows)))
            if not found.any():
                continue
            # One place for each row (and agent), even if several of its numbers are bad.
            first_axis = 2 if name in PER_AGENT else 1
            other_axes = tuple(range(first_axis, found.ndim))
            places = np.argwhere(found.any(axis=other_axes))
            named = []
            for row, *agents in places[:PLACES_NAMED]:
                agent = f", agent {agents[0]}" if agents else ""
                named.append(self.locate(start + int(row)) + agent)
            yield Finding(name, problem, tuple(named), len(places))


def differing_agents(arrays: dict[str, Any], axis: int = 1) -> Iterator[Finding]:
    """A finding if arrays disagree on the number of agents, the size of the given axis.

    Args:
        arrays: the first one is reported. Anything with a shape will do.
    """
    agents = {name: array.shape[axis] for name, array in arrays.items()}
    if len(set(agents.values())) > 1:
        problem = f"the fields disagree on the number of agents: {agents}"
        yield Finding(next(iter(arrays)), problem)


def differences(
    origin: dict[str, Any],
    environment: str,
    env_args: dict[str, Any],
    provenance: dict[str, str] | None = None,
) -> str:
    """How an environment differs from the one that `origin` describes; empty if it does not.

    Args:
        origin: of a dataset, see `EpisodeData.origin`. What it does not state cannot differ.
        provenance: the environment's simulator and game version.
    """
    recorded = origin.get("env_args", {})
    # env_args only request a simulator and a version; the provenance states the actual ones.
    ignored = NOT_THE_GAME | ({"simulator", "game_version"} & {*origin})
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


def _chosen(avail_actions: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Whether each action was available; actions outside the range are clipped to it."""
    n_actions = avail_actions.shape[-1]
    inside = actions.clip(0, n_actions - 1).astype(np.int64)
    return np.take_along_axis(avail_actions, inside[..., None], axis=-1)[..., 0]
