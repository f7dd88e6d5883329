"""Contracts that every learner keeps, and InSPO's rounds."""

import numpy as np
import pytest
import torch as th
from conftest import make_args, make_buffer, make_data

from inspo.components.behaviour import attach_behaviour
from inspo.controllers import ALL_AGENTS, BasicMAC
from inspo.envs import EnvInfo
from inspo.learners import REGISTRY, inspo_learner
from inspo.learners.inspo_learner import log_importance_ratio
from inspo.modules.agents import MLPAgent
from inspo.modules.behaviour import REGISTRY as JOINT_MODELS

BC_SMALL = {"hidden_dim": 16, "batch_size": 8, "lr_decay_steps": None}
SMALL = {
    **BC_SMALL,
    "behaviour_steps": 20,
    "behaviour_batch_size": 8,
    "critic_hidden_dim": 16,
    "updates_per_agent": 1,
}
VALUES_SMALL = {**BC_SMALL, "mixing_embed_dim": 8, "hypernet_embed": 8, "target_update_interval": 2}
CFCQL_SMALL = {**VALUES_SMALL, "behaviour_steps": 20, "behaviour_batch_size": 8, "joint_samples": 5}
ALGORITHMS = {"bc": BC_SMALL, "inspo": SMALL}
CRITICS_SMALL = {**BC_SMALL, "critic_hidden_dim": 16}
ALGORITHMS |= {"omar": CRITICS_SMALL, "omiga": CRITICS_SMALL, "icq": CRITICS_SMALL}
ALGORITHMS["alberdice"] = {
    **CRITICS_SMALL,
    "behaviour_steps": 20,
    "behaviour_batch_size": 8,
    "kl_samples": 2,
}
UNSHARED = ["alberdice"]  # refuse share_parameters
ALGORITHMS |= {"qmix_cql": VALUES_SMALL, "cfcql": CFCQL_SMALL, "macql": CFCQL_SMALL}


def make_learner(tmp_path, algorithm="inspo", data=None, unit="episodes", **overrides):
    data = data or make_data()
    settings = {**ALGORITHMS[algorithm], "batch_unit": unit, **overrides}
    args = make_args(algorithm, **settings)
    info: EnvInfo = data.env_info(episode_limit=5)
    buffer = make_buffer(data, args.batch_unit, args.seed)
    th.manual_seed(args.seed)
    learner = REGISTRY[args.learner](args, info, BasicMAC(args, info))
    if learner.behaviour_models:
        cache = (tmp_path, data.fingerprint)
        learner.behaviour = attach_behaviour(learner.behaviour_models, args, info, buffer, *cache)
        if args.init_from_behaviour:
            learner.warm_start(learner.behaviour.individual)
    return learner, buffer


@pytest.mark.parametrize("agent", ["mlp", "rnn"])
@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("algorithm", list(ALGORITHMS))
def test_training_moves_every_network_and_stays_finite(tmp_path, algorithm, share, agent):
    if share and algorithm in UNSHARED:
        pytest.skip("shares no parameters")
    settings = {
        "share_parameters": share,
        "agent": agent,
        "obs_agent_id": share,
        "obs_last_action": agent == "rnn",
    }
    learner, buffer = make_learner(tmp_path, algorithm, **settings)
    before = {name: value.clone() for name, value in learner.mac.state_dict().items()}
    for _ in range(20):
        stats = learner.train(buffer, with_stats=True)
        assert stats
        assert all(np.isfinite(value) for value in stats.values())
    assert learner.updates == 20
    unmoved = [
        name for name, value in learner.mac.state_dict().items() if th.equal(value, before[name])
    ]
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
        networks.append(
            th.cat([p.detach().flatten() for m in learner.modules.values() for p in m.parameters()])
        )
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


@pytest.mark.parametrize("algorithm", list(ALGORITHMS))
def test_a_row_without_any_available_action_makes_no_nan(tmp_path, algorithm):
    """The final row of a terminated episode may have none, as StarCraft II's has."""
    data = make_data()
    data.avail_actions[data.final_rows[data.terminated[data.final_rows - 1]]] = False
    data.check()
    learner, buffer = make_learner(tmp_path, algorithm, data=data)
    for _ in range(5):
        stats = learner.train(buffer, with_stats=True)
        assert all(
            abs(value) < 1e6 for value in stats.values()
        )  # nor does the masks' huge number leak


def test_random_actions_need_no_available_one_where_a_game_is_over(tmp_path):
    mac = make_learner(tmp_path, "bc")[0].mac
    available = th.zeros(2, 3, 4, dtype=th.bool)
    available[1, :, 2] = True  # the game of the first lane is over, the second one's goes on
    for greedy in (False, True):
        actions, _ = mac.act(
            th.ones(2, 3, 5),
            available,
            th.full((2, 3), -1),
            mac.init_hidden(2),
            greedy,
            epsilon=0.5,
        )
        assert actions[1].tolist() == [2, 2, 2]


