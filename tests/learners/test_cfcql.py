"""CFCQL and MACQL: each term by hand or by plain loops, and what they learn on a small game."""

import math
from copy import deepcopy

import numpy as np
import pytest
import torch as th
from conftest import make_args, make_data
from small_learners import make_learner
from torch.distributions import Categorical, kl_divergence

from inspo.components import behaviour
from inspo.envs import EnvInfo
from inspo.learners.cfcql_learner import (
    CFCQLLearner,
    agent_weights,
    all_joint_actions,
    kl_to_behaviour,
    sample_joint_actions,
)
from inspo.utils.errors import ConfigError

LOG = math.log


class LoopedCFCQL(CFCQLLearner):
    """CFCQL with the whole mixer run again for every agent and each of its actions."""

    def regulariser(self, batch, q, q_tot, weights, with_stats):
        n_agents = q.shape[2]
        taken = q.gather(-1, batch["actions"].unsqueeze(-1)).squeeze(-1)
        penalties, divergences = [], []
        for i in range(n_agents):
            values = self.looped_values(i, q, taken, batch)
            penalties.append(values.logsumexp(dim=-1))
            if self.behaviour_models:
                beta = Categorical(logits=batch["behaviour_log_probs"][:, :, i])
                divergences.append(kl_divergence(Categorical(logits=values), beta))
        lambdas = th.full_like(taken, 1 / n_agents)
        if self.behaviour_models:
            lambdas = self.looped_weights(th.stack(divergences, dim=-1).detach())
        penalty = (lambdas * th.stack(penalties, dim=-1)).sum(dim=-1) - q_tot
        penalty = penalty[batch["filled"]].mean()
        return self.args.cql_weight * penalty, {"cql_penalty": penalty}

    def looped_values(self, i, q, taken, batch):
        """Q_tot of each of agent i's actions, its teammates' as taken, [B, T, A]."""
        values = []
        for a in range(q.shape[3]):
            agents = range(q.shape[2])
            chosen = [q[:, :, i, a] if j == i else taken[:, :, j] for j in agents]
            values.append(self.mixer(th.stack(chosen, dim=-1), batch["state"]))
        unavailable = ~batch["avail_actions"][:, :, i]
        return th.stack(values, dim=-1).masked_fill(unavailable, -1e10)

    def looped_weights(self, divergence):
        if self.args.softmax_temp != "argmax":
            return th.softmax(self.args.softmax_temp * divergence, dim=-1)
        largest = divergence == divergence.amax(dim=-1, keepdim=True)
        first = largest & (largest.cumsum(dim=-1) == 1)
        return first.to(divergence.dtype)


@pytest.mark.parametrize("softmax_temp", [0, 0.5, -2.0, "argmax"])
@pytest.mark.parametrize(("agent", "share"), [("mlp", False), ("rnn", True)])
def test_one_pass_gives_the_loss_and_gradients_of_the_loop(tmp_path, agent, share, softmax_temp):
    settings = {
        "agent": agent,
        "share_parameters": share,
        "obs_agent_id": share,
        "obs_last_action": share,
        "softmax_temp": softmax_temp,
        "cql_weight": 3.0,
        "grad_norm_clip": 0,
        "lr": 0.01,
    }
    learner, buffer = make_learner(tmp_path, "cfcql", **settings)
    for _ in range(5):  # away from the initial values, and over a target update
        learner.train(buffer, with_stats=False)
    reference, _ = make_learner(tmp_path, "cfcql", **settings)
    reference.__class__ = LoopedCFCQL
    reference.load_state_dict(deepcopy(learner.state_dict()))
    batch = buffer.sample(8)
    buffer.sample = lambda _: batch
    stats, expected = (one.train(buffer, with_stats=True) for one in (learner, reference))
    for name in ("td_loss", "cql_penalty"):
        assert stats[name] == pytest.approx(expected[name], rel=1e-5, abs=1e-5)
    for parameter, other in zip(learner.parameters, reference.parameters, strict=True):
        th.testing.assert_close(parameter.grad, other.grad, rtol=1e-5, atol=1e-5)


def by_hand(tmp_path, **settings):
    """The penalty of two agents, one real step and one of padding, with Q_tot = q1 + 2 q2.

    Both agents took action 0, so that Q_tot = 5. Agent 0's counterfactual values are (5, 7), agent
    1's (5, 2). The third action of each is unavailable.
    """
    data = make_data(n_agents=2, n_actions=3)
    learner, _ = make_learner(tmp_path, data=data, **settings)
    ones = th.ones(1, 2, 1)
    weights = (th.tensor([[1.0], [2.0]]).expand(1, 2, 2, 1), 0 * ones, ones, th.zeros(1, 2))
    q = th.tensor([[1.0, 3.0, 70.0], [2.0, 0.5, -60.0]]).expand(1, 2, 2, 3).clone().requires_grad_()
    available = th.tensor([[True, True, False], [True, True, False]]).expand(1, 2, 2, 3).clone()
    available[:, 1] = False  # the padding
    beta = th.tensor([[0.9, 0.1, 1e-30], [0.5, 0.5, 1e-30]]).expand(1, 2, 2, 3)
    batch = {
        "actions": th.zeros(1, 2, 2, dtype=th.long),
        "avail_actions": available,
        "behaviour_log_probs": beta.log(),
        "filled": th.tensor([[True, False]]),
    }
    q_tot = learner.mixer.mix(q[..., 0], weights)
    assert q_tot[0, 0].item() == 5
    loss, stats = learner.regulariser(batch, q, q_tot, weights, with_stats=True)
    loss.backward()
    assert th.isfinite(q.grad).all()
    assert (q.grad[:, 1] == 0).all()
    assert (q.grad[..., 2] == 0).all()
    return loss.item(), stats


