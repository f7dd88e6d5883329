"""The command `python src/main.py`, offline: what a run leaves behind, and how it resumes."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest
import torch as th
from conftest import PROJECT, main_command, metrics

from inspo import dataset, main
from inspo.run.checkpoint import load_policy
from inspo.run.training import Interrupted

TINY = [
    "hidden_dim=16",
    "batch_size=16",
    "t_max=60",
    "test_interval=20",
    "log_interval=10",
    "test_nepisode=20",
]
INSPO = [
    *TINY,
    "critic_hidden_dim=16",
    "behaviour_steps=20",
    "behaviour_batch_size=16",
    "save_model_interval=20",
]
LONG = [
    "t_max=100000",
    "test_interval=100000",
    "save_model_interval=100000",
    "log_interval=100000",
]


def words(folder: Path, *overrides: str, algorithm="inspo", environment="xor_offline", results=""):
    """The arguments of a run whose folder and datasets are below `folder`."""
    return [
        f"--config={algorithm}",
        f"--env-config={environment}",
        "with",
        *(INSPO if algorithm == "inspo" else TINY),
        f"local_results_path={folder / (results or 'results')}",
        f"dataset_root={folder / 'dataset'}",
        *overrides,
    ]


def train(folder: Path, *overrides: str, results="results", **names) -> Path:
    """A run in this process; returns its folder, the newest one."""
    assert main.main(words(folder, *overrides, results=results, **names)) == 0
    return max((folder / results).iterdir(), key=lambda path: path.stat().st_mtime_ns)


def start(arguments: list[str], folder: Path, **kwargs) -> subprocess.Popen:
    """Starts a run in its own process and does not wait for it."""
    command = [sys.executable, str(PROJECT / "src" / "main.py"), *arguments]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, **kwargs)


def weights(run: Path) -> dict[str, th.Tensor]:
    """All network weights in a run's newest checkpoint."""
    newest = sorted((run / "checkpoints").glob("step_*.pt"))[-1]
    modules = th.load(newest, weights_only=True)["learner"]["modules"]
    return {f"{name}.{key}": x for name, module in modules.items() for key, x in module.items()}


def summary_of(run: Path) -> dict:
    return json.loads((run / "summary.json").read_text())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run from start to end, in its own process and from another folder."""
    folder = tmp_path_factory.mktemp("whole")
    process = main_command(*words(folder, "keep_checkpoints=0"), cwd=folder)
    assert process.returncode == 0, process.stderr
    return folder, process, next((folder / "results").iterdir())


def test_a_run_leaves_everything_behind(whole):
    run = whole[2]
    assert run.name.startswith("inspo_xor_offline_c_seed0_")
    files = {"config.json", "run.json", "metrics.json", "metrics.csv", "run_info.json"}
    files |= {"summary.json", "curves.png", "run.log", "tensorboard", "checkpoints"}
    assert files <= {path.name for path in run.iterdir()}
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert any((run / "tensorboard").iterdir())
    assert "test_return_mean" in json.loads((run / "metrics.json").read_text())
    config = json.loads((run / "config.json").read_text())
    assert (config["t_max"], config["env_args"]["dataset"]) == (60, "c")


def test_metrics_and_summary_agree(whole):
    run = whole[2]
    rows = metrics(run)
    tested = [row for row in rows if row["test_return_mean"]]
    assert [int(row["step"]) for row in tested] == [0, 20, 40, 60]
    logged = [int(row["step"]) for row in rows if row["value_loss/agent_1"]]
    assert logged == [10, 20, 30, 40, 50, 60]
    summary = summary_of(run)
    returns = [float(row["test_return_mean"]) for row in tested]
    score = summary["scores"]["test_return_mean"]
    assert score["final"] == returns[-1]
    assert score["best"] == max(returns[1:])
    assert score["last5"] == pytest.approx(sum(returns[1:]) / 3)  # not the clone at step 0
    expected = {"algorithm": "inspo", "environment": "xor_offline", "dataset": "c"}
    assert {**expected, "seed": 0, "steps": 60}.items() <= summary.items()
    assert len(summary["dataset_fingerprint"]) == 16
    assert summary["software"]["torch"] == version("torch")
    assert summary["wall_time_seconds"] > 0


def test_what_the_command_prints(whole):
    printed = whole[1].stderr
    assert "selected after the fact" in printed
    assert "Training: 60/60 (100 %)" in printed  # without a terminal there are lines, not a bar
    assert "\r" not in printed
    warnings = [line for line in printed.splitlines() if "Warning" in line]
    of_sacred = re.compile(r"[\\/]sacred[\\/].*: DeprecationWarning: ")  # on Python 3.12 and later
    assert [line for line in warnings if not of_sacred.search(line)] == []


def test_the_log_file_begins_before_the_run_folder_exists(tmp_path, caplog):
    """With the dataset's summary and the warnings about the settings."""
    caplog.set_level("INFO")
    settings = ["share_parameters=True", "obs_agent_id=False", "t_max=1", "test_nepisode=0"]
    run = train(tmp_path, *settings, algorithm="bc")
    lines = (run / "run.log").read_text().splitlines()
    (folder,) = [k for k, line in enumerate(lines) if f"Run folder: {run}" in line]
    before = "\n".join(lines[:folder])
    assert "INFO" in before
    assert "Dataset " in before
    assert "WARNING" in before
    assert "share_parameters without obs_agent_id" in before
    assert f"Results in {run}" in lines[-1]


