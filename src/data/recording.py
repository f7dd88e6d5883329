"""Records episodes of PettingZoo's and Gymnasium's environments.

They come as dicts for `from_episodes` and `EpisodeWriter`. Only the environments' methods are used:
neither PettingZoo nor Gymnasium needs to be installed. `env: pettingzoo` and `env: gymnasium` see
the same, so that one can be trained on and evaluated with the other.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from inspo.data.recorder import Done, Episode, Seen, record_episode
from inspo.envs.adapters.joint import JointGame
from inspo.envs.adapters.parallel import ParallelGame
from inspo.envs.contract import Contract, described
from inspo.utils.errors import UserError

ByAgent = dict[str, np.ndarray]
ParallelPolicy = Callable[[ByAgent, ByAgent], Mapping[str, int]]
JointPolicy = Callable[[np.ndarray, np.ndarray], np.ndarray]


def record_parallel(
    env: Any,
    policy: ParallelPolicy,
    n_episodes: int,
    seed: int = 0,
    max_steps: int | None = None,
    reward_scalarisation: str = "mean",
) -> Iterator[Episode]:
    """Plays episodes of a PettingZoo parallel environment with discrete actions.

    Agents that have left observe zeros and can only take action 0. Smaller observations are padded
    with zeros, smaller action spaces with unavailable actions. The state is `env.state()`, or all
    observations joined. An episode is terminated if all agents were terminated, and truncated if
    another one was.

    Args:
        env: has `possible_agents`, `agents`, `reset(seed)`, `step(actions)` and
            `action_space(agent).n`. Masks are taken from observations that are dicts of
            `observation` and `action_mask`, or from the agents' infos.
        policy: takes dicts of observations and of masks (bool [A]) by agent, and returns a dict of
            actions, which count from 0.
        seed: of the first episode; episode k is reset with seed + k.
        max_steps: truncates longer episodes; None: only the environment ends episodes.
        reward_scalarisation: `mean` or `sum` of the rewards of the agents that are present.

    Yields:
        a dict of the row fields for each episode.

    Raises:
        EnvContractError: the environment returned what cannot be recorded.
        UserError: the policy returned no available action for an agent that is present.
    """
    game = ParallelGame(env, Contract(_name(env), reward_scalarisation))
    return _ParallelRecording(game, policy, max_steps).episodes(n_episodes, seed)


def record_gymnasium(
    env: Any,
    policy: JointPolicy,
    n_episodes: int,
    seed: int = 0,
    max_steps: int | None = None,
    reward_scalarisation: str = "mean",
) -> Iterator[Episode]:
    """Plays episodes of a Gymnasium-style environment, whose `step` takes the joint action.

    The environment's interface:
        `reset(seed=)` returns (observations, info).
        `step(joint_action)` returns (observations, reward, terminated, truncated, info).
        `action_space`: a MultiDiscrete (`nvec`), a tuple of Discrete spaces, or one Discrete space
            for a single agent.
        Observations: one for each agent. Smaller ones are padded with zeros.
        Reward: a number, or one per agent.
        Flags: one, or one per agent. Terminated: all agents are.
        Masks: `info["action_mask"]` or `info["avail_actions"]`, else `env.get_avail_actions()`.
            Without any, all actions are available.
        State: `info["state"]`, else `env.state()` or `env.get_state()`, else all observations.

    Args:
        env: see above.
        policy: takes observations [N, O] and masks (bool [N, A]), and returns actions [N], which
            count from 0.
        n_episodes, seed, max_steps, reward_scalarisation: as those of `record_parallel`.

    Yields:
        a dict of the row fields for each episode.

    Raises:
        EnvContractError: the environment returned what cannot be recorded.
        UserError: the policy returned no available action for an agent.
    """
    game = JointGame(env, Contract(_name(env), reward_scalarisation))
    return _JointRecording(game, policy, max_steps).episodes(n_episodes, seed)


def _name(env: Any) -> str:
    """The registered name of an environment, or its class."""
    registered = getattr(getattr(env, "spec", None), "id", None)
    return registered or type(getattr(env, "unwrapped", env)).__name__


class _Recording(ABC):
    """A running game and who plays it."""

    def __init__(self, game: Any, policy: Callable, max_steps: int | None):
        self.game, self.policy, self.max_steps = game, policy, max_steps
        self.contract = game.contract

    def episodes(self, n_episodes: int, first_seed: int) -> Iterator[Episode]:
        """Plays episodes, each with its own seed."""
        for seed in range(first_seed, first_seed + n_episodes):
            self.contract.seed, self.contract.step = seed, 0
            self.game.reset(seed)
            yield record_episode(self.observe, self.step)

    @abstractmethod
    def step(self) -> Done:
        """Chooses actions and plays them."""

    def observe(self) -> Seen:
        return self.game.state(), self.game.obs(), self.game.available()

    def play(self, actions: Any) -> tuple[float, bool, bool]:
        """Reward, terminated and truncated."""
        self.contract.step += 1
        reward, terminated, truncated = self.game.step(actions)
        if self.contract.step == self.max_steps:
            truncated = not terminated
        return reward, terminated, truncated


class _ParallelRecording(_Recording):
    def step(self) -> Done:
        game = self.game
        seen = {agent: game.seen[agent] for agent in game.present}
        masks = {agent: game.masks[agent] for agent in game.present}
        chosen = self.policy(seen, masks)
        if not isinstance(chosen, Mapping):
            raise UserError(f"the policy returned {described(chosen)}, not a dict by agent")
        actions = {}
        for agent in game.present:
            if agent not in chosen:
                raise UserError(f"the policy returned no action for agent {agent}, which is there")
            actions[agent] = checked_action(chosen[agent], masks[agent], agent)
        joint = np.array([actions.get(agent, 0) for agent in game.agents])
        return joint, *self.play(actions)


class _JointRecording(_Recording):
    def step(self) -> Done:
        masks = self.game.available()
        chosen = np.ravel(self.policy(self.game.obs(), masks))
        if len(chosen) != len(masks):
            raise UserError(f"the policy returned {len(chosen)} actions for {len(masks)} agents")
        pairs = zip(chosen, masks, strict=True)
        actions = [
            checked_action(action, mask, agent) for agent, (action, mask) in enumerate(pairs)
        ]
        joint = np.array(actions)
        return joint, *self.play(joint)


def checked_action(action: Any, mask: np.ndarray, agent: Any) -> int:
    """An action as a whole number.

    Raises:
        UserError: it is none, or not available.
    """
    value = np.asarray(action)
    numeric = value.size == 1 and value.dtype.kind in "biuf"
    if not numeric or value.reshape(()) != int(value.reshape(())):
        raise UserError(f"the policy's action for agent {agent} is {action!r}, not a whole number")
    number = int(value.reshape(()))
    if not 0 <= number < len(mask) or not mask[number]:
        choices = np.flatnonzero(mask).tolist()
        raise UserError(
            f"the policy chose action {number} for agent {agent}; available to it: {choices}"
        )
    return number
