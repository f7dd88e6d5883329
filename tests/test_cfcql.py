"""CFCQL and MACQL: every term by hand or written a second time, without batching; what they end up with on a game."""

import math
import time
from copy import deepcopy

import numpy as np
import pytest
import torch as th
from conftest import make_args, make_data
from test_learners import make_learner
from torch.distributions import Categorical, kl_divergence

from inspo.envs import EnvInfo
from inspo.learners.cfcql_learner import (
    CFCQLLearner,
    agent_weights,
    all_joint_actions,
    kl_to_behaviour,
    sample_joint_actions,
)
from inspo.modules.mixers import mix, mix_joint_actions
from inspo.utils.errors import ConfigError

LOG = math.log


class LoopedCFCQL(CFCQLLearner):
    """The looped form: the whole mixer, hypernetworks and all, runs again for every agent and each of its actions."""

    def regulariser(self, batch, q, q_tot, weights, with_stats):
        taken = q.gather(-1, batch["actions"].unsqueeze(-1)).squeeze(-1)
        penalties, divergences = [], []
        for i in range(q.shape[2]):
            values = []
            for a in range(q.shape[3]):
                others = [taken[:, :, j] if j != i else q[:, :, i, a] for j in range(q.shape[2])]
                values.append(self.mixer(th.stack(others, dim=-1), batch["state"]))
            values = th.stack(values, dim=-1).masked_fill(
                ~batch["avail_actions"][:, :, i], -1e10
            )  # [B, T, A]
            penalties.append(values.logsumexp(dim=-1))
            if self.behaviour_models:
                beta = Categorical(logits=batch["behaviour_log_probs"][:, :, i])
                divergences.append(kl_divergence(Categorical(logits=values), beta))
        lambdas = th.full_like(taken, 1 / q.shape[2])
        if self.behaviour_models:
            divergence = th.stack(divergences, dim=-1).detach()
            if self.args.softmax_temp == "argmax":
                largest = divergence == divergence.amax(dim=-1, keepdim=True)
                lambdas = (largest & (largest.cumsum(dim=-1) == 1)).to(
                    q.dtype
                )  # the first of equals
            else:
                lambdas = th.softmax(self.args.softmax_temp * divergence, dim=-1)
        penalty = (lambdas * th.stack(penalties, dim=-1)).sum(dim=-1) - q_tot
        penalty = penalty[batch["filled"]].mean()
        return self.args.cql_weight * penalty, {"cql_penalty": penalty}


def looped(learner: CFCQLLearner) -> CFCQLLearner:
    learner.__class__ = LoopedCFCQL
    return learner


@pytest.mark.parametrize("softmax_temp", [0, 0.5, -2.0, "argmax"])
@pytest.mark.parametrize(("agent", "share"), [("mlp", False), ("rnn", True)])
def test_one_pass_gives_the_loss_and_gradients_of_the_looped_form(
    tmp_path, agent, share, softmax_temp
):
    settings = {
        "agent": agent,
        "share_parameters": share,
        "obs_agent_id": share,
        "obs_last_action": share,
    }
    settings |= {"softmax_temp": softmax_temp, "cql_weight": 3.0, "grad_norm_clip": 0, "lr": 0.01}
    learner, buffer = make_learner(tmp_path, "cfcql", **settings)
    for _ in range(5):  # away from the initial values, and over a target update
        learner.train(buffer, with_stats=False)
    reference = looped(make_learner(tmp_path, "cfcql", **settings)[0])
    reference.load_state_dict(deepcopy(learner.state_dict()))
    batch = buffer.sample(8)
    buffer.sample = lambda _: batch
    stats, expected = (one.train(buffer, with_stats=True) for one in (learner, reference))
    for name in ("td_loss", "cql_penalty"):
        assert stats[name] == pytest.approx(expected[name], rel=1e-5, abs=1e-5)
    for parameter, other in zip(learner.parameters, reference.parameters, strict=True):
        th.testing.assert_close(parameter.grad, other.grad, rtol=1e-5, atol=1e-5)


