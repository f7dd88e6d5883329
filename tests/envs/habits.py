"""Environments with habits that real ones have, for the tests of the contract and of check_env."""

import threading

import numpy as np


class Counter:
    """PyMARL's interface: lists, masks of 0 and 1, three values from `step`, no seed.

    Agent i sees (steps, i). The reward is the sum of the actions, and the episode ends after 4
    steps.
    """

    def __init__(self, steps=4):
        self.n_agents = 2
        self.episode_limit = 10
        self.last = steps
        self.t = 0

    def reset(self):
        self.t = 0
        return self.get_obs(), self.get_state()

    def step(self, actions):
        self.t += 1
        return self.reward(actions), self.t >= self.last, {}

    def reward(self, actions):
        return float(sum(actions))

    def get_obs(self):
        return [[float(self.t), float(agent)] for agent in range(2)]

    def get_state(self):
        return [self.t, 7, 8]

    def get_avail_actions(self):
        return [[1, 1, 1], [1, 1, int(self.t % 2 == 0)]]

    def get_obs_size(self):
        return 2

    def get_state_size(self):
        return 3

    def get_total_actions(self):
        return 3

    def get_env_info(self):
        return {
            "state_shape": self.get_state_size(),
            "obs_shape": self.get_obs_size(),
            "n_actions": self.get_total_actions(),
            "n_agents": self.n_agents,
            "episode_limit": self.episode_limit,
        }

    def close(self):
        pass


# --- what works


class Arrays(Counter):
    """float64 arrays, integer masks, and observations of several axes."""

    def get_obs(self):
        return np.array(super().get_obs(), dtype=np.float64).reshape(2, 1, 2)

    def get_state(self):
        return np.array(super().get_state(), dtype=np.int64).reshape(3, 1)

    def get_avail_actions(self):
        return np.array(super().get_avail_actions(), dtype=np.int32)

    def step(self, actions):
        reward, over, info = super().step(actions)
        return np.array([reward]), np.array(over), info


class Tuples(Counter):
    def get_obs(self):
        return tuple(np.array(row) for row in super().get_obs())

    def get_state(self):
        return tuple(super().get_state())

    def get_avail_actions(self):
        return tuple(tuple(row) for row in super().get_avail_actions())


class Dicts(Counter):
    """Dicts by agent, whose order changes."""

    def by_agent(self, rows):
        items = [("x", rows[0]), ("y", rows[1])]
        return dict(items if self.t % 2 == 0 else reversed(items))

    def get_obs(self):
        return self.by_agent(super().get_obs())

    def get_avail_actions(self):
        return self.by_agent(super().get_avail_actions())

    def step(self, actions):
        reward, over, info = super().step(actions)
        return self.by_agent([reward, reward]), self.by_agent([over, over]), info


class FlagsPerAgent(Counter):
    """Agent 0 terminates after 2 steps, agent 1 after 4."""

    def step(self, actions):
        reward, _, info = super().step(actions)
        return reward, [self.t >= 2, self.t >= 4], info


class FiveValues(Counter):
    """EPyMARL's: observations, rewards per agent, terminated, truncated, info."""

    def step(self, actions):
        reward, over, info = super().step(actions)
        return self.get_obs(), [reward, 0.0], over, False, info


class OldGym(Counter):
    def step(self, actions):
        reward, over, _ = super().step(actions)
        return self.get_obs(), reward, over, {"TimeLimit.truncated": over}


class WithoutObservations(Counter):
    """Reward, terminated, truncated, info."""

    def step(self, actions):
        reward, over, info = super().step(actions)
        return reward, False, over, info


class TimeLimit(Counter):
    """PyMARL's way of saying that the time limit ended the episode."""

    def step(self, actions):
        reward, over, _ = super().step(actions)
        return reward, over, {"episode_limit": over}


class Endless(Counter):
    def step(self, actions):
        reward, _, info = super().step(actions)
        return reward, False, info


class NotCopyable(Counter):
    def __init__(self, steps=4):
        super().__init__(steps)
        self.lock = threading.Lock()


class Random(Counter):
    """Draws from NumPy's global generator, at the start and at every step."""

    def reset(self):
        self.luck = np.random.randint(1000)
        return super().reset()

    def reward(self, actions):
        return float(self.luck + np.random.randint(1000))


class FloatSizes(Counter):
    """Sizes as NumPy's arrays and whole floats."""

    def get_env_info(self):
        return {name: np.array(float(size)) for name, size in super().get_env_info().items()}


