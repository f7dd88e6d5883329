import numpy as np
import pytest

from inspo.data.builtin_datasets import _play as play
from inspo.data.builtin_datasets import make_bridge, make_matrix_game
from inspo.data.formats import from_episodes, load_dataset
from inspo.envs.bridge import Bridge
from inspo.envs.matrix_game import MatrixGame
from inspo.tabular import builders
from inspo.tabular.experiment import GameProblem, noisy
from inspo.tabular.inspo import over_teammates, solve
from inspo.tabular.markov_game import joint_policy
from inspo.utils.errors import GameError

XOR_DATASETS = {
    "a": {"joint_actions": [[0, 1], [1, 0]]},
    "b": {"joint_actions": [[0, 0], [0, 1], [1, 0]]},
    "c": {"joint_actions": [[0, 0], [0, 1], [1, 0], [1, 1]]},
}


def xor(episode_limit=1):
    return MatrixGame(2, 2, [[0, 1], [1, -2]], episode_limit=episode_limit, datasets=XOR_DATASETS)


def make_data(env, make, name):
    return from_episodes(make(env, name, np.random.default_rng(0))[0], {}, name)


@pytest.fixture(scope="module")
def bridge():
    return builders.from_bridge(Bridge(), discount=0.99)


@pytest.fixture(scope="module")
def optimal_data():
    return make_data(Bridge(), make_bridge, "optimal")


def test_a_matrix_game_is_its_payoff_once_for_each_play():
    env = MatrixGame(3, [2, 3, 2], np.arange(12).reshape(2, 3, 2).tolist(), episode_limit=2)
    game = builders.from_matrix_game(env, discount=0.5)
    assert game.reward.shape == (2, 2, 3, 2)
    assert game.optimum()[0].tolist() == [11 * 1.5, 11]
    assert game.return_within(game.uniform_policy(), 9) == pytest.approx(2 * 5.5)


def test_the_behaviour_of_a_yaml_dataset_is_each_agents_marginal():
    for name, share in (("a", 1 / 2), ("b", 2 / 3), ("c", 1 / 2)):
        for table in builders.matrix_behaviour(xor(), name):
            np.testing.assert_allclose(table, [[share, 1 - share]])


def test_bridge_has_the_environments_steps_and_the_best_return(bridge):
    assert bridge.return_within(bridge.optimum()[1], 49) == pytest.approx(-1.2355, abs=1e-4)
    env, rng = Bridge(), np.random.default_rng(0)
    for _ in range(30):
        env.reset()
        ended = False
        while not ended:
            state = builders.match_states(env.get_state()[None], bridge.states)[0]
            actions = rng.integers(5, size=2)
            _, reward, ended, truncated, _ = env.step(actions)
            if truncated:
                break
            assert bridge.reward[state][tuple(actions)] == pytest.approx(reward)
            assert bridge.termination[state][tuple(actions)] == ended
            if not ended:
                after = builders.match_states(env.get_state()[None], bridge.states)[0]
                assert bridge.transition[state][tuple(actions)][after] == 1


def test_return_of_a_bridge_episode_is_that_of_played_ones(bridge):
    env = Bridge(episode_limit=20)
    policy = bridge.uniform_policy()
    exact = GameProblem(env, bridge, policy, bridge).episode_return(policy)
    rng = np.random.default_rng(0)
    returns = [play(env, lambda r: r.integers(5, size=2), rng)["reward"].sum() for _ in range(1500)]
    assert abs(np.mean(returns) - exact) < 4 * np.std(returns) / 1500**0.5


def test_a_dataset_gives_means_and_frequencies_of_what_it_shows(bridge, optimal_data):
    game, behaviour = builders.from_dataset(optimal_data, 0.99, unseen_penalty=10)
    seen = game.termination < 1
    ends = game.transition.sum(-1) == 0
    in_bridge = builders.match_states(game.states, bridge.states)
    for state, *actions in np.argwhere(seen):
        here, there = (state, *actions), (in_bridge[state], *actions)
        assert game.reward[here] == pytest.approx(bridge.reward[there], abs=1e-6)
        np.testing.assert_allclose(game.transition[here], bridge.transition[there][in_bridge])
    # What is not seen ends the game, below the worst return from any step of the data.
    assert (game.reward[ends & (game.reward < -5)] == game.reward.min()).all()
    assert game.reward.min() == pytest.approx(-10 + min_return_to_go(optimal_data, 0.99))
    first_rows = optimal_data.actions[optimal_data.starts]
    start = int(game.start.argmax())
    for agent, table in enumerate(behaviour):
        np.testing.assert_allclose(
            table[start], np.bincount(first_rows[:, agent], minlength=5) / 500
        )


def min_return_to_go(data, discount):
    worst = np.inf
    for start, length in zip(data.starts, data.lengths, strict=True):
        to_go = 0.0
        for row in reversed(range(start, start + length)):
            to_go = float(data.reward[row]) + discount * to_go
            worst = min(worst, to_go)
    return worst


