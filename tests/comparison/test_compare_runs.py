import json
import math
import os

import pytest
from run_folders import make_run, shown_scores, skip_reasons

from inspo.comparison.command import compare_runs
from inspo.utils.errors import ComparisonError

XOR = "xor_offline, c"


def test_unfinished_and_damaged_runs_are_skipped_with_the_reason(tmp_path):
    make_run(tmp_path, 1.0, folder="good")
    for name, status in (("killed", "RUNNING"), ("diverged", "FAILED"), ("early", "RUNNING")):
        (make_run(tmp_path, 9.0, folder=name) / "summary.json").unlink()
        (tmp_path / name / "run.json").write_text(json.dumps({"status": status}))
    (tmp_path / "early" / "metrics.csv").unlink()
    (make_run(tmp_path, 9.0, folder="no_config") / "config.json").unlink()
    (make_run(tmp_path, 9.0, folder="half") / "summary.json").write_text('{"scores": ')
    (make_run(tmp_path, 9.0, folder="binary") / "summary.json").write_bytes(b"\xff\x00\xfe")
    (make_run(tmp_path, 9.0, folder="list") / "summary.json").write_text("[1]")
    (make_run(tmp_path, 9.0, folder="deep") / "config.json").write_text("[" * 99_999)
    (make_run(tmp_path, 9.0, folder="pipe") / "config.json").unlink()
    os.mkfifo(tmp_path / "pipe" / "config.json")
    make_run(tmp_path, math.nan, folder="not_finite")
    no_score = make_run(tmp_path, 9.0, folder="no_score") / "summary.json"
    no_score.write_text(json.dumps({**json.loads(no_score.read_text()), "scores": {}}))
    make_run(tmp_path, 9.0, folder="online", fingerprint="")
    make_run(tmp_path, 9.0, folder="evaluation", evaluate=True, checkpoint_path="results/good")

    table = compare_runs(tmp_path)
    assert shown_scores(table) == {("bc", XOR): (1.0,)}
    reasons = skip_reasons(table)
    expected = {
        "killed": "status RUNNING): last record at step 300 of 300",
        "diverged": "the mean without this run is too optimistic",
        "early": "no record of any of its 300 steps",
        "no_config": "config.json is missing",
        "half": "summary.json is damaged",
        "binary": "summary.json is damaged",
        "list": "summary.json cannot be used",
        "deep": "config.json is damaged",
        "pipe": "config.json is damaged: not a regular file",
        "not_finite": "scores.test_return_mean.final: Input should be a finite number",
        "no_score": "it has no score (test_nepisode=1000)",
        "online": "it learned online, without a dataset",
        "evaluation": "it trained nothing, it evaluated results/good",
    }
    assert reasons.keys() == expected.keys()
    for name, part in expected.items():
        assert part in reasons[name]


def test_a_folder_counts_once_however_it_is_reached(tmp_path):
    run = make_run(tmp_path, 1.0)
    (tmp_path / "link").symlink_to(run)
    (tmp_path / "loop").symlink_to(tmp_path)
    table = compare_runs([tmp_path, run, tmp_path / "link"])
    assert shown_scores(table) == {("bc", XOR): (1.0,)}
    assert table.skipped == []


def test_files_among_the_paths_are_skipped(tmp_path):
    make_run(tmp_path / "results", 1.0)
    (tmp_path / "notes.txt").touch()
    assert skip_reasons(compare_runs(sorted(tmp_path.iterdir()))) == {"notes.txt": "not a folder"}


def test_nothing_to_compare(tmp_path):
    with pytest.raises(ComparisonError, match=f"no run folder in {tmp_path}"):
        compare_runs(tmp_path)
    with pytest.raises(ComparisonError, match="nowhere: there is no such folder"):
        compare_runs(tmp_path / "nowhere")
    (make_run(tmp_path, 1.0, folder="killed") / "summary.json").unlink()
    with pytest.raises(ComparisonError, match="killed: unfinished"):
        compare_runs(tmp_path)
