import pytest
from run_folders import BATTLE, SETTINGS, SMAX, make_run, make_runs, shown_scores, skip_reasons

from inspo.comparison.command import compare_runs
from inspo.utils.errors import ComparisonError

XOR = "xor_offline, c"


# --- rows


def test_settings_that_change_no_number_make_no_variant(tmp_path):
    make_run(tmp_path, 1.0, seed=0)
    make_run(tmp_path, 2.0, seed=1, use_cuda=False)
    make_run(tmp_path, 3.0, seed=2, local_results_path="/there")
    make_run(tmp_path, 4.0, seed=3, log_interval=7, test_interval=50)
    assert shown_scores(compare_runs(tmp_path)) == {("bc", XOR): (1.0, 2.0, 3.0, 4.0)}


def test_settings_that_differ_make_rows(tmp_path):
    make_runs(tmp_path, [1.0, 1.5], name="inspo", update_scheme="sequential")
    make_runs(tmp_path, [0.0], name="inspo", update_scheme="simultaneous", updates_per_agent=100)
    make_runs(tmp_path, [0.5], name="bc")
    table = compare_runs(tmp_path)
    (warning,) = table.warnings
    assert "the seeds are not the same" in warning
    assert shown_scores(table) == {
        ("bc", XOR): (0.5,),
        ("inspo (update_scheme=sequential, updates_per_agent=(none))", XOR): (1.0, 1.5),
        ("inspo (update_scheme=simultaneous, updates_per_agent=100)", XOR): (0.0,),
    }


def test_long_values_are_told_apart_by_a_hash(tmp_path):
    make_run(tmp_path, 1.0, layers=list(range(20)))
    make_run(tmp_path, 2.0, layers=list(range(21)))
    labels = {label for label, _ in shown_scores(compare_runs(tmp_path))}
    assert len(labels) == 2
    assert all(label.startswith("bc (layers=#") for label in labels)


def test_group_by_names_the_rows_and_warns_of_pooling(tmp_path):
    for lr in (0.1, 0.2):
        make_runs(tmp_path, [1.0, 3.0], name="inspo", lr=lr, order="random")
    make_runs(tmp_path, [0.5, 0.5], name="bc")
    table = compare_runs(tmp_path, group_by="order")
    scores = shown_scores(table)
    assert scores["inspo (order=random)", XOR] == (1.0, 1.0, 3.0, 3.0)
    assert scores["bc", XOR] == (0.5, 0.5)
    assert table.warnings == [
        f"inspo (order=random) in {XOR} pools runs that differ in lr (0.1, 0.2): "
        "its standard deviation is not over seeds alone"
    ]
    assert set(shown_scores(compare_runs(tmp_path, group_by=["lr", "order"]))) == {
        ("bc (lr=0.005)", XOR),
        ("inspo (lr=0.1, order=random)", XOR),
        ("inspo (lr=0.2, order=random)", XOR),
    }


# --- columns


def test_different_data_is_not_pooled(tmp_path):
    make_run(tmp_path, 1.0, seed=0, fingerprint="a" * 16)
    make_run(tmp_path, 2.0, seed=1, fingerprint="b" * 16)
    make_run(tmp_path, 3.0, seed=2, fingerprint="c" * 16, max_episodes=20)
    table = compare_runs(tmp_path)
    assert shown_scores(table) == {
        ("bc", "xor_offline, c [aaaaaaaa]"): (1.0,),
        ("bc", "xor_offline, c [bbbbbbbb]"): (2.0,),
        ("bc", "xor_offline, c, 20 episodes"): (3.0,),
    }
    (warning,) = table.warnings
    assert "xor_offline: datasets called 'c' hold different data" in warning


def test_different_games_are_not_pooled(tmp_path):
    bridge = {"env_config": "bridge_offline"}
    start, apart = ({"start": name, "dataset": "mixed"} for name in ("bridge", "apart"))
    other_recipes = {**apart, "datasets": {"another": "recipe"}}
    make_run(tmp_path, 1.0, env_args=start, **bridge)
    make_run(tmp_path, 2.0, env_args=apart, **bridge)
    make_run(tmp_path, 3.0, env_args=other_recipes, seed=1, **bridge)
    assert shown_scores(compare_runs(tmp_path)) == {
        ("bc", "bridge_offline (start=apart), mixed"): (2.0, 3.0),
        ("bc", "bridge_offline (start=bridge), mixed"): (1.0,),
    }


