"""Gymnasium's games: one agent, or several whose actions are given together.

Shapes: N agents, A actions, O numbers per observation, S numbers per state.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from inspo.envs.adapters.spaces import (
    Actions,
    mask_in,
    names_of,
    observation_part,
    observed,
    parts_of,
    size_of,
    state_method,
)
from inspo.envs.contract import Contract, described
from inspo.envs.seeding import Seeder
from inspo.utils.errors import EnvContractError


class JointGame:
    """A running game. Its methods convert, by the contract, what the environment returns.

    Args:
        env: its `action_space` is one Discrete space, or a tuple, list or dict of them with one for
            each agent, or a MultiDiscrete with one entry for each agent. A dict's agents act by
            dicts, too.

    Raises:
        EnvContractError: there is no action space, or an action is not discrete.
    """

    def __init__(self, env: Any, contract: Contract):
        self.contract = contract
        self.use(env)
        space = getattr(env, "action_space", None)
        if space is None:
            raise EnvContractError(f"environment {contract.name}: there is no action_space")
        self.names = names_of(space)
        contract.agents = self.names or []
        self.multi_discrete = hasattr(space, "nvec")
        if self.multi_discrete:
            self.n_actions, self.starts = _multi_discrete(space)
        else:
            parts = parts_of(space)
            spaces = [space] if parts is None else parts
            actions = [Actions(part, contract.name, i) for i, part in enumerate(spaces)]
            self.n_actions = [part.n for part in actions]
            self.starts = np.array([part.start for part in actions])
        self.single_agent = not self.multi_discrete and parts_of(space) is None
        self.n_agents = len(self.n_actions)
        self.spaces = self._observation_spaces()
        self.sizes = [size_of(observation_part(part)) for part in self.spaces]
        self.obs_size: int | None = None
        self.state_size: int | None = None

    def use(self, env: Any) -> None:
        """Continues with another object of the same environment."""
        self.env, self.seeder = env, Seeder(env)

    def reset(self, seed: int | None) -> None:
        """Starts an episode."""
        answer = self.seeder.reset(seed)
        is_pair = isinstance(answer, tuple) and len(answer) == 2
        with_info = is_pair and isinstance(answer[1], Mapping | None)
        observations, info = answer if with_info else (answer, {})
        self.info = info or {}
        self.terminated = False
        self._read(observations, "reset()")
        if self.state_size is None:
            state = self._own_state()
            size = self.n_agents * self.obs_size
            self.state_size = size if state is None else int(np.size(state))

    def step(self, actions: np.ndarray) -> tuple[float, bool, bool]:
        """Takes the joint action, int [N]. Returns reward, terminated and truncated of the team."""
        played = actions + self.starts
        answer = self.seeder.call(self.env.step, self._joint(played))
        parts = list(answer) if isinstance(answer, (tuple, list)) else []
        if len(parts) == 4 and isinstance(parts[3], Mapping):  # Gym before 0.26
            parts.insert(3, bool(parts[3].get("TimeLimit.truncated", False)))
            parts[2] = np.logical_and(parts[2], not parts[3])
        if len(parts) != 5:
            expected = "(observations, reward, terminated, truncated, info)"
            self.contract.fail("step()", f"returned {described(answer)}; expected {expected}")
            return 0.0, False, False
        observations, reward, ended, cut, self.info = parts
        reward = self.contract.reward(reward, self.n_agents)
        self.terminated, truncated = self.contract.ends(ended, cut, self.n_agents)
        self._read(observations, "step()")
        return reward, self.terminated, truncated

    def _joint(self, played: np.ndarray) -> Any:
        """The actions in the form of the action space."""
        if self.single_agent:
            return int(played[0])
        if self.names is not None:
            return dict(zip(self.names, played.tolist(), strict=True))
        return played if self.multi_discrete else tuple(played)

    def obs(self) -> np.ndarray:
        """Padded observations, float32 [N, O]."""
        return self._obs

    def available(self) -> np.ndarray:
        """Padded masks, bool [N, A]."""
        sizes = np.array(self.n_actions)
        available = np.arange(sizes.max()) < sizes[:, None]
        masks = self._masks()
        if masks is None:
            return available
        if self.single_agent and np.ndim(masks) == 1:
            masks = [masks]
        rows = self.contract.of_agents(masks, self.n_agents, "the mask", "mask")
        for agent, row in enumerate(rows or ()):
            n_actions = self.n_actions[agent]
            own = row[:n_actions] if np.size(row) == sizes.max() else row
            mask = self.contract.mask(own, n_actions, "the mask", agent, over=self.terminated)
            available[agent, :n_actions] = mask
        return available

    def state(self) -> np.ndarray:
        """The state that info or environment hold, or all padded observations, float32 [S]."""
        state = self._own_state()
        if state is None:
            state = self._obs
        return self.contract.numbers(state, self.state_size, "the state")

    def _own_state(self) -> Any:
        if isinstance(self.info, Mapping) and "state" in self.info:
            return self.info["state"]
        method = state_method(self.env)
        try:
            return method() if method else None
        except NotImplementedError:
            return None

    def _masks(self) -> Any:
        mask = mask_in(self.info)
        if mask is None:
            mask = self._masks_by_agent
        if mask is not None:
            return mask
        for holder in (self.env, getattr(self.env, "unwrapped", None)):
            method = getattr(holder, "get_avail_actions", None)
            if callable(method):
                return method()
        return None

    def _read(self, observations: Any, method: str) -> None:
        """Sets the observations, padded to the largest."""
        self._masks_by_agent = None
        if self.single_agent:
            rows = [observations]
        else:
            rows = self.contract.of_agents(observations, self.n_agents, method, "observation")
        pairs = zip(self.spaces, rows or [None] * self.n_agents, strict=True)
        values, masks = zip(*[observed(space, row) for space, row in pairs], strict=True)
        if all(mask is not None for mask in masks):
            self._masks_by_agent = list(masks)
        if self.obs_size is None:
            known = zip(self.sizes, values, strict=True)
            self.sizes = [int(np.size(value)) if size is None else size for size, value in known]
            self.obs_size = max(self.sizes)
        self._obs = np.zeros((self.n_agents, self.obs_size), dtype=np.float32)
        if rows is None:
            return
        for agent, value in enumerate(values):
            size = self.sizes[agent]
            self._obs[agent, :size] = self.contract.numbers(value, size, method, agent)

    def _observation_spaces(self) -> list:
        """One for each agent; None where the environment does not tell."""
        space = getattr(self.env, "observation_space", None)
        if self.single_agent:
            return [space]
        if self.names is not None and names_of(space) is not None:
            by_agent = getattr(space, "spaces", space)
            return [by_agent.get(name) for name in self.names]
        parts = parts_of(space)
        if parts is not None and len(parts) == self.n_agents:
            return parts
        return [None] * self.n_agents


def _multi_discrete(space: Any) -> tuple[list[int], np.ndarray]:
    sizes = [int(n) for n in np.ravel(space.nvec)]
    starts = np.ravel(getattr(space, "start", 0))
    return sizes, np.broadcast_to(starts, len(sizes)).astype(np.int64)
