"""Tries everything on a GPU in under six minutes, and writes one report.

    python benchmarks/gpu_check.py                       # gpu_check.md and gpu_check.json
    python benchmarks/gpu_check.py --device cpu --small  # a rehearsal without a GPU

Games:   every learner trains on XOR, Bridge or a small game, resumes bit for bit, and is evaluated;
         a run of InSPO goes on on the CPU.
Losses:  of the same first steps on the CPU and on the GPU, from the same networks and batches; and
         of steps with and without CUDA graphs.
Times:   of a step at the sizes of 2s3z, in float32 and bf16, with and without CUDA graphs; where
         the time goes; the share of it in which the GPU computes; for InSPO with 3 to 27 agents;
         peak memory.

What does not fit into the time is left out, with a word. The report is written after every row. The
exit status is 1 if a check failed.
"""

import argparse
import gc
import logging
import sys
import tempfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch as th
import train_step
from gpu_games import ONLINE, check_games, fields_of
from gpu_report import Report, Row
from torch import Tensor

from inspo.components.offline_buffer import RECORDED, OfflineBuffer
from inspo.envs import EnvInfo
from inspo.learners import BaseLearner, inspo_learner
from inspo.utils import cuda_graphs
from inspo.utils.device import choose_device, compute_in_float32
from inspo.utils.errors import UserError
from inspo.utils.precision import autocast, check_precision

OFFLINE = ["inspo", "bc", "omar", "omiga", "icq", "alberdice"]
OFFLINE += ["qmix_cql", "vdn_cql", "iql_cql", "cfcql", "macql"]
AGENTS = [3, 5, 10, 27]
PRECISIONS = ["float32", "bf16"]
TIME_LIMIT = 320  # seconds
GAMES_SHARE = 0.5  # of the time, at most
SECONDS_OF_A_ROW = 8  # at most, of measured steps
STEPS_WITH_GRAPHS = 10
TOLERANCE = 1e-3  # of losses, relative
# With shared networks, all but one of its agents come after Adam's first steps. These have the
# gradient's sign alone, and rounding changes some signs: up to 1e-3 on a CPU.
TOLERANCES = {"inspo": 1e-2}
# They depend on draws, which differ by device. InSPO has none here: see `check_losses`.
DRAWN = {
    "alberdice": {"nu_loss", "advantage_loss", "teammates_divergence"},
    "macql": {"cql_penalty"},
}


def main(arguments: list[str] | None = None) -> int:
    """Runs all checks. Returns 1 if one failed."""
    options = make_parser().parse_args(arguments)
    logging.basicConfig(level=logging.ERROR)
    compute_in_float32()
    th.set_num_threads(options.threads)
    device = choose_device(options.device, use_cuda=True)
    report = Report(options.out, device, options.time_limit)
    report.allow(GAMES_SHARE)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        check_games(report, device, options, Path(folder))
    report.allow(1)
    check_losses(report, device, options)
    check_graphs(report, device, options)
    check_times(report, device, options)
    report.write()
    train_step.show(report.markdown())
    return 1 if report.failures else 0


def make_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--device", default="cuda", help="cuda, cuda:1, mps, or cpu for a rehearsal")
    add("--out", type=Path, default=Path(), help="folder of the report")
    add("--small", action="store_true", help="tiny sizes and fewer steps")
    add("--algorithms", nargs="+", default=OFFLINE + ONLINE)
    add("--threads", type=int, default=2)
    add("--time-limit", type=float, default=TIME_LIMIT, help="seconds; then the rest is left out")
    return parser


# --- losses


def check_losses(report: Report, device: th.device, options: argparse.Namespace) -> None:
    """The first steps on the CPU and on the device, from equal networks, data and batches."""
    info = EnvInfo(3, 6, 20, 30, 20) if options.small else EnvInfo(*train_step.MAPS["2s3z"], 120)
    length = 10 if options.small else 60
    data = train_step.synthetic(info, [length], episodes=20)
    for algorithm in options.algorithms:
        if algorithm in ONLINE:
            continue

        def compare(algorithm: str = algorithm) -> Row:
            here, buffer = make(algorithm, info, data, th.device("cpu"), options)
            there, other_buffer = make(algorithm, info, data, device, options)
            copy_state(here, buffer, there, other_buffer)
            # With shared networks, InSPO's draws for one agent change all numbers of the next.
            with patch.object(inspo_learner, "resample", expected_counts):
                pairs = [(here.train(buffer, True), there.train(other_buffer, True))]
            return compared(algorithm, pairs)

        report.add("Losses on the CPU and here", algorithm, compare)