def test_a_truncated_episode_continues_from_a_known_state_and_ends_badly_elsewhere():
    def episode(states, terminated, truncated):
        steps = len(states) - 1
        return {
            "state": np.array(states, dtype=np.float32)[:, None],
            "obs": np.zeros((steps + 1, 1, 1), dtype=np.float32),
            "actions": np.zeros((steps + 1, 1), dtype=np.int64),
            "avail_actions": np.ones((steps + 1, 1, 2), dtype=bool),
            "reward": np.array([1.0] * steps + [0.0], dtype=np.float32),
            "terminated": np.array([False] * (steps - 1) + [terminated, False]),
            "truncated": np.array([False] * (steps - 1) + [truncated, False]),
        }

    data = from_episodes(
        [
            episode([0, 1, 0], False, True),
            episode([0, 1, 2], True, False),
            episode([1, 7], False, True),
        ],
        {},
        "made up",
    )
    game, _ = builders.from_dataset(data, discount=0.5, unseen_penalty=3)
    assert game.states[:, 0].tolist() == [0, 1]
    assert game.transition[:, 0].tolist() == [[0, 1], [1 / 3, 0]]
    assert game.termination[:, 0].tolist() == [0, pytest.approx(2 / 3)]
    worst = 1 - 3  # the shortest return to go is one reward of 1
    assert game.reward[1, 0] == pytest.approx((1 + 1 + (1 + 0.5 * worst)) / 3)
    assert game.reward[:, 1].tolist() == [worst, worst]
    with pytest.raises(GameError, match="unseen_penalty"):
        builders.from_dataset(data, discount=0.5, unseen_penalty=0)


@pytest.mark.parametrize("dataset", XOR_DATASETS)
@pytest.mark.parametrize("in_sample", [True, False])
def test_xor_is_solved_from_every_dataset_in_sample_and_by_its_rules(dataset, in_sample):
    env = xor()
    rules = game = builders.from_matrix_game(env, discount=0.9)
    behaviour = builders.matrix_behaviour(env, dataset)
    if in_sample:
        game, behaviour = builders.from_dataset(
            make_data(env, make_matrix_game, dataset), 0.9, unseen_penalty=10
        )
    for seed in range(5):
        # In (a) the behaviour is a tie, an equilibrium that only noise leaves.
        start = noisy(behaviour, 1e-3, seed)
        result = solve(game, behaviour, alpha=0.1, beta_start=0, policy=start, seed=seed)
        assert result.converged
        assert result.largest_decrease < 1e-9
        assert rules.return_within(builders.transfer(result.policy, game, rules), 1) > 0.99


def test_without_a_penalty_agents_agree_on_an_unseen_joint_action():
    """Why `from_dataset` penalises unseen joint actions instead of averaging over the seen ones."""
    seen, payoff = np.array([[[1.0, 1.0], [1.0, 0.0]]]), np.array([[[0.0, 1.0], [1.0, 0.0]]])
    behaviour = builders.matrix_behaviour(xor(), "b")
    policy = list(behaviour)
    for _ in range(50):
        for agent in (0, 1):
            # Qbar over the seen pairs only: the ratio-weighted mean of the data.
            sums = over_teammates(payoff * seen, tuple(policy), agent)
            means = sums / over_teammates(seen, tuple(policy), agent)
            weights = behaviour[agent] * np.exp(means / 0.1)
            policy[agent] = weights / weights.sum()
    unseen = float(joint_policy(tuple(policy))[0, 3])
    assert unseen > 0.3  # BB, which the dataset does not hold


@pytest.mark.parametrize("in_sample", [True, False])
def test_bridge_from_the_optimal_datasets_behaviour_reaches_its_return(
    bridge, optimal_data, in_sample
):
    assert bridge_return(bridge, optimal_data, in_sample) >= -1.26


@pytest.mark.parametrize("in_sample", [True, False])
def test_bridge_from_the_recorded_optimal_behaviour_reaches_its_return(recorded, bridge, in_sample):
    data = load_dataset(recorded / "bridge_from_start" / "buffer_optimal")
    assert bridge_return(bridge, data, in_sample) >= -1.26


def bridge_return(bridge, data, in_sample):
    """Return of an episode in the true game, solved in-sample or with the true rules."""
    known, behaviour = builders.from_dataset(data, 0.99, unseen_penalty=10)
    game = known if in_sample else bridge
    result = solve(
        game, builders.transfer(behaviour, known, game), alpha=0.03, beta_start=0, max_rounds=2000
    )
    assert result.converged
    assert result.residual < 1e-10
    assert result.largest_decrease < 1e-9
    return GameProblem(Bridge(), game, behaviour, bridge).episode_return(result.policy)


def test_a_policy_is_uniform_where_the_dataset_never_was(bridge, optimal_data):
    known, behaviour = builders.from_dataset(optimal_data, 0.99, unseen_penalty=10)
    tables = builders.transfer(behaviour, known, bridge)
    unknown = builders.match_states(bridge.states, known.states) < 0
    assert unknown.any()
    for table in bridge.check_policy(tables, "transferred"):
        assert (table[unknown] == 0.2).all()
    with pytest.raises(GameError, match="cannot be matched"):
        builders.transfer(behaviour, known, builders.from_matrix_game(xor(), 0.9))