def kl_of_two(p, beta):
    """KL between two distributions over two actions, given as the probability of the first."""
    return p * LOG(p / beta) + (1 - p) * LOG((1 - p) / (1 - beta))


def test_counterfactual_penalty_by_hand(tmp_path):
    lse = [LOG(math.exp(5) + math.exp(7)), LOG(math.exp(5) + math.exp(2))]
    kl = [kl_of_two(1 / (1 + math.exp(2)), 0.9), kl_of_two(1 / (1 + math.exp(-3)), 0.5)]
    first = 1 / (1 + math.exp(0.7 * (kl[1] - kl[0])))
    weights = [first, 1 - first]
    expected = weights[0] * lse[0] + weights[1] * lse[1] - 5
    loss, stats = by_hand(tmp_path, algorithm="cfcql", softmax_temp=0.7, cql_weight=2.0)
    assert stats["cql_penalty"].item() == pytest.approx(expected, rel=1e-4)
    assert loss == pytest.approx(2 * expected, rel=1e-4)
    for i in range(2):
        assert stats[f"kl_to_behaviour/agent_{i}"].item() == pytest.approx(kl[i], rel=1e-3)
        assert stats[f"agent_weight/agent_{i}"].item() == pytest.approx(weights[i], rel=1e-3)
    even, _ = by_hand(tmp_path, algorithm="cfcql", softmax_temp=0, cql_weight=1.0)
    assert even == pytest.approx(sum(lse) / 2 - 5)
    argmax, _ = by_hand(tmp_path, algorithm="cfcql", softmax_temp="argmax", cql_weight=1.0)
    assert argmax == pytest.approx(lse[0] - 5)  # agent 0 is farther from the data


def test_joint_penalty_by_hand(tmp_path):
    """Of the nine joint actions only four are available."""
    values = [5, 5 - 3, 7, 7 - 3]  # (0, 0), (0, 1), (1, 0), (1, 1)
    expected = LOG(sum(math.exp(value) for value in values)) - 5
    loss, stats = by_hand(tmp_path, algorithm="macql", joint_samples=9, cql_weight=2.0)
    assert loss == pytest.approx(2 * expected, rel=1e-6)
    assert stats["cql_penalty"].item() == pytest.approx(expected, rel=1e-6)


def test_sampled_joint_penalty_estimates_the_exact_one(tmp_path):
    """With K draws among n joint actions, logsumexp is larger by the constant log(K / n)."""
    exact, buffer = make_learner(tmp_path, "macql", joint_samples=4**3)
    sampled, _ = make_learner(tmp_path, "macql", joint_samples=4**3 - 1)
    sampled.args = sampled.args.model_copy(update={"joint_samples": 20000})
    batch = buffer.sample(4)
    available = batch["avail_actions"]
    q, weights = exact.mac.outputs(batch), exact.mixer.weights(batch["state"])
    expected = exact._joint_logsumexp(q, available, weights)
    found = sampled._joint_logsumexp(q, available, weights)
    n_joint_actions = available.sum(dim=-1).prod(dim=-1)  # [B, T]
    found = found - (20000 / n_joint_actions).log()
    th.testing.assert_close(found, expected, rtol=0, atol=0.02)


def test_sampled_actions_are_available_and_uniform():
    available = th.tensor([[True, False, True, True], [False, False, False, True], [False] * 4])
    actions = sample_joint_actions(available[None, None], 30000, th.Generator().manual_seed(0))
    assert actions.shape == (1, 1, 3, 30000)
    three, single, none = actions[0, 0]
    np.testing.assert_allclose(three.bincount() / 30000, [1 / 3, 0, 1 / 3, 1 / 3], atol=0.02)
    assert (single == 3).all()
    assert ((none >= 0) & (none < 4)).all()  # padding: any index that can be gathered


def test_joint_actions_are_enumerated_if_they_are_few():
    info = EnvInfo(n_agents=3, n_actions=2, obs_shape=1, state_shape=1, episode_limit=1)
    actions = all_joint_actions(info, limit=8)
    assert sorted(map(tuple, actions.T.tolist())) == sorted(np.ndindex(2, 2, 2))
    assert all_joint_actions(info, limit=7) is None