def test_the_same_seed_gives_the_same_numbers_and_another_one_others(whole, tmp_path):
    folder, _, run = whole
    assert metrics(train(folder)) == metrics(run)
    assert metrics(train(folder, "seed=1")) != metrics(run)
    # Without the cached dataset and behaviour models, too.
    assert metrics(train(tmp_path)) == metrics(run)


SMALL_RNN = [
    "agent=rnn",
    "batch_unit=episodes",
    "obs_last_action=True",
    "t_max=120",
    "max_episodes=20",
    "batch_size=4",
]


@pytest.mark.parametrize(
    ("environment", "settings"),
    [("xor_offline", ["t_max=300"]), ("bridge_offline", SMALL_RNN)],
)
def test_a_killed_run_resumes_to_the_same_numbers(tmp_path, environment, settings):
    """kill -9 somewhere: resuming reproduces the metrics and weights of the uninterrupted run."""
    settings = [*settings, "test_interval=100", "save_model_interval=30", "test_nepisode=4"]
    whole = train(tmp_path, *settings, environment=environment)
    arguments = words(tmp_path, *settings, environment=environment, results="killed")
    with start(arguments, tmp_path) as victim:
        deadline = time.monotonic() + 600
        while len(list(tmp_path.glob("killed/*/checkpoints/step_*.pt"))) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.1)
        victim.send_signal(signal.SIGKILL)
    killed = next((tmp_path / "killed").iterdir())
    assert not (killed / "summary.json").exists()
    settings = [*settings, f"checkpoint_path={killed}"]
    resumed = train(tmp_path, *settings, environment=environment, results="resumed")
    assert metrics(resumed) == metrics(whole)
    assert summary_of(resumed)["scores"] == summary_of(whole)["scores"]
    expected, found = weights(whole), weights(resumed)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert th.equal(value, found[name]), name


def test_a_run_resumes_from_its_very_first_checkpoint_to_the_same_numbers(whole):
    """As after a kill before the second one. The evaluation at step 0 is not played again."""
    folder, _, run = whole
    first = run / "checkpoints" / "step_0000000000.pt"
    resumed = train(folder, f"checkpoint_path={first}", results="from_first")
    assert metrics(resumed) == metrics(run)
    assert summary_of(resumed)["scores"] == summary_of(run)["scores"]


def test_resuming_with_other_evaluations_warns(whole, caplog):
    folder, _, run = whole
    train(folder, f"checkpoint_path={run}", "test_nepisode=5", results="other_tests")
    assert "test_nepisode: 20 in the run that is resumed, 5 here. The scores" in caplog.text
    assert "test_greedy: " not in caplog.text


