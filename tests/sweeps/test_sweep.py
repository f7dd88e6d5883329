"""Sweeps of real runs, in this process: what is done, skipped, resumed and reported."""

import json
import logging
import shutil
from pathlib import Path

import pytest
from conftest import metrics
from fake_pool import FakePool, do

from inspo.sweeps import folder as sweep_folder
from inspo.sweeps import sweep as sweep_module
from inspo.sweeps.command import report
from inspo.sweeps.spec import spec_from
from inspo.sweeps.sweep import Sweep
from inspo.utils.errors import UserError

SETTINGS = {
    "t_max": 20,
    "test_interval": 10,
    "log_interval": 10,
    "save_model_interval": 5,
    "keep_checkpoints": 0,
    "test_nepisode": 10,
    "batch_size": 8,
    "hidden_dim": 8,
    "use_tensorboard": False,
}
INTERRUPTED_AT = 10


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    monkeypatch.setattr("inspo.run.session.draw_curves", lambda *_: None)
    monkeypatch.setattr("inspo.data.formats.h5_files.check_in_child", lambda path: None)


def make_sweep(root: Path, **changes) -> Sweep:
    places = {"local_results_path": str(root / "results"), "dataset_root": str(root / "data")}
    values = {
        "name": "trial",
        "algorithms": ["bc", "omar"],
        "environments": "xor_offline",
        "datasets": ["a"],
        "seeds": "0-1",
        "settings": {**SETTINGS, **places, **changes.pop("settings", {})},
    }
    return Sweep(spec_from({**values, **changes}))


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The folder in which the sweep has been done once."""
    root = tmp_path_factory.mktemp("sweep")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("inspo.run.session.draw_curves", lambda *_: None)
        patch.setattr("inspo.data.formats.h5_files.check_in_child", lambda path: None)
        pool = FakePool(do)
        result = make_sweep(root).run(pool=pool)
    assert len(result.runs) == len(pool.ids()) == 4
    assert pool.ids("prepare") == [pool.done[0]["id"]]  # once, before the runs
    return root


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    """A copy of that folder. The dataset's files are new ones, of the same content."""
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy"


def again(root: Path, pool: FakePool, **changes) -> list[str]:
    """Does the sweep again. Returns the runs that were done."""
    sweep = make_sweep(root, **changes)
    result = sweep.run(pool=pool)
    assert len(result.runs) == len(sweep.plan)
    return pool.ids()


def run_folders(root: Path) -> list[Path]:
    return sorted((root / "results" / "trial").glob("*_seed*"))


def interrupt(run: Path) -> None:
    """Makes a finished run look like one that was killed at step 10 and a bit."""
    (run / "summary.json").unlink()
    for checkpoint in (run / "checkpoints").iterdir():
        if int(checkpoint.stem.rpartition("_")[2]) > INTERRUPTED_AT:
            checkpoint.unlink()


def test_run_folders_are_those_of_main(finished):
    for run in run_folders(finished):
        for name in ("config.json", "run_info.json", "summary.json", "metrics.csv", "run.log"):
            assert (run / name).is_file()


def test_nothing_is_repeated(finished):
    pool = FakePool(do)
    assert again(finished, pool) == []
    assert pool.done == []  # the dataset is known, too
    assert make_sweep(finished).describe().count(": finished") == 4


def test_settings_that_change_no_number_repeat_nothing(finished):
    assert again(finished, FakePool(do), settings={"keep_checkpoints": 7}) == []


def test_more_seeds_add_runs(copy):
    done = again(copy, FakePool(do), seeds="0-2")
    assert len(done) == 2
    assert all("seed2" in name for name in done)


@pytest.mark.parametrize("changed", [{"lr": 0.1}, {"t_max": 21}, {"test_nepisode": 11}])
def test_other_settings_are_other_runs(finished, changed):
    assert len(make_sweep(finished, settings=changed).left()) == 4


def test_other_code_is_another_run(finished, monkeypatch):
    monkeypatch.setattr(sweep_folder, "code_hash", lambda: "other")
    sweep = make_sweep(finished)
    assert len(sweep.left()) == 4
    assert sweep.describe().count("finished with other code or data") == 4


def test_other_data_under_the_same_name_is_another_run(copy):
    (file,) = (copy / "data").glob("xor_offline/a-*.h5")
    other = make_sweep(copy, datasets=["b"], seeds=0, algorithms="bc")
    other.run(pool=FakePool(do))
    (another,) = (copy / "data").glob("xor_offline/b-*.h5")
    shutil.copy(another, file)
    assert len(again(copy, FakePool(do))) == 4


