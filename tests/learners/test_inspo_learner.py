"""InSPO's rounds: whose policies an agent sees, all agents at once, targets, temperatures."""

import numpy as np
import pytest
import torch as th
from conftest import make_data
from small_learners import make_learner

from inspo.controllers import ALL_AGENTS
from inspo.learners import inspo_learner
from inspo.learners.inspo_learner import log_importance_ratio
from inspo.modules.agents import MLPAgent


@pytest.mark.parametrize("order", ["random", "fixed", "greedy", "semi_greedy"])
@pytest.mark.parametrize("scheme", ["sequential", "simultaneous"])
@pytest.mark.parametrize("ratio", ["geometric", "plain"])
def test_all_settings_train(tmp_path, order, scheme, ratio):
    learner, buffer = make_learner(
        tmp_path,
        order=order,
        update_scheme=scheme,
        ratio=ratio,
        policy_data="resampled",
        alpha="tuned",
        beta="decaying",
        critic_inputs="both",
        updates_per_agent=3,
    )
    stats = learner.train(buffer, with_stats=True)
    assert all(np.isfinite(value) for value in stats.values())
    assert learner.updates == learner.steps_per_round == 3
    agents = [name.partition("/")[2] for name in stats if name.startswith("alpha/")]
    assert agents == ["agent_0", "agent_1", "agent_2"]  # whatever the order of their turns
    assert sorted(learner.agent_order(buffer.sample(8)).tolist()) == [0, 1, 2]


def test_greedy_order_starts_with_the_largest_expected_advantage(tmp_path):
    learner, buffer = make_learner(tmp_path, order="greedy")
    with th.no_grad():
        for critic, scale in zip(learner.critics.critics, (1.0, 100.0, 10.0), strict=True):
            critic.layers[-1].weight.mul_(scale)
    assert learner.agent_order(buffer.sample(64)).tolist() == [1, 2, 0]


@pytest.mark.parametrize("scheme", ["sequential", "simultaneous"])
@pytest.mark.parametrize("updates", [1, 2])
def test_ratios_see_the_teammates_as_the_scheme_says(tmp_path, monkeypatch, scheme, updates):
    """Sequentially, an agent's ratio uses the new policies of the agents before it."""
    learner, buffer = make_learner(
        tmp_path, update_scheme=scheme, order="fixed", lr=0.05, updates_per_agent=updates
    )
    batch = buffer.sample(8)
    buffer.sample = lambda _: batch
    ratios = []

    def record(teammates_log_pi, *rest, **options):
        ratios.append(teammates_log_pi)
        return log_importance_ratio(teammates_log_pi, *rest, **options)

    monkeypatch.setattr(inspo_learner, "log_importance_ratio", record)
    before = learner.log_pi_taken(batch)
    learner.train(buffer, with_stats=False)
    after = learner.log_pi_taken(batch)
    assert not th.allclose(before, after)
    used = th.cat(ratios[::updates], dim=-1)
    for i in range(3):
        earlier = after if scheme == "sequential" else before
        seen = [(earlier if j < i else before)[..., j] for j in range(3) if j != i]
        th.testing.assert_close(used[..., i][batch["filled"]], sum(seen)[batch["filled"]])


def in_turn(learner):
    """Makes a learner that updates all agents at once update them one after the other."""
    learner.all_at_once = False
    args = learner.args
    pairs = zip(learner.mac.agents, learner.critics.critics, strict=True)
    learner.optimiser_of = [
        learner.adam(f"agent_{k}", {policy: args.lr, critic: args.critic_lr})
        for k, (policy, critic) in enumerate(pairs)
    ]
    return learner


@pytest.mark.parametrize("agent", ["mlp", "rnn"])
def test_all_agents_at_once_learn_what_they_learn_in_turn(tmp_path, monkeypatch, agent):
    settings = {"agent": agent, "lr": 0.01, "grad_norm_clip": 0.5, "alpha": "tuned"}
    at_once, buffer = make_learner(tmp_path, order="random", **settings)
    one_by_one, _ = make_learner(tmp_path, order="random", **settings)
    one_by_one.load_state_dict(at_once.state_dict())
    learners = (at_once, in_turn(one_by_one))
    # Without chance, which the two would draw in another order.
    monkeypatch.setattr(
        inspo_learner, "resample", lambda rho, filled, generator: rho * filled[..., None]
    )
    for _ in range(3):
        batch = buffer.sample(6)
        with monkeypatch.context() as patch:
            patch.setattr(buffer, "sample", lambda _, batch=batch: batch)
            stats = [learner.train(buffer, with_stats=True) for learner in learners]
    assert stats[0].keys() == stats[1].keys()
    assert stats[0] == pytest.approx(stats[1], rel=1e-3, abs=1e-5)
    for name in ("mac", "critics", "target_mac", "target_critics", "temperatures"):
        modules = [learner.modules[name].parameters() for learner in learners]
        for one, other in zip(*modules, strict=True):
            th.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("updates", [1, 2])
def test_each_agent_has_its_own_gradients(tmp_path, updates):
    """Simultaneously, one agent's critic has no influence on the other agents' steps."""
    settings = {"update_scheme": "simultaneous", "order": "fixed", "updates_per_agent": updates}
    learner, buffer = make_learner(tmp_path, **settings)
    other, _ = make_learner(tmp_path, **settings)
    other.load_state_dict(learner.state_dict())
    batch = buffer.sample(8)
    buffer.sample = lambda _: batch
    with th.no_grad():
        for value in other.critics.critics[1].parameters():
            value.mul_(1.5)
    learner.train(buffer, with_stats=False)
    other.train(buffer, with_stats=False)
    same = []
    for one, two in zip(learner.mac.agents, other.mac.agents, strict=True):
        same.append(all(map(th.equal, one.parameters(), two.parameters())))
    assert same == [True, False, True]


