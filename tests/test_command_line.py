"""The program as users run it: a process of its own, from another folder."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch as th
from conftest import PROJECT, main_command, metrics

from inspo import main
from inspo.run.checkpoint import load_policy

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


def train(
    folder: Path, *overrides: str, algorithm="inspo", environment="xor_offline", results="results"
):
    """A run below `folder`; returns the process and the newest run folder."""
    settings = INSPO if algorithm == "inspo" else TINY
    where = [f"local_results_path={results}", f"dataset_root={folder / 'dataset'}"]
    command = [
        f"--config={algorithm}",
        f"--env-config={environment}",
        "with",
        *settings,
        *where,
        *overrides,
    ]
    process = main_command(*command, cwd=folder)
    runs = sorted((folder / results).glob("*_*"), key=lambda path: path.stat().st_mtime_ns)
    return process, runs[-1] if runs else None


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run left alone."""
    folder = tmp_path_factory.mktemp("whole")
    process, run = train(folder, "keep_checkpoints=0")
    assert process.returncode == 0, process.stderr
    return folder, process, run


def test_a_run_leaves_everything_behind(whole):
    _, process, run = whole
    assert run.name.startswith("inspo_xor_offline_c_seed0_")
    names = {path.name for path in run.iterdir()}
    assert {
        "config.json",
        "run.json",
        "metrics.json",
        "metrics.csv",
        "summary.json",
        "curves.png",
        "run.log",
    } <= names
    assert {"tensorboard", "checkpoints", "run_info.json"} <= names
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert any((run / "tensorboard").iterdir())
    assert "test_return_mean" in json.loads((run / "metrics.json").read_text())

    rows = metrics(run)
    assert [int(row["step"]) for row in rows if row["test_return_mean"]] == [0, 20, 40, 60]
    assert [int(row["step"]) for row in rows if row["value_loss/agent_1"]] == [
        10,
        20,
        30,
        40,
        50,
        60,
    ]
    summary = json.loads((run / "summary.json").read_text())
    returns = [float(row["test_return_mean"]) for row in rows if row["test_return_mean"]]
    score = summary["scores"]["test_return_mean"]
    assert score["final"] == returns[-1]
    assert score["best"] == max(returns[1:])
    assert score["last5"] == pytest.approx(sum(returns[1:]) / 3)  # not the clone at step 0
    expected = {
        "algorithm": "inspo",
        "environment": "xor_offline",
        "dataset": "c",
        "seed": 0,
        "steps": 60,
    }
    assert expected.items() <= summary.items()
    assert len(summary["dataset_fingerprint"]) == 16
    assert summary["software"]["torch"] == th.__version__
    assert summary["wall_time_seconds"] > 0
    config = json.loads((run / "config.json").read_text())
    assert (config["t_max"], config["env_args"]["dataset"]) == (60, "c")
    assert "selected after the fact" in process.stderr
    assert "Training: 60/60 (100 %)" in process.stderr  # a log file gets lines, not a bar
    assert "\r" not in process.stderr
    assert "Warning" not in process.stderr


def test_the_same_seed_gives_the_same_numbers_and_another_one_others(whole, tmp_path):
    folder, _, run = whole
    again = train(folder)[1]
    other = train(folder, "seed=1")[1]
    assert metrics(again) == metrics(run)
    assert metrics(other) != metrics(run)
    # Without the cached dataset and behaviour models, too.
    fresh = train(tmp_path)[1]
    assert metrics(fresh) == metrics(run)