def test_an_interrupted_run_resumes_to_the_same_numbers(copy):
    before = {run.name: metrics(run) for run in run_folders(copy)}
    killed = run_folders(copy)[0]
    interrupt(killed)
    assert "resumes at step 10 of 20" in make_sweep(copy).describe()
    pool = FakePool(do)
    (done,) = again(copy, pool)
    (job,) = (job for job in pool.done if job["id"] == done)
    assert f"checkpoint_path={killed}" in job["words"]
    new = [run for run in run_folders(copy) if run.name not in before]
    assert [metrics(run) for run in new] == [before[killed.name]]


def test_a_run_killed_while_it_was_set_up_starts_again(copy):
    killed = run_folders(copy)[0]
    for name in ("summary.json", "run_info.json"):
        (killed / name).unlink()
    (killed / "config.json").write_text("{")
    pool = FakePool(do)
    assert len(again(copy, pool)) == 1
    assert not any("checkpoint_path" in word for word in pool.done[-1]["words"])


def test_a_lost_run_resumes_within_the_sweep(copy):
    """Its process is killed in the middle of training, once."""
    for run in run_folders(copy):
        interrupt(run)
    lost = []

    def lose_one(job):
        if job["kind"] == "train" and not lost:
            lost.append(job["id"])
            return None
        return do(job)

    pool = FakePool(lose_one)
    again(copy, pool)
    assert pool.ids().count(lost[0]) == 2


def test_a_failed_run_is_reported_while_the_others_go_on(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("inspo.comparison.figures.draw", lambda *_: [])

    def fail(job):
        return 2 if "omar" in job["id"] and "seed1" in job["id"] else do(job)

    pool = FakePool(fail)
    result = make_sweep(tmp_path).run(pool=pool)
    assert list(result.failed) == ["omar xor_offline dataset=a seed 1"]
    assert len(result.runs) == 3
    assert report(result) == 1
    shown = capsys.readouterr().out
    assert "FAILED: omar xor_offline dataset=a seed 1\n  status 2" in shown
    assert "| bc " in shown
    assert (result.folder / "sweep" / "comparison.md").is_file()


def test_unusable_data_starts_no_run(tmp_path):
    pool = FakePool(do)
    with pytest.raises(UserError, match=r"(?s)no run was started.*xor_offline z: status 2"):
        make_sweep(tmp_path, datasets=["a", "z"]).run(pool=pool)
    assert pool.ids() == []


def test_one_sweep_at_a_time_in_a_folder(tmp_path):
    def start_another(job):
        with pytest.raises(UserError, match="another sweep runs there"):
            make_sweep(tmp_path).run(pool=FakePool(do))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_sweep(tmp_path).run(pool=FakePool(start_another))


def test_the_log_file_tells_what_happened(finished):
    text = (finished / "results" / "trial" / "sweep" / "sweep.log").read_text()
    assert "4 runs, 0 of them finished" in text
    assert "dataset xor_offline a: preparing" in text
    assert "bc xor_offline dataset=a seed 0: started" in text
    assert "4 runs: 4 done" in text


def test_a_dry_run_says_what_it_knows(tmp_path, finished):
    shown = make_sweep(tmp_path).describe()
    assert shown.count(": 20 steps") == 4
    assert "4 runs, 0 of them finished" in shown
    assert "roughly" in shown
    assert not (tmp_path / "results").exists()
    more = make_sweep(finished, seeds="0-9").describe()
    assert "20 runs, 4 of them finished" in more
    assert "for 16 runs" in more
    assert "as finished runs took" in more


def test_gpus_that_nobody_uses(tmp_path, caplog):
    pool = FakePool(do)
    pool.has_gpus = True
    caplog.set_level(logging.WARNING, "inspo.sweeps")
    make_sweep(tmp_path, seeds=0, algorithms="bc").run(pool=pool)
    assert "they train on the CPU" in caplog.text


def test_the_table_on_a_terminal(finished, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    shown = []

    class Shown(sweep_module.Display):
        def _draw(self, lines):
            shown.append(lines)

    monkeypatch.setattr(sweep_module, "Display", Shown)
    make_sweep(finished, seeds="0-2", datasets=["a"]).run(pool=FakePool(lambda job: 2))
    assert any("bc xor_offline dataset=a" in line and "2/3" in line for line in shown[0])
    assert "4 done" in "\n".join(shown[0])
    assert "2 failed" in "\n".join(shown[-1])
    score = json.loads((run_folders(finished)[0] / "summary.json").read_text())["scores"]
    assert score["test_return_mean"]["final"] is not None