def test_versions_of_a_game_are_not_pooled_but_ways_of_running_it_are(tmp_path):
    """StarCraft II's dynamics change with its version, but not with the number of workers."""
    game = {**SMAX, "simulator": "starcraft2", "game_version": None}
    for seed, (version, n_workers) in enumerate([("4.10", 8), ("4.10", 2), ("4.6.2", 8)]):
        changes = {**BATTLE, "env_args": {**game, "n_workers": n_workers}}
        make_run(tmp_path, float(seed), seed=seed, game_version=version, **changes)
    assert shown_scores(compare_runs(tmp_path)) == {
        ("bc", "SC2-2s3z (game_version=4.10), medium"): (0.0, 1.0),
        ("bc", "SC2-2s3z (game_version=4.6.2), medium"): (2.0,),
    }


def test_metrics(tmp_path):
    make_run(tmp_path, 0.5, folder="battles", metric="test_battle_won_mean")
    make_run(tmp_path, 5.0, folder="returns", seed=1)
    table = compare_runs(tmp_path)
    assert shown_scores(table) == {("bc", XOR): (0.5,)}
    assert skip_reasons(table) == {"returns": "it has no test_battle_won_mean"}
    table = compare_runs(tmp_path, metric="test_return_mean")
    assert shown_scores(table) == {("bc", XOR): (5.0,)}
    assert skip_reasons(table) == {"battles": "it has no test_return_mean"}


# --- what is refused


@pytest.mark.parametrize(
    ("key", "value"), [("test_greedy", True), ("test_nepisode", 32), ("t_max", 600)]
)
def test_different_protocols_are_refused_or_get_rows(tmp_path, key, value):
    make_runs(tmp_path, [0.0, 0.1], name="bc")
    make_run(tmp_path, 1.0, name="inspo", **{key: value})
    with pytest.raises(ComparisonError, match="trained or evaluated differently") as error:
        compare_runs(tmp_path)
    assert f"{key}={value}: 1 of inspo" in str(error.value)
    assert f"{key}={SETTINGS[key]}: 2 of bc" in str(error.value)
    allowed = shown_scores(compare_runs(tmp_path, allow=key))
    assert sorted(allowed.values()) == [(0.0, 0.1), (1.0,)]
    assert all(f"{key}=" in label for label, _ in allowed)
    assert shown_scores(compare_runs(tmp_path, where={key: value})) == {("inspo", XOR): (1.0,)}


def test_the_test_interval_matters_for_scores_of_several_evaluations(tmp_path):
    make_run(tmp_path, 1.0, name="bc")
    make_run(tmp_path, 1.0, name="inspo", test_interval=50)
    assert len(compare_runs(tmp_path).cells) == 2
    for score in ("best", "last5"):
        with pytest.raises(ComparisonError, match="test_interval=50"):
            compare_runs(tmp_path, score=score)


def test_simulators_are_not_mixed(tmp_path):
    make_run(tmp_path, 0.5, **BATTLE)
    make_run(tmp_path, 0.7, **{**BATTLE, "env_args": {**SMAX, "simulator": "starcraft2"}})
    make_run(tmp_path, 3.0)
    with pytest.raises(ComparisonError, match=r"simulators: SC2-2s3z, SMAX-2s3z.*--env='SC2-\*'"):
        compare_runs(tmp_path)
    assert shown_scores(compare_runs(tmp_path, environments=["smax-*", "xor*"])) == {
        ("bc", "SMAX-2s3z, medium"): (0.5,),
        ("bc", XOR): (3.0,),
    }
    assert list(shown_scores(compare_runs(tmp_path, environments="SC2-2s3z"))) == [
        ("bc", "SC2-2s3z, medium")
    ]