def test_ctrl_c_saves_and_says_how_to_resume(tmp_path):
    process = start(words(tmp_path, *LONG), tmp_path)
    for line in process.stderr:
        if "Training: 0/100000" in line:
            break
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    run = next((tmp_path / "results").iterdir())
    saved = sorted((run / "checkpoints").iterdir())
    assert saved[0].name == "step_0000000000.pt"
    assert len(saved) == 2
    last_line = output.splitlines()[-1]
    assert last_line.startswith("Resume with: python ")
    assert f"checkpoint_path={saved[-1]}" in last_line
    assert "Traceback" not in output
    assert json.loads((run / "run.json").read_text())["status"] == "INTERRUPTED"


def test_evaluate_only(whole):
    folder, _, run = whole
    settings = [f"checkpoint_path={run}", "evaluate=True"]
    evaluated = train(folder, *settings, results="evaluated")
    final = summary_of(run)["scores"]["test_return_mean"]["final"]
    # The same policies, the same evaluation.
    assert summary_of(evaluated)["scores"]["test_return_mean"]["final"] == final
    assert not (evaluated / "checkpoints").exists()
    # Name and summary describe the policy that was evaluated, not the command's other settings.
    settings += ["env_args.dataset=a", "seed=7"]
    evaluated = train(folder, *settings, algorithm="bc", results="evaluated")
    assert evaluated.name.startswith("evaluation_inspo_xor_offline_c_seed0_")
    summary = summary_of(evaluated)
    assert (summary["algorithm"], summary["dataset"], summary["seed"]) == ("inspo", "c", 0)


def test_a_checkpoint_loads_as_a_policy(whole):
    mac = load_policy(whole[2])
    obs, available = th.ones(3, 2, 1), th.ones(3, 2, 2, dtype=th.bool)
    actions, _ = mac.act(obs, available, th.full((3, 2), -1), mac.init_hidden(3), greedy=True)
    assert actions.shape == (3, 2)


def test_a_run_that_diverges_ends_with_a_message(tmp_path, capsys):
    settings = ["lr=1e38", "use_tensorboard=False"]
    assert main.main(words(tmp_path, *settings, algorithm="bc")) == 2
    assert "DivergenceError: training diverged by step 10: policy_loss" in capsys.readouterr().err
    run = next((tmp_path / "results").iterdir())
    assert json.loads((run / "run.json").read_text())["status"] == "FAILED"


def test_training_needs_no_evaluation(tmp_path):
    run = train(tmp_path, "test_nepisode=0", algorithm="bc")
    assert summary_of(run)["scores"] == {}
    assert (run / "curves.png").exists()


def test_help(capsys):
    with pytest.raises(SystemExit) as end:
        main.main(["--help"])
    assert end.value.code == 0
    printed = capsys.readouterr().out
    for name in ("inspo", "bc", "xor_offline", "mne_offline", "bridge_offline", "gradient steps"):
        assert name in printed
    assert main.main([]) == 2
    assert capsys.readouterr().out == printed


def test_a_bare_copy_of_the_source_runs_its_own_code(tmp_path):
    """Although another copy is installed. Run from `/`, so that the folder does not help."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PROJECT / "src", tmp_path / "src", ignore=ignored)
    (tmp_path / "src" / "config" / "envs" / "copied.yaml").write_text("# Only in the copy.\n")
    process = subprocess.run(
        [sys.executable, str(tmp_path / "src" / "main.py"), "--help"],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert re.search(r"copied +Only in the copy\.", process.stdout)


def test_closed_streams_are_no_error(tmp_path, monkeypatch):
    (tmp_path / "page.h5").write_text("<html>")
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    assert dataset.main(["hash", str(tmp_path / "page.h5")]) == 2


def test_a_second_interrupt_while_games_close_still_says_how_to_resume():
    second, words = KeyboardInterrupt(), ["--config=bc", "with", "seed=1"]
    second.__context__ = Interrupted(Path("runs/step_7.pt"))  # as of one raised in a `finally`
    assert main.after_interrupt(second, words).endswith(
        " --config=bc with seed=1 checkpoint_path=runs/step_7.pt"
    )
    unsaved = main.after_interrupt(KeyboardInterrupt(), words)
    assert unsaved.startswith("Interrupted without saving.")
