"""Contracts that every learner keeps, and InSPO's rounds."""

import numpy as np
import pytest
import torch as th
from conftest import make_args, make_buffer, make_data

from components.behaviour import attach_behaviour
from controllers import BasicMAC
from envs import EnvInfo
from learners import REGISTRY

BC_SMALL = {"hidden_dim": 16, "batch_size": 8, "lr_decay_steps": None}
SMALL = {**BC_SMALL, "behaviour_steps": 20, "behaviour_batch_size": 8, "critic_hidden_dim": 16, "updates_per_agent": 1}
ALGORITHMS = {"bc": BC_SMALL, "inspo": SMALL}


def make_learner(tmp_path, algorithm="inspo", data=None, unit="episodes", **overrides):
    data = data or make_data()
    settings = {**ALGORITHMS[algorithm], "batch_unit": unit, **overrides}
    args = make_args(algorithm, **settings)
    info: EnvInfo = data.env_info(episode_limit=5)
    buffer = make_buffer(data, args.batch_unit, args.seed)
    th.manual_seed(args.seed)
    learner = REGISTRY[args.learner](args, info, BasicMAC(args, info))
    if learner.behaviour_models:
        behaviour = attach_behaviour(learner.behaviour_models, args, info, buffer, tmp_path, data.fingerprint)
        if args.init_from_behaviour:
            learner.warm_start(behaviour)
    return learner, buffer


@pytest.mark.parametrize("agent", ["mlp", "rnn"])
@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("algorithm", list(ALGORITHMS))
def test_training_moves_every_network_and_stays_finite(tmp_path, algorithm, share, agent):
    settings = {"share_parameters": share, "agent": agent, "obs_agent_id": share, "obs_last_action": agent == "rnn"}
    learner, buffer = make_learner(tmp_path, algorithm, **settings)
    before = {name: value.clone() for name, value in learner.mac.state_dict().items()}
    for _ in range(20):
        stats = learner.train(buffer, with_stats=True)
        assert stats
        assert all(np.isfinite(value) for value in stats.values())
    assert learner.updates == 20
    unmoved = [name for name, value in learner.mac.state_dict().items() if th.equal(value, before[name])]
    assert not unmoved
    assert not learner.train(buffer, with_stats=False)


@pytest.mark.parametrize("algorithm", list(ALGORITHMS))
def test_padding_changes_no_loss(tmp_path, algorithm):
    """One update on a batch, and one on the same batch with other numbers in its padding, give the same networks."""
    networks = []
    for change in (0.0, 1000.0):
        learner, buffer = make_learner(tmp_path, algorithm)
        batch = buffer.sample(8)
        steps = batch["filled"].shape[1]
        lengths = batch["filled"].sum(dim=1)
        # Row L is real: what followed the last step. Everything behind it is padding.
        padding = th.arange(steps + 1) > lengths[:, None]
        assert padding.any()
        changed = dict(batch)
        for name in ("state", "obs"):
            rows = padding.view(*padding.shape, *(1,) * (batch[name].ndim - 2))
            changed[name] = th.where(rows, batch[name] + change, batch[name])
        changed["reward"] = th.where(padding[:, :-1], batch["reward"] + change, batch["reward"])
        buffer.sample = lambda _, batch=changed: batch
        learner.train(buffer, with_stats=False)
        networks.append(th.cat([value.flatten() for value in learner.mac.state_dict().values()]))
        if algorithm == "inspo":
            networks[-1] = th.cat([networks[-1], *(p.detach().flatten() for p in learner.critics.parameters())])
    assert th.equal(*networks)


@pytest.mark.parametrize("agent", ["mlp", "rnn"])
def test_unavailable_actions_have_probability_exactly_zero(tmp_path, agent):
    learner, buffer = make_learner(tmp_path, agent=agent)
    for _ in range(5):
        learner.train(buffer, with_stats=False)
    batch = buffer.sample(32)
    probs = learner.mac.log_probs(batch).exp()
    assert (probs[~batch["avail_actions"]] == 0).all()
    np.testing.assert_allclose(probs.sum(-1).detach(), 1, rtol=1e-5)
    assert (batch["behaviour_log_probs"].exp()[~batch["avail_actions"]] == 0).all()
    obs, available = batch["obs"][:, 0], batch["avail_actions"][:, 0]
    none, hidden = th.full(obs.shape[:2], -1), learner.mac.init_hidden(len(obs))
    for _ in range(20):
        actions, _ = learner.mac.act(obs, available, none, hidden, greedy=False)
        assert available.gather(-1, actions[..., None]).all()


