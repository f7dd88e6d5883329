"""Sweeps on Ray itself: one in a process of its own that is killed, and one on two nodes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from conftest import PROJECT

pytest.importorskip("ray", reason="needs ray, the extra `sweep`")

WORDS = (
    "env_args.dataset=a test_nepisode=4 test_interval=200 log_interval=200 batch_size=8 "
    "hidden_dim=8 save_model_interval=20 use_tensorboard=False"
)
LONG = 4000
SECONDS = 240


def start(root: Path, t_max: int, *options: str) -> subprocess.Popen:
    """`python src/sweep.py` with two seeds of a small run."""
    places = [f"local_results_path={root}/results", f"dataset_root={root}/data"]
    names = ["--config=bc", "--env-config=xor_offline", "--seeds=0-1", "--name=trial"]
    words = ["with", *WORDS.split(), f"t_max={t_max}", *places]
    return subprocess.Popen(
        [sys.executable, str(PROJECT / "src" / "sweep.py"), *names, *options, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=root,
        env={**os.environ, "MPLBACKEND": "agg"},
    )


def wait_for(condition, process: subprocess.Popen | None = None):
    """Waits until `condition` returns something true, and returns it."""
    deadline = time.monotonic() + SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, process.stdout.read()
        time.sleep(0.2)
    return found


def runs_of(root: Path) -> list[psutil.Process]:
    """The processes of runs of this test."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        line = process.info["cmdline"] or []
        if process.info["cwd"] == str(root) and any("inspo.sweeps.child" in word for word in line):
            found.append(process)
    return found


def trained(root: Path, step: int) -> bool:
    """Whether two runs have a checkpoint at this step or later."""
    files = root.glob("results/trial/*_seed*/checkpoints/step_*.pt")
    return len({f.parent for f in files if int(f.stem.rpartition("_")[2]) >= step}) >= 2


@pytest.mark.slow
def test_a_sweep_survives_kill_9_and_interruptions(tmp_path):
    process = start(tmp_path, LONG)
    wait_for(lambda: trained(tmp_path, 20), process)
    assert len(runs_of(tmp_path)) in (1, 2)
    process.kill()
    process.wait()
    wait_for(lambda: not runs_of(tmp_path))  # no orphans

    process = start(tmp_path, LONG)
    log = tmp_path / "results" / "trial" / "sweep" / "sweep.log"
    wait_for(lambda: log.read_text().count("resumed from step") >= 1, process)
    wait_for(lambda: runs_of(tmp_path), process)
    process.send_signal(signal.SIGTERM)
    shown, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 130, shown
    assert "goes on where the runs stopped" in shown
    assert not runs_of(tmp_path)


@pytest.fixture
def cluster(monkeypatch):
    """Two Ray nodes on this machine, with a processor each."""
    monkeypatch.setenv("RAY_worker_niceness", "0")
    monkeypatch.setenv("RAY_health_check_period_ms", "500")
    monkeypatch.setenv("RAY_health_check_failure_threshold", "3")
    from ray.cluster_utils import Cluster

    size = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=size)
    made.second = made.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    yield made
    made.shutdown()


def test_runs_of_a_lost_node_finish_on_the_other(tmp_path, cluster):
    process = start(tmp_path, 400, f"--address={cluster.address}")
    wait_for(lambda: trained(tmp_path, 20), process)
    cluster.remove_node(cluster.second, allow_graceful=False)
    shown, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, shown
    assert "tried again" in shown
    summaries = sorted(tmp_path.glob("results/trial/*/summary.json"))
    seeds = {json.loads(path.read_text())["seed"] for path in summaries}
    assert seeds == {0, 1}
