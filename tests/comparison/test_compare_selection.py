import pytest
from run_folders import make_run, make_runs, shown_scores, skip_reasons

from inspo.comparison.command import compare_runs
from inspo.utils.errors import ComparisonError

XOR = "xor_offline, c"


@pytest.mark.parametrize(
    ("where", "scores"),
    [
        ({"lr": 0.0005}, (1.0,)),
        ({"lr": "5e-4"}, (1.0,)),
        ({"lr": ["0.1", "5e-4"]}, (1.0, 2.0)),
        ({"clip": None}, (2.0,)),
        ({"clip": "null"}, (2.0,)),
        ({"double": True}, (1.0,)),
        ({"double": "false"}, (2.0,)),
        ({"double": 1}, ()),
        ({"scheme": "sequential"}, (1.0, 2.0)),
        ({"scheme": "sequential", "lr": 0.1}, (2.0,)),
        ({"absent": "(none)"}, (1.0, 2.0)),
    ],
)
def test_where(tmp_path, where, scores):
    common = {"scheme": "sequential"}
    make_run(tmp_path, 1.0, seed=0, lr=0.0005, clip=10, double=True, **common)
    make_run(tmp_path, 2.0, seed=1, lr=0.1, clip=None, double=False, **common)
    make_run(tmp_path, 3.0, scheme="simultaneous", lr=3, clip=3, double="3", absent=3)
    if not scores:
        with pytest.raises(ComparisonError, match="no run matches"):
            compare_runs(tmp_path, where=where)
        return
    cells = compare_runs(tmp_path, where=where, group_by="name").cells
    assert [cell.scores for cell in cells.values()] == [scores]


def test_a_run_that_another_one_resumes_is_replaced(tmp_path):
    make_run(tmp_path, 1.0, folder="first", t_max=100)
    checkpoint = "elsewhere/first/checkpoints/step_0000000100.pt"
    make_run(tmp_path, 2.0, folder="second", checkpoint_path=checkpoint)
    make_run(tmp_path, 3.0, folder="other", seed=1)
    table = compare_runs(tmp_path)
    assert shown_scores(table) == {("bc", XOR): (2.0, 3.0)}
    assert skip_reasons(table) == {"first": "second resumes it and replaces it"}
    # A run that is not selected replaces nothing.
    table = compare_runs(tmp_path, where={"t_max": 100})
    assert shown_scores(table) == {("bc", XOR): (1.0,)}


def test_of_runs_with_one_seed_the_newest_counts(tmp_path):
    make_run(tmp_path, 1.0, folder="bc_20250101")
    make_run(tmp_path, 2.0, folder="bc_20250102", use_cuda=False)
    make_run(tmp_path, 2.0, folder="bc_20250103")
    make_run(tmp_path, 4.0, folder="bc_20250104", lr=0.1)  # another variant
    table = compare_runs(tmp_path)
    assert shown_scores(table) == {("bc (lr=0.005)", XOR): (2.0,), ("bc (lr=0.1)", XOR): (4.0,)}
    newer = "repeats seed 0: {} is newer and has the same settings and {} score"
    assert skip_reasons(table) == {
        "bc_20250101": newer.format("bc_20250102", "ANOTHER"),
        "bc_20250102": newer.format("bc_20250103", "the same"),
    }


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"environments": "bridge*"}, "no run matches.*; the runs are of xor_offline"),
        ({"where": {"lr": 7}}, "no run matches"),
        ({"where": {"lrr": 7}}, "no run has a setting 'lrr'; did you mean 'lr'?"),
        ({"group_by": "lrr"}, "no run has a setting 'lrr'; did you mean 'lr'?"),
        ({"score": "mean"}, "score=mean: one of final, last5, best"),
        ({"allow": "seed"}, "allow=seed: one of test_nepisode, "),
        ({"metric": "test_battle_won_mean"}, "no run has test_battle_won_mean; there is test_ret"),
    ],
)
def test_selections_that_match_nothing_are_refused(tmp_path, selection, message):
    make_runs(tmp_path, [1.0])
    with pytest.raises(ComparisonError, match=message):
        compare_runs(tmp_path, **selection)
