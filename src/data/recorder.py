"""The episode recorder: whatever plays, and however many games at once, rows are collected here.

Shapes: K games side by side, T steps of the longest, N agents, A actions, O and S as in `EnvInfo`.
"""

from collections.abc import Callable, Iterator

import numpy as np

Episode = dict[str, np.ndarray]  # the row fields of a dataset, each with L + 1 rows
Seen = tuple[np.ndarray, np.ndarray, np.ndarray]  # state, obs, avail_actions
Done = tuple[np.ndarray, float, bool, bool]  # actions, reward, terminated, truncated


class EpisodeRecorder:
    """Collects the rows of K episodes that are played side by side."""

    def __init__(self) -> None:
        self.rows: dict[str, list[np.ndarray]] = {
            "state": [],
            "obs": [],
            "avail_actions": [],
            "actions": [],
            "reward": [],
        }

    def observe(self, state: np.ndarray, obs: np.ndarray, avail_actions: np.ndarray) -> None:
        """What is seen before the next action, or at the end: [K, S], [K, N, O], [K, N, A]."""
        self.rows["state"].append(state)
        self.rows["obs"].append(obs)
        self.rows["avail_actions"].append(avail_actions)

    def act(self, actions: np.ndarray, reward: np.ndarray) -> None:
        """What was done then, [K, N], and the reward for it, [K]."""
        self.rows["actions"].append(actions)
        self.rows["reward"].append(reward)

    def stacked(self) -> dict[str, np.ndarray]:
        """All rows as [K, T, ...]; [K, T + 1, ...] of what was seen."""
        return {name: np.stack(values, axis=1) for name, values in self.rows.items()}


def split_episodes(
    rows: dict[str, np.ndarray], lengths: np.ndarray, terminated: np.ndarray
) -> Iterator[Episode]:
    """Cuts stacked rows into episodes of L + 1 rows. The final row has no action, reward or flags.

    Args:
        rows: what `EpisodeRecorder.stacked` returns.
        lengths: steps L of each episode, int [K].
        terminated: whether the game ended by its own rules, bool [K]; the others were truncated.
    """
    for k, steps in enumerate(lengths):
        episode = {name: rows[name][k, : steps + 1] for name in ("state", "obs", "avail_actions")}
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
        observe: what is seen now.
        step: chooses the actions, takes one step, and says what was done and what came of it.
    """
    recorder, steps, over = EpisodeRecorder(), 0, False
    while not over:
        recorder.observe(*_one(observe()))
        actions, reward, terminated, truncated = step()
        recorder.act(*_one((actions, reward)))
        steps, over = steps + 1, terminated or truncated
    recorder.observe(*_one(observe()))
    return next(split_episodes(recorder.stacked(), np.array([steps]), np.array([terminated])))


def _one(values: tuple) -> tuple:
    """The values of one game as those of a batch of one."""
    return tuple(np.asarray(value)[None] for value in values)
