"""The check of a GPU, on a pretended one."""

import json
import sys
from importlib import import_module

import pytest
import torch as th
from conftest import PROJECT
from pretended_gpu import pretended_gpu

from inspo.controllers import BasicMAC
from inspo.utils.cuda_graphs import CUDAGraphs
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
    for name in ("gpu_check", "gpu_games", "gpu_report", "train_step"):
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


def test_losses_are_those_of_the_cpu_whatever_is_drawn(gpu_check, tmp_path):
    options = gpu_check.make_parser().parse_args(["--small", "--algorithms", "inspo", "alberdice"])
    with pretended_gpu():
        report = gpu_check.Report(tmp_path, th.device("cuda"), time_limit=1000)
        gpu_check.check_losses(report, report.device, options)
    assert not report.failures


def test_graphs_are_compared_with_ordinary_steps(gpu_check, tmp_path, monkeypatch):
    options = gpu_check.make_parser().parse_args(["--small", "--algorithms", "inspo", "bc"])
    with pretended_gpu(graphs=True):
        report = gpu_check.Report(tmp_path, th.device("cuda"), time_limit=1000)
        gpu_check.check_graphs(report, report.device, options)
        rows = report.tables["Steps with and without CUDA graphs"]
        assert [row["graphs"] > 0 for row in rows] == [True, True]
        assert not report.failures
        # A graph that keeps to its first batch is found.
        monkeypatch.setattr(
            CUDAGraphs, "place", lambda self, value, name: _first(self, value, name)
        )
        gpu_check.check_graphs(report, report.device, options)
        assert len(report.failures) == 2


def test_the_settings_of_an_algorithm_are_those_of_its_base(gpu_check):
    assert gpu_check.fields_of("vdn_cql") == gpu_check.fields_of("qmix_cql")
    assert "buffer_size" in gpu_check.fields_of("vdn") - gpu_check.fields_of("vdn_cql")


def test_kernels_are_counted_without_the_profilers_marks(gpu_check):
    with th.profiler.profile(activities=[th.profiler.ProfilerActivity.CPU]) as profile:
        th.ones(2).sum()
    event = profile.events()[0]
    assert not gpu_check.is_kernel(event)
    event.device_type = th.autograd.DeviceType.CUDA
    assert gpu_check.is_kernel(event)
    event.is_user_annotation = True
    assert not gpu_check.is_kernel(event)


def test_failures_and_what_is_left_out_are_told(gpu_check, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_check, "check_games", lambda report, *_: report.add("A", "b", _fail))
    monkeypatch.setattr(gpu_check, "check_losses", lambda *_: None)
    options = ["--device=cpu", f"--out={tmp_path}", "--algorithms", "bc"]
    assert gpu_check.main([*options, "--time-limit=0"]) == 0
    assert "A: b" in (tmp_path / "gpu_check.md").read_text(encoding="utf-8")
    monkeypatch.setattr(gpu_check, "check_times", lambda *_: None)
    assert gpu_check.main(options) == 1
    assert "A: b: ValueError: broken" in (tmp_path / "gpu_check.md").read_text(encoding="utf-8")


def test_every_row_is_written_at_once(gpu_check, tmp_path):
    report = gpu_check.Report(tmp_path, th.device("cpu"), time_limit=1000)
    report.add("A", "first", dict)
    assert "first" in (tmp_path / "gpu_check.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("lasts", [True, False])
def test_after_an_error_that_lasts_nothing_more_is_tried(gpu_check, tmp_path, monkeypatch, lasts):
    with pretended_gpu():
        report = gpu_check.Report(tmp_path, th.device("cuda"), time_limit=1000)
        if lasts:
            monkeypatch.setattr(th.cuda, "synchronize", _fail)
        report.add("A", "first", _fail)
        report.add("A", "second", dict)
    report.write()
    assert len(report.tables["A"]) == (1 if lasts else 2)
    text = (tmp_path / "gpu_check.md").read_text(encoding="utf-8")
    assert ("Left out after ValueError: broken: A: second." in text) == lasts


def _first(graphs, value, name, place=CUDAGraphs.place):
    if not hasattr(graphs, "first"):
        graphs.first = {}
    return graphs.first.setdefault(name, place(graphs, value, name))


def _fail(*_):
    raise ValueError("broken")
