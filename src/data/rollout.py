"""Plays episodes on a vector environment, every call of the policy for all games at once.

Shapes: K games, E finished episodes, N agents, A actions, O and S as in `EnvInfo`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from inspo.data.recorder import Episode, EpisodeRecorder, split_episodes
from inspo.envs import VectorEnv
from inspo.utils.errors import SimulatorError

MAX_CRASHED_ROUNDS = 10  # rounds in a row in which every game crashed


class Policy(Protocol):
    """Whatever plays: a trained controller or a script. It has a random generator of its own."""

    def start(self, env: VectorEnv) -> None:
        """An episode has begun in every game of `env`. A script may look at the whole state."""

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
        """Nothing to begin."""

    def act(
        self, obs: np.ndarray, avail_actions: np.ndarray, last_actions: np.ndarray
    ) -> np.ndarray:
        draws = self.generator.random(avail_actions.shape)
        return np.where(avail_actions, draws, -1).argmax(axis=-1)


@dataclass
class Rollout:
    """Played episodes, E of them."""

    lengths: np.ndarray  # int64 [E], steps L
    returns: np.ndarray  # float64 [E]
    terminated: np.ndarray  # bool [E], how the episode ended; the others were truncated
    battle_won: np.ndarray | None  # bool [E]; None where no battles are fought
    rows: dict[str, np.ndarray] | None  # if recorded, as `EpisodeRecorder.stacked` returns them

    def episodes(self) -> Iterator[Episode]:
        """Each episode as a dict of row fields with L + 1 rows, as datasets have them."""
        return split_episodes(self.rows, self.lengths, self.terminated)


def play(
    env: VectorEnv, policy: Policy, n_episodes: int, seed: int, record: bool = False
) -> Iterator[Rollout]:
    """Rounds of one episode in every game, until at least `n_episodes` did not crash.

    Args:
        seed: of the environments; games and rounds have seeds of their own, counted up from it.
        record: keep every step's rows.

    Raises:
        SimulatorError: game after game crashed, or none can be started.
    """
    played = crashed_rounds = 0
    while played < n_episodes:
        rollout = play_round(env, policy, seed, record)
        seed += env.n_envs
        finished = len(rollout.lengths)
        played += finished
        crashed_rounds = 0 if finished else crashed_rounds + 1
        if crashed_rounds == MAX_CRASHED_ROUNDS:
            raise SimulatorError(
                f"every game of {MAX_CRASHED_ROUNDS} rounds crashed; the log says how"
            )
        if finished:
            yield rollout


def play_round(env: VectorEnv, policy: Policy, seed: int, record: bool) -> Rollout:
    """One episode in every game. Those that crashed are left out."""
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
    return Rollout(lengths[keep], returns[keep], ended[keep], won[keep] if battles else None, rows)
