"""The process of a run: it ends with the one that started it, and saves when it is interrupted."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from inspo.sweeps import worker
from inspo.utils.files import SOURCE

needs_sessions = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX sessions")
# Stands for the child: it starts a game of its own, and says that it is there.
CHILD = """
import json, os, subprocess, sys, threading, signal, time
job = json.loads(sys.stdin.buffer.readline())
game = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(job["note"], game.pid, flush=True)
def saved(*_):
    print("saved", flush=True)
    sys.exit(130)
signal.signal(signal.SIGTERM, saved)
sys.exit(3) if job["note"] == "fail" else time.sleep(60)
"""


def job(tmp_path: Path, note: str) -> dict:
    log = str(tmp_path / "logs" / "job.log")
    return {"source": str(SOURCE), "cwd": str(tmp_path), "log": log, "gpus": 0, "note": note}


def is_alive(number: int) -> bool:
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@needs_sessions
def test_a_failing_process_takes_its_children_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "START", CHILD)
    result = worker.work(job(tmp_path, "fail"))
    assert result["status"] == 3
    note, game = result["lines"][-1].split()
    assert note == "fail"
    deadline = time.monotonic() + 20
    while is_alive(int(game)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@needs_sessions
def test_an_interrupted_process_may_save(tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "START", CHILD)
    pause = time.sleep
    monkeypatch.setattr(worker, "POLL_SECONDS", 0.02)
    log = tmp_path / "logs" / "job.log"

    def interrupt_once(seconds):
        pause(seconds)
        if log.exists() and log.read_text().startswith("train") and not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt

    interrupted: list[bool] = []
    monkeypatch.setattr("inspo.sweeps.worker.time.sleep", interrupt_once)
    result = worker.work(job(tmp_path, "train"))
    assert result["status"] == 130
    assert result["lines"][-1] == "saved"


@needs_sessions
def test_a_run_ends_when_its_parent_is_gone(tmp_path):
    """The real child, which is about to train for a very long time."""
    words = ["env_args.dataset=a", "t_max=10000000", f"dataset_root={tmp_path}/data"]
    words += [f"local_results_path={tmp_path}/results", "test_nepisode=0", "use_tensorboard=False"]
    told = {"kind": "train", "config": "bc", "env_config": "xor_offline", "words": words}
    child = subprocess.Popen(
        [sys.executable, "-c", worker.START, str(SOURCE)],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    child.stdin.write(json.dumps(told).encode() + b"\n")
    child.stdin.flush()
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("results/*/checkpoints/*.pt")):
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    child.stdin.close()
    assert child.wait(timeout=60) == -signal.SIGKILL