def by_hand(tmp_path, **settings):
    """Two agents, two actions, one real step and one of padding under Q_tot = q1 + 2 q2; actions taken: 0 and 0.

    So Q_tot = 5 of the actions taken, agent 0's counterfactual values are (5, 7), agent 1's (5, 2); agent 0's last
    action is not available, whatever its value.
    """
    data = make_data(n_agents=2, n_actions=3)
    learner, _ = make_learner(tmp_path, data=data, **settings)
    ones = th.ones(1, 2, 1)
    weights = (th.tensor([[1.0], [2.0]]).expand(1, 2, 2, 1), 0 * ones, ones, th.zeros(1, 2))
    q = th.tensor([[1.0, 3.0, 70.0], [2.0, 0.5, -60.0]]).expand(1, 2, 2, 3).clone().requires_grad_()
    available = th.tensor([[True, True, False], [True, True, False]]).expand(1, 2, 2, 3).clone()
    available[:, 1] = False  # the padding
    beta = th.tensor([[0.9, 0.1, 1e-30], [0.5, 0.5, 1e-30]]).expand(1, 2, 2, 3)
    batch = {"actions": th.zeros(1, 2, 2, dtype=th.long), "avail_actions": available}
    batch |= {"behaviour_log_probs": beta.log(), "filled": th.tensor([[True, False]])}
    q_tot = mix(q[..., 0], weights)
    assert q_tot[0, 0].item() == 5
    loss, stats = learner.regulariser(batch, q, q_tot, weights, with_stats=True)
    loss.backward()
    assert th.isfinite(q.grad).all()
    assert (q.grad[:, 1] == 0).all()
    assert (q.grad[..., 2] == 0).all()
    return loss.item(), stats


def test_counterfactual_penalty_by_hand(tmp_path):
    lse = [LOG(math.exp(5) + math.exp(7)), LOG(math.exp(5) + math.exp(2))]
    p = [1 / (1 + math.exp(2)), 1 / (1 + math.exp(-3))]  # of action 0
    kl = [
        p[0] * LOG(p[0] / 0.9) + (1 - p[0]) * LOG((1 - p[0]) / 0.1),
        p[1] * LOG(p[1] / 0.5) + (1 - p[1]) * LOG((1 - p[1]) / 0.5),
    ]
    weight = 1 / (1 + math.exp(0.7 * (kl[1] - kl[0])))  # of agent 0
    expected = weight * lse[0] + (1 - weight) * lse[1] - 5
    loss, stats = by_hand(tmp_path, algorithm="cfcql", softmax_temp=0.7, cql_weight=2.0)
    assert stats["cql_penalty"].item() == pytest.approx(expected, rel=1e-4)
    assert loss == pytest.approx(2 * expected, rel=1e-4)
    for i in range(2):
        assert stats[f"kl_to_behaviour/agent_{i}"].item() == pytest.approx(kl[i], rel=1e-3)
        assert stats[f"agent_weight/agent_{i}"].item() == pytest.approx(
            (weight, 1 - weight)[i], rel=1e-3
        )
    assert by_hand(tmp_path, algorithm="cfcql", softmax_temp=0, cql_weight=1.0)[0] == pytest.approx(
        sum(lse) / 2 - 5
    )
    argmax = by_hand(tmp_path, algorithm="cfcql", softmax_temp="argmax", cql_weight=1.0)[0]
    assert argmax == pytest.approx(lse[0] - 5)  # agent 0 is the farther


def test_joint_penalty_by_hand(tmp_path):
    """Of the nine joint actions only four are available."""
    values = [5, 5 - 3, 7, 7 - 3]  # (0, 0), (0, 1), (1, 0), (1, 1)
    expected = LOG(sum(math.exp(value) for value in values)) - 5
    loss, stats = by_hand(tmp_path, algorithm="macql", joint_samples=9, cql_weight=2.0)
    assert loss == pytest.approx(2 * expected, rel=1e-6)
    assert stats["cql_penalty"].item() == pytest.approx(expected, rel=1e-6)


