"""PettingZoo's parallel games, with a fixed place for every agent.

Agents that are not there observe zeros and can only take action 0, which is not played. Smaller
observations are padded with zeros, smaller action spaces with unavailable actions.

Shapes: N agents, A actions, O numbers per observation, S numbers per state.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from inspo.envs.adapters.spaces import (
    Actions,
    mask_in,
    observation_part,
    observed,
    size_of,
    state_method,
)
from inspo.envs.contract import Contract, as_switches, described
from inspo.envs.seeding import Seeder
from inspo.utils.errors import EnvContractError


class ParallelGame:
    """A running game. Its methods convert, by the contract, what the environment returns.

    Args:
        env: has `possible_agents`, `agents`, `action_space(agent)`, `reset` and `step`.

    Attributes:
        present: the agents that act next.
        seen, masks: of each agent that was observed: its numbers, and its available actions.
        n_actions: of each agent.
    """

    def __init__(self, env: Any, contract: Contract):
        self.contract = contract
        self.use(env)
        self.agents = _agents_of(env, contract.name)
        spaces = {agent: _space(env, "action", agent) for agent in self.agents}
        self.actions = {
            agent: Actions(space, contract.name, agent) for agent, space in spaces.items()
        }
        self.n_actions = {agent: actions.n for agent, actions in self.actions.items()}
        self.spaces = {agent: _space(env, "observation", agent) for agent in self.agents}
        self.sizes = {
            agent: size_of(observation_part(space)) for agent, space in self.spaces.items()
        }
        self.obs_size: int | None = None
        self.state_size: int | None = None

    def use(self, env: Any) -> None:
        """Continues with another object of the same environment."""
        self.env, self.seeder = env, Seeder(env)

    def reset(self, seed: int | None) -> None:
        """Starts an episode."""
        answer = self.seeder.reset(seed)
        with_infos = isinstance(answer, tuple) and len(answer) == 2
        observations, infos = answer if with_infos else (answer, {})
        self.ended = dict.fromkeys(self.agents, False)  # terminated
        self.acted: list[Any] = []  # in the last step
        self.over = False
        there = getattr(self.env, "agents", None)
        self.present = [] if there is None else [agent for agent in self.agents if agent in there]
        if not self.present:
            wrong = (
                "no attribute `agents`" if there is None else "none of possible_agents in `agents`"
            )
            self.contract.fail("reset()", f"left {wrong}, which says who acts next")
        self.came = set(self.present)
        self._read(observations, infos, "reset()")
        if self.obs_size is None:
            self.obs_size = max((size for size in self.sizes.values() if size), default=1)
        state = self._own_state()
        if self.state_size is None:
            self.state_size = len(self.agents) * self.obs_size if state is None else np.size(state)

    def step(self, actions: Mapping[Any, int]) -> tuple[float, bool, bool]:
        """Takes the actions of the agents that are present, each in 0..n-1.

        Returns:
            reward, terminated and truncated of the team. Terminated: all agents terminated.
        """
        played = {agent: actions[agent] + self.actions[agent].start for agent in self.present}
        answer = self.seeder.call(self.env.step, played)
        if not isinstance(answer, (tuple, list)) or len(answer) != 5:
            self.contract.fail(
                "step()",
                f"returned {described(answer)}; expected (observations, rewards, terminations, "
                "truncations, infos), as PettingZoo since 1.22",
            )
            return 0.0, False, False
        observations, rewards, terminations, truncations, infos = answer
        ended = self._flags(terminations, "terminations")
        cut = self._flags(truncations, "truncations")
        self._move_on(ended, cut)
        self._read(observations, infos, "step()")
        terminated = self.over and all(self.ended[agent] for agent in self.came)
        return self._reward(rewards, played), terminated, self.over and not terminated

    def obs(self) -> np.ndarray:
        """Padded observations, float32 [N, O]."""
        rows = np.zeros((len(self.agents), self.obs_size), dtype=np.float32)
        for row, agent in zip(rows, self.agents, strict=True):
            if agent in self.seen:
                row[: len(self.seen[agent])] = self.seen[agent]
        return rows

    def available(self) -> np.ndarray:
        """Padded masks, bool [N, A]."""
        masks = np.zeros((len(self.agents), max(self.n_actions.values())), dtype=bool)
        for row, agent in zip(masks, self.agents, strict=True):
            if agent in self.masks:
                row[: self.n_actions[agent]] = self.masks[agent]
            else:
                row[0] = True
        return masks

    def state(self) -> np.ndarray:
        """The environment's state, or all padded observations, float32 [S]."""
        state = self._own_state()
        if state is None:
            state = self.obs()
        return self.contract.numbers(state, self.state_size, "state()")

    def _own_state(self) -> Any:
        method = state_method(self.env)
        try:
            return method() if method else None
        except (NotImplementedError, AttributeError):  # PettingZoo's base class and wrappers
            return None

    def _move_on(self, ended: dict[Any, bool], cut: dict[Any, bool]) -> None:
        """Sets who is present and who terminated, and whether the episode is over."""
        there = set(self.env.agents)
        self.acted, self.present = self.present, []
        for agent in there.difference(self.agents):
            self.contract.fail("step()", "it is none of possible_agents", agent)
        for agent in self.agents:
            gone = ended.get(agent, False) or cut.get(agent, False)
            if agent in there and not gone:
                self.present.append(agent)
                self.came.add(agent)
                self.ended[agent] = False  # an agent may come back
            elif gone:
                self.ended[agent] = ended.get(agent, False)
            elif agent in self.acted:
                self.contract.fail("step()", "left without being terminated or truncated", agent)
        self.over = not self.present

    def _read(self, observations: Any, infos: Any, method: str) -> None:
        """Sets `seen` and `masks`."""
        self.seen: dict[Any, np.ndarray] = {}
        self.masks: dict[Any, np.ndarray] = {}
        if not isinstance(observations, Mapping):
            self.contract.fail(method, f"returned {described(observations)}, not a dict by agent")
            observations = {}
        for agent in self.agents:
            if agent in observations:
                info = infos.get(agent) if isinstance(infos, Mapping) else None
                self._read_agent(agent, observations[agent], info, method)
            elif agent in self.present:
                self.contract.fail(method, "returned no observation", agent)
            elif self.over and agent in self.acted and not self.ended[agent]:
                text = (
                    "returned no observation after the last step, which was truncated: learners "
                    "bootstrap from it. Return it, or let episode_limit end episodes a step earlier"
                )
                self.contract.fail(method, text, agent)

    def _read_agent(self, agent: Any, observation: Any, info: Any, method: str) -> None:
        value, mask = observed(self.spaces[agent], observation)
        if self.sizes[agent] is None:
            self._learn_size(agent, value, method)
        self.seen[agent] = self.contract.numbers(value, self.sizes[agent], method, agent)
        cut_at_the_end = self.over and not self.ended[agent]
        if agent not in self.present and not cut_at_the_end:
            return
        if mask is None:
            mask = mask_in(info)
        if mask is None:
            mask = np.ones(self.n_actions[agent], dtype=bool)
        self.masks[agent] = self.contract.mask(mask, self.n_actions[agent], method, agent)

    def _learn_size(self, agent: Any, value: Any, method: str) -> None:
        """The size of an agent's first observation, where there is no observation space."""
        size = int(np.size(value))
        if self.obs_size is not None and size > self.obs_size:
            text = f"its first observation has {size} numbers, those before {self.obs_size}"
            self.contract.fail(method, f"{text}; an observation_space would tell beforehand", agent)
            size = self.obs_size
        self.sizes[agent] = size

    def _flags(self, flags: Any, which: str) -> dict[Any, bool]:
        if not isinstance(flags, Mapping):
            text = f"{which} are {described(flags)}, not a dict by agent"
            self.contract.fail("step()", text)
            return {}
        everyone = flags.get("__all__", False) is True  # RLlib's
        found = dict.fromkeys(self.present, True) if everyone else {}
        for agent in self.agents:
            if agent not in flags or everyone:
                continue
            switch = as_switches(flags[agent])
            if switch is None or switch.size != 1:
                text = f"{which} hold {described(flags[agent])}, not a flag"
                self.contract.fail("step()", text, agent)
                continue
            found[agent] = bool(switch.reshape(()))
        return found

    def _reward(self, rewards: Any, played: Collection[Any]) -> float:
        """The team's reward. Every agent that took an action must have one."""
        if not isinstance(rewards, Mapping):
            text = f"rewards are {described(rewards)}, not a dict by agent"
            self.contract.fail("step()", text)
            return 0.0
        for agent in played:
            if agent not in rewards:
                self.contract.fail("step()", "returned no reward", agent)
        of_agents = [rewards[agent] for agent in self.agents if agent in rewards]
        return self.contract.reward(of_agents, len(of_agents)) if of_agents else 0.0


def _agents_of(env: Any, name: str) -> list:
    told = getattr(env, "possible_agents", None)
    agents = list(told) if isinstance(told, Iterable) else []
    if isinstance(told, (set, frozenset)):
        problem = "possible_agents is a set, whose order differs from run to run; make it a list"
    elif hasattr(env, "agent_iter"):
        problem = "the agents act in turn (AEC); take its parallel_env instead"
    elif not agents:
        problem = "there are no possible_agents: it is no parallel environment of PettingZoo"
    else:
        return agents
    raise EnvContractError(f"environment {name}: {problem}")


def _space(env: Any, kind: str, agent: Any) -> Any:
    """The space of an agent; None if the environment does not tell."""
    method = getattr(env, f"{kind}_space", None)
    if callable(method):
        return method(agent)
    spaces = method if isinstance(method, Mapping) else getattr(env, f"{kind}_spaces", None)
    return spaces.get(agent) if isinstance(spaces, Mapping) else None
