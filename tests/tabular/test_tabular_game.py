import itertools

import numpy as np
import pytest

from inspo.tabular.inspo import RegularisedGame, over_teammates
from inspo.tabular.markov_game import MarkovGame, check_size, joint_policy
from inspo.utils.errors import GameError


def random_tables(rng, n_states=3, sizes=(2, 3), ends=True):
    shape = (n_states, *sizes)
    termination = rng.random(shape) * 0.5 if ends else np.zeros(shape)
    transition = rng.dirichlet(np.ones(n_states), size=shape) * (1 - termination[..., None])
    return {
        "reward": rng.normal(size=shape),
        "transition": transition,
        "termination": termination,
        "discount": 0.9,
        "start": np.full(n_states, 1 / n_states),
    }


def random_policy(rng, game):
    return tuple(rng.dirichlet(np.ones(size), size=game.n_states) for size in game.n_actions)


@pytest.mark.parametrize("ends", [True, False])
def test_evaluation_is_what_applying_the_operator_many_times_gives(ends):
    rng = np.random.default_rng(0)
    game = MarkovGame(**random_tables(rng, sizes=(2, 3, 2), ends=ends))
    policy, behaviour = random_policy(rng, game), random_policy(rng, game)
    alpha, beta = 0.3, 0.2
    value = np.zeros(game.n_states)
    for _ in range(400):  # eq. 10 written out, one joint action at a time
        updated = np.zeros(game.n_states)
        for state in range(game.n_states):
            for actions in itertools.product(*map(range, game.n_actions)):
                p = np.prod([table[state, a] for table, a in zip(policy, actions, strict=True)])
                mu = np.prod([table[state, a] for table, a in zip(behaviour, actions, strict=True)])
                q = (
                    game.reward[state][actions]
                    + game.discount * game.transition[state][actions] @ value
                )
                updated[state] += p * (q - alpha * np.log(p / mu) - beta * np.log(p))
        value = updated
    evaluation = RegularisedGame(game, behaviour, alpha, beta).evaluate(policy)
    np.testing.assert_allclose(evaluation.value, value, atol=1e-12)


def test_plain_value_and_return_within_agree_with_sampled_episodes():
    rng = np.random.default_rng(1)
    game = MarkovGame(**random_tables(rng))
    policy = random_policy(rng, game)
    joint = joint_policy(policy)
    n_episodes, steps = 20_000, 8
    state = rng.integers(game.n_states, size=n_episodes)
    playing, total = np.ones(n_episodes, dtype=bool), np.zeros(n_episodes)
    for _ in range(steps):
        action = (joint[state].cumsum(-1) > rng.random((n_episodes, 1))).argmax(-1)
        total += playing * game.flat_reward[state, action]
        reached = game.flat_transition[state, action].cumsum(-1) > rng.random((n_episodes, 1))
        playing &= reached.any(-1)
        state = reached.argmax(-1)
    assert abs(total.mean() - game.return_within(policy, steps)) < 4 * total.std() / n_episodes**0.5


def test_teammates_are_averaged_over_with_their_own_policies():
    rng = np.random.default_rng(2)
    game = MarkovGame(**random_tables(rng, sizes=(2, 3, 4)))
    first, _, third = policy = random_policy(rng, game)
    expected = np.zeros((game.n_states, 3))
    for s, a, b, c in np.ndindex(game.reward.shape):
        expected[s, b] += first[s, a] * third[s, c] * game.reward[s, a, b, c]
    np.testing.assert_allclose(over_teammates(game.reward, policy, 1), expected, atol=1e-14)


@pytest.mark.parametrize("ends", [True, False])
def test_no_deterministic_joint_policy_beats_the_optimum(ends):
    game = MarkovGame(
        **random_tables(np.random.default_rng(3), n_states=2, sizes=(2, 2), ends=ends)
    )
    values = []
    for choice in itertools.product(range(4), repeat=2):
        joint = np.eye(4)[list(choice)]
        values.append(game.values(joint, (joint * game.flat_reward).sum(-1, keepdims=True))[:, 0])
    optimum, policy = game.optimum()
    np.testing.assert_allclose(optimum, np.max(values, axis=0), atol=1e-12)
    joint = joint_policy(policy)
    np.testing.assert_allclose(
        game.values(joint, (joint * game.flat_reward).sum(-1, keepdims=True))[:, 0], optimum
    )