def test_a_row_without_any_available_action_makes_no_nan(tmp_path):
    """The final row of a terminated episode may have none, as StarCraft II's has."""
    data = make_data()
    data.avail_actions[data.final_rows[data.terminated[data.final_rows - 1]]] = False
    data.check()
    learner, buffer = make_learner(tmp_path, data=data)
    stats = [learner.train(buffer, with_stats=True) for _ in range(5)][-1]
    assert all(np.isfinite(value) for value in stats.values())


@pytest.mark.parametrize("order", ["random", "fixed", "semi_greedy"])
@pytest.mark.parametrize("scheme", ["sequential", "simultaneous"])
@pytest.mark.parametrize("ratio", ["geometric", "plain"])
def test_switches_run(tmp_path, order, scheme, ratio):
    settings = {"order": order, "update_scheme": scheme, "ratio": ratio, "policy_data": "resampled"}
    settings |= {"alpha": "tuned", "beta": "decaying", "critic_inputs": "both", "updates_per_agent": 3}
    learner, buffer = make_learner(tmp_path, **settings)
    stats = learner.train(buffer, with_stats=True)
    assert all(np.isfinite(value) for value in stats.values())
    assert learner.updates == learner.steps_per_round == 3
    assert sorted(learner.agent_order(buffer.sample(8))) == [0, 1, 2]


def test_semi_greedy_starts_with_the_largest_expected_advantage(tmp_path):
    learner, buffer = make_learner(tmp_path, order="semi_greedy")
    with th.no_grad():
        for i, scale in enumerate((1.0, 100.0, 10.0)):
            learner.critics.critic(i).layers[-1].weight.mul_(scale)
    assert learner.agent_order(buffer.sample(64)) == [1, 2, 0]


@pytest.mark.parametrize(("scheme", "current"), [("sequential", True), ("simultaneous", False)])
def test_ratios_see_the_mates_as_the_scheme_says(tmp_path, scheme, current):
    """The second agent's ratio is computed from the first one's new policy, or from the one before the round."""
    learner, buffer = make_learner(tmp_path, update_scheme=scheme, order="fixed", lr=0.05)
    batch = buffer.sample(8)
    buffer.sample = lambda _: batch
    before = learner._log_pi_taken(batch)
    for i, (used, now) in train_and_record_ratios(learner, buffer).items():
        th.testing.assert_close(used, now if current else before)
        assert (i == 0) == th.equal(now, before)


def test_shared_parameters_refresh_all_mates(tmp_path):
    learner, buffer = make_learner(tmp_path, share_parameters=True, obs_agent_id=True, order="fixed", lr=0.05)
    for used, now in train_and_record_ratios(learner, buffer).values():
        th.testing.assert_close(used, now)


def train_and_record_ratios(learner, buffer):
    """One round; for each agent, the mates' log probabilities that its ratio used, and those of the policies then."""
    seen, update = {}, learner.update_agent

    def record(i, batch, log_pi, *rest):
        seen[i] = (log_pi, learner._log_pi_taken(batch))
        return update(i, batch, log_pi, *rest)

    learner.update_agent = record
    learner.train(buffer, with_stats=False)
    return seen


def test_each_agent_has_gradients_of_its_own(tmp_path):
    """Updating one agent leaves the others' policies and values as they were."""
    learner, buffer = make_learner(tmp_path)
    batch = buffer.sample(8)
    log_pi = learner._log_pi_taken(batch)
    learner.update_agent(1, batch, log_pi, 0, with_stats=False)
    changed = (learner._log_pi_taken(batch) != log_pi).any(dim=0).any(dim=0)
    assert changed.tolist() == [False, True, False]


def test_beta_decays_exponentially(tmp_path):
    learner, _ = make_learner(tmp_path, beta="decaying", beta_start=20.0, beta_end=0.2, beta_decay_steps=100)
    assert [learner.beta(update) for update in (0, 50, 100, 200)] == pytest.approx([20, 2, 0.2, 0.2])


@pytest.mark.parametrize("algorithm", list(ALGORITHMS))
def test_learning_rates_decay_to_zero(tmp_path, algorithm):
    learner, buffer = make_learner(tmp_path, algorithm, lr_decay_steps="t_max", t_max=4)
    for _ in range(4):
        learner.train(buffer, with_stats=False)
    rates = {group["lr"] / group["initial_lr"] for opt in learner.optimisers.values() for group in opt.param_groups}
    assert rates <= {0.25, 1.0}  # of the fourth step; 1: a fixed alpha's optimiser takes none
    before = [value.clone() for value in learner.mac.parameters()]
    learner.train(buffer, with_stats=False)
    assert all(map(th.equal, before, learner.mac.parameters()))