def test_beta_decays_exponentially(tmp_path):
    learner, _ = make_learner(
        tmp_path, beta="decaying", beta_start=20.0, beta_end=0.2, beta_decay_steps=100
    )
    betas = [learner.beta(update) for update in (0, 50, 100, 200)]
    assert betas == pytest.approx([20, 2, 0.2, 0.2])


def test_tuned_alpha_moves_towards_the_target(tmp_path):
    settings = {"alpha": "tuned", "alpha_start": 1.0, "alpha_lr": 0.05}
    loose, buffer = make_learner(tmp_path, kl_target=50.0, **settings)
    tight, _ = make_learner(tmp_path, kl_target=0.0, lr=0.05, **settings)
    for _ in range(10):
        loose.train(buffer, with_stats=False)
        tight.train(buffer, with_stats=False)
    assert (loose.alpha(ALL_AGENTS) < 1).all()
    assert (tight.alpha(ALL_AGENTS) > 1).all()


def test_soft_targets_follow_their_networks(tmp_path):
    learner, buffer = make_learner(tmp_path, tau=0.25, lr=0.05)
    network, target = learner.mac.agents[0], learner.target_mac.agents[0]
    assert all(map(th.equal, network.parameters(), target.parameters()))  # both are the clone
    old = [value.detach().clone() for value in target.parameters()]
    learner.train(buffer, with_stats=False)
    for value, after, before in zip(network.parameters(), target.parameters(), old, strict=True):
        th.testing.assert_close(after.data, 0.75 * before + 0.25 * value.data)
        assert not after.requires_grad


@pytest.mark.parametrize("updates", [1, 2])
def test_cost_grows_linearly_with_the_number_of_agents(tmp_path, monkeypatch, updates):
    """In a round, each agent's policy runs a fixed number of times."""
    runs = {}
    for n_agents in (2, 4, 8):
        learner, buffer = make_learner(
            tmp_path,
            data=make_data(n_agents=n_agents),
            order="fixed",
            updates_per_agent=updates,
        )
        counts = []

        def count(networks, *inputs, unroll=MLPAgent.unroll, counts=counts):
            counts.append(len(networks))
            return unroll(networks, *inputs)

        with monkeypatch.context() as patch:
            patch.setattr(MLPAgent, "unroll", staticmethod(count))
            learner.train(buffer, with_stats=False)
        runs[n_agents] = sum(counts)
    assert runs[2] >= 4  # policies and their targets
    assert runs[8] - runs[4] == 2 * (runs[4] - runs[2])


@pytest.fixture
def padded(tmp_path):
    """A learner, and a batch of episodes of different lengths."""
    learner, buffer = make_learner(tmp_path)
    batch = buffer.sample(6)
    filled = batch["filled"]
    assert 0 < filled.sum() < filled.numel()
    return learner, batch


def real_steps(values, batch):
    """The values [B, T] of real steps, as a list."""
    return [
        values[b, t].item()
        for b in range(len(values))
        for t in range(values.shape[1])
        if batch["filled"][b, t]
    ]


def test_metrics_are_means_over_real_steps(padded):
    learner, batch = padded
    turn = learner.begin(ALL_AGENTS, batch, 0)
    rho = th.rand(turn.filled.shape) + 10 * (1 - turn.filled)  # large where there is padding
    losses = th.tensor([1.0, 2.0, 3.0])
    stats = learner.stats(turn, rho, losses, -losses)
    for i in range(3):
        q_taken = turn.q[..., i, :].gather(-1, turn.actions[..., i, None])[..., 0]
        pi = turn.log_pi[..., i, :].exp()
        entropy = -(pi * pi.clamp(min=1e-30).log()).sum(-1)
        ratios = np.array(real_steps(rho[..., i], batch))
        expected = {
            "q_taken": np.mean(real_steps(q_taken, batch)),
            "policy_entropy": np.mean(real_steps(entropy, batch)),
            "resampling_ess": ratios.sum() ** 2 / (ratios**2).sum() / len(ratios),
            "value_loss": i + 1,
            "policy_loss": -(i + 1),
        }
        for name, value in expected.items():
            assert stats[f"{name}/agent_{i}"] == pytest.approx(value, rel=1e-4), name


def test_expected_advantages_are_sums_over_real_steps(padded):
    learner, batch = padded
    found = learner.expected_advantages(batch)
    advantages = learner.advantages(learner.begin(ALL_AGENTS, batch, 0)).detach().abs()
    for i in range(3):
        expected = sum(real_steps(advantages[..., i], batch))
        assert found[i].item() == pytest.approx(expected, rel=1e-5)


def test_the_order_is_of_the_first_batch(tmp_path, monkeypatch):
    learner, buffer = make_learner(tmp_path, order="greedy", updates_per_agent=3)
    sampled, asked = [], []
    sample, agent_order = buffer.sample, learner.agent_order

    def noted(size):
        sampled.append(sample(size))
        return sampled[-1]

    def ordered(batch):
        asked.append(batch)
        return agent_order(batch)

    monkeypatch.setattr(buffer, "sample", noted)
    monkeypatch.setattr(learner, "agent_order", ordered)
    learner.train(buffer, with_stats=False)
    assert len(sampled) == 3
    assert len(asked) == 1
    assert asked[0] is sampled[0]