def check_graphs(report: Report, device: th.device, options: argparse.Namespace) -> None:
    """Steps replayed as CUDA graphs and ordinary ones, from equal networks, draws and batches."""
    if not cuda_graphs.available(device):
        return
    info = EnvInfo(*train_step.MAPS["2s3z"], 120)
    lengths = [6, 10] if options.small else train_step.REAL_LENGTHS
    data = train_step.synthetic(info, lengths, episodes=20)
    for algorithm in options.algorithms:
        if algorithm in ONLINE:
            continue

        def compare(algorithm: str = algorithm) -> Row:
            makes = [
                make(algorithm, info, data, device, options, use_cuda_graphs=use, lr_decay_steps=20)
                for use in (False, True)
            ]
            pairs = []
            for step in range(STEPS_WITH_GRAPHS):
                with_stats = step % 2 > 0
                one, other = [learner.train(buffer, with_stats) for learner, buffer in makes]
                pairs.append((one, other))
            graphs = makes[1][0].graphs
            row = compared(algorithm, pairs) | {"graphs": len(graphs.graphs)}
            return {**row, "failed": row["failed"] or graphs.off}

        report.add("Steps with and without CUDA graphs", algorithm, compare)


def expected_counts(rho: Tensor, filled: Tensor, _generator: th.Generator) -> Tensor:
    """In place of InSPO's draws: what they hold on average, up to a factor. [B, T, N'] as rho."""
    return rho * filled[..., None]


def copy_state(
    learner: BaseLearner, buffer: OfflineBuffer, other: BaseLearner, other_buffer: OfflineBuffer
) -> None:
    """Gives the other learner the networks and the models of behaviour of the first one."""
    for name, module in learner.modules.items():
        other.modules[name].load_state_dict(module.state_dict())
    for name in buffer.columns.keys() - set(RECORDED):
        other_buffer.columns[name] = buffer.columns[name].to(other_buffer.storage)
    if learner.behaviour_models and learner.behaviour.joint is not None:
        joint = deepcopy(learner.behaviour.joint).to(other.device)
        other.behaviour = other.behaviour._replace(joint=joint)


def compared(algorithm: str, pairs: list[tuple[Row, Row]]) -> Row:
    """The largest relative differences of the metrics that draws do not change, and of all."""
    exact, drawn = [(0.0, "")], [(0.0, "")]
    for here, there in pairs:
        for name, value in here.items():
            difference = abs(there[name] - value) / max(abs(value), 1e-2)
            of_draws = name.partition("/")[0] in DRAWN.get(algorithm, ())
            (drawn if of_draws else exact).append((difference, name))
    worst, name = max(exact)
    row: Row = {
        "result": f"{worst:.1e} ({name})" if name else "equal",
        "metrics of draws": f"{max(drawn)[0]:.1e}" if len(drawn) > 1 else "",
        "failed": not worst <= TOLERANCES.get(algorithm, TOLERANCE),
    }
    return row


# --- times


def make(
    algorithm: str,
    info: EnvInfo,
    data: Any,
    device: th.device,
    options: argparse.Namespace,
    **settings: Any,
) -> tuple[BaseLearner, OfflineBuffer]:
    """A learner and its buffer at these sizes."""
    batch = 4 if options.small else 32
    words = ["--batch", str(batch), "--device", str(device)]
    benchmark = train_step.make_parser().parse_args(words)
    settings.setdefault("use_cuda_graphs", True)
    if options.small:
        settings["hidden_dim"] = 16
        if "critic_hidden_dim" in fields_of(algorithm):
            settings["critic_hidden_dim"] = 16
    th.manual_seed(0)
    return train_step.make(algorithm, info, data, benchmark, **settings)


def check_times(report: Report, device: th.device, options: argparse.Namespace) -> None:
    """Times of a step: all learners at 2s3z's sizes, and InSPO with more agents."""
    length = 10 if options.small else 60
    obs, state = (20, 30) if options.small else (80, 120)
    info = EnvInfo(3, 6, obs, state, 20) if options.small else EnvInfo(5, 11, obs, state, 120)
    data = train_step.synthetic(info, [length], episodes=50)
    for algorithm in options.algorithms:
        if algorithm in ONLINE:
            continue
        # A pretended GPU has no bf16.
        pretended = device.type == "cuda" and not th.version.cuda
        for precision in PRECISIONS[: 1 if pretended else None]:
            name = f"{algorithm}, {precision}"
            make_row = timed(algorithm, info, data, device, options, precision)
            report.add("Time of a step, 2s3z", name, make_row)
    for algorithm in [name for name in ("inspo", "alberdice") if name in options.algorithms]:
        for agents in AGENTS[:2] if options.small else AGENTS:
            info = EnvInfo(agents, 6, obs, 24 * agents, 120)
            data = train_step.synthetic(info, [length], episodes=50)
            make_row = timed(algorithm, info, data, device, options, PRECISIONS[0])
            report.add("Time of a step by agents", f"{algorithm}, {agents} agents", make_row)