@pytest.mark.parametrize(
    "agent", [[], ["agent=rnn", "batch_unit=episodes", "obs_last_action=True"]]
)
def test_a_killed_run_goes_on_to_the_same_numbers(tmp_path, agent):
    """kill -9 somewhere, go on from what is on disk: the final metrics are those of the run left alone."""
    environment = "xor_offline" if not agent else "bridge_offline"
    settings = [
        "t_max=1000",
        "test_interval=100",
        "save_model_interval=30",
        "test_nepisode=4",
        *agent,
    ]
    settings = (
        settings if not agent else [*settings, "t_max=200", "max_episodes=20", "batch_size=4"]
    )
    process, whole = train(tmp_path, *settings, environment=environment)
    assert process.returncode == 0, process.stderr
    command = ["--config=inspo", f"--env-config={environment}", "with", *INSPO, *settings]
    command += ["local_results_path=killed", f"dataset_root={tmp_path / 'dataset'}"]
    victim = subprocess.Popen(
        [sys.executable, str(PROJECT / "src/main.py"), *command],
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("killed/*/checkpoints/step_*.pt")) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    killed = next((tmp_path / "killed").glob("inspo_*"))
    assert not (killed / "summary.json").exists()
    process, resumed = train(
        tmp_path, *settings, f"checkpoint_path={killed}", environment=environment, results="resumed"
    )
    assert process.returncode == 0, process.stderr
    assert "Resuming from" in process.stderr
    assert metrics(resumed) == metrics(whole)
    finals = [json.loads((run / "summary.json").read_text())["scores"] for run in (whole, resumed)]
    assert finals[0] == finals[1]
    states = [
        th.load(sorted((run / "checkpoints").iterdir())[-1], weights_only=True)["learner"][
            "modules"
        ]
        for run in (whole, resumed)
    ]
    for name, module in states[0].items():
        for key, value in module.items():
            assert th.equal(value, states[1][name][key]), (name, key)


def test_a_run_goes_on_from_its_very_first_checkpoint_to_the_same_numbers(whole):
    """As after a kill before the second one: the evaluation before the first step is in it, and not played again."""
    folder, _, run = whole
    where = [f"local_results_path={folder / 'from_first'}", f"dataset_root={folder / 'dataset'}"]
    first = f"checkpoint_path={run / 'checkpoints' / 'step_0000000000.pt'}"
    assert (
        main.main(["--config=inspo", "--env-config=xor_offline", "with", *INSPO, *where, first])
        == 0
    )
    resumed = next((folder / "from_first").iterdir())
    assert metrics(resumed) == metrics(run)


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    command = [
        "--config=inspo",
        "--env-config=xor_offline",
        "with",
        *INSPO,
        "t_max=100000",
        "test_interval=100000",
    ]
    command += ["save_model_interval=100000", "local_results_path=results", "log_interval=100000"]
    process = subprocess.Popen(
        [
            sys.executable,
            str(PROJECT / "src/main.py"),
            *command,
            f"dataset_root={tmp_path / 'dataset'}",
        ],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:
        if "Training: 0/100000" in line:
            break
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    run = next((tmp_path / "results").glob("inspo_*"))
    saved = sorted((run / "checkpoints").iterdir())
    assert saved[0].name == "step_0000000000.pt"
    assert len(saved) == 2
    assert f"checkpoint_path={saved[-1]}" in output.splitlines()[-1]
    assert output.splitlines()[-1].startswith("Resume with: python ")
    assert "Traceback" not in output
    assert json.loads((run / "run.json").read_text())["status"] == "INTERRUPTED"


def test_evaluate_only(whole):
    folder, _, run = whole
    process, evaluated = train(
        folder, f"checkpoint_path={run}", "evaluate=True", results="evaluated"
    )
    assert process.returncode == 0, process.stderr
    final = json.loads((run / "summary.json").read_text())["scores"]["test_return_mean"]["final"]
    scores = json.loads((evaluated / "summary.json").read_text())["scores"]["test_return_mean"]
    assert scores["final"] == final  # the same policies, the same evaluation
    assert not (evaluated / "checkpoints").exists()
    # The summary speaks of the policy that was evaluated, not of the command that evaluated it.
    settings = [f"checkpoint_path={run}", "evaluate=True", "env_args.dataset=a", "seed=7"]
    _, other = train(folder, *settings, algorithm="bc", results="evaluated")
    summary = json.loads((other / "summary.json").read_text())
    assert (summary["algorithm"], summary["dataset"], summary["seed"]) == ("inspo", "c", 0)


def test_a_checkpoint_loads_as_a_policy(whole):
    mac = load_policy(whole[2])
    obs, available = th.ones(3, 2, 1), th.ones(3, 2, 2, dtype=th.bool)
    actions, _ = mac.act(obs, available, th.full((3, 2), -1), mac.init_hidden(3), greedy=True)
    assert actions.shape == (3, 2)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["alpha=0.3"], "alpha: 0.15 there, 0.3 here"),
        (["hidden_dim=8"], "hidden_dim: 16 there, 8 here"),
        (["env_args.dataset=b"], "the dataset's content: fingerprint"),
        (
            ["load_step=7"],
            "no checkpoint of step 7 found; there are step_0000000000, step_0000000020",
        ),
    ],
)
def test_a_checkpoint_that_does_not_fit_lists_the_differences(whole, overrides, message):
    folder, _, run = whole
    process, _ = train(folder, f"checkpoint_path={run}", *overrides, results="wrong")
    assert process.returncode == 2
    assert message in process.stderr
    assert "Traceback" not in process.stderr


