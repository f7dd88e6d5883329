"""VDN and independent learners: losses against numbers by hand, and what they learn."""

import itertools
import math

import pytest
import torch as th
from conftest import make_args, make_data
from online_game import train_online
from small_learners import make_learner, single_episode, values_by_hand

import inspo
from inspo.components.value_decomposition import double_q_targets, td_loss
from inspo.learners.qmix_cql_learner import individual_penalty
from inspo.modules.mixers import Mixer, VDNMixer, mixer_class
from inspo.utils.errors import ConfigError

INFO = make_data().env_info(episode_limit=5)  # 3 agents, 4 actions, a state of 7 numbers
GAMMA = 0.9


def one_episode() -> dict:
    """Two agents, two actions, two steps; the second ends the game. Rows 0, 1, 2."""
    return {
        "avail_actions": th.ones(1, 3, 2, 2, dtype=th.bool),
        "state": th.zeros(1, 3, 7),
        "reward": th.tensor([[1.0, 2.0]]),
        "terminated": th.tensor([[False, True]]),
        "filled": th.tensor([[True, True]]),
    }


Q = th.tensor([[[[0.0, 0.0], [0.0, 0.0]], [[1.0, 2.0], [5.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]]])
TARGET_Q = th.tensor([[[[9.0, 9.0]] * 2, [[10.0, 20.0], [30.0, 40.0]], [[9.0, 9.0]] * 2]])


@pytest.mark.parametrize(
    ("mixer", "targets", "loss"),
    [
        # y_1 = 2. At step 1 agents prefer actions 1 and 0, worth 20 and 30 to the targets.
        ("vdn", [[1 + 0.5 * 50, 2.0]], (25**2 + 1**2) / 4),
        (None, [[[1 + 0.5 * 20, 1 + 0.5 * 30], [2.0, 2.0]]], (10**2 + 15**2 + 1 + 1) / 8),
    ],
)
def test_one_step_targets_by_hand(mixer, targets, loss):
    mix = mixer_class(mixer)(None, INFO)
    found = double_q_targets(Q, TARGET_Q, mix, one_episode(), gamma=0.5, td_lambda=0.0)
    expected = th.tensor(targets)
    th.testing.assert_close(found, expected)
    # All values are 1 when training starts.
    assert td_loss(th.ones_like(expected), found, th.ones(1, 2, dtype=th.bool)).item() == (
        pytest.approx(loss)
    )


def test_lambda_targets_of_independent_learners_by_hand():
    """y^i_0 = 1 + 0.5 (0.5 * V^i_1 + 0.5 * y_1) with y_1 = 2."""
    mix = mixer_class(None)(None, INFO)
    found = double_q_targets(Q, TARGET_Q, mix, one_episode(), gamma=0.5, td_lambda=0.5)
    expected = [[[1 + 0.5 * (10 + 1), 1 + 0.5 * (15 + 1)], [2.0, 2.0]]]
    th.testing.assert_close(found, th.tensor(expected))


def test_padding_counts_for_no_agent():
    values, targets = th.tensor([[[1.0, 3.0], [50.0, 60.0]]]), th.zeros(1, 2, 2)
    loss = td_loss(values, targets, th.tensor([[True, False]]))
    assert loss.item() == pytest.approx((1 + 9) / 2 / 2)


def losses_by_hand(learner, rows, length, combine):
    """TD loss and penalty of one episode, summed over its steps.

    `combine` makes of the agents' values what is regressed: their sum, or a list.
    """
    q, target_q = learner.mac.outputs(rows), learner.target_mac.outputs(rows)
    td, penalty = 0.0, 0.0
    for t in range(length):
        taken, following, penalties = values_by_hand(q, target_q, rows, t)
        penalty += sum(penalties)
        going_on = 0.0 if rows["terminated"][0, t] else 1.0
        for value, next_value in zip(combine(taken), combine(following), strict=True):
            target = rows["reward"][0, t] + GAMMA * going_on * next_value
            td += 0.5 * (value - target) ** 2
    return td, penalty


@pytest.mark.parametrize(
    ("algorithm", "combine", "n_values"),
    [("vdn_cql", lambda values: [sum(values)], 1), ("iql_cql", lambda values: values, 3)],
)
def test_the_loss_is_td_plus_weighted_penalty(tmp_path, algorithm, combine, n_values):
    settings = {"cql_weight": 0.3, "grad_norm_clip": 0, "td_lambda": 0.0, "gamma": GAMMA}
    learner, buffer = make_learner(tmp_path, algorithm, **settings)
    with th.no_grad():  # targets that differ from the networks
        for value in learner.target_parameters:
            value.add_(0.1 * th.randn(value.shape))
    batch = buffer.sample(8)
    buffer.sample = lambda _: batch
    lengths = batch["filled"].sum(dim=1).tolist()
    td, penalty = 0.0, 0.0
    for e, length in enumerate(lengths):
        rows = single_episode(batch, e)
        episode_td, episode_penalty = losses_by_hand(learner, rows, length, combine)
        td += episode_td / sum(lengths) / n_values
        penalty += episode_penalty / sum(lengths) / n_values
    expected = th.autograd.grad(td + 0.3 * penalty, learner.parameters)
    stats = learner.train(buffer, with_stats=True)
    assert stats["td_loss"] == pytest.approx(td.item(), rel=1e-5)
    assert stats["cql_penalty"] == pytest.approx(penalty.item(), rel=1e-5)
    for parameter, gradient in zip(learner.parameters, expected, strict=True):
        th.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)


