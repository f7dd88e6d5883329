import logging
import threading
import time

import pytest

from inspo.main import main
from inspo.run import trackers
from inspo.run.finished_run import Run
from inspo.run.trackers import Tracker, close_trackers

SMALL = ["t_max=20", "test_interval=10", "log_interval=10", "test_nepisode=4", "batch_size=8"]
QUIET = ["use_tensorboard=False", "save_model=False"]


class Recorded:
    """A sink that keeps what it gets, and fails where it is told to."""

    def __init__(self, fails_at=None):
        self.rows, self.failed, self.fails_at = [], None, fails_at
        self.thread = threading.current_thread()

    def log(self, step, values):
        if step == self.fails_at:
            raise OSError("No space left on device")
        self.rows.append((step, values))

    def finish(self, failed):
        self.failed = failed


def train(tmp_path, *settings):
    words = [f"local_results_path={tmp_path / 'results'}", f"dataset_root={tmp_path / 'data'}"]
    start = ["--config=bc", "--env-config=xor_offline", "with", "env_args.dataset=a"]
    return main([*start, *SMALL, *QUIET, *words, *settings])


def the_run(tmp_path):
    (folder,) = (tmp_path / "results").iterdir()
    return folder


def test_a_sink_gets_every_row_in_a_thread_of_its_own():
    sinks = []
    tracker = Tracker("it", lambda: sinks.append(Recorded()) or sinks[0])
    rows = [(step, {"loss": float(step)}) for step in range(5)]
    for step, values in rows:
        tracker.log(step, values)
    close_trackers([tracker], failed=False)
    assert sinks[0].rows == rows
    assert sinks[0].failed is False
    assert sinks[0].thread is not threading.current_thread()


@pytest.mark.parametrize("fails_at", ["start", 1])
def test_a_failing_sink_is_one_warning(caplog, fails_at):
    def start():
        if fails_at == "start":
            raise SystemExit("no key")
        return Recorded(fails_at)

    tracker = Tracker("it", start)
    for step in range(5):
        tracker.log(step, {"loss": 0.0})
    close_trackers([tracker], failed=True)
    (warning,) = caplog.messages
    assert warning.startswith("it has no complete record of this run; the run folder has it (")
    assert ("SystemExit: no key" if fails_at == "start" else "No space left") in warning


def test_a_sink_that_hangs_holds_up_nothing_but_the_end(caplog, monkeypatch):
    monkeypatch.setattr(trackers, "CLOSING_SECONDS", 0.05)
    release = threading.Event()
    tracker = Tracker("it", lambda: release.wait(60) and Recorded())
    started = time.monotonic()
    for step in range(1000):
        tracker.log(step, {"loss": 0.0})
    close_trackers([tracker], failed=False)
    assert time.monotonic() - started < 30  # the sink alone would take 60 s
    assert "it did not take all metrics" in caplog.text
    release.set()
    tracker.thread.join()
    assert len(caplog.messages) == 1


def test_a_run_goes_on_without_its_trackers(tmp_path, monkeypatch, caplog):
    def broken(args, folder):
        raise ConnectionError("unreachable")

    monkeypatch.setattr(trackers, "WandbSink", broken)
    monkeypatch.setattr(trackers, "find_spec", lambda name: object())
    assert train(tmp_path, "use_wandb=True") == 0
    assert (the_run(tmp_path) / "summary.json").exists()
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert [r.message for r in warnings if "Weights & Biases" in r.message]
    assert len(warnings) == 1


def test_a_missing_package_is_told_before_there_is_a_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    assert train(tmp_path, "use_wandb=True", "use_mlflow=True") == 2
    error = capsys.readouterr().err
    assert "use_wandb=True needs the package wandb: pip install -e '.[wandb]'" in error
    assert "use_mlflow=True needs the package mlflow: pip install -e '.[mlflow]'" in error
    assert not list((tmp_path / "results").glob("*"))


def test_wandb_offline(tmp_path, monkeypatch):
    monkeypatch.setattr(trackers, "CLOSING_SECONDS", 300.0)  # busy machines take their time
    wandb = pytest.importorskip("wandb", reason="wandb is not installed")
    settings = ("use_wandb=True", "wandb_mode=offline", "group=sweep", "tags=['a']")
    assert train(tmp_path, *settings) == 0
    wandb.teardown()  # as at the end of the process: what its service has goes to the disk
    (offline,) = (the_run(tmp_path) / "wandb").glob("offline-run-*")
    (record,) = offline.glob("run-*.wandb")
    content = record.read_bytes()
    for text in (the_run(tmp_path).name, "sweep", "test_return_mean"):
        assert text.encode() in content


def test_mlflow(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.setattr(trackers, "CLOSING_SECONDS", 300.0)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "mlruns").as_uri()
    settings = ("use_mlflow=True", f"mlflow_tracking_uri={uri}", "group=sweep", "tags=['a']")
    assert train(tmp_path, *settings) == 0
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("inspo").experiment_id
    (record,) = client.search_runs([experiment])
    assert record.info.status == "FINISHED"
    assert (record.data.tags["group"], record.data.tags["a"]) == ("sweep", "true")
    assert record.data.params["seed"] == "0"
    history = client.get_metric_history(record.info.run_id, "test_return_mean")
    expected = {row["step"]: row["test_return_mean"] for row in Run(the_run(tmp_path)).metrics}
    assert {metric.step: metric.value for metric in history} == expected
