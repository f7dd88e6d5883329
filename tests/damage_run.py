"""Loads many randomly damaged datasets, outside the test suite:

    python tests/damage_run.py COUNT [FIRST_SEED]

prints how many were refused or accepted, and every hang, traceback, crash or wrong acceptance.
"""
# ruff: noqa: T201, BLE001

import json
import logging
import os
import select
import signal
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path

import damage

from inspo.data.formats import h5_files

SECONDS = 2  # for a file to be probed
HUNG = 30  # seconds after which a dataset counts as one that hangs the loader


def main(count, seed):
    logging.disable(logging.CRITICAL)
    h5_files._stops_the_library = damage.fork_probe
    h5_files.PROBE_SECONDS = SECONDS
    found = Counter()
    names = list(damage.LAYOUTS)
    next_try = seed
    while next_try < seed + count:
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.close(reader)
            with tempfile.TemporaryDirectory() as folder:
                work(Path(folder), next_try, seed + count, names, writer)
            os._exit(0)
        os.close(writer)
        next_try = watch(child, reader, next_try, found, names)
    for (layout, result), number in sorted(found.items()):
        print(f"{layout:14} {number:6}  {result}")
    return sum(
        number for (_, result), number in found.items() if result not in ("refused", "accepted")
    )


def work(folder, first, last, names, writer):
    originals = damage.Originals(folder)
    for number in range(first, last):
        try:
            result = damage.try_one(originals, names[number % len(names)], number)
        except BaseException as error:
            traceback.print_exc()
            result = f"TRACEBACK {type(error).__name__}"
        os.write(writer, f"{json.dumps(result[:300])}\n".encode())


def watch(child, reader, next_try, found, names):
    """Counts the child's results until it ends, or stops it if it hangs."""
    with os.fdopen(reader, "rb", buffering=0) as results:
        waiting = b""
        while True:
            ready, _, _ = select.select([results], [], [], HUNG + SECONDS)
            layout = names[next_try % len(names)]
            if not ready:
                os.kill(child, signal.SIGKILL)
                print(f"HANG {layout} seed {next_try}", flush=True)
                found[layout, "HANG"] += 1
                next_try += 1
                break
            new = results.read(65536)
            if not new:
                break
            waiting += new
            *lines, waiting = waiting.split(b"\n")
            for line in lines:
                layout, result = names[next_try % len(names)], json.loads(line)
                if result not in ("refused", "accepted"):
                    print(f"{layout} seed {next_try}: {result}", flush=True)
                found[layout, result] += 1
                next_try += 1
        _, status = os.waitpid(child, 0)
        if ready and os.WIFSIGNALED(status):
            print(f"CRASH {layout} seed {next_try}", flush=True)
            found[names[next_try % len(names)], "CRASH"] += 1
            next_try += 1
    return next_try


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int((sys.argv[2:] or [0])[0])) > 0)
