"""Plays episodes on a vector environment: the policy acts in all games at once.

Shapes: K games, E finished episodes, N agents, A actions, O and S as in `EnvInfo`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from inspo.data.recorder import Episode, EpisodeRecorder, split_episodes
from inspo.envs import VectorEnv
from inspo.utils.errors import EnvContractError, SimulatorError

MAX_CRASHED_ROUNDS = 10  # rounds in a row in which every game crashed


class Policy(Protocol):
    """A trained controller or a script. It has a random generator of its own."""

    def start(self, env: VectorEnv) -> None:
        """Is called when an episode begins in every game. A script may use the whole state."""

    def act(
        self, obs: np.ndarray, avail_actions: np.ndarray, last_actions: np.ndarray
    ) -> np.ndarray:
        """Joint actions, int [K, N].

        Args:
            obs: float32 [K, N, O].
            avail_actions: bool [K, N, A].
            last_actions: int [K, N], -1 where there is none yet.
        """


class RandomPolicy:
    """Every available action is equally likely."""

    def __init__(self, seed: int):
        self.generator = np.random.default_rng(seed)

    def start(self, env: VectorEnv) -> None:
        """Nothing to prepare."""

    def act(
        self, obs: np.ndarray, avail_actions: np.ndarray, last_actions: np.ndarray
    ) -> np.ndarray:
        draws = self.generator.random(avail_actions.shape)
        return np.where(avail_actions, draws, -1).argmax(axis=-1)


@dataclass
class Rollout:
    """E finished episodes."""

    lengths: np.ndarray  # int64 [E], steps L
    returns: np.ndarray  # float64 [E]
    terminated: np.ndarray  # bool [E]; the other episodes were truncated
    battle_won: np.ndarray | None  # bool [E]; None if the game has no battles
    rows: dict[str, np.ndarray] | None  # as `EpisodeRecorder.stacked` returns them, if recorded

    def episodes(self) -> Iterator[Episode]:
        """The row fields of each recorded episode, with L + 1 rows as in datasets."""
        return split_episodes(self.rows, self.lengths, self.terminated)


def play(
    env: VectorEnv, policy: Policy, n_episodes: int, seed: int, record: bool = False
) -> Iterator[Rollout]:
    """Plays rounds of one episode in every game, until `n_episodes` or more are finished.

    Crashed episodes do not count.

    Args:
        seed: of the first game; each game of each round has its own, counted up from it.
        record: keeps every step's rows.

    Raises:
        EnvContractError: a reward is not finite.
        SimulatorError: all games crashed in many rounds, or none can be started.
    """
    played = crashed_rounds = 0
    while played < n_episodes:
        rollout = play_round(env, policy, seed, record)
        seed += env.n_envs
        finished = len(rollout.lengths)
        played += finished
        crashed_rounds = 0 if finished else crashed_rounds + 1
        if crashed_rounds == MAX_CRASHED_ROUNDS:
            rounds = f"all games of {MAX_CRASHED_ROUNDS} rounds"
            raise SimulatorError(f"{rounds} crashed; the log shows how")
        if finished:
            yield rollout


def play_round(env: VectorEnv, policy: Policy, seed: int, record: bool) -> Rollout:
    """Plays one episode in every game. Crashed ones are left out."""
    env.reset(seed)
    policy.start(env)
    obs, available = env.get_obs(), env.get_avail_actions()
    actions = np.full(obs.shape[:2], -1, dtype=np.int64)
    returns, lengths = np.zeros(env.n_envs), np.zeros(env.n_envs, dtype=np.int64)
    won, ended, crashed = np.zeros((3, env.n_envs), dtype=bool)
    battles = False
    recorder = EpisodeRecorder() if record else None
    while env.playing.any():
        if recorder:
            recorder.observe(env.get_state(), obs, available)
        lengths += env.playing
        actions = policy.act(obs, available, actions)
        reward, terminated, truncated, info = env.step(actions)
        if not np.isfinite(reward).all():
            raise _broken_reward(env, reward, int(lengths.max()), seed)
        returns += reward
        ended |= terminated
        if "battle_won" in info:
            battles = True
            won |= (terminated | truncated) & info["battle_won"]
        crashed |= info.get("crashed", False)
        if recorder:
            recorder.act(actions, reward)
        obs, available = env.get_obs(), env.get_avail_actions()
    rows = None
    keep = ~crashed
    if recorder:
        recorder.observe(env.get_state(), obs, available)
        rows = {name: values[keep] for name, values in recorder.stacked().items()}
    return Rollout(
        lengths=lengths[keep],
        returns=returns[keep],
        terminated=ended[keep],
        battle_won=won[keep] if battles else None,
        rows=rows,
    )


def _broken_reward(env: VectorEnv, reward: np.ndarray, step: int, seed: int) -> EnvContractError:
    """The error for a reward that is not finite. `seed` is that of the first game."""
    game = int(np.flatnonzero(~np.isfinite(reward))[0])
    games = getattr(env, "envs", [env])
    name = type(games[0]).__name__
    return EnvContractError(
        f"environment {name}: step() (step {step} of the episode with seed {seed + game}): "
        f"the reward is {reward[game]}, not a finite number"
    )
