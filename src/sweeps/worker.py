"""What Ray executes: one child process, which ends with this one. Uses the standard library only.

Ray's workers need not find the package `inspo`: this module is sent to them as a whole.
"""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

POLL_SECONDS = 0.1
SECONDS_TO_SAVE = 60.0  # for a checkpoint, after an interruption
LAST_LINES = 15
# Starts inspo.sweeps.child from the source folder, installed or not.
START = (
    "import runpy, sys; runpy.run_path(sys.argv.pop(1) + '/as_package.py'); "
    "from inspo.sweeps.child import main; sys.exit(main())"
)


def work(job: dict) -> dict:
    """Runs a job in a process of its own.

    Args:
        job: for the child, with `source` (the folder of the code), `cwd`, `log` (the file that gets
            its output) and `gpus` (the share of a GPU).

    Returns:
        `status`, the exit status, negative after a signal; `seconds`; `lines`, the output's last.
    """
    # Ray cancels by this signal. It is ignored if the sweep was started in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    started = time.monotonic()
    environment = dict(os.environ)
    if not job["gpus"]:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    log_file = Path(job["log"])
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-c", START, job["source"]],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=job["cwd"],
            env=environment,
            start_new_session=True,
        )
        try:
            with suppress(BrokenPipeError):  # it died at once
                child.stdin.write(json.dumps(job).encode() + b"\n")
                child.stdin.flush()  # stays open: its end tells the child that this process died
            _wait(child)
        finally:
            _end(child)
    return {
        "status": child.returncode,
        "seconds": time.monotonic() - started,
        "lines": _last_lines(log_file),
    }


def end_with_parent() -> None:
    """Ends the calling process and its children once the parent is gone.

    The parent keeps the other end of the standard input open. The system closes it, however the
    parent dies.
    """
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _wait(child: subprocess.Popen) -> None:
    """Waits. Ray interrupts Python code between two instructions, so it must not block."""
    try:
        while child.poll() is None:
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        child.send_signal(signal.SIGTERM)  # saves a checkpoint
        deadline = time.monotonic() + SECONDS_TO_SAVE
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)


def _end(child: subprocess.Popen) -> None:
    """Ends what is left of the child's session, such as games."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _last_lines(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return lines[-LAST_LINES:]
