"""Names of run folders, and the scores in the summary."""

import threading
import time

import pytest
from conftest import make_args, metrics

from inspo.run import session
from inspo.run.run import run
from inspo.run.run_folder import Metrics, final_scores


def make_metrics(folder, history: dict[int, float], name="test_return_mean") -> Metrics:
    folder.mkdir(exist_ok=True)
    made = Metrics(folder, sacred_run=None, use_tensorboard=False, labels={})
    for step, value in history.items():
        made.log(step, {"loss": 1.0, name: value})
    return made


def test_scores_leave_out_the_evaluation_at_step_0(tmp_path):
    """The clone's 20 is neither the best score nor part of the mean."""
    history = {0: 20.0, 10: 1.0, 20: 7.0, 30: 3.0, 40: 2.0, 50: 6.0, 60: 4.0}
    scores = final_scores(make_metrics(tmp_path, history))
    mean = (7 + 3 + 2 + 6 + 4) / 5
    assert scores == {"test_return_mean": {"final": 4.0, "last5": mean, "best": 7.0}}


def test_scores_of_fewer_than_five_evaluations(tmp_path):
    scores = final_scores(make_metrics(tmp_path, {0: -5.0, 10: -1.0, 20: -4.0}))
    assert scores == {"test_return_mean": {"final": -4.0, "last5": -2.5, "best": -1.0}}


def test_a_run_with_only_step_0_has_the_scores_of_step_0(tmp_path):
    scores = final_scores(make_metrics(tmp_path, {0: 0.25}, name="test_battle_won_mean"))
    assert scores == {"test_battle_won_mean": {"final": 0.25, "last5": 0.25, "best": 0.25}}


def test_a_run_without_evaluations_has_no_scores(tmp_path):
    made = make_metrics(tmp_path, {})
    made.log(10, {"loss": 1.0})
    assert final_scores(made) == {}


def test_a_resumed_run_has_the_scores_of_the_whole_run(tmp_path):
    history = {0: 9.0, 10: 8.0, 20: 1.0, 30: 2.0, 40: 3.0, 50: 4.0, 60: 5.0}
    before = {step: value for step, value in history.items() if step <= 20}
    after = {step: value for step, value in history.items() if step > 20}
    resumed = make_metrics(tmp_path / "resumed", {})
    resumed.load_state_dict(make_metrics(tmp_path / "before", before).state_dict())
    for step, value in after.items():
        resumed.log(step, {"loss": 1.0, "test_return_mean": value})
    expected = {"final": 5.0, "last5": 3.0, "best": 8.0}
    assert final_scores(resumed) == {"test_return_mean": expected}
    make_metrics(tmp_path / "whole", history)
    assert metrics(tmp_path / "resumed") == metrics(tmp_path / "whole")


def test_a_new_metric_adds_a_column(tmp_path):
    made = Metrics(tmp_path, None, use_tensorboard=False, labels={"map_name": "3m"})
    made.log(1, {"loss": 0.5})
    made.log(2, {"loss": 0.25, "entropy": 0.1})
    made.log(3, {"entropy": 0.2})
    assert metrics(tmp_path) == [
        {"step": "1", "map_name": "3m", "loss": "0.5", "entropy": ""},
        {"step": "2", "map_name": "3m", "loss": "0.25", "entropy": "0.1"},
        {"step": "3", "map_name": "3m", "loss": "", "entropy": "0.2"},
    ]


@pytest.mark.usefixtures("_no_child")
def test_runs_that_start_in_the_same_second_get_their_own_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "strftime", lambda *_: "20260101-000000")
    # matplotlib is not made for threads.
    monkeypatch.setattr(session, "draw_curves", lambda *_: None)
    settings = {
        "t_max": 1,
        "test_nepisode": 0,
        "save_model": False,
        "use_tensorboard": False,
        "dataset_root": str(tmp_path / "dataset"),
        "local_results_path": str(tmp_path / "results"),
    }
    args = make_args("bc", "xor_offline", **settings)
    n_runs = 4
    barrier = threading.Barrier(n_runs)
    folders = []

    def start() -> None:
        barrier.wait()
        folders.append(run(args))

    threads = [threading.Thread(target=start) for _ in range(n_runs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(folders)) == n_runs
    for folder in folders:
        assert len(metrics(folder)) == 1
        assert (folder / "summary.json").exists()