def test_a_damaged_checkpoint_is_refused(whole, tmp_path):
    folder, _, run = whole
    content = sorted((run / "checkpoints").iterdir())[-1].read_bytes()
    for name, damaged in (
        ("half", content[: len(content) // 2]),
        ("none", b""),
        ("text", b"not a checkpoint"),
    ):
        file = tmp_path / f"{name}.pt"
        file.write_bytes(damaged)
        process, _ = train(folder, f"checkpoint_path={file}", results="wrong")
        assert process.returncode == 2
        assert "cannot be read as a checkpoint" in process.stderr
        assert "Traceback" not in process.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--config=inspo", "--env-config=xor_offlin"],
        ["--config=inspo", "--env-config=xor_offline", "with", "a=1"],
    ],
)
def test_user_errors_are_one_message(tmp_path, arguments):
    process = main_command(*arguments, cwd=tmp_path)
    assert process.returncode == 2
    assert process.stderr.startswith("ConfigError: ")
    assert len(process.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("key", ["local_results_path", "dataset_root"])
def test_a_folder_that_cannot_be_written_to_is_one_message(tmp_path, key):
    (tmp_path / "file").write_text("in the way")
    process = main_command(
        "--config=bc",
        "--env-config=xor_offline",
        "with",
        f"{key}=file",
        *([] if key == "local_results_path" else ["local_results_path=results"]),
        cwd=tmp_path,
    )
    assert process.returncode == 2
    assert process.stderr.splitlines()[-1].startswith(
        f"ConfigError: {key}={tmp_path / 'file'}: cannot be written to"
    )
    assert "Traceback" not in process.stderr


def test_help(tmp_path):
    process = main_command("--help", cwd=tmp_path)
    assert process.returncode == 0
    for name in ("inspo", "bc", "xor_offline", "mne_offline", "bridge_offline", "gradient steps"):
        assert name in process.stdout
    assert main_command(cwd=tmp_path).returncode == 2


def test_a_run_that_diverges_ends_with_a_message(tmp_path, capsys):
    command = [
        "--config=bc",
        "--env-config=xor_offline",
        "with",
        *TINY,
        "lr=1e38",
        "use_tensorboard=False",
    ]
    assert (
        main.main(
            [*command, f"local_results_path={tmp_path}", f"dataset_root={tmp_path / 'dataset'}"]
        )
        == 2
    )
    assert "DivergenceError: training diverged by step 10: policy_loss" in capsys.readouterr().err
    assert json.loads((next(tmp_path.glob("bc_*")) / "run.json").read_text())["status"] == "FAILED"


def test_training_needs_no_evaluation(tmp_path):
    process, run = train(tmp_path, "test_nepisode=0", algorithm="bc")
    assert process.returncode == 0, process.stderr
    assert json.loads((run / "summary.json").read_text())["scores"] == {}
    assert (run / "curves.png").exists()


def test_runs_started_together_get_folders_of_their_own(tmp_path):
    names = subprocess.run(
        [sys.executable, "-c", FOLDERS],
        cwd=PROJECT / "src",
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    ).stdout.split()
    assert len(set(names)) == 64


FOLDERS = """
from types import SimpleNamespace
from inspo.run.run_folder import new_run_name
args = SimpleNamespace(name="inspo", env_config="xor_offline", env_args={"dataset": "c"}, seed=0)
print(*[new_run_name(args) for _ in range(64)])
"""
