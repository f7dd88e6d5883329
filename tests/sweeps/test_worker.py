"""The process of a run: it ends with the one that started it, and saves when it is interrupted."""

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
# Waits for its parent in a thread, as a run does, and has a game of its own.
ORPHAN = """
import runpy, subprocess, sys, threading, time
end_with_parent = runpy.run_path(sys.argv[1])["end_with_parent"]
threading.Thread(target=end_with_parent, daemon=True).start()
game = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(game.pid, flush=True)
time.sleep(60)
"""


def job(tmp_path: Path, note: str) -> dict:
    log = str(tmp_path / "logs" / "job.log")
    return {"source": str(SOURCE), "cwd": str(tmp_path), "log": log, "gpus": 0, "note": note}


def wait_for_the_end_of(number: int) -> None:
    deadline = time.monotonic() + 20
    while is_alive(number):
        assert time.monotonic() < deadline
        time.sleep(0.02)


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
    wait_for_the_end_of(int(game))


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
def test_a_process_ends_when_its_parent_is_gone():
    """The module is read by itself: importing the package takes longer than the test."""
    child = subprocess.Popen(
        [sys.executable, "-c", ORPHAN, worker.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    game = int(child.stdout.readline())
    assert child.poll() is None
    child.stdin.close()
    assert child.wait(timeout=60) == -signal.SIGKILL
    wait_for_the_end_of(game)
