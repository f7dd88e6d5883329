"""Datasets from arrays and from other environments, and the examples of the documentation."""

import re

import numpy as np
import pytest
from conftest import PROJECT

from inspo.data.formats import from_episodes, load_dataset
from inspo.data.recording import record_gymnasium, record_parallel

PAGE = (PROJECT / "docs" / "dataset-format.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


class Space:
    def __init__(self, **what):
        vars(self).update(what)


class Corridor:
    """A PettingZoo parallel environment. Agents walk and leave: `a` in 2 steps, `b` in 3."""

    def __init__(self, limit=100, masks="observation"):
        self.limit, self.masks = limit, masks
        self.possible_agents, self.goals = ["a", "b"], {"a": 2, "b": 3}

    def action_space(self, agent):
        return Space(n={"a": 2, "b": 3}[agent])

    def _look(self, agents):
        observations, infos = {}, {}
        for agent in agents:
            seen = np.full({"a": 2, "b": 1}[agent], self.at[agent], dtype=np.float64)
            mask = np.ones(self.action_space(agent).n, dtype=np.int8)
            mask[-1] = 0  # the last action is never available
            inside = self.masks == "observation"
            observations[agent] = {"observation": seen, "action_mask": mask} if inside else seen
            infos[agent] = {} if inside else {"action_mask": mask}
        return observations, infos

    def reset(self, seed=None):
        self.agents = [*self.possible_agents]
        self.at = dict.fromkeys(self.agents, 0)
        self.time = 0
        return self._look(self.agents)

    def step(self, actions):
        assert {*actions} == {*self.agents}
        self.time += 1
        for agent in actions:
            self.at[agent] += 1
        rewards = {agent: float(self.at[agent]) for agent in actions}
        terminations = {agent: self.at[agent] == self.goals[agent] for agent in actions}
        truncations = {
            agent: not terminations[agent] and self.time == self.limit for agent in actions
        }
        observations, infos = self._look(actions)
        self.agents = [
            agent for agent in actions if not (terminations[agent] or truncations[agent])
        ]
        return observations, rewards, terminations, truncations, infos

    def state(self):
        raise NotImplementedError


def first_available(_, masks):
    return {agent: int(np.flatnonzero(mask)[0]) for agent, mask in masks.items()}


def test_the_example_with_arrays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(EXAMPLES[0], {})
    data = load_dataset(tmp_path / "mine.h5")
    assert (data.n_episodes, data.n_transitions, data.returns[0]) == (1, 3, pytest.approx(-0.6))


def test_the_example_with_pettingzoo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(EXAMPLES[1], {"make_env": Corridor})
    data = load_dataset(tmp_path / "uniform.h5")
    assert (data.n_episodes, data.lengths.tolist()) == (20, [3] * 20)
    assert data.metadata["behaviour"] == "uniform"


@pytest.mark.parametrize("masks", ["observation", "info"])
def test_agents_that_leave_early(masks):
    data = from_episodes(record_parallel(Corridor(masks=masks), first_available, 2), {}, "corridor")
    data.check()
    rows = slice(0, 4)
    np.testing.assert_array_equal(data.obs[rows, 0], [[0, 0], [1, 1], [2, 2], [0, 0]])
    np.testing.assert_array_equal(data.obs[rows, 1], [[0, 0], [1, 0], [2, 0], [3, 0]])
    np.testing.assert_array_equal(data.avail_actions[rows, 0], [[1, 0, 0]] * 4)
    np.testing.assert_array_equal(data.avail_actions[rows, 1], [[1, 1, 0]] * 3 + [[1, 0, 0]])
    np.testing.assert_array_equal(data.reward[rows], [1, 2, 3, 0])  # the mean of those present
    np.testing.assert_array_equal(data.terminated[rows], [False, False, True, False])
    np.testing.assert_array_equal(data.state, data.obs.reshape(8, 4))


@pytest.mark.parametrize("env", [Corridor(limit=1), Corridor()])
def test_a_cut_episode_can_be_bootstrapped(env):
    data = from_episodes(record_parallel(env, first_available, 1, max_steps=1), {}, "corridor")
    data.check()
    assert data.truncated.tolist() == [True, False]
    np.testing.assert_array_equal(data.obs[1], [[1, 1], [1, 0]])
    np.testing.assert_array_equal(data.avail_actions[1], [[1, 0, 0], [1, 1, 0]])


class Sums:
    """A Gymnasium-style environment of two agents, rewarded with the sum of their actions."""

    action_space = Space(nvec=np.array([2, 3]))

    def __init__(self, limit=2, terminates=True):
        self.limit, self.terminates = limit, terminates

    def reset(self, seed=None):
        self.time = 0
        return (np.zeros(2), np.zeros(2)), {"state": [seed]}

    def step(self, actions):
        self.time += 1
        over = self.time == self.limit
        rewards = [float(actions.sum())] * 2
        observations = (np.ones(2), np.zeros(2))
        terminated = over and self.terminates
        return observations, rewards, terminated, over and not self.terminates, {"state": [-1]}


@pytest.mark.parametrize("terminates", [True, False])
def test_gymnasium(terminates):
    def highest(obs, masks):
        return np.array([np.flatnonzero(mask)[-1] for mask in masks])

    data = from_episodes(
        record_gymnasium(Sums(terminates=terminates), highest, 2, seed=7), {}, "sums"
    )
    data.check()
    assert data.lengths.tolist() == [2, 2]
    np.testing.assert_array_equal(data.actions[:3], [[1, 2], [1, 2], [0, 0]])
    np.testing.assert_array_equal(data.reward[:3], [3, 3, 0])
    np.testing.assert_array_equal(data.avail_actions[0], [[1, 1, 0], [1, 1, 1]])
    assert data.state[:, 0].tolist() == [7, -1, -1, 8, -1, -1]
    assert data.terminated.any() == terminates
    assert data.truncated.any() != terminates


def test_gymnasium_with_one_agent():
    class Walk:
        action_space = Space(n=2)

        def reset(self, seed=None):
            return np.zeros(3), {"action_mask": [1, 0]}

        def step(self, action):
            assert isinstance(action, int)
            return np.ones(3), 0.5, False, False, {"action_mask": [0, 1]}

    data = from_episodes(
        record_gymnasium(Walk(), lambda _, masks: masks.argmax(1), 1, max_steps=3), {}, "walk"
    )
    data.check()
    assert (data.lengths.tolist(), data.truncated.tolist()) == ([3], [False, False, True, False])
    np.testing.assert_array_equal(data.actions[:, 0], [0, 1, 1, 0])