def timed(
    algorithm: str,
    info: EnvInfo,
    data: Any,
    device: th.device,
    options: argparse.Namespace,
    precision: str,
) -> Callable[[], Row]:
    """What measures a step of a new learner."""

    def measure() -> Row:
        reset_peak(device)
        try:
            check_precision(precision, device)
        except UserError as error:
            return {"median ms": "refused", "where the time goes": str(error).splitlines()[-1]}
        learner, buffer = make(algorithm, info, data, device, options)
        with autocast(precision, device):
            return step_times(learner, buffer, device, repeats=2 if options.small else 15)

    return measure


def step_times(learner: BaseLearner, buffer: OfflineBuffer, device: th.device, repeats: int) -> Row:
    """The time of a step, alone, in a row of them and without CUDA graphs, and where it goes."""
    timers = train_step.Timers(device)
    for _ in range(train_step.WARM_UP_STEPS):
        started = timers.now()
        learner.train(buffer, False)
        longest = timers.now() - started
    repeats = max(min(repeats, int(SECONDS_OF_A_ROW / longest / 3)), 2)
    row = {"median ms": median_time(learner, buffer, timers, repeats)}
    started = timers.now()
    for _ in range(repeats):
        learner.train(buffer, False)
    in_a_row = 1e3 * (timers.now() - started) / repeats
    row |= {"in a row ms": round(in_a_row, 2), **kernels(learner, buffer, device, in_a_row)}
    row["peak MiB"] = peak(device)
    if learner.graphs is not None:
        learner.graphs.off = True
        row["without graphs ms"] = median_time(learner, buffer, timers, repeats)
    with timers.watching(learner, buffer):
        started = timers.now()
        for _ in range(repeats):
            learner.train(buffer, False)
        total = timers.now() - started
    return {**row, "where the time goes": train_step.shares_of(timers.seconds, total)}


def median_time(
    learner: BaseLearner, buffer: OfflineBuffer, timers: train_step.Timers, repeats: int
) -> float:
    """Milliseconds of a step."""
    walls = []
    for _ in range(repeats):
        started = timers.now()
        learner.train(buffer, False)
        walls.append(1e3 * (timers.now() - started))
    return round(float(np.median(walls)), 2)


def kernels(learner: BaseLearner, buffer: OfflineBuffer, device: th.device, wall_ms: float) -> Row:
    """How many kernels a step starts, and the share of its time in which the GPU computes."""
    if device.type != "cuda" or not th.version.cuda:
        return {}
    activities = [th.profiler.ProfilerActivity.CPU, th.profiler.ProfilerActivity.CUDA]
    with th.profiler.profile(activities=activities) as profile:
        learner.train(buffer, False)
        th.cuda.synchronize(device)
    found = [event for event in profile.events() if is_kernel(event)]
    if not found:  # the system lets only its administrator profile, or another profiler runs
        return {"kernels": "not seen"}
    busy_ms = sum(event.time_range.elapsed_us() for event in found) / 1e3
    return {"kernels": len(found), "GPU busy": f"{100 * busy_ms / wall_ms:.0f} %"}


def is_kernel(event: Any) -> bool:
    """Not a step of an optimiser, which the profiler marks on the GPU, too, around its kernels."""
    return event.device_type.name == "CUDA" and not getattr(event, "is_user_annotation", False)


def reset_peak(device: th.device) -> None:
    """Forgets the peak of memory so far."""
    gc.collect()  # of learners before, whose parts refer to each other
    if device.type == "cuda" and th.version.cuda:
        th.cuda.empty_cache()
        th.cuda.reset_peak_memory_stats(device)


def peak(device: th.device) -> int | str:
    """MiB; of the process on a CPU, of the step's tensors on a GPU."""
    if device.type == "cuda" and not th.version.cuda:
        return ""
    return round(train_step.peak_memory(device) / 2**20)


if __name__ == "__main__":
    sys.exit(main())