def test_tuned_alpha_moves_towards_the_target(tmp_path):
    settings = {"alpha": "tuned", "alpha_start": 1.0, "alpha_lr": 0.05}
    loose, buffer = make_learner(tmp_path, kl_target=50.0, **settings)
    tight, _ = make_learner(tmp_path, kl_target=0.0, lr=0.05, **settings)
    for _ in range(10):
        loose.train(buffer, with_stats=False)
        tight.train(buffer, with_stats=False)
    assert loose.alpha(0) < 1 < tight.alpha(0)


def test_soft_targets_lag_behind(tmp_path):
    learner, buffer = make_learner(tmp_path, tau=0.25, lr=0.05)
    network, target = learner.mac.agent(0), learner.target_mac.agent(0)
    for (name, value), lagging in zip(network.named_parameters(), target.parameters(), strict=True):
        assert th.equal(value, lagging), name  # both start as the behaviour
    old = [value.detach().clone() for value in target.parameters()]
    learner.train(buffer, with_stats=False)
    for value, lagging, before in zip(network.parameters(), target.parameters(), old, strict=True):
        th.testing.assert_close(lagging.data, 0.75 * before + 0.25 * value.data)
        assert not lagging.requires_grad


def test_behaviour_is_trained_once_and_does_not_depend_on_the_seed(tmp_path, monkeypatch):
    first, buffer = make_learner(tmp_path)
    assert len(list(tmp_path.glob("*.pt"))) == 2
    monkeypatch.setattr("components.behaviour._train_individual", None)  # a second training would fail
    monkeypatch.setattr("components.behaviour._train_autoregressive", None)
    second, cached = make_learner(tmp_path, seed=1)
    third, again = make_learner(tmp_path)
    for name in ("behaviour_log_probs", "mates_log_prob"):
        assert th.equal(buffer.columns[name], cached.columns[name])
    # Each model has a random stream of its own: it matters not which of them was there already.
    monkeypatch.undo()
    next(tmp_path.glob("autoregressive-*.pt")).write_bytes(b"damaged")
    _, half = make_learner(tmp_path)
    assert half.fingerprint() == buffer.fingerprint()
    # A cached model leaves the run with the same random numbers as a new one.
    assert first.train(buffer, True) == third.train(again, True) != second.train(cached, True)


def test_the_joint_behaviour_model_finds_correlations(tmp_path):
    """In {AB, BA} the mate's action is certain once yours is known, though each alone is a coin flip."""
    data = make_data(n_agents=2, n_actions=2, lengths=(1,) * 64)
    data.avail_actions[:] = True
    first = np.random.default_rng(0).integers(2, size=len(data.actions))
    data.actions = np.stack([first, 1 - first], axis=1).astype(np.uint8)
    data.state[:], data.obs[:] = 1.0, 1.0
    _, buffer = make_learner(tmp_path, data=data, behaviour_steps=300, behaviour_lr=0.01)
    batch = buffer.sample(64)
    assert (batch["mates_log_prob"][:, 0] > np.log(0.95)).all()
    np.testing.assert_allclose(batch["behaviour_log_probs"][:, 0].exp(), 0.5, atol=0.1)


@pytest.mark.parametrize("algorithm", list(ALGORITHMS))
def test_a_restored_learner_goes_on_bit_for_bit(tmp_path, algorithm):
    learner, buffer = make_learner(tmp_path, algorithm)
    for _ in range(3):
        learner.train(buffer, with_stats=False)
    th.save({"learner": learner.state_dict(), "buffer": buffer.state_dict()}, tmp_path / "state.pt")
    expected = [learner.train(buffer, with_stats=True) for _ in range(3)]
    other, its_buffer = make_learner(tmp_path, algorithm)
    other.train(its_buffer, with_stats=False)
    state = th.load(tmp_path / "state.pt", weights_only=True)
    other.load_state_dict(state["learner"])
    its_buffer.load_state_dict(state["buffer"])
    assert [other.train(its_buffer, with_stats=True) for _ in range(3)] == expected


def test_cost_grows_linearly_with_agents(tmp_path, monkeypatch):
    """A round looks at each agent's policy a fixed number of times, however many mates there are."""
    calls = {}
    for n_agents in (2, 4, 8):
        learner, buffer = make_learner(tmp_path, data=make_data(n_agents=n_agents), order="fixed")
        count = 0

        def forward(*inputs, original):
            nonlocal count
            count += 1
            return original(*inputs)

        for agent in [*learner.mac.agents, *learner.target_mac.agents]:
            monkeypatch.setattr(agent, "forward", lambda *x, original=agent.forward: forward(*x, original=original))
        learner.train(buffer, with_stats=False)
        calls[n_agents] = count
    assert calls[8] - calls[4] == 2 * (calls[4] - calls[2])