def test_vdns_penalty_is_that_of_joint_actions():
    q = th.tensor([[[[1.0, 2.0, 50.0], [0.5, 0.0, -1.0]]]])
    available = th.tensor([[[[True, True, False], [True, True, True]]]])
    found = individual_penalty(q, th.tensor([[[0, 1]]]), available)
    joint = [q[0, 0, 0, a] + q[0, 0, 1, b] for a, b in itertools.product((0, 1), (0, 1, 2))]
    expected = math.log(sum(math.exp(value) for value in joint)) - (1.0 + 0.0)
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_vdn_mixes_joint_actions_and_counterfactuals_in_one_pass():
    mixer = VDNMixer(None, INFO)
    q, actions = th.randn(4, 5, 3, 4), th.randint(4, (4, 5, 3))
    th.testing.assert_close(
        mixer.mix_joint_actions(q, None), Mixer.mix_joint_actions(mixer, q, None)
    )
    th.testing.assert_close(
        mixer.mix_counterfactuals(q, actions, None),
        Mixer.mix_counterfactuals(mixer, q, actions, None),
    )


@pytest.mark.parametrize("algorithm", ["cfcql", "macql"])
def test_penalties_on_q_tot_need_one(algorithm):
    with pytest.raises(ConfigError, match=r"mixer: the penalties .* use --config=iql_cql"):
        make_args(algorithm, mixer=None)
    assert make_args(algorithm, mixer="vdn").mixer == "vdn"


def test_only_the_mixer_and_the_name_differ():
    for base, algorithms in (("qmix", ["vdn", "iql"]), ("qmix_cql", ["vdn_cql", "iql_cql"])):
        for environment in ("xor_offline", "sc2_offline"):
            expected = make_args(base, environment).model_dump()
            for algorithm in algorithms:
                found = make_args(algorithm, environment).model_dump()
                differing = {key for key in expected if found[key] != expected[key]}
                assert differing == {"name", "mixer"}


# The best joint action is both agents' best against a teammate that plays at random.
COORDINATION = "env_args.payoff=[[1, 0, 0], [0, 2, 0], [0, 0, 4]]"


@pytest.mark.parametrize(
    ("algorithm", "settings", "best"), [("vdn", [COORDINATION], 8), ("iql", [], 18)]
)
def test_online_they_solve_a_game_played_twice(tmp_path, algorithm, settings, best):
    run = inspo.Run(train_online(tmp_path, algorithm, *settings))
    assert run.scores["test_return_mean"]["final"] == best


@pytest.mark.parametrize(("algorithm", "n_terms"), [("vdn_cql", 2), ("iql_cql", 1)])
def test_offline_both_actions_of_xor_a_are_worth_the_same(tmp_path, algorithm, n_terms):
    """The data has AB and BA, both worth 1, in equal shares: the values fit without error.

    The penalty is least, log 2 for each agent, where an agent values both actions alike. Which
    one is greedy is left to noise.
    """
    run = inspo.train(
        algorithm,
        "xor_offline",
        env_args={"dataset": "a"},
        t_max=300,
        log_interval=300,
        test_nepisode=0,
        save_model_interval=300,
        use_tensorboard=False,
        local_results_path=tmp_path,
        dataset_root=tmp_path,
    )
    (row,) = [row for row in run.metrics if "td_loss" in row]
    assert row["td_loss"] < 0.01
    assert row["q_taken"] == pytest.approx(1, abs=0.1)
    assert row["cql_penalty"] == pytest.approx(n_terms * math.log(2), abs=0.02)
