"""Plays an environment with random actions and lists everything that is wrong with it."""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from inspo.data.rollout import RandomPolicy, Rollout, play_round
from inspo.envs import EnvInfo, MultiAgentEnv, VectorEnv, constructor, without_dataset
from inspo.envs.contract import EnvCodeError, Problem, made, raised
from inspo.envs.external_env import ExternalEnv
from inspo.envs.user_env import UserEnv, UserEnvClass
from inspo.utils.config import RunConfig
from inspo.utils.errors import ConfigError, UserError

LARGE = 100.0  # observations beyond it slow training down
COMPARED = ("obs", "state", "avail_actions", "reward")


@dataclass
class EnvReport:
    """What a check found.

    Attributes:
        problems: what must be mended; the first of each kind.
        remarks: what may be meant so.
    """

    name: str
    info: EnvInfo | None = None
    n_games: int = 0
    rollouts: list[Rollout] = field(default_factory=list)
    seconds: float = 0.0  # of all rounds but the first, which may have to compile or load
    problems: dict[str, Problem] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def add(self, problem: Problem) -> None:
        """Adds a problem. Those that differ only in their values are counted as one."""
        text = f"{problem.method} {problem.agent}: {problem.text}"
        kind = re.sub(r"\d+(\.\d+)?|True|False|nan|inf", "#", text)
        self.problems.setdefault(kind, problem)
        self.counts[kind] = self.counts.get(kind, 0) + 1

    def __str__(self) -> str:
        lines = [f"Environment {self.name}"]
        if self.info is not None:
            sizes = [f"{key} {value}" for key, value in vars(self.info).items()]
            lines.append(f"  {', '.join(sizes)}")
        if len(self.rollouts) > 1:
            lines += self._played()
        lines += [f"Remark: {remark}" for remark in self.remarks]
        for kind, problem in self.problems.items():
            count = self.counts[kind]
            times = f" [{count} times]" if count > 1 else ""
            lines.append(f"Problem: {problem}{times}")
        n_problems = len(self.problems)
        noun = "problem" if n_problems == 1 else "problems"
        lines.append(f"{n_problems or 'No'} {noun}")
        return "\n".join(lines)

    def _played(self) -> list[str]:
        lengths = np.concatenate([rollout.lengths for rollout in self.rollouts])
        returns = np.concatenate([rollout.returns for rollout in self.rollouts])
        n_terminated = sum(int(rollout.terminated.sum()) for rollout in self.rollouts)
        later_steps = sum(int(rollout.lengths.sum()) for rollout in self.rollouts[1:])
        return [
            f"  {len(lengths)} random episodes, {self.n_games} games side by side",
            f"  length {lengths.mean():.1f} ({lengths.min()} to {lengths.max()}), "
            f"{n_terminated} terminated, {len(lengths) - n_terminated} truncated",
            f"  return {returns.mean():.3f} +- {returns.std():.3f} "
            f"({returns.min():.3f} to {returns.max():.3f})",
            f"  {later_steps / max(self.seconds, 1e-9):.0f} steps per second",
        ]


def check_env(args: RunConfig, n_episodes: int, n_games: int, seed: int) -> EnvReport:
    """Plays at least `n_episodes`, several games side by side, and the same seed twice.

    Games that are known not to repeat episodes, as StarCraft II, are not compared.

    Raises:
        ConfigError: the settings are wrong.
        SimulatorError: it cannot be played here.
    """
    report = EnvReport(args.env)
    env = _make(args, report)
    if env is None:
        return report
    try:
        _Check(env, report, n_games, seed).run(n_episodes)
    finally:
        env.close()
    return report


def _make(args: RunConfig, report: EnvReport) -> ExternalEnv | None:
    """The environment, whose contract reports to `report`. None if there are no sizes."""
    make = constructor(args.env)
    env_args = without_dataset(args.env_args)
    try:
        is_class = isinstance(make, UserEnvClass)
        env = made(args.env, UserEnv, make, env_args) if is_class else make(**env_args)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"environment '{args.env}': {error}") from None
    if not isinstance(env, ExternalEnv):  # one of the project's own, which need no contract
        repeatable = env.repeatable
        env = UserEnv(UserEnvClass(args.env, type(env)), {}, env)
        env.repeatable = repeatable
    env.contract.report = report.add
    report.info = EnvInfo(**env.get_env_info())
    return env


