import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspo.tabular.inspo import RegularisedGame, beta_schedule, solve
from inspo.tabular.markov_game import MarkovGame
from inspo.utils.errors import GameError

GAMES = 600
TEMPERATURES = st.floats(np.log(0.03), np.log(3)).map(np.exp)
XOR = np.array([[[0.0, 1.0], [1.0, -2.0]]])


def one_step(payoff):
    """A game of one step with the payoffs [1, A_1, ..., A_N]."""
    return MarkovGame(
        payoff, np.zeros((*payoff.shape, 1)), 0.0, [1.0], termination=np.ones(payoff.shape)
    )


def xor_problem(agent_a_probability=2 / 3):
    """XOR and the behaviour of dataset (b), {AA, AB, BA}."""
    table = np.array([[agent_a_probability, 1 - agent_a_probability]])
    return one_step(XOR), (table, table)


@st.composite
def problems(draw):
    """A random game, a behaviour that may leave actions out, and a policy of its support."""
    sizes = draw(st.lists(st.integers(2, 4), min_size=2, max_size=4))
    n_states = draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (n_states, *sizes)
    termination = np.zeros(shape)
    if draw(st.booleans()):  # absorbing: ends at some joint actions, in some states for sure
        termination = rng.random(shape) * (rng.random(shape) < 0.5)
        termination[rng.random(n_states) < 0.2] = 1
    transition = rng.dirichlet(np.full(n_states, draw(st.sampled_from([0.1, 1]))), size=shape)
    game = MarkovGame(
        reward=rng.normal(size=shape) * draw(st.sampled_from([0.1, 1, 10])),
        transition=transition * (1 - termination[..., None]),
        termination=termination,
        discount=draw(st.sampled_from([0, 0.5, 0.9, 0.99])),
        start=rng.dirichlet(np.ones(n_states)),
    )
    skipped = draw(st.sampled_from([0, 0.3]))
    behaviour, policy = [], []
    for size in sizes:
        support = rng.random((n_states, size)) >= skipped
        support[np.arange(n_states), rng.integers(size, size=n_states)] = True
        for tables in (behaviour, policy):
            weights = support * (rng.dirichlet(np.full(size, 0.5), size=n_states) + 1e-6)
            tables.append(weights / weights.sum(-1, keepdims=True))
    return game, tuple(behaviour), draw(st.sampled_from([None, tuple(policy)]))


@settings(max_examples=GAMES, deadline=None, derandomize=True)
@given(
    problems(),
    TEMPERATURES,
    TEMPERATURES,
    st.sampled_from(["random", "fixed"]),
    st.integers(0, 2**32 - 1),
)
def test_value_never_falls_and_the_limit_is_an_equilibrium(problem, alpha, beta, order, seed):
    game, behaviour, policy = problem
    result = solve(
        game, behaviour, alpha=alpha, beta_start=beta, policy=policy, order=order, seed=seed
    )
    assert result.largest_decrease <= 1e-9
    assert result.converged
    regularised = RegularisedGame(game, behaviour, alpha, beta)
    assert regularised.qre_residual(result.policy) < 1e-10
    for table, support in zip(result.policy, regularised.support, strict=True):
        assert (table[~support] == 0).all()
        np.testing.assert_allclose(table.sum(-1), 1, atol=1e-12)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(problems(), TEMPERATURES, TEMPERATURES, TEMPERATURES)
def test_with_a_decaying_beta_no_round_lowers_its_own_value(problem, alpha, beta, other):
    game, behaviour, policy = problem
    start, end = max(beta, other), min(beta, other)
    result = solve(
        game, behaviour, alpha=alpha, beta_start=start, beta_end=end, beta_rounds=10, policy=policy
    )
    assert result.largest_decrease <= 1e-9
    assert result.converged
    assert RegularisedGame(game, behaviour, alpha, end).qre_residual(result.policy) < 1e-10


def test_simultaneous_updates_lower_the_value_and_never_settle():
    game, behaviour = xor_problem()
    sequential = solve(game, behaviour, alpha=0.1, beta_start=0, order="fixed")
    simultaneous = solve(
        game, behaviour, alpha=0.1, beta_start=0, scheme="simultaneous", max_rounds=200
    )
    assert sequential.largest_decrease == 0
    assert sequential.plain[0] > 0.99
    assert simultaneous.largest_decrease > 1
    assert not simultaneous.converged
    # Both agents answer A with B, then B with A. So they play BB and AA in turn.
    assert [round(float(r.plain[0]), 2) for r in simultaneous.rounds[-4:]] == [0, -2, 0, -2]


