"""What goes wrong around a run: scores, disks, pictures, diverged policies."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch as th
from small_disk import small_disk

from inspo import collect, dataset, main, tabular_main
from inspo.comparison import command as compare
from inspo.film import command as watch
from inspo.learners.bc_learner import BCLearner
from inspo.run.checkpoint import find_checkpoint
from inspo.run.plots import draw_curves
from inspo.run.run_folder import Metrics
from inspo.runners import BatchRunner

TINY = [
    "hidden_dim=8",
    "batch_size=8",
    "t_max=8",
    "log_interval=8",
    "test_interval=2",
    "test_nepisode=2",
    "save_model_interval=8",
    "use_tensorboard=False",
]
NUMBERS = ("test_return_mean", "test_return_std")


def words(folder, *settings, algorithm="bc"):
    where = [f"local_results_path={folder / 'results'}", f"dataset_root={folder / 'dataset'}"]
    return [f"--config={algorithm}", "--env-config=xor_offline", "with", *TINY, *where, *settings]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished run, and its dataset's path."""
    folder = tmp_path_factory.mktemp("finished")
    assert main.main(words(folder)) == 0
    (run,) = (folder / "results").iterdir()
    (data,) = (folder / "dataset" / "xor_offline").glob("*.h5")
    return run, data


def the_run(folder) -> Path:
    (run,) = (folder / "results").iterdir()
    return run


def check_json(run: Path) -> None:
    def fail_on(constant):
        raise AssertionError(f"{constant} is no JSON")

    for path in run.glob("*.json"):
        json.loads(path.read_text(), parse_constant=fail_on)


@pytest.mark.usefixtures("_no_child")
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_score_that_is_not_finite_ends_the_run(tmp_path, monkeypatch, capsys, value):
    monkeypatch.setattr(BatchRunner, "evaluate", lambda *_: dict.fromkeys(NUMBERS, value))
    assert main.main(words(tmp_path)) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    scores = "test_return_mean, test_return_std not finite"
    assert message.startswith(f"DivergenceError: evaluation at step 0: {scores}; the environment")
    run = the_run(tmp_path)
    check_json(run)
    assert not (run / "summary.json").exists()
    assert json.loads((run / "run.json").read_text())["status"] == "FAILED"


def test_a_metric_that_is_not_finite_is_not_recorded(tmp_path):
    metrics = Metrics(tmp_path, None, use_tensorboard=False, labels={})
    metrics.log(1, {"loss": 0.5})
    before = (tmp_path / "metrics.csv").read_text()
    with pytest.raises(Exception, match="diverged by step 2: loss not finite; try lower learning"):
        metrics.log(2, {"loss": float("nan"), "return_mean": 1.0})
    assert (tmp_path / "metrics.csv").read_text() == before


@pytest.mark.usefixtures("_no_child")
@pytest.mark.parametrize("size", [2000, 10_000, 25_000])
@pytest.mark.parametrize("tensorboard", [True, False])
def test_a_full_disk_is_one_line(tmp_path, finished, capsys, size, tensorboard):
    """The run's files grow at different times: sacred's, the log, metrics, checkpoints."""
    settings = [f"use_tensorboard={tensorboard}", f"dataset_root={finished[1].parents[1]}"]
    settings += ["log_interval=1", "test_interval=1", "save_model_interval=1", "t_max=400"]
    with small_disk(size):
        assert main.main(words(tmp_path, *settings)) == 2
    printed = capsys.readouterr().err
    assert "Traceback" not in printed
    message = printed.splitlines()[-1]
    assert message.startswith(f"StorageError: {tmp_path}")
    assert "write to another disk" in message
    run = the_run(tmp_path)
    check_json(run)
    assert not list(run.rglob("*.part"))
    for checkpoint in run.rglob("*.pt"):
        th.load(checkpoint, weights_only=True)


def test_a_full_disk_under_the_log_is_a_warning(tmp_path, finished, capsys):
    settings = [f"dataset_root={finished[1].parents[1]}", "save_model=False", "t_max=40"]
    with small_disk(1500):
        main.main(words(tmp_path, *settings, "log_interval=40", "test_interval=1"))
    assert "Logging error" not in capsys.readouterr().err


def test_a_dataset_on_a_full_disk(tmp_path, finished, capsys):
    _, data = finished
    shares = f"{data}:1"
    commands = {
        "copy.h5": (dataset.main, ["convert", str(data), str(tmp_path / "copy.h5")]),
        "mix.h5": (dataset.main, ["mix", shares, f"--out={tmp_path / 'mix.h5'}"]),
        "x.h5": (collect.main, _collecting(tmp_path)),
    }
    for name, (command, arguments) in commands.items():
        with small_disk(3000):
            assert command(arguments) == 2
        message = capsys.readouterr().err.splitlines()[-1]
        assert message.startswith(f"StorageError: {tmp_path}")
        assert name in message
        assert not list(tmp_path.rglob(name))
        assert not list(tmp_path.rglob("*.part"))


