"""The benchmarks run from any folder, time every algorithm, and name the parts of its step."""

import subprocess
import sys

from conftest import PROJECT
from small_learners import ALGORITHMS

# As the learners' `modules` call their value networks.
VALUES = {"critics", "nu", "advantages", "twins", "q", "v", "mixer"}
TINY = ["--batch", "2", "--length", "3", "--repeats", "1"]


def run(script, *arguments, folder):
    command = [sys.executable, str(PROJECT / "benchmarks" / script), *arguments, *TINY]
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    return process.stdout


def rows_of(output):
    """The cells of a Markdown table, without its heading."""
    lines = [line for line in output.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]


def test_a_row_for_every_algorithm(tmp_path):
    output = run("train_step.py", "--algorithms", *ALGORITHMS, "--agents", "3", folder=tmp_path)
    rows = rows_of(output)
    assert [row[0] for row in rows] == ["yardstick", *ALGORITHMS]
    for name, median, *_, parts in rows[1:]:
        assert float(median) > 0, name
        named = {part.strip().rsplit(" ", 2)[0] for part in parts.split(",")}
        assert {"sampling", "policy"} <= named, name
        assert VALUES & named or name == "bc", name


def test_counterfactuals_in_one_pass_and_in_a_loop(tmp_path):
    rows = rows_of(run("train_step.py", "--counterfactuals", "--agents", "3", folder=tmp_path))
    assert [row[0] for row in rows] == ["cfcql, one pass", "cfcql, looped"]


def test_loading_and_sampling(tmp_path):
    output = run("load_and_sample.py", "--episodes", "10", folder=tmp_path)
    loading, sampling = output.splitlines()
    assert loading.startswith("loading ")
    assert sampling.startswith("a sample of 2 episodes: ")