@pytest.mark.parametrize(
    ("softmax_temp", "expected"),
    [(1.0, [1 / 7, 2 / 7, 4 / 7]), (-1.0, [4 / 7, 2 / 7, 1 / 7]), ("argmax", [0, 0, 1])],
)
def test_weights_of_the_agents(softmax_temp, expected):
    kl = th.tensor([0.0, LOG(2), LOG(4)])
    np.testing.assert_allclose(agent_weights(kl, softmax_temp), expected, rtol=1e-6)


def test_an_agent_without_a_choice_has_no_divergence():
    """Such as a dead agent in StarCraft II: the behaviour takes the only available action, too."""
    available = th.tensor([[True, False, False], [True, True, False]])
    log_beta = th.tensor([[0.0, -1e9, -1e9], [LOG(0.5), LOG(0.5), -1e9]])
    kl = kl_to_behaviour(th.tensor([[3.0, 9.0, 9.0], [0.0, 30.0, 9.0]]), available, log_beta)
    np.testing.assert_allclose(kl, [0, LOG(2)], atol=1e-3)


@pytest.mark.parametrize(
    ("algorithm", "settings"),
    [("macql", {}), ("macql", {"softmax_temp": 0.5}), ("cfcql", {"softmax_temp": 0})],
)
def test_no_behaviour_model_is_trained_if_nothing_needs_it(
    tmp_path, monkeypatch, algorithm, settings
):
    monkeypatch.setattr(behaviour, "_train_individual", None)  # training would fail
    learner, buffer = make_learner(tmp_path, algorithm, **settings)
    assert learner.train(buffer, with_stats=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"init_from_behaviour": True}, "init_from_behaviour: .*False"),
        ({"penalty": "both"}, "penalty: .*'counterfactual' or 'joint'"),
        ({"softmax_temp": "max"}, "softmax_temp.*'argmax'"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        make_args("cfcql", **settings)


def game_values(tmp_path, algorithm, cql_weight):
    """Q_tot of AA, AB, BA and BB, learned from AA, AB, BA in equal parts (XOR, dataset b)."""
    payoff = {(0, 0): 0.0, (0, 1): 1.0, (1, 0): 1.0}
    data = make_data(n_agents=2, n_actions=2, lengths=(1,) * 300)
    data.avail_actions[:] = True
    data.obs[:] = 1.0
    data.state[:] = 1.0
    data.actions[:] = np.repeat([pair for pair in payoff for _ in range(100)], 2, axis=0)
    data.reward[::2] = [payoff[tuple(pair)] for pair in data.actions[::2]]
    data.terminated[::2] = True
    data.truncated[:] = False
    learner, buffer = make_learner(
        tmp_path,
        algorithm,
        data=data,
        unit="transitions",
        softmax_temp=0,
        lr=0.01,
        grad_norm_clip=0,
        batch_size=300,
        cql_weight=cql_weight,
    )
    for _ in range(300):
        learner.train(buffer, with_stats=False)
    batch = buffer.sample(1)
    with th.no_grad():
        q = learner.mac.outputs(batch)[:, :1]  # [1, 1, 2, 2]
        joint = all_joint_actions(learner.info, 4).expand(1, 1, 2, 4)
        weights = learner.mixer.weights(batch["state"][:, :1])
        values = learner.mixer.mix_joint_actions(q.gather(-1, joint), weights)
    return values.flatten().numpy()


def expected_gap(cql_weight, factor):
    """The root g of 2/9 (g - 1) + factor * cql_weight (sigmoid(g) - 1/3), by bisection."""
    low, high = -5.0, 5.0
    for _ in range(60):
        g = (low + high) / 2
        slope = 2 / 9 * (g - 1) + factor * cql_weight * (1 / (1 + math.exp(-g)) - 1 / 3)
        low, high = (low, g) if slope > 0 else (g, high)
    return g


@pytest.mark.slow
@pytest.mark.parametrize(("algorithm", "factor"), [("cfcql", 1), ("macql", 2)])
@pytest.mark.parametrize(
    ("cql_weight", "greedy"),
    [(0.1, 3), (5.0, 0)],  # BB, outside of the data and worth -2; AA, in the data and worth 0
)
def test_the_penalty_decides_which_bad_joint_action_is_greedy(
    tmp_path, algorithm, factor, cql_weight, greedy
):
    """Additive values cannot represent XOR, so that a bad joint action has the largest value.

    Let g be the difference between an agent's contributions of B and A. The loss is least at the
    root of `expected_gap`, with Q(AA) = (2 - 2g) / 3.
    """
    g = expected_gap(cql_weight, factor)
    base = (2 - 2 * g) / 3
    values = game_values(tmp_path, algorithm, cql_weight)
    assert values.argmax() == greedy
    np.testing.assert_allclose(values, [base, base + g, base + g, base + 2 * g], atol=0.15)