@pytest.mark.parametrize("order", ["random", "fixed", "semi_greedy"])
@pytest.mark.parametrize("scheme", ["sequential", "simultaneous"])
@pytest.mark.parametrize("ratio", ["geometric", "plain"])
def test_switches_run(tmp_path, order, scheme, ratio):
    settings = {"order": order, "update_scheme": scheme, "ratio": ratio, "policy_data": "resampled"}
    settings |= {
        "alpha": "tuned",
        "beta": "decaying",
        "critic_inputs": "both",
        "updates_per_agent": 3,
    }
    learner, buffer = make_learner(tmp_path, **settings)
    stats = learner.train(buffer, with_stats=True)
    assert all(np.isfinite(value) for value in stats.values())
    assert learner.updates == learner.steps_per_round == 3
    agents = [name.partition("/")[2] for name in stats if name.startswith("alpha/")]
    assert agents == ["agent_0", "agent_1", "agent_2"]  # in whatever order they had their turns
    assert sorted(learner.agent_order(buffer.sample(8)).tolist()) == [0, 1, 2]


def test_semi_greedy_starts_with_the_largest_expected_advantage(tmp_path):
    learner, buffer = make_learner(tmp_path, order="semi_greedy")
    with th.no_grad():
        for i, scale in enumerate((1.0, 100.0, 10.0)):
            learner.critics.critics[i].layers[-1].weight.mul_(scale)
    assert learner.agent_order(buffer.sample(64)).tolist() == [1, 2, 0]


@pytest.mark.parametrize(("scheme", "current"), [("sequential", True), ("simultaneous", False)])
@pytest.mark.parametrize("updates", [1, 2])
def test_ratios_see_the_mates_as_the_scheme_says(tmp_path, monkeypatch, scheme, current, updates):
    """An agent's ratio is computed from the new policies of those before it, or from those before the round."""
    settings = {"update_scheme": scheme, "order": "fixed", "lr": 0.05, "updates_per_agent": updates}
    learner, buffer = make_learner(tmp_path, **settings)
    batch, ratios = buffer.sample(8), []

    def record(teammates_log_pi, *rest, **options):
        ratios.append(teammates_log_pi)
        return log_importance_ratio(teammates_log_pi, *rest, **options)

    monkeypatch.setattr(inspo_learner, "log_importance_ratio", record)
    buffer.sample = lambda _: batch
    before = learner.log_pi_taken(batch)
    learner.train(buffer, with_stats=False)
    after = learner.log_pi_taken(batch)
    assert not th.allclose(before, after)
    used = th.cat(ratios[::updates], dim=-1)
    teammates = [
        [after if current and j < i else before for j in range(3) if j != i] for i in range(3)
    ]
    for i, (first, second) in enumerate(teammates):
        numbers = [j for j in range(3) if j != i]
        expected = first[..., numbers[0]] + second[..., numbers[1]]
        th.testing.assert_close(used[..., i][batch["filled"]], expected[batch["filled"]])


@pytest.mark.parametrize("agent", ["mlp", "rnn"])
def test_all_agents_at_once_learn_what_they_learn_in_turn(tmp_path, agent):
    """The round without a loop is the round with one, agent after agent."""
    settings = {
        "agent": agent,
        "lr": 0.01,
        "order": "random",
        "grad_norm_clip": 0.5,
        "alpha": "tuned",
    }
    at_once, buffer = make_learner(tmp_path, **settings)
    in_turn, _ = make_learner(tmp_path, **settings)
    in_turn.load_state_dict(at_once.state_dict())
    in_turn.all_at_once = False
    in_turn.optimiser_of = [
        in_turn.adam(f"agent_{k}", {agent: 0.01, critic: in_turn.args.critic_lr})
        for k, (agent, critic) in enumerate(
            zip(in_turn.mac.agents, in_turn.critics.critics, strict=True)
        )
    ]

    def resample_evenly(rho, filled, generator):  # no two ways of drawing
        return rho * filled[..., None]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inspo_learner, "resample", resample_evenly)
        for _ in range(3):
            batch = buffer.sample(6)
            buffer.sample = lambda _, batch=batch: batch
            stats = [learner.train(buffer, with_stats=True) for learner in (at_once, in_turn)]
            del buffer.sample
    assert stats[0].keys() == stats[1].keys()
    assert stats[0] == pytest.approx(stats[1], rel=1e-3, abs=1e-5)
    for name in ("mac", "critics", "target_mac", "target_critics", "temperatures"):
        for one, other in zip(
            at_once.modules[name].parameters(), in_turn.modules[name].parameters(), strict=True
        ):
            th.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("updates", [1, 2])
