"""Records episodes of PettingZoo's and Gymnasium's environments.

They come as dicts for `from_episodes` and `EpisodeWriter`. Only the environments' methods are used:
neither PettingZoo nor Gymnasium needs to be installed.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from inspo.data.recorder import Done, Episode, Seen, record_episode

MASK_NAMES = ("action_mask", "avail_actions")  # in an info
ByAgent = dict[str, np.ndarray]
ParallelPolicy = Callable[[ByAgent, ByAgent], Mapping[str, int]]
JointPolicy = Callable[[np.ndarray, np.ndarray], np.ndarray]


def record_parallel(
    env: Any,
    policy: ParallelPolicy,
    n_episodes: int,
    seed: int = 0,
    max_steps: int | None = None,
) -> Iterator[Episode]:
    """Plays episodes of a PettingZoo parallel environment with discrete actions.

    Agents that have left observe zeros and can only take action 0. Smaller observations are padded
    with zeros, smaller action spaces with unavailable actions. The state is `env.state()`, or all
    observations joined. The reward is the mean over the agents present: the team's reward if they
    share one.

    Args:
        env: has `possible_agents`, `agents`, `reset(seed)`, `step(actions)` and
            `action_space(agent).n`. Masks are taken from observations that are dicts of
            `observation` and `action_mask`, or from the agents' infos.
        policy: takes dicts of observations and of masks (bool [A]) by agent, and returns a dict of
            actions.
        seed: of the first episode; episode k is reset with seed + k.
        max_steps: truncates longer episodes; None: only the environment ends episodes.

    Yields:
        a dict of the row fields for each episode.
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
    """Plays episodes of a Gymnasium-style environment, whose `step` takes the joint action.

    The environment's interface:
        `reset(seed=)` returns (observations, info).
        `step(joint_action)` returns (observations, reward, terminated, truncated, info).
        `action_space`: a MultiDiscrete (`nvec`), a tuple of Discrete spaces, or one Discrete space
            for a single agent.
        Observations: N arrays of the same size.
        Reward: a number, or one per agent, of which the mean is taken.
        Flags: one, or one per agent.
        Masks: `info["action_mask"]` or `info["avail_actions"]`, else `env.get_avail_actions()`.
            Without any, all actions are available.
        State: `info["state"]`, else `env.state()` or `env.get_state()`, else all observations.

    Args:
        env: see above.
        policy: takes observations [N, O] and masks (bool [N, A]), and returns actions [N].
        seed: of the first episode; episode k is reset with seed + k.
        max_steps: truncates longer episodes; None: only the environment ends episodes.

    Yields:
        a dict of the row fields for each episode.
    """
    game = _GymnasiumGame(env, policy, max_steps)
    for number in range(n_episodes):
        game.reset(seed + number)
        yield record_episode(game.observe, game.step)


class _ParallelGame:
    """A running PettingZoo parallel environment, for `record_episode`."""

    def __init__(self, env: Any, policy: ParallelPolicy, max_steps: int | None):
        self.env = env
        self.policy = policy
        self.max_steps = max_steps
        self.agents = list(env.possible_agents)
        spaces = {agent: env.action_space(agent) for agent in self.agents}
        self.n_actions = {agent: int(space.n) for agent, space in spaces.items()}

    def reset(self, seed: int) -> None:
        observations, infos = self.env.reset(seed=seed)
        self.steps = 0
        self.ended = dict.fromkeys(self.agents, False)
        self._read(observations, infos)
        self.obs_size = max(len(observation) for observation in self.seen.values())

    def observe(self) -> Seen:
        n_agents, n_actions = len(self.agents), max(self.n_actions.values())
        obs = np.zeros((n_agents, self.obs_size), dtype=np.float32)
        available = np.zeros((n_agents, n_actions), dtype=bool)
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
        left = [terminations[agent] or truncations[agent] for agent in terminations]
        over = all(left) or self.steps == self.max_steps
        truncated = over and not terminated
        self._read(observations, infos)
        joint = np.array([actions.get(agent, 0) for agent in self.agents])
        reward = float(np.mean([float(reward) for reward in rewards.values()]))
        return joint, reward, terminated, truncated

    def _read(self, observations: Mapping[str, Any], infos: Mapping[str, Any]) -> None:
        """Sets `seen` and `masks` of the agents that observed anything."""
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
    """A running Gymnasium-style environment, for `record_episode`."""

    def __init__(self, env: Any, policy: JointPolicy, max_steps: int | None):
        self.env = env
        self.policy = policy
        self.max_steps = max_steps
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
            mask = np.asarray(mask, dtype=bool)
            available = available & mask.reshape(available.shape)
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
        truncated = over and not terminated
        return actions, float(np.mean(reward)), terminated, truncated


def _mask(info: Mapping[str, Any]) -> Any:
    """The available actions that an info holds, or None."""
    return next((info[name] for name in MASK_NAMES if name in info), None)


def _state(env: Any, obs: np.ndarray) -> np.ndarray:
    """The environment's state; all observations if it has none."""
    for name in ("state", "get_state"):
        method = getattr(env, name, None)
        if callable(method):
            try:
                return np.asarray(method(), dtype=np.float32).ravel()
            except NotImplementedError:  # raised by PettingZoo's base class
                break
    return obs.ravel()


def _n_actions(space: Any) -> list[int]:
    """Number of actions of each agent."""
    if hasattr(space, "nvec"):
        return [int(n) for n in space.nvec]
    if hasattr(space, "n"):
        return [int(space.n)]
    return [int(part.n) for part in space]