class NoMaskAtTheEnd(Counter):
    def get_avail_actions(self):
        return np.zeros((2, 3)) if self.t >= self.last else super().get_avail_actions()


class Attributes:
    """No get_env_info, masks, state, limit or close. `env_args` come as some forks pass them."""

    n_agents, n_actions, obs_shape = 2, 3, (1, 2)

    def __init__(self, **kwargs):
        self.args = kwargs["env_args"]

    def reset(self, seed=None):
        self.t = seed

    def step(self, actions):
        self.t += 1
        return 1.0, False, None

    def get_obs(self):
        return np.array([[self.t, 0], [self.t, 1]])


# --- what is refused


class OtherSizes(Counter):
    """Each new game has one more agent than the last one."""

    n_made = 0

    def __init__(self):
        super().__init__()
        OtherSizes.n_made += 1
        self.n_agents = OtherSizes.n_made

    def get_obs(self):
        return [[0.0, 0.0]] * self.n_agents

    def get_avail_actions(self):
        return [[1, 1, 1]] * self.n_agents


class RewardInArrays(Counter):
    def reward(self, actions):
        return [np.ones((2, 2)), 1.0]


class NaNReward(Counter):
    def reward(self, actions):
        return float("nan") if self.t == 2 else 0.0


class NoneReward(Counter):
    def reward(self, actions):
        return None


class ThreeRewards(Counter):
    def reward(self, actions):
        return [1.0, 2.0, 3.0]


class NaNObservation(Counter):
    def get_obs(self):
        rows = super().get_obs()
        rows[1][0] = float("inf") if self.t == 3 else 0.0
        return rows


class Growing(Counter):
    def get_obs(self):
        return [[0.0, 1.0], [0.0] * (2 + self.t)]


class WrongState(Counter):
    def get_state(self):
        return [1.0, 2.0]


class TextState(Counter):
    def get_state(self):
        return ["a", "b", "c"]


class OneObservation(Counter):
    def get_obs(self):
        return np.zeros(4)


class FloatMasks(Counter):
    def get_avail_actions(self):
        return np.full((2, 3), 0.5)


class ShortMask(Counter):
    def get_avail_actions(self):
        return [[1, 1, 1], [1, 1]]


class Stuck(Counter):
    def get_avail_actions(self):
        return [[1, 1, 1], [0, 0, 0]] if self.t == 1 else super().get_avail_actions()


class TwoValues(Counter):
    def step(self, actions):
        return 1.0, {}


class ListInfo(Counter):
    def step(self, actions):
        return 1.0, False, []


class ThreeFlags(Counter):
    def step(self, actions):
        return 1.0, [False, False, False], {}


class TextFlag(Counter):
    def step(self, actions):
        return 1.0, "no", {}


class LimitAsNumber(Counter):
    def step(self, actions):
        return 1.0, False, {"episode_limit": 25}


class NoSizes(Counter):
    def get_env_info(self):
        return {"n_agents": 2, "obs_shape": 2.5, "episode_limit": 5}

    def get_total_actions(self):
        raise NotImplementedError

    def get_state_size(self):
        return None


class NoLimit(Counter):
    def __init__(self):
        super().__init__()
        self.episode_limit = None


class FailingReset(Counter):
    def reset(self):
        return {}["nothing"]


class Parallel:
    possible_agents = ("a", "b")

    def reset(self, seed=None):
        return {}, {}

    def step(self, actions):
        return {}, {}, {}, {}, {}


class FailingStep(Counter):
    def step(self, actions):
        if self.t == 2:
            raise ValueError("no such\nmove")
        return super().step(actions)


class ExitingStep(Counter):
    def step(self, actions):
        raise SystemExit(3)


class MaskedObservation(Counter):
    def get_obs(self):
        return np.ma.masked_array(np.ones((2, 2)), mask=[[0, 1], [0, 0]])


class FailingConstructor(Counter):
    def __init__(self):
        raise RuntimeError("no licence")


class FailingClose(Counter):
    def close(self):
        raise RuntimeError("closed twice")


class KeepsActions(Counter):
    """Changes the actions that it is given."""

    def step(self, actions):
        answer = super().step(actions)
        actions[:] = 99
        return answer


class ExitingClose(Counter):
    """As games in a window do."""

    def close(self):
        raise SystemExit(0)


class WrongArgument(Counter):
    def __init__(self, length=3):
        raise ValueError(f"no board of {length} cells")


class MaskOfEachAgent(Counter):
    """PyMARL's method for one agent alone."""

    get_avail_actions = property()  # there is none

    def get_avail_agent_actions(self, agent):
        return Counter.get_avail_actions(self)[agent]
