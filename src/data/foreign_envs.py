"""Episodes recorded from other people's environments, as dicts for `from_episodes` and `EpisodeWriter`.

The environments are used as they are (duck typing): neither PettingZoo nor Gymnasium is needed.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from inspo.data.recorder import Done, Episode, Seen, record_episode

MASK_NAMES = ("action_mask", "avail_actions")  # under which environments say what can be done
ParallelPolicy = Callable[[dict[str, np.ndarray], dict[str, np.ndarray]], Mapping[str, int]]
JointPolicy = Callable[[np.ndarray, np.ndarray], np.ndarray]


def record_parallel(
    env: Any,
    policy: ParallelPolicy,
    n_episodes: int,
    seed: int = 0,
    max_steps: int | None = None,
) -> Iterator[Episode]:
    """Plays episodes of a PettingZoo parallel environment with discrete actions.

    Agents that have left see zeros and can only take action 0. Smaller observations are padded with
    zeros, smaller action spaces with unavailable actions. The state is `env.state()`, or all
    observations side by side. The reward is the mean over the agents present, which is the team's
    reward where they share one.

    Args:
        env: has `possible_agents`, `agents`, `reset(seed)`, `step(actions)`, `action_space(agent).n`.
            Masks come from an observation that is a dict of `observation` and `action_mask`, or from
            an agent's info.
        policy: takes the observations and the masks (bool [A]) of the agents present, and returns
            their actions.
        seed: of the first episode; episode k is reset with seed + k.
        max_steps: truncates longer episodes; None: the environment ends them.

    Yields:
        the row fields of one episode after the other.
    """
    game = _ParallelGame(env, policy, max_steps)
    for number in range(n_episodes):
        game.reset(seed + number)
        yield record_episode(game.observe, game.step)


def record_gymnasium(
    env: Any,
    policy: JointPolicy,
    n_episodes: int,
    seed: int = 0,
    max_steps: int | None = None,
) -> Iterator[Episode]:
    """Plays episodes of a Gymnasium-style environment: one `step` for the joint action of all agents.

    Args:
        env: `reset(seed=)` returns (observations, info). `step(joint_action)` returns (observations,
            reward, terminated, truncated, info). Observations are N arrays of one size. The reward
            is a number, or one for each agent, of which the mean is taken. The flags may be one for
            each agent. `action_space` is a MultiDiscrete (`nvec`), a tuple of Discrete spaces, or
            one Discrete space for a single agent. Masks are `info["action_mask"]` or
            `info["avail_actions"]`, else `env.get_avail_actions()`, else all ones. The state is
            `info["state"]`, else `env.state()` or `env.get_state()`, else all observations.
        policy: takes observations [N, O] and masks (bool [N, A]), and returns actions [N].
        seed: of the first episode; episode k is reset with seed + k.
        max_steps: truncates longer episodes; None: the environment ends them.

    Yields:
        the row fields of one episode after the other.
    """
    game = _GymnasiumGame(env, policy, max_steps)
    for number in range(n_episodes):
        game.reset(seed + number)
        yield record_episode(game.observe, game.step)


class _ParallelGame:
    """A PettingZoo parallel environment in play."""

    def __init__(self, env: Any, policy: ParallelPolicy, max_steps: int | None):
        self.env, self.policy, self.max_steps = env, policy, max_steps
        self.agents = list(env.possible_agents)
        self.n_actions = {agent: int(env.action_space(agent).n) for agent in self.agents}

    def reset(self, seed: int) -> None:
        observations, infos = self.env.reset(seed=seed)
        self.steps, self.ended = 0, dict.fromkeys(self.agents, False)
        self._look(observations, infos)
        self.obs_size = max(len(observation) for observation in self.seen.values())

    def observe(self) -> Seen:
        obs = np.zeros((len(self.agents), self.obs_size), dtype=np.float32)
        available = np.zeros((len(self.agents), max(self.n_actions.values())), dtype=bool)
        for number, agent in enumerate(self.agents):
            if agent in self.seen:
                obs[number, : len(self.seen[agent])] = self.seen[agent]
            if agent in self.seen and not self.ended[agent]:
                available[number, : len(self.masks[agent])] = self.masks[agent]
            else:
                available[number, 0] = True
        return _state(self.env, obs), obs, available

    def step(self) -> Done:
        present = self.env.agents
        chosen = self.policy(
            {agent: self.seen[agent] for agent in present},
            {agent: self.masks[agent] for agent in present},
        )
        actions = {agent: int(action) for agent, action in chosen.items()}
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        self.steps += 1
        self.ended |= {agent: bool(flag) for agent, flag in terminations.items()}
        terminated = all(self.ended.values())
        left = all(terminations[agent] or truncations[agent] for agent in terminations)
        truncated = not terminated and (left or self.steps == self.max_steps)
        self._look(observations, infos)
        joint = np.array([actions.get(agent, 0) for agent in self.agents])
        reward = float(np.mean([float(reward) for reward in rewards.values()]))
        return joint, reward, terminated, truncated

    def _look(self, observations: Mapping[str, Any], infos: Mapping[str, Any]) -> None:
        self.seen, self.masks = {}, {}
        for agent, observation in observations.items():
            mask = None
            if isinstance(observation, Mapping):
                mask = observation.get("action_mask")
                observation = observation["observation"]
            if mask is None:
                mask = _mask(infos.get(agent, {}))
            if mask is None:
                mask = np.ones(self.n_actions[agent], dtype=bool)
            self.seen[agent] = np.asarray(observation, dtype=np.float32).ravel()
            self.masks[agent] = np.asarray(mask, dtype=bool)


class _GymnasiumGame:
    """A Gymnasium-style environment in play."""

    def __init__(self, env: Any, policy: JointPolicy, max_steps: int | None):
        self.env, self.policy, self.max_steps = env, policy, max_steps
        self.n_actions = _n_actions(env.action_space)
        self.single_agent = hasattr(env.action_space, "n")

    def reset(self, seed: int) -> None:
        self.observations, self.info = self.env.reset(seed=seed)
        self.steps = 0

    def observe(self) -> Seen:
        sizes = np.array(self.n_actions)
        obs = np.asarray(self.observations, dtype=np.float32).reshape(len(sizes), -1)
        available = np.arange(sizes.max()) < sizes[:, None]
        mask = _mask(self.info)
        if mask is None and hasattr(self.env, "get_avail_actions"):
            mask = self.env.get_avail_actions()
        if mask is not None:
            available = available & np.asarray(mask, dtype=bool).reshape(available.shape)
        if "state" in self.info:
            state = np.asarray(self.info["state"], dtype=np.float32).ravel()
        else:
            state = _state(self.env, obs)
        self.seen = obs, available
        return state, obs, available

    def step(self) -> Done:
        chosen = self.policy(*self.seen)
        actions = np.asarray(chosen, dtype=np.int64).reshape(len(self.n_actions))
        joint = int(actions[0]) if self.single_agent else actions
        self.observations, reward, ended, cut, self.info = self.env.step(joint)
        self.steps += 1
        terminated = bool(np.all(ended))
        over = bool(np.all(np.logical_or(ended, cut))) or self.steps == self.max_steps
        return actions, float(np.mean(reward)), terminated, not terminated and over


def _mask(info: Mapping[str, Any]) -> Any:
    return next((info[name] for name in MASK_NAMES if name in info), None)


def _state(env: Any, obs: np.ndarray) -> np.ndarray:
    for name in ("state", "get_state"):
        method = getattr(env, name, None)
        if callable(method):
            try:
                return np.asarray(method(), dtype=np.float32).ravel()
            except NotImplementedError:  # as PettingZoo's base class does
                break
    return obs.ravel()


def _n_actions(space: Any) -> list[int]:
    """Number of actions of each agent."""
    if hasattr(space, "nvec"):
        return [int(n) for n in space.nvec]
    if hasattr(space, "n"):
        return [int(space.n)]
    return [int(part.n) for part in space]
