"""The benchmark times every algorithm and names the parts of its step."""

import subprocess
import sys

from conftest import PROJECT
from test_learners import ALGORITHMS

CRITICS = {
    "critics",
    "nu",
    "advantages",
    "twins",
    "q",
    "v",
    "mixer",
}  # as learners call their values


def test_a_row_for_every_algorithm():
    tiny = ["--agents", "3", "--batch", "2", "--length", "3", "--repeats", "1", "--threads", "1"]
    command = [sys.executable, "benchmarks/train_step.py", "--algorithms", *ALGORITHMS, *tiny]
    process = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in process.stdout.splitlines()
        if "|" in line
    ]
    assert [row[0] for row in rows[2:]] == ["yardstick", *ALGORITHMS]
    for name, median, *_, parts in rows[3:]:
        assert float(median) > 0, name
        named = {part.strip().rsplit(" ", 2)[0] for part in parts.split(",")}
        assert {"sampling", "policy"} <= named, name
        assert CRITICS & named or name == "bc", name
