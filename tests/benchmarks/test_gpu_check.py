"""The check of a GPU, on a pretended one."""

import json
import sys
from importlib import import_module

import pytest
import torch as th
from conftest import PROJECT
from pretended_gpu import pretended_gpu

from inspo.controllers import BasicMAC
from inspo.utils.device import precision_kept


@pytest.fixture
def gpu_check(monkeypatch):
    # The pretended tensors do not work in inference mode.
    monkeypatch.setattr(BasicMAC, "act", th.no_grad()(BasicMAC.act.__wrapped__))
    monkeypatch.syspath_prepend(PROJECT / "benchmarks")
    n_threads = th.get_num_threads()
    with precision_kept():
        yield import_module("gpu_check")
    th.set_num_threads(n_threads)
    for name in ("gpu_check", "train_step"):
        sys.modules.pop(name, None)


def test_every_part_reports(gpu_check, tmp_path):
    options = ["--small", "--threads=1", f"--out={tmp_path}", "--algorithms", "bc"]
    with pretended_gpu():
        assert gpu_check.main(options) == 0
    report = json.loads((tmp_path / "gpu_check.json").read_text(encoding="utf-8"))
    assert report["machine"]["GPU"] == "pretended"
    games, losses, times = report["tables"].values()
    assert games[0]["result"] == "bit-exact"
    assert games[0]["on"] == "cuda"
    assert losses[0]["result"].endswith(")")
    assert times[0]["median ms"] > 0
    assert "## Games" in (tmp_path / "gpu_check.md").read_text(encoding="utf-8")


def test_failures_and_what_is_left_out_are_told(gpu_check, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_check, "check_games", lambda report, *_: report.add("A", "b", _fail))
    monkeypatch.setattr(gpu_check, "check_losses", lambda *_: None)
    options = ["--device=cpu", f"--out={tmp_path}", "--algorithms", "bc"]
    assert gpu_check.main([*options, "--time-limit=0"]) == 0
    assert "A: b" in (tmp_path / "gpu_check.md").read_text(encoding="utf-8")
    monkeypatch.setattr(gpu_check, "check_times", lambda *_: None)
    assert gpu_check.main(options) == 1
    assert "A: b: ValueError: broken" in (tmp_path / "gpu_check.md").read_text(encoding="utf-8")


def _fail():
    raise ValueError("broken")
