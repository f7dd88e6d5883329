"""Environments with PettingZoo's and Gymnasium's interfaces, without these packages."""

import numpy as np


class Discrete:
    def __init__(self, n, start=0):
        self.n, self.start = n, start


class Box:
    def __init__(self, *shape):
        self.shape, self.low, self.high = shape, 0, 1


class Tuple:
    def __init__(self, *spaces):
        self.spaces = spaces


class Dict:
    def __init__(self, **spaces):
        self.spaces = spaces


class Meeting:
    """Two agents on a line of 5 cells must meet. `left` sees 2 numbers, `right` sees 3.

    The seed decides where they start. Both earn 1 when they meet, and `left` pays 0.1 for each
    step. After 8 steps they are cut.
    """

    possible_agents = ("left", "right")

    def __init__(self, length=5, limit=8):
        self.length, self.limit = length, limit

    def action_space(self, agent):
        return Discrete(3 if agent == "left" else 2)  # right cannot wait

    def observation_space(self, agent):
        return Box(2) if agent == "left" else Box(3, 1)

    def reset(self, seed=None, options=None):
        self.agents = list(self.possible_agents)
        left = (4 + (seed or 0)) % self.length
        self.at = {"left": left, "right": (left + 3) % self.length}
        self.time = 0
        return self._look(), {agent: {} for agent in self.agents}

    def _look(self):
        left, right = self.at["left"], self.at["right"]
        return {"left": np.array([left, right]), "right": np.array([[right], [left], [self.time]])}

    def step(self, actions):
        assert set(actions) == set(self.agents)
        for agent, move in actions.items():
            steps = (-1, 1, 0)[move]
            self.at[agent] = int(np.clip(self.at[agent] + steps, 0, self.length - 1))
        self.time += 1
        met = self.at["left"] == self.at["right"]
        cut = not met and self.time == self.limit
        rewards = {"left": met - 0.1, "right": float(met)}
        flags = dict.fromkeys(self.agents, met), dict.fromkeys(self.agents, cut)
        infos = {agent: {} for agent in self.agents}
        if met or cut:
            self.agents = []
        return self._look(), rewards, *flags, infos


class Masked(Meeting):
    """Masks in the observations; `left` leaves after 2 steps, `right` after 3."""

    def __init__(self):
        super().__init__()
        self.ends = {"left": 2, "right": 3}

    def observation_space(self, agent):
        return Dict(observation=Box(2), action_mask=Box(3))

    def _look(self):
        seen = {}
        for agent in self.agents:
            mask = np.ones(self.action_space(agent).n, dtype=np.int8)
            mask[0] = self.time % 2
            numbers = np.array([self.time, len(agent)])
            seen[agent] = {"observation": numbers, "action_mask": mask}
        return seen

    def step(self, actions):
        self.time += 1
        seen = self._look()
        acting = list(self.agents)
        ended = {agent: self.time == self.ends[agent] for agent in acting}
        self.agents = [agent for agent in acting if not ended[agent]]
        rewards = dict.fromkeys(acting, 2.0)
        return seen, rewards, ended, dict.fromkeys(acting, False), {}

    def state(self):
        return np.array([self.time, 9])


class InTurn(Meeting):
    def agent_iter(self):
        return iter(self.agents)


class Continuous(Meeting):
    def action_space(self, agent):
        return Box(2)


class NothingBack(Meeting):
    """As some do at the end, returns empty dicts without flags."""

    def step(self, actions):
        self.agents = []
        return {}, {}, {}, {}, {}


class NoneReward(Meeting):
    def step(self, actions):
        observations, rewards, *rest = super().step(actions)
        return observations, dict.fromkeys(rewards), *rest


class OldStep(Meeting):
    def step(self, actions):
        observations, rewards, ended, _, infos = super().step(actions)
        return observations, rewards, ended, infos


class Growing(Meeting):
    def _look(self):
        return super()._look() | {"left": np.zeros(2 + self.time)}


class StuckAgent(Meeting):
    def __init__(self):
        super().__init__(length=50)

    def step(self, actions):
        *rest, _ = super().step(actions)
        return *rest, {"right": {"action_mask": [0, 0]}}


class StateAtFirst(Meeting):
    """Has a state of its own before the first step only."""

    def state(self):
        return None if self.time else np.array([1.0, 2.0])


class NaNState(Meeting):
    def state(self):
        return np.array([np.nan, 1.0])