def test_after_an_end_nothing_is_earned_while_a_loop_keeps_earning_entropy():
    uniform, ones = [np.full((1, 2), 0.5)] * 2, np.ones((1, 2, 2))
    ending = MarkovGame(ones, 0 * ones[..., None], 0.9, [1.0], termination=ones)
    looping = MarkovGame(ones, ones[..., None], 0.9, [1.0])

    def value(game):
        return RegularisedGame(game, uniform, alpha=0.0, beta=1.0).evaluate(uniform).value[0]

    step = 1 + np.log(4)  # reward, and the entropy of both agents
    assert value(ending) == pytest.approx(step)
    assert value(looping) == pytest.approx(step / 0.1)


def test_without_a_discount_a_policy_must_end_the_game():
    ones = np.ones((1, 2, 1))
    stay_or_end = np.array([[[1.0], [0.0]]])  # action 0 stays, action 1 ends
    game = MarkovGame(-ones, stay_or_end[..., None], 1.0, [1.0], termination=1 - stay_or_end)
    evaluate = RegularisedGame(game, [[[0.5, 0.5]], [[1.0]]], 1.0, 0.0).evaluate
    assert evaluate((np.array([[0.75, 0.25]]), np.ones((1, 1)))).plain[0] == pytest.approx(-4)
    with pytest.raises(GameError, match="discount is 1"):
        evaluate((np.array([[1.0, 0.0]]), np.ones((1, 1))))
    assert game.optimum()[0][0] == -1


BAD_TABLES = {
    "transition that sums to more than one": ({"transition": 1.1}, "must sum to one; at"),
    "transition that sums to less than one": ({"transition": 0.5}, "must sum to one; at"),
    "start that sums to two": ({"start": 2.0}, "start must sum to one"),
    "nan reward": ({"reward": np.nan}, "reward holds NaN or infinity at"),
    "nan transition": ({"transition": np.nan}, "transition holds NaN or infinity at"),
    "infinite reward": ({"reward": np.inf}, "reward holds NaN or infinity at"),
}


@pytest.mark.parametrize(("scales", "message"), BAD_TABLES.values(), ids=BAD_TABLES)
def test_tables_that_are_no_game_are_refused(scales, message):
    tables = random_tables(np.random.default_rng(0))
    with pytest.raises(GameError, match=message):
        MarkovGame(**{name: table * scales.get(name, 1) for name, table in tables.items()})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"transition": np.ones((3, 2, 3, 2))}, "transition has shape"),
        ({"transition": np.ones((3, 2, 3))}, "transition has shape"),
        ({"termination": np.ones((3, 3, 2))}, "termination has shape"),
        ({"start": np.ones(2) / 2}, "start has shape"),
        ({"reward": np.ones(3)}, "one axis for the states"),
        ({"reward": [[1, 2], [3]]}, "not a full table"),
        ({"states": np.ones((2, 1))}, "states has 2 rows"),
        ({"discount": 1.2}, "discount is 1.2"),
        ({"discount": float("nan")}, "discount is nan"),
        ({"start": [1.5, -0.5, 0]}, "start holds a negative probability"),
    ],
)
def test_shapes_that_disagree_and_wrong_values_are_refused(change, message):
    with pytest.raises(GameError, match=message):
        MarkovGame(**{**random_tables(np.random.default_rng(0)), **change})


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ([np.full((3, 2), 0.5)], "1 tables; the game has 2 agents"),
        ([np.full((3, 2), 0.5), np.full((3, 2), 0.5)], "agent 1 has shape"),
        ([np.full((3, 2), 0.6), np.full((3, 3), 1 / 3)], "agent 0 must sum to one"),
        ([np.full((3, 2), np.nan), np.full((3, 3), 1 / 3)], "agent 0 holds NaN"),
        ([np.tile([1.5, -0.5], (3, 1)), np.full((3, 3), 1 / 3)], "agent 0 holds a negative"),
    ],
)
def test_behaviours_that_are_no_policy_are_refused(behaviour, message):
    game = MarkovGame(**random_tables(np.random.default_rng(0)))
    with pytest.raises(GameError, match=message):
        RegularisedGame(game, behaviour, 1.0, 1.0)


@pytest.mark.parametrize(
    ("alpha", "beta", "message"),
    [
        (0, 0, "both 0"),
        (-1, 2, "alpha is -1"),
        (1, -1, "beta is -1"),
        (np.nan, 1, "alpha is nan"),
        (1, np.inf, "beta"),
    ],
)
def test_temperatures_that_define_no_response_are_refused(alpha, beta, message):
    game = MarkovGame(**random_tables(np.random.default_rng(0)))
    with pytest.raises(GameError, match=message):
        RegularisedGame(game, game.uniform_policy(), alpha, beta)


def test_a_table_too_large_for_the_memory_is_refused_before_it_is_made():
    with pytest.raises(GameError, match="GiB"):
        check_size(100_000, [9] * 5)
