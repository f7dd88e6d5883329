"""Collects the rows of episodes, of one game or of several at once.

Shapes: K games, T steps of the longest, N agents, A actions, O and S as in `EnvInfo`.
"""

from collections.abc import Callable, Iterator

import numpy as np

SEEN = ("state", "obs", "avail_actions")
Episode = dict[str, np.ndarray]  # the row fields of a dataset, each with L + 1 rows
Seen = tuple[np.ndarray, np.ndarray, np.ndarray]  # state, obs, avail_actions
Done = tuple[np.ndarray, float, bool, bool]  # actions, reward, terminated, truncated


class EpisodeRecorder:
    """Collects the rows of K episodes that are played at once."""

    def __init__(self) -> None:
        self.rows: dict[str, list[np.ndarray]] = {
            "state": [],
            "obs": [],
            "avail_actions": [],
            "actions": [],
            "reward": [],
        }

    def observe(self, state: np.ndarray, obs: np.ndarray, avail_actions: np.ndarray) -> None:
        """Adds what is seen before the next action, or at the end: [K, S], [K, N, O], [K, N, A]."""
        self.rows["state"].append(state)
        self.rows["obs"].append(obs)
        self.rows["avail_actions"].append(avail_actions)

    def act(self, actions: np.ndarray, reward: np.ndarray) -> None:
        """Adds the actions, [K, N], and the reward for them, [K]."""
        self.rows["actions"].append(actions)
        self.rows["reward"].append(reward)

    def stacked(self) -> dict[str, np.ndarray]:
        """The rows as [K, T, ...]; what was seen as [K, T + 1, ...]."""
        return {name: np.stack(values, axis=1) for name, values in self.rows.items()}


def split_episodes(
    rows: dict[str, np.ndarray], lengths: np.ndarray, terminated: np.ndarray
) -> Iterator[Episode]:
    """Cuts stacked rows into episodes of L + 1 rows. The final row has no action, reward or flags.

    Args:
        rows: what `EpisodeRecorder.stacked` returns.
        lengths: steps L of each episode, int [K].
        terminated: whether an episode ended by the game's rules, bool [K]; others were truncated.
    """
    for k, steps in enumerate(lengths):
        episode = {name: rows[name][k, : steps + 1] for name in SEEN}
        for name in ("actions", "reward"):
            values = rows[name][k, :steps]
            episode[name] = np.concatenate([values, np.zeros_like(values[:1])])
        last = np.arange(steps + 1) == steps - 1
        episode["terminated"] = last & terminated[k]
        episode["truncated"] = last & ~terminated[k]
        yield episode


def record_episode(observe: Callable[[], Seen], step: Callable[[], Done]) -> Episode:
    """Plays one episode of a game that has just been reset.

    Args:
        observe: returns what is seen now.
        step: chooses actions and takes one step with them. Returns (actions, reward, terminated,
            truncated).
    """
    recorder = EpisodeRecorder()
    n_steps = 0
    over = False
    while not over:
        recorder.observe(*_batch_of_one(observe()))
        actions, reward, terminated, truncated = step()
        recorder.act(*_batch_of_one((actions, reward)))
        n_steps += 1
        over = terminated or truncated
    recorder.observe(*_batch_of_one(observe()))
    lengths, ended = _batch_of_one((n_steps, terminated))
    return next(split_episodes(recorder.stacked(), lengths, ended))


def _batch_of_one(values: tuple) -> tuple:
    """The values of one game with a first axis of size 1."""
    return tuple(np.asarray(value)[None] for value in values)