class _Check:
    def __init__(self, env: MultiAgentEnv, report: EnvReport, n_games: int, seed: int):
        self.env, self.report, self.seed = env, report, seed
        self.n_games = n_games

    def run(self, n_episodes: int) -> None:
        try:
            self._play(n_episodes)
        except EnvCodeError as error:
            self.report.add(error.problem)
        except UserError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever the environment's code raises
            self.report.add(Problem("playing", raised(error)))

    def _play(self, n_episodes: int) -> None:
        batch = self.env.make_batch(self.n_games)
        self.report.n_games = batch.n_envs
        try:
            first = self._round(batch, self.seed)
            if self.env.repeatable:
                again = self._round(batch, self.seed)
                self._compare("the same seed twice", first, again, range(len(first.lengths)))
                self._compare_alone(first)
            else:
                self.report.remarks.append(
                    "the same seed does not repeat an episode: the simulator continues its random "
                    "numbers"
                )
            self._remark(first)
            while sum(len(rollout.lengths) for rollout in self.report.rollouts) < n_episodes:
                n_rounds = len(self.report.rollouts)
                self._round(batch, self.seed + n_rounds * batch.n_envs)
        finally:
            batch.close()

    def _round(self, batch: VectorEnv, seed: int) -> Rollout:
        start = time.monotonic()
        rollout = play_round(batch, RandomPolicy(self.seed), seed, record=True)
        if self.report.rollouts:
            self.report.seconds += time.monotonic() - start
        self.report.rollouts.append(rollout)
        return rollout

    def _compare_alone(self, side_by_side: Rollout) -> None:
        """The last game, played alone with the same seed and actions, must be the same."""
        k = len(side_by_side.lengths) - 1
        if k < 1:
            return
        game = self.env.make_batch(1)
        try:
            actions = side_by_side.rows["actions"][k : k + 1]
            alone = play_round(game, _Repeat(actions), self.seed + k, record=True)
        except (ValueError, EnvCodeError):  # an action is not available: the games differ
            self._problem("one game alone differs from the same game beside others")
            return
        finally:
            game.close()
        self._compare("one game alone and beside others", side_by_side, alone, [k])

    def _compare(self, what: str, first: Rollout, second: Rollout, games: Iterator[int]) -> None:
        """Reports the first difference of two rollouts. `second` may hold one game alone."""
        for k in games:
            other = k if len(second.lengths) > k else 0
            steps = min(first.lengths[k], second.lengths[other])
            for name in COMPARED:
                ours = first.rows[name][k, :steps]
                theirs = second.rows[name][other, :steps]
                if (differs := np.flatnonzero((ours != theirs).reshape(steps, -1).any(1))).size:
                    self._problem(f"{what}: {name} differs at step {differs[0]} of game {k}")
                    return
            if first.lengths[k] != second.lengths[other]:
                self._problem(f"{what}: the episodes of game {k} have different lengths")
                return

    def _problem(self, text: str) -> None:
        self.report.add(Problem("reset(seed)", text))

    def _remark(self, rollout: Rollout) -> None:
        add = self.report.remarks.append
        info, lengths = self.report.info, rollout.lengths
        if info.episode_limit > 1 and (lengths == 1).all():
            add("every episode is over after one step")
        at_limit = lengths == info.episode_limit
        if info.episode_limit > 1 and at_limit.any() and rollout.terminated[at_limit].all():
            add(
                "episodes that reach the time limit are terminated, not truncated: if the limit "
                "is not part of the game, learners should bootstrap from the last state"
            )
        for name in ("obs", "state"):
            largest = float(np.abs(rollout.rows[name]).max())
            if largest > LARGE:
                add(f"{name} holds numbers up to {largest:g}; values near 1 are learnt faster")
        never = ~rollout.rows["avail_actions"].any(axis=(0, 1))
        for agent, actions in enumerate(never):
            if actions.any():
                listed = ", ".join(str(action) for action in np.flatnonzero(actions))
                add(f"never available to agent {agent}: actions {listed}")


class _Repeat:
    """A policy that repeats recorded actions, int [K, T, N]."""

    def __init__(self, actions: np.ndarray):
        self.actions = actions

    def start(self, env: VectorEnv) -> None:
        self.step = -1

    def act(
        self, obs: np.ndarray, avail_actions: np.ndarray, last_actions: np.ndarray
    ) -> np.ndarray:
        self.step = min(self.step + 1, self.actions.shape[1] - 1)
        return self.actions[:, self.step]