def _collecting(folder):
    options = ["--random", "--env-config=xor_offline", "--name=x", "--episodes=3000"]
    return [*options, "with", f"dataset_root={folder}"]


@pytest.fixture
def no_matplotlib(monkeypatch):
    """`from matplotlib.figure import Figure` fails, as it does over a broken matplotlibrc."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)


@pytest.mark.usefixtures("no_matplotlib", "_no_child")
def test_jobs_are_done_without_their_pictures(tmp_path, finished, capsys, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    run, data = finished
    assert main.main(words(tmp_path)) == 0
    assert (the_run(tmp_path) / "summary.json").exists()
    assert not (the_run(tmp_path) / "curves.png").exists()

    assert compare.main([str(run), f"--out={tmp_path / 'out'}"]) == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"comparison.md", "comparison.tex", "comparison.csv", "marl_eval.json"}

    assert dataset.main(["inspect", str(data), "--png=data.png"]) == 0
    assert tabular_main.main(["--game=xor", "with", "figure=exact.png"]) == 0
    assert "QRE residual" in capsys.readouterr().out
    assert not list(tmp_path.glob("*.png"))
    warnings = [record.message for record in caplog.records if "No picture" in record.message]
    assert len(warnings) == 5
    assert all("see your matplotlibrc" in warning for warning in warnings)


@pytest.mark.usefixtures("_no_child")
def test_a_film_that_cannot_be_drawn_is_one_line(tmp_path, finished, capsys, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no font")

    monkeypatch.setattr("matplotlib.figure.Figure.text", fail)
    assert watch.main([str(finished[0]), f"--out={tmp_path / 'film.gif'}"]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("DrawingError: matplotlib cannot draw (RuntimeError: no font)")
    assert not list(tmp_path.iterdir())


def test_python_trains_from_any_folder_even_if_matplotlib_is_broken(tmp_path, finished):
    """Without set-up, and it shows its progress. Importing matplotlib fails over its backend."""
    settings = {"dataset_root": str(finished[1].parents[1]), "local_results_path": str(tmp_path)}
    code = f"""
import inspo
run = inspo.train("bc", "xor_offline", t_max=2, hidden_dim=4, test_nepisode=2, **{settings})
print(run.scores["test_return_mean"]["final"])
"""
    environment = {**os.environ, "MPLBACKEND": "nosuch"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=os.path.abspath(os.sep),
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) <= 1
    assert "No picture" in done.stderr
    assert "Training: 2/2 (100 %)" in done.stderr
    assert "Warning" not in done.stderr


def test_names_are_no_mathematics(tmp_path, finished, caplog, monkeypatch):
    """A $ in a name would start a formula, and a wrong one ends matplotlib's work."""
    _, data = finished
    odd = tmp_path / "a$b^$_{x.h5"
    odd.write_bytes(data.read_bytes())
    monkeypatch.setattr("inspo.run.session.draw_curves", draw_curves)
    assert main.main(words(tmp_path, f"env_args.dataset={odd}")) == 0
    assert (the_run(tmp_path) / "curves.png").stat().st_size > 1000
    assert "No picture" not in caplog.text


@pytest.mark.usefixtures("_no_child")
@pytest.mark.parametrize("test_greedy", [True, False])
def test_a_policy_that_diverges_between_two_records(tmp_path, monkeypatch, capsys, test_greedy):
    def diverge(self, buffer, with_stats):
        self.updates += 1
        with th.no_grad():
            next(self.mac.parameters()).fill_(float("nan"))
        return {}

    monkeypatch.setattr(BCLearner, "train", diverge)
    assert main.main(words(tmp_path, f"test_greedy={test_greedy}")) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("DivergenceError: evaluation at step 2: the policies' outputs are")
    check_json(the_run(tmp_path))


@pytest.mark.usefixtures("_no_child")
def test_a_diverged_policy_is_not_saved(tmp_path, monkeypatch, capsys):
    """The checkpoint of step 0 would be removed: only the newest is kept."""

    def diverge(self, buffer, with_stats):
        self.updates += 1
        with th.no_grad():
            next(self.mac.parameters()).fill_(float("inf"))
        return {}

    monkeypatch.setattr(BCLearner, "train", diverge)
    settings = ["test_nepisode=0", "save_model_interval=2", "keep_checkpoints=1"]
    assert main.main(words(tmp_path, *settings)) == 2
    assert "diverged by step 2: the policies are NaN" in capsys.readouterr().err
    checkpoint = find_checkpoint(the_run(tmp_path))
    assert checkpoint.stem == "step_0000000000"


