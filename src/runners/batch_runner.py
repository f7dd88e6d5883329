"""Plays episodes, many at a time and every policy call for all of them: for evaluation, collection, online training."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch as th

from controllers import BasicMAC
from envs import BatchedEnv
from utils.errors import SimulatorError

MAX_CRASHED_ROUNDS = 10  # rounds in a row of which every game crashed


class Policy(Protocol):
    """Whatever plays: a trained controller or a script. Random draws come from a generator of its own."""

    def start(self, env: BatchedEnv) -> None:
        """An episode has begun in every lane of `env`; a script may look at the whole state there."""

    def act(self, obs: np.ndarray, avail_actions: np.ndarray, last_actions: np.ndarray) -> np.ndarray:
        """Joint actions int [K, N] for obs [K, N, O], avail_actions [K, N, A], last_actions [K, N] (-1: none yet)."""


class MacPolicy:
    """A controller's policies, or its Q-functions when greedy; `epsilon` of the actions are random."""

    def __init__(self, mac: BasicMAC, seed: int, greedy: bool, epsilon: float = 0.0):
        self.mac, self.greedy, self.epsilon = mac, greedy, epsilon
        self.generator = th.Generator(mac.device).manual_seed(seed)

    def start(self, env: BatchedEnv) -> None:
        self.hidden = self.mac.init_hidden(env.n_lanes)

    def act(self, obs: np.ndarray, avail_actions: np.ndarray, last_actions: np.ndarray) -> np.ndarray:
        inputs = (th.from_numpy(array).to(self.mac.device) for array in (obs, avail_actions, last_actions))
        actions, self.hidden = self.mac.act(*inputs, self.hidden, self.greedy, self.generator, self.epsilon)
        return actions.cpu().numpy()


class RandomPolicy:
    """Every available action is equally likely."""

    def __init__(self, seed: int):
        self.generator = np.random.default_rng(seed)

    def start(self, env: BatchedEnv) -> None:
        """Nothing to begin."""

    def act(self, obs: np.ndarray, avail_actions: np.ndarray, last_actions: np.ndarray) -> np.ndarray:
        return np.where(avail_actions, self.generator.random(avail_actions.shape), -1).argmax(axis=-1)


@dataclass
class Rollout:
    """Played episodes, E of them."""

    lengths: np.ndarray  # int64 [E], steps L
    returns: np.ndarray  # float64 [E]
    terminated: np.ndarray  # bool [E], how the episode ended; the others were truncated
    battle_won: np.ndarray | None  # bool [E]; None where no battles are fought
    # If recorded: state [E, T+1, S], obs [E, T+1, N, O], avail_actions [E, T+1, N, A], actions [E, T, N],
    # reward [E, T]. T is the longest episode's length; what follows row L of a shorter one means nothing.
    rows: dict[str, np.ndarray] | None

    def episodes(self) -> Iterator[dict[str, np.ndarray]]:
        """Each episode as a dict of row fields with L + 1 rows, as datasets have them."""
        for e, steps in enumerate(self.lengths):
            episode = {name: self.rows[name][e, : steps + 1] for name in ("state", "obs", "avail_actions")}
            for name in ("actions", "reward"):  # the final row holds neither
                values = self.rows[name][e, :steps]
                episode[name] = np.concatenate([values, np.zeros_like(values[:1])])
            last = np.arange(steps + 1) == steps - 1
            episode["terminated"] = last & self.terminated[e]
            episode["truncated"] = last & ~self.terminated[e]
            yield episode


class BatchRunner:
    """Plays on the lanes of a batched environment, which `close` closes."""

    def __init__(self, env: BatchedEnv):
        self.env = env

    def evaluate(self, mac: BasicMAC, n_episodes: int, greedy: bool, seed: int) -> dict[str, float]:
        """Plays `n_episodes` and scores them.

        Args:
            greedy: likeliest actions instead of sampled ones.
            seed: fixes the environments and the sampling: an evaluation disturbs no other random state.

        Returns:
            test_return_mean, test_return_std, test_ep_length_mean and, where battles are won, test_battle_won_mean.
        """
        rounds = list(self.play(MacPolicy(mac, seed, greedy), n_episodes, seed))
        returns, lengths = (
            np.concatenate([getattr(rollout, name) for rollout in rounds])[:n_episodes]
            for name in ("returns", "lengths")
        )
        scores = {
            "test_return_mean": float(returns.mean()),
            "test_return_std": float(returns.std()),
            "test_ep_length_mean": float(lengths.mean()),
        }
        if rounds[0].battle_won is not None:
            won = np.concatenate([rollout.battle_won for rollout in rounds])[:n_episodes]
            scores["test_battle_won_mean"] = float(won.mean())
        return scores

    def play(self, policy: Policy, n_episodes: int, seed: int, record: bool = False) -> Iterator[Rollout]:
        """Rounds of one episode in every lane, until there are at least `n_episodes` that did not crash.

        Args:
            seed: the environments'; lanes and rounds have seeds of their own, counted up from it.
            record: keep every step's rows.

        Raises:
            SimulatorError: game after game crashed, or none can be started.
        """
        played = crashed_rounds = 0
        while played < n_episodes:
            rollout = self._round(policy, seed, record)
            seed += self.env.n_lanes
            played += len(rollout.lengths)
            crashed_rounds = 0 if len(rollout.lengths) else crashed_rounds + 1
            if crashed_rounds == MAX_CRASHED_ROUNDS:
                raise SimulatorError(f"every game of {MAX_CRASHED_ROUNDS} rounds crashed; the log says how")
            if len(rollout.lengths):
                yield rollout

    def _round(self, policy: Policy, seed: int, record: bool) -> Rollout:
        env = self.env
        env.reset(seed)
        policy.start(env)
        obs, available = env.get_obs(), env.get_avail_actions()
        actions = np.full(obs.shape[:2], -1, dtype=np.int64)
        returns, lengths = np.zeros(env.n_lanes), np.zeros(env.n_lanes, dtype=np.int64)
        won, ended, crashed = np.zeros((3, env.n_lanes), dtype=bool)
        battles = False
        seen: dict[str, list[np.ndarray]] = {"state": [], "obs": [], "avail_actions": []}
        done: dict[str, list[np.ndarray]] = {"actions": [], "reward": []}

        def look() -> None:
            for name, array in (("state", env.get_state()), ("obs", obs), ("avail_actions", available)):
                seen[name].append(array)

        while env.playing.any():
            if record:
                look()
            lengths += env.playing
            actions = policy.act(obs, available, actions)
            reward, terminated, truncated, info = env.step(actions)
            returns += reward
            ended |= terminated
            over = terminated | truncated
            if "battle_won" in info:
                battles = True
                won |= over & info["battle_won"]
            if "crashed" in info:
                crashed |= info["crashed"]
            if record:
                done["actions"].append(actions)
                done["reward"].append(reward)
            obs, available = env.get_obs(), env.get_avail_actions()
        rows = None
        if record:
            look()
            rows = {name: np.stack(arrays, axis=1)[~crashed] for name, arrays in (seen | done).items()}
        keep = ~crashed
        return Rollout(lengths[keep], returns[keep], ended[keep], won[keep] if battles else None, rows)

    def close(self) -> None:
        """Closes the environment."""
        self.env.close()