def test_simultaneous_updates_fall_in_random_games_too():
    falls = 0
    for seed in range(50):
        rng = np.random.default_rng(seed)
        game = one_step(rng.normal(size=(1, 3, 3)) * 3)
        result = solve(
            game,
            game.uniform_policy(),
            alpha=0.1,
            beta_start=0.1,
            scheme="simultaneous",
            max_rounds=100,
        )
        falls += result.largest_decrease > 1e-3
    assert falls >= 10


def test_residual_is_zero_only_where_no_agent_would_change():
    game, behaviour = xor_problem()
    result = solve(game, behaviour, alpha=0.3, beta_start=0.2)
    regularised = RegularisedGame(game, behaviour, 0.3, 0.2)
    assert regularised.qre_residual(result.policy) < 1e-10
    assert regularised.qre_residual(behaviour) > 0.01
    # By eq. 11: at the limit, no other policy of one agent alone is worth more.
    best = regularised.evaluate(result.policy).value[0]
    for agent, p in itertools.product(range(2), np.linspace(0, 1, 101)):
        policy = list(result.policy)
        policy[agent] = np.array([[p, 1 - p]])
        assert regularised.evaluate(tuple(policy)).value[0] <= best + 1e-12


def test_one_agents_response_is_the_formula():
    game, behaviour = xor_problem()
    response = RegularisedGame(game, behaviour, 0.5, 1.5).response(0, XOR, behaviour)
    weights = np.array([2 / 3, 1 / 3]) ** (0.5 / 2) * np.exp(np.array([1 / 3, 0]) / 2)
    np.testing.assert_allclose(response[0], weights / weights.sum())


@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.0), (0.0, 0.5), (0.3, 0.3)])
def test_an_action_outside_of_the_support_keeps_probability_zero(alpha, beta):
    game = one_step(np.array([[[1.0, 5.0], [2.0, 100.0]]]))
    behaviour = (np.array([[0.5, 0.5]]), np.array([[1.0, 0.0]]))
    result = solve(game, behaviour, alpha=alpha, beta_start=beta)
    assert result.policy[1].tolist() == [[1.0, 0.0]]
    expected = np.exp(1 / (alpha + beta))
    assert result.policy[0][0, 1] / result.policy[0][0, 0] == pytest.approx(expected)
    assert np.isfinite(result.value).all()
    with pytest.raises(GameError, match="agent 1's policy takes action 1"):
        solve(game, behaviour, alpha=alpha, beta_start=beta, policy=game.uniform_policy())


def test_without_alpha_only_the_support_of_the_behaviour_matters():
    game = one_step(np.array([[[1.0, 5.0, 3.0], [2.0, 0.0, 1.0]]]))
    limits = []
    for rare in (0.5, 1e-300):
        behaviour = (np.array([[rare, 1 - rare]]), np.array([[0.0, 1 - rare, rare]]))
        limits.append(
            solve(
                game, behaviour, alpha=0, beta_start=1, policy=[[[0.5, 0.5]], [[0, 0.5, 0.5]]]
            ).policy
        )
    for one, other in zip(*limits, strict=True):
        np.testing.assert_allclose(one, other)


def test_beta_decays_exponentially_and_then_stays_constant():
    assert [beta_schedule(8, 2, 2, k) for k in range(4)] == [8, 4, 2, 2]
    assert beta_schedule(8, None, 2, 1) == 8
    assert beta_schedule(0, 0, 2, 1) == 0
    for start, end in ((0, 1), (1, 0)):
        with pytest.raises(GameError, match="decay exponentially"):
            beta_schedule(start, end, 10, 0)


def test_rounds_follow_the_schedule_of_beta():
    game, behaviour = xor_problem()
    result = solve(game, behaviour, alpha=0.1, beta_start=1.6, beta_end=0.1, beta_rounds=4)
    betas = [round_.beta for round_ in result.rounds]
    assert betas[:5] == pytest.approx([1.6, 0.8, 0.4, 0.2, 0.1])
    assert set(betas[4:]) == {0.1}
    assert result.converged


def test_the_order_is_drawn_or_fixed_and_the_seed_decides():
    rng = np.random.default_rng(0)
    game = one_step(rng.normal(size=(1, 2, 2, 2)))

    def orders(**options):
        settings = {"alpha": 0.1, "beta_start": 0.1, "tolerance": 0.0, "max_rounds": 20, **options}
        return [r.order for r in solve(game, game.uniform_policy(), **settings).rounds]

    assert set(orders(order="fixed")) == {(0, 1, 2)}
    assert set(orders(order=(2, 0, 1))) == {(2, 0, 1)}
    assert len(set(orders())) > 2
    assert orders(seed=1) == orders(seed=1) != orders(seed=2)
    with pytest.raises(GameError, match="must name each"):
        orders(order=(0, 1))
