"""Files that vanish during a run, and optional records whose disk is full."""

import errno
import logging
import os
import shutil

import pytest
from tensorboard.summary.writer.record_writer import RecordWriter

from inspo.data.formats import load_dataset, write_h5
from inspo.data.formats.schema import subset_of
from inspo.learners.bc_learner import BCLearner
from inspo.main import main
from inspo.utils.errors import StorageError

SETTINGS = ["t_max=12", "log_interval=2", "test_interval=6", "test_nepisode=2", "hidden_dim=4"]
pytestmark = pytest.mark.usefixtures("_no_child")


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """The root of datasets, with those of XOR in it."""
    root = tmp_path_factory.mktemp("datasets")
    results = root / "results"
    assert train(root, results, "t_max=1", "test_nepisode=0") == 0
    shutil.rmtree(results)
    return root


def train(datasets, results, *settings):
    where = [f"dataset_root={datasets}", f"local_results_path={results}"]
    words = ["--config=bc", "--env-config=xor_offline", "with", *SETTINGS, *where]
    return main([*words, *settings])


@pytest.fixture
def at_step_5(monkeypatch):
    """Does something in the middle of training."""
    real = BCLearner.train

    def set_event(event):
        def train(self, *arguments):
            if self.updates == 5:
                event()
            return real(self, *arguments)

        monkeypatch.setattr(BCLearner, "train", train)

    return set_event


def the_run(results):
    (run,) = results.iterdir()
    return run


def steps_of(run):
    lines = (run / "metrics.csv").read_text().splitlines()
    assert lines[0].startswith("step,")
    return [int(line.split(",")[0]) for line in lines[1:]]


def warnings_in(caplog):
    return [record.message for record in caplog.records if record.levelno == logging.WARNING]


def test_a_full_disk_under_tensorboard_is_one_warning(datasets, tmp_path, monkeypatch, caplog):
    def fail(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(RecordWriter, "write", fail)
    assert train(datasets, tmp_path / "results", "use_tensorboard=True") == 0
    (warning,) = warnings_in(caplog)
    assert warning.startswith("TensorBoard's record is incomplete: ")
    assert "tensorboard: the disk is full; free some space" in warning
    run = the_run(tmp_path / "results")
    assert (run / "summary.json").exists()
    assert steps_of(run) == [0, 2, 4, 6, 8, 10, 12]


def test_a_full_disk_under_sacreds_record_is_one_warning(datasets, tmp_path, monkeypatch, caplog):
    from inspo.run import run as run_module

    real = run_module.write_json

    def fail(path, *arguments, **options):
        if path.name == "metrics.json":
            raise StorageError(f"{path}: the disk is full")
        real(path, *arguments, **options)

    monkeypatch.setattr(run_module, "write_json", fail)
    assert train(datasets, tmp_path / "results", "use_tensorboard=False") == 0
    (warning,) = warnings_in(caplog)
    assert warning.startswith("Sacred's record of the run is incomplete: ")
    assert steps_of(the_run(tmp_path / "results")) == [0, 2, 4, 6, 8, 10, 12]


@pytest.mark.parametrize(
    ("removed", "save_model"), [("the run", True), ("the run", False), ("all results", True)]
)
def test_a_run_whose_folder_is_removed_ends(
    datasets, tmp_path, at_step_5, capsys, save_model, removed
):
    """It must not be made again, half empty: a table without its first lines, and no config."""
    results = tmp_path / "results"
    at_step_5(lambda: shutil.rmtree(the_run(results) if removed == "the run" else results))
    settings = [f"save_model={save_model}", "save_model_interval=1", "use_tensorboard=False"]
    assert train(datasets, results, *settings) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith(f"StorageError: {results}")
    assert "the run folder was removed or moved while the run wrote to it" in message
    assert not results.exists() or not list(results.iterdir())


@pytest.mark.parametrize("removed", ["metrics.csv", "tensorboard", "checkpoints", "run.json"])
def test_a_part_of_the_run_folder_is_removed(datasets, tmp_path, at_step_5, caplog, removed):
    results = tmp_path / "results"

    def remove():
        path = the_run(results) / removed
        path.unlink() if path.is_file() else shutil.rmtree(path)

    at_step_5(remove)
    settings = ["save_model_interval=4", f"use_tensorboard={removed == 'tensorboard'}"]
    assert train(datasets, results, *settings) == 0
    assert steps_of(the_run(results)) == [0, 2, 4, 6, 8, 10, 12]
    assert (the_run(results) / "run.json").exists()
    assert list((the_run(results) / "checkpoints").glob("step_0000000012.pt"))
    warnings = warnings_in(caplog)
    assert len(warnings) == (removed in ("metrics.csv", "tensorboard"))
    assert all(removed.partition(".")[0] in warning.lower() for warning in warnings)


@pytest.mark.parametrize("change", ["removed", "replaced", "cut"])
def test_a_dataset_changes_during_the_run(datasets, tmp_path, at_step_5, capsys, change):
    """The run has it in memory. What resumes the run says what happened."""
    (original,) = (datasets / "xor_offline").glob("*.h5")
    path = tmp_path / "mine.h5"
    shutil.copyfile(original, path)

    def alter():
        if change == "cut":
            os.truncate(path, path.stat().st_size // 2)
            return
        path.unlink()
        if change == "replaced":
            data = load_dataset(original)
            write_h5(subset_of(data, data.starts[:2] * 0), path)

    at_step_5(alter)
    results = tmp_path / "results"
    settings = [f"env_args.dataset={path}", "use_tensorboard=False"]
    assert train(datasets, results, *settings) == 0
    capsys.readouterr()
    again = [*settings, f"checkpoint_path={the_run(results)}", "t_max=14"]
    assert train(datasets, tmp_path / "again", *again) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    expected = {
        "removed": f"{path}: neither a dataset of xor_offline nor an existing path",
        "replaced": "the dataset's content: fingerprint ",
        "cut": f"{path}: cannot be read as h5 (truncated or damaged?)",
    }
    assert expected[change] in message
    assert not (tmp_path / "again").exists() or not list((tmp_path / "again").iterdir())