def test_sampled_joint_penalty_estimates_the_enumerated_one(tmp_path):
    """With K draws among n joint actions the logsumexp is larger by log(K / n): a constant, without gradient."""
    exact, sampled = (
        make_learner(tmp_path, "macql", joint_samples=number)[0] for number in (4**3, 4**3 - 1)
    )
    sampled.args = sampled.args.model_copy(update={"joint_samples": 20000})
    _, buffer = make_learner(tmp_path, "macql")
    batch = buffer.sample(4)
    q, weights = exact.mac.outputs(batch), exact.mixer.weights(batch["state"])
    results = [
        learner._joint_logsumexp(q, batch["avail_actions"], weights) for learner in (exact, sampled)
    ]
    joint_actions = batch["avail_actions"].sum(dim=-1).prod(dim=-1)  # [B, T]
    th.testing.assert_close(
        results[1] - (20000 / joint_actions).log(), results[0], rtol=0, atol=0.02
    )


def test_sampled_actions_are_available_and_uniform():
    available = th.tensor([[True, False, True, True], [False, False, False, True], [False] * 4])[
        None, None
    ]
    actions = sample_joint_actions(available, 30000, th.Generator().manual_seed(0))
    assert actions.shape == (1, 1, 3, 30000)
    np.testing.assert_allclose(
        actions[0, 0, 0].bincount() / 30000, [1 / 3, 0, 1 / 3, 1 / 3], atol=0.02
    )
    assert (actions[0, 0, 1] == 3).all()
    assert (
        (actions[0, 0, 2] >= 0) & (actions[0, 0, 2] < 4)
    ).all()  # padding: anything that can be looked up


def test_joint_actions_are_enumerated_where_they_are_few():
    info = EnvInfo(n_agents=3, n_actions=2, obs_shape=1, state_shape=1, episode_limit=1)
    actions = all_joint_actions(info, limit=8)
    assert sorted(map(tuple, actions.T.tolist())) == sorted(np.ndindex(2, 2, 2))
    assert all_joint_actions(info, limit=7) is None


def test_weights_of_the_agents():
    kl = th.tensor([0.0, LOG(2), LOG(4)])
    np.testing.assert_allclose(agent_weights(kl, 1.0), [1 / 7, 2 / 7, 4 / 7], rtol=1e-6)
    np.testing.assert_allclose(agent_weights(kl, -1.0), [4 / 7, 2 / 7, 1 / 7], rtol=1e-6)
    np.testing.assert_allclose(agent_weights(kl, "argmax"), [0, 0, 1])


def test_an_agent_without_a_choice_has_no_divergence():
    """As a dead agent in StarCraft II: one available action, which the behaviour takes, too."""
    available = th.tensor([[True, False, False], [True, True, False]])
    log_beta = th.tensor([[0.0, -1e9, -1e9], [LOG(0.5), LOG(0.5), -1e9]])
    kl = kl_to_behaviour(th.tensor([[3.0, 9.0, 9.0], [0.0, 30.0, 9.0]]), available, log_beta)
    np.testing.assert_allclose(kl, [0, LOG(2)], atol=1e-3)


@pytest.mark.parametrize(
    ("algorithm", "settings"),
    [("macql", {}), ("macql", {"softmax_temp": 0.5}), ("cfcql", {"softmax_temp": 0})],
)
def test_no_behaviour_model_is_trained_where_nothing_needs_it(
    tmp_path, monkeypatch, algorithm, settings
):
    monkeypatch.setattr(
        "inspo.components.behaviour._train_individual", None
    )  # a training would fail
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
def test_wrong_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        make_args("cfcql", **settings)


