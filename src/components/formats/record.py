"""Episodes recorded from other people's environments, as dicts that `from_episodes` and `EpisodeWriter` take.

The environments are used as they are (duck typing): neither PettingZoo nor Gymnasium needs to be installed.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

Episode = dict[str, np.ndarray]
MASKS = ("action_mask", "avail_actions")  # under which names environments tell what can be done


class _Rows:
    """The rows of one episode as they are made."""

    def __init__(self) -> None:
        self.rows: dict[str, list] = {name: [] for name in ("state", "obs", "avail_actions", "actions", "reward")}
        self.flags: dict[str, list] = {"terminated": [], "truncated": []}

    def seen(self, state: np.ndarray, obs: np.ndarray, avail_actions: np.ndarray) -> None:
        """What was seen before the next action, or at the end."""
        for name, value in (("state", state), ("obs", obs), ("avail_actions", avail_actions)):
            self.rows[name].append(value)

    def done(self, actions: np.ndarray, reward: float, terminated: bool, truncated: bool) -> None:
        """What was done then, and what came of it."""
        self.rows["actions"].append(actions)
        self.rows["reward"].append(reward)
        self.flags["terminated"].append(terminated)
        self.flags["truncated"].append(truncated)

    def episode(self) -> Episode:
        """All rows; the final one has no action, reward or flags."""
        self.done(np.zeros_like(self.rows["actions"][0]), 0.0, False, False)
        return {name: np.array(values) for name, values in (self.rows | self.flags).items()}


def record_parallel(
    env: Any,
    policy: Callable[[dict[str, np.ndarray], dict[str, np.ndarray]], Mapping[str, int]],
    n_episodes: int,
    seed: int = 0,
    max_steps: int | None = None,
) -> Iterator[Episode]:
    """Plays episodes of a PettingZoo parallel environment with discrete actions.

    Agents that have left see zeros and can only take action 0. Smaller observations are padded with zeros, smaller
    action spaces with unavailable actions. The state is `env.state()`, or all observations side by side; the reward is
    the mean over the agents present, which is the team's reward where they share one.

    Args:
        env: with `possible_agents`, `agents`, `reset(seed)`, `step(actions)` and `action_space(agent).n`. Masks are
            taken from an observation that is a dict of `observation` and `action_mask`, or from an agent's info.
        policy: takes the observations and the masks (bool [A]) of the agents present, returns their actions.
        seed: of the first episode; the k-th is reset with seed + k.
        max_steps: cut episodes here (truncated); None: the environment ends them.

    Yields:
        the row fields of one episode after the other.
    """
    agents = list(env.possible_agents)
    widths = {agent: int(env.action_space(agent).n) for agent in agents}
    n_actions = max(widths.values())

    def look(observations: Mapping[str, Any], infos: Mapping[str, Any]) -> tuple[dict, dict]:
        seen, masks = {}, {}
        for agent in observations:
            observation, mask = observations[agent], None
            if isinstance(observation, Mapping):
                observation, mask = observation["observation"], observation.get("action_mask")
            mask = _mask(infos.get(agent, {})) if mask is None else mask
            seen[agent] = np.asarray(observation, dtype=np.float32).ravel()
            masks[agent] = np.ones(widths[agent], dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
        return seen, masks

    def row(seen: dict, masks: dict, ended: dict, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        obs = np.zeros((len(agents), width), dtype=np.float32)
        avail = np.zeros((len(agents), n_actions), dtype=bool)
        for number, agent in enumerate(agents):
            if agent in seen:
                obs[number, : len(seen[agent])] = seen[agent]
            if agent in seen and not ended[agent]:
                avail[number, : len(masks[agent])] = masks[agent]
            else:
                avail[number, 0] = True
        return _state(env, obs), obs, avail

    for number in range(n_episodes):
        observations, infos = env.reset(seed=seed + number)
        rows, steps, over, ended = _Rows(), 0, False, dict.fromkeys(agents, False)
        seen, masks = look(observations, infos)
        width = max(len(observation) for observation in seen.values())
        while not over:
            rows.seen(*row(seen, masks, ended, width))
            present = ({agent: held[agent] for agent in env.agents} for held in (seen, masks))
            actions = {agent: int(action) for agent, action in policy(*present).items()}
            observations, rewards, terminations, truncations, infos = env.step(actions)
            steps += 1
            ended |= {agent: bool(flag) for agent, flag in terminations.items()}
            terminated = all(ended.values())
            left = all(terminations[agent] or truncations[agent] for agent in terminations)
            truncated = not terminated and (left or steps == max_steps)
            over = terminated or truncated
            joint = np.array([actions.get(agent, 0) for agent in agents])
            rows.done(joint, float(np.mean([float(reward) for reward in rewards.values()])), terminated, truncated)
            seen, masks = look(observations, infos)
        rows.seen(*row(seen, masks, ended, width))
        yield rows.episode()


def record_gymnasium(
    env: Any,
    policy: Callable[[np.ndarray, np.ndarray], np.ndarray],
    n_episodes: int,
    seed: int = 0,
    max_steps: int | None = None,
) -> Iterator[Episode]:
    """Plays episodes of a Gymnasium-style environment: one `step` for the joint action of all agents.

    Args:
        env: `reset(seed=)` returns (observations, info), `step(joint_action)` returns (observations, reward,
            terminated, truncated, info). Observations are N arrays of one size; reward is a number, or one for each
            agent, of which the mean is taken; the flags may be one for each agent. `action_space` is a MultiDiscrete
            (`nvec`), a tuple of Discrete spaces, or one Discrete space, for a single agent. Masks are
            `info["action_mask"]` or `info["avail_actions"]`, else `env.get_avail_actions()`, else all ones; the state
            is `info["state"]`, else `env.state()` or `env.get_state()`, else all observations side by side.
        policy: takes observations [N, O] and masks (bool [N, A]), returns actions [N].
        seed: of the first episode; the k-th is reset with seed + k.
        max_steps: cut episodes here (truncated); None: the environment ends them.

    Yields:
        the row fields of one episode after the other.
    """
    widths = _widths(env.action_space)
    alone = hasattr(env.action_space, "n")

    def row(observations: Any, info: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        obs = np.asarray(observations, dtype=np.float32).reshape(len(widths), -1)
        mask = _mask(info)
        if mask is None and hasattr(env, "get_avail_actions"):
            mask = env.get_avail_actions()
        exist = np.arange(max(widths)) < np.array(widths)[:, None]
        avail = exist if mask is None else exist & np.asarray(mask, dtype=bool).reshape(exist.shape)
        state = np.asarray(info["state"], dtype=np.float32).ravel() if "state" in info else _state(env, obs)
        return state, obs, avail

    for number in range(n_episodes):
        observations, info = env.reset(seed=seed + number)
        rows, steps, over = _Rows(), 0, False
        while not over:
            current = row(observations, info)
            rows.seen(*current)
            actions = np.asarray(policy(*current[1:]), dtype=np.int64).reshape(len(widths))
            observations, reward, ended, cut, info = env.step(int(actions[0]) if alone else actions)
            steps += 1
            terminated = bool(np.all(ended))
            truncated = not terminated and (bool(np.all(np.logical_or(ended, cut))) or steps == max_steps)
            over = terminated or truncated
            rows.done(actions, float(np.mean(reward)), terminated, truncated)
        rows.seen(*row(observations, info))
        yield rows.episode()


def _mask(info: Mapping[str, Any]) -> Any:
    return next((info[name] for name in MASKS if name in info), None)


def _state(env: Any, obs: np.ndarray) -> np.ndarray:
    for name in ("state", "get_state"):
        method = getattr(env, name, None)
        if callable(method):
            try:
                return np.asarray(method(), dtype=np.float32).ravel()
            except NotImplementedError:  # as PettingZoo's base class does
                break
    return obs.ravel()


def _widths(space: Any) -> list[int]:
    """Number of actions of each agent."""
    if hasattr(space, "nvec"):
        return [int(n) for n in space.nvec]
    if hasattr(space, "n"):
        return [int(space.n)]
    return [int(part.n) for part in space]