@pytest.fixture
def diverged(finished, tmp_path):
    """A checkpoint whose policy is NaN."""
    content = th.load(find_checkpoint(finished[0]), weights_only=True)
    for weights in content["learner"]["modules"]["mac"].values():
        weights.fill_(float("nan"))
    path = tmp_path / "diverged.pt"
    th.save(content, path)
    return path


@pytest.mark.parametrize("command", ["collect", "watch", "evaluate"])
def test_a_diverged_checkpoint_is_one_line(tmp_path, diverged, capsys, command):
    run, arguments = {
        "collect": (
            collect.main,
            [f"--checkpoint={diverged}", "--name=x", "with", f"dataset_root={tmp_path}"],
        ),
        "watch": (watch.main, [str(diverged), f"--out={tmp_path / 'film.gif'}"]),
        "evaluate": (
            main.main,
            words(tmp_path, f"checkpoint_path={diverged}", "evaluate=True"),
        ),
    }[command]
    assert run(arguments) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("DivergenceError: the policies' outputs are NaN or infinite")


@pytest.fixture
def read_only(monkeypatch):
    """Makes folders read-only, also for root."""
    real = os.open, os.mkdir
    folders = []

    def check(path):
        if any(Path(os.fsdecode(path)).is_relative_to(folder) for folder in folders):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    def open_file(path, flags, *arguments, **kwargs):
        if flags & (os.O_CREAT | os.O_TMPFILE):
            check(path)
        return real[0](path, flags, *arguments, **kwargs)

    def make_folder(path, *arguments, **kwargs):
        if not os.path.exists(path):
            check(path)
        return real[1](path, *arguments, **kwargs)

    monkeypatch.setattr(os, "open", open_file)
    monkeypatch.setattr(os, "mkdir", make_folder)
    return folders.append


@pytest.mark.usefixtures("_no_child")
def test_a_shared_folder_of_datasets_is_read_only(tmp_path, monkeypatch, read_only, finished):
    """What is missing there is kept in the user's cache; what is there is used."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shared = finished[1].parents[1]
    read_only(shared)
    before = {path: path.read_bytes() for path in shared.rglob("*") if path.is_file()}
    settings = [f"dataset_root={shared}", "critic_hidden_dim=8", "behaviour_steps=4"]
    assert main.main(words(tmp_path, *settings, algorithm="inspo")) == 0
    cached = sorted((tmp_path / "cache" / "inspo" / "behaviour").iterdir())
    assert len(cached) == 2
    times = [path.stat().st_mtime_ns for path in cached]
    assert main.main(words(tmp_path, *settings, algorithm="inspo")) == 0
    assert [path.stat().st_mtime_ns for path in cached] == times
    assert {path: path.read_bytes() for path in shared.rglob("*") if path.is_file()} == before


def test_a_dataset_that_must_be_made_in_a_read_only_folder(tmp_path, read_only, capsys):
    (tmp_path / "dataset").mkdir()
    read_only(tmp_path / "dataset")
    assert main.main(words(tmp_path)) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith(f"ConfigError: dataset_root={tmp_path / 'dataset'}: cannot be")
    assert not list((tmp_path / "results").iterdir())


def test_results_in_a_read_only_folder(tmp_path, read_only, capsys):
    (tmp_path / "results").mkdir()
    read_only(tmp_path / "results")
    assert main.main(words(tmp_path)) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"ConfigError: local_results_path={tmp_path / 'results'}: cannot be")
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("setting", ["env_args.dataset", "checkpoint_path", "local_results_path"])
def test_a_name_that_is_too_long_is_one_short_line(tmp_path, capsys, setting):
    assert main.main(words(tmp_path, f"{setting}={'a' * 5000}")) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert "too long" in message
    assert len(message) < 600


@pytest.mark.usefixtures("_no_child")
@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("Unable to allocate 7.28 TiB for an array with shape (1000000000000,)"),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate"
        ),
        th.OutOfMemoryError("CUDA out of memory. Tried to allocate 7 TiB"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_no_memory_is_one_line(tmp_path, monkeypatch, capsys, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(BCLearner, "train", fail)
    assert main.main(words(tmp_path)) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("There is not enough memory")
    assert message.endswith("device=cpu trains in main memory")
    assert (str(error)[:100]) in message


@pytest.mark.usefixtures("_no_child")
def test_no_memory_for_a_game_is_one_line(tmp_path, monkeypatch, capsys):
    assert main.main(words(tmp_path, "env_args.n_agents=1000000000000")) == 2
    assert "it must be a whole number from 1 to 32" in capsys.readouterr().err

    def fail(self, **_):
        raise MemoryError("Unable to allocate 7 TiB")

    monkeypatch.setattr("inspo.envs.matrix_game.MatrixGame.__init__", fail)
    assert main.main(words(tmp_path)) == 2
    assert "not enough memory for these env_args; make its" in capsys.readouterr().err