def test_each_agent_has_gradients_of_its_own(tmp_path, updates):
    """Whatever one agent's weights are, the others' networks get the same gradient steps (simultaneously)."""
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
    same = [
        all(th.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
        for one, two in zip(learner.mac.agents, other.mac.agents, strict=True)
    ]
    assert same == [True, False, True]


def test_beta_decays_exponentially(tmp_path):
    learner, _ = make_learner(
        tmp_path, beta="decaying", beta_start=20.0, beta_end=0.2, beta_decay_steps=100
    )
    assert [learner.beta(update) for update in (0, 50, 100, 200)] == pytest.approx(
        [20, 2, 0.2, 0.2]
    )


@pytest.mark.parametrize("algorithm", list(ALGORITHMS))
def test_learning_rates_decay_to_zero(tmp_path, algorithm):
    learner, buffer = make_learner(tmp_path, algorithm, lr_decay_steps="t_max", t_max=4)
    for _ in range(4):
        learner.train(buffer, with_stats=False)
    rates = {
        group["lr"] / group["initial_lr"]
        for opt in learner.optimisers.values()
        for group in opt.param_groups
    }
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
    assert (loose.alpha(ALL_AGENTS) < 1).all()
    assert (tight.alpha(ALL_AGENTS) > 1).all()


def test_soft_targets_lag_behind(tmp_path):
    learner, buffer = make_learner(tmp_path, tau=0.25, lr=0.05)
    network, target = learner.mac.agents[0], learner.target_mac.agents[0]
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
    monkeypatch.setattr(
        "inspo.components.behaviour._train_individual", None
    )  # a second training would fail
    monkeypatch.setattr("inspo.components.behaviour._train_joint", None)
    second, reused = make_learner(tmp_path, seed=1)
    third, again = make_learner(tmp_path)
    for name in ("behaviour_log_probs", "teammates_log_prob"):
        assert th.equal(buffer.columns[name], reused.columns[name])
    # Each model has a random stream of its own: it matters not which of them was there already.
    monkeypatch.undo()
    cached = next(tmp_path.glob("autoregressive-*.pt"))
    weights = {name: value + 1.0 for name, value in th.load(cached, weights_only=True).items()}
    weights.popitem()
    for damaged in (b"damaged", [th.zeros(1)], weights):
        cached.write_bytes(damaged) if isinstance(damaged, bytes) else th.save(damaged, cached)
        _, half = make_learner(tmp_path)
        assert half.fingerprint() == buffer.fingerprint()
    # A cached model leaves the run with the same random numbers as a new one.
    assert first.train(buffer, True) == third.train(again, True) != second.train(reused, True)


def test_the_joint_behaviour_model_finds_correlations(tmp_path):
    """In {AB, BA} the teammate's action is certain once yours is known, though each alone is a coin flip."""
    data = make_data(n_agents=2, n_actions=2, lengths=(1,) * 64)
    data.avail_actions[:] = True
    first = np.random.default_rng(0).integers(2, size=len(data.actions))
    data.actions = np.stack([first, 1 - first], axis=1).astype(np.uint8)
    data.state[:], data.obs[:] = 1.0, 1.0
    _, buffer = make_learner(tmp_path, data=data, behaviour_steps=300, behaviour_lr=0.01)
    batch = buffer.sample(64)
    assert (batch["teammates_log_prob"][:, 0] > np.log(0.95)).all()
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


@pytest.mark.parametrize("updates", [1, 2])
def test_cost_grows_linearly_with_agents(tmp_path, monkeypatch, updates):
    """A round asks each agent's policy a fixed number of times, however many teammates there are."""
    unroll = MLPAgent.unroll
    asked = {}
    for n_agents in (2, 4, 8):
        settings = {"order": "fixed", "updates_per_agent": updates}
        learner, buffer = make_learner(tmp_path, data=make_data(n_agents=n_agents), **settings)
        asked[n_agents] = 0

        def count(networks, inputs, hidden, n_agents=n_agents):
            asked[n_agents] += len(networks)
            return unroll(networks, inputs, hidden)

        with monkeypatch.context() as patch:
            patch.setattr(MLPAgent, "unroll", staticmethod(count))
            learner.train(buffer, with_stats=False)
    assert asked[2] >= 4  # policies and their targets
    assert asked[8] - asked[4] == 2 * (asked[4] - asked[2])


@pytest.mark.parametrize("name", ["autoregressive", "chain"])
def test_joint_behaviour_models_learn_what_mates_do_given_an_action(tmp_path, name):
    """Three agents: the second copies the first nine times in ten, the third is on its own."""
    rng = np.random.default_rng(0)
    first, third = rng.integers(2, size=(2, 2000))
    second = np.where(rng.random(2000) < 0.9, first, 1 - first)
    actions = th.from_numpy(np.stack([first, second, third], axis=-1))
    info = EnvInfo(n_agents=3, n_actions=2, obs_shape=1, state_shape=1, episode_limit=1)
    th.manual_seed(0)
    model = JOINT_MODELS[name](info, 32)
    state, available = th.ones(2000, 1), th.ones(2000, 3, 2, dtype=th.bool)
    optimiser = th.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(200):
        optimiser.zero_grad()
        model.loss(state, actions, available).backward()
        optimiser.step()
    found = model.teammates_log_probs(state, actions, available).exp()
    likely = np.where(first == second, 0.9, 0.1)
    expected = np.stack([likely * 0.5, likely * 0.5, likely * 0.5], axis=-1)
    np.testing.assert_allclose(found.detach(), expected, atol=0.06)