class Lists:
    """A Gymnasium-like environment of two agents that act by tuples. Actions count from 1.

    Each earns its action, and the second one sees the first one's last action.
    """

    def __init__(self, limit=3, terminates=True, **options):
        self.limit, self.terminates, self.options = limit, terminates, options
        self.action_space = Tuple(Discrete(2, start=1), Discrete(3, start=1))
        self.observation_space = Tuple(Box(1), Tuple(Discrete(3, start=1), Box(1)))

    def reset(self, seed=None):
        self.time, self.last = 0, 1
        return self._look(), {}

    def _look(self):
        return [[self.time], (self.last, np.array([7]))]

    def step(self, actions):
        self.time += 1
        self.last = int(actions[0])
        over = self.time == self.limit
        ended = [over and self.terminates, over]
        rewards = [float(action) for action in actions]
        return self._look(), rewards, ended, [over, over], {"avail_actions": [[1, 1], [1, 0, 1]]}


class Alone:
    """One agent with a discrete observation, as FrozenLake, and Gym's old step of four values."""

    action_space, observation_space = Discrete(2), Discrete(4)

    def reset(self):
        self.time = 0
        return 0

    def step(self, action):
        assert isinstance(action, int)
        self.time += 1
        return self.time, 0.5, self.time == 3, {"TimeLimit.truncated": self.time == 3}


class Central(Lists):
    """One observation for all agents cannot be told apart."""

    def __init__(self):
        super().__init__()
        self.observation_space = Box(6)

    def _look(self):
        return np.zeros(6)


class KeepsSomething(Lists):
    """Its reset does not forget the last episode, as that of LBF."""

    episodes = 0

    def reset(self, seed=None):
        self.episodes += 1
        return super().reset(seed)

    def _look(self):
        return [[self.episodes], (self.last, np.array([7]))]


class NoReward(Meeting):
    """Forgets a reward."""

    def step(self, actions):
        observations, rewards, *rest = super().step(actions)
        del rewards["right"]
        return observations, rewards, *rest


class Newcomer(Meeting):
    """Has an agent that nobody knew of."""

    def step(self, actions):
        answer = super().step(actions)
        self.agents = [*self.agents, "third"]
        return answer


class NoInfo(Lists):
    """Has None as infos."""

    def reset(self, seed=None):
        answer = super().reset(seed=seed)
        return answer[0], None

    def step(self, actions):
        return *super().step(actions)[:-1], None


class ByName(Lists):
    """Agents act and see by dicts, in another order than that of the action space."""

    def __init__(self):
        super().__init__()
        self.action_space = Dict(x=Discrete(2, start=1), y=Discrete(3, start=1))
        self.observation_space = Dict(y=Box(1), x=Box(1))

    def _look(self):
        return {"y": [10 + self.last], "x": [self.time]}

    def step(self, actions):
        assert list(actions) == ["x", "y"]
        self.time += 1
        self.last = actions["y"]
        over = self.time == self.limit
        ended = {"y": over, "x": True}, {"x": False, "y": False}
        return [self._look(), {"y": 1.0, "x": 2.0}, *ended, {}]


class HalfTheRewards(ByName):
    def step(self, actions):
        answer = super().step(actions)
        del answer[1]["x"]
        return answer


class HalfTheFlags(ByName):
    def step(self, actions):
        answer = super().step(actions)
        del answer[2]["x"]
        return answer


class NoSpaces:
    def reset(self, seed=None):
        return [0], {}


class NoAgents(Meeting):
    """Never says who acts next."""

    def reset(self, seed=None, options=None):
        answer = super().reset(seed, options)
        del self.agents
        return answer


class NobodyThere(Meeting):
    """Clears the agents at the wrong time."""

    def reset(self, seed=None, options=None):
        answer = super().reset(seed, options)
        self.agents = []
        return answer


class NothingSeenAtTheEnd(Meeting):
    """Looks after it has cleared the agents, as that of PettingZoo's tutorial."""

    def __init__(self, limit=2):
        super().__init__(length=50, limit=limit)

    def step(self, actions):
        _, *rest = super().step(actions)
        seen = self._look()
        return {agent: seen[agent] for agent in self.agents}, *rest


class NumberOfAgents(Meeting):
    possible_agents = 2


class AgentsInArrays(Meeting):
    possible_agents = np.array(["left", "right"])

    def reset(self, seed=None, options=None):
        answer = super().reset(seed, options)
        self.agents = np.array(self.agents)
        return answer


class InNoOrder(Meeting):
    possible_agents = frozenset(("left", "right"))


class MaskBesideOthers(Masked):
    """Masks in the observations, beside other parts of them. The first action is illegal."""

    def observation_space(self, agent):
        mask = Box(self.action_space(agent).n)
        return Dict(action_mask=mask, position=Box(2), time=Discrete(9))

    def _look(self):
        return {
            agent: {
                "position": np.array([len(agent), 7]),
                "time": self.time,
                "action_mask": np.arange(self.action_space(agent).n) > 0,
            }
            for agent in self.agents
        }