def game_values(tmp_path, algorithm, cql_weight):
    """Q_tot of AA, AB, BA and BB, learnt from AA, AB, BA in equal parts (XOR, dataset b)."""
    payoff = {(0, 0): 0.0, (0, 1): 1.0, (1, 0): 1.0}
    data = make_data(n_agents=2, n_actions=2, lengths=(1,) * 300)
    data.avail_actions[:], data.obs[:], data.state[:] = True, 1.0, 1.0
    data.actions[:] = np.repeat([pair for pair in payoff for _ in range(100)], 2, axis=0)
    data.reward[::2] = [payoff[tuple(pair)] for pair in data.actions[::2]]
    data.terminated[::2], data.truncated[:] = True, False
    settings = {
        "lr": 0.005,
        "grad_norm_clip": 0,
        "batch_size": 300,
        "unit": "transitions",
        "cql_weight": cql_weight,
    }
    learner, buffer = make_learner(tmp_path, algorithm, data=data, softmax_temp=0, **settings)
    for _ in range(600):
        learner.train(buffer, with_stats=False)
    first = buffer.sample(1)
    with th.no_grad():
        q = learner.mac.outputs(first)[:, :1]  # [1, 1, 2, 2]
        joint = all_joint_actions(learner.info, 4).expand(1, 1, 2, 4)
        return (
            mix_joint_actions(q.gather(-1, joint), learner.mixer.weights(first["state"][:, :1]))
            .flatten()
            .numpy()
        )


@pytest.mark.slow
@pytest.mark.parametrize(("algorithm", "factor"), [("cfcql", 1), ("macql", 2)])
def test_the_penalty_only_decides_which_bad_joint_action_is_greedy(tmp_path, algorithm, factor):
    """Additive values cannot say `do the other thing`. With g the gap between an agent's contributions of B and A, the
    loss is least where 2/9 (g - 1) + factor * cql_weight (sigmoid(g) - 1/3) = 0 and Q(AA) = (2 - 2g) / 3.
    """
    for cql_weight, greedy in (
        (0.1, 3),
        (5.0, 0),
    ):  # BB, outside the data and worth -2; AA, in it and worth 0
        low, high = -5.0, 5.0
        for _ in range(60):
            g = (low + high) / 2
            slope = 2 / 9 * (g - 1) + factor * cql_weight * (1 / (1 + math.exp(-g)) - 1 / 3)
            low, high = (low, g) if slope > 0 else (g, high)
        base = (2 - 2 * g) / 3
        values = game_values(tmp_path, algorithm, cql_weight)
        assert values.argmax() == greedy
        np.testing.assert_allclose(values, [base, base + g, base + g, base + 2 * g], atol=0.15)


@pytest.mark.slow
def test_one_pass_takes_at_most_a_third_of_the_looped_forms_time(tmp_path):
    """Whole steps of learning at the shapes of StarCraft II's 2s3z: 32 episodes x 60 steps, 5 agents, 11 actions."""
    data = make_data(n_agents=5, n_actions=11, lengths=(60,) * 32)
    rng = np.random.default_rng(0)
    data.obs = rng.standard_normal((*data.obs.shape[:2], 80)).astype(np.float32)
    data.state = rng.standard_normal((len(data.state), 120)).astype(np.float32)
    settings = {"agent": "rnn", "hidden_dim": 64, "share_parameters": True, "obs_agent_id": True}
    settings |= {
        "obs_last_action": True,
        "batch_size": 32,
        "behaviour_steps": 1,
        "softmax_temp": 0.5,
    }
    settings |= {"mixing_embed_dim": 32, "hypernet_embed": 64}
    learner, buffer = make_learner(tmp_path, "cfcql", data=data, **settings)
    slow, its_buffer = make_learner(tmp_path, "cfcql", data=data, **settings)
    forms = {"one pass": (learner, buffer), "looped": (looped(slow), its_buffer)}
    seconds = dict.fromkeys(forms, float("inf"))
    for _ in range(10):  # by turns, and the best of each: other tests may run beside this one
        for name, (form, data) in forms.items():
            start = time.process_time()
            form.train(data, with_stats=False)
            seconds[name] = min(seconds[name], time.process_time() - start)
    assert seconds["one pass"] <= seconds["looped"] / 3, seconds
