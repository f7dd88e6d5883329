"""Times a learner's training step, in total and by parts, on synthetic data of a SMAC map's sizes.

    python benchmarks/train_step.py                     # InSPO and BC at the sizes of 2s3z
    python benchmarks/train_step.py --algorithms inspo cfcql --map 27m_vs_30m --threads 2
    python benchmarks/train_step.py --real-lengths
    python benchmarks/train_step.py --agents 3 5 10 27  # growth with the number of agents
    python benchmarks/train_step.py --counterfactuals   # CFCQL's mixer, in one pass and in a loop

Times are medians over the repeats, with the 10th and 90th percentile. CPU time beside wall time
shows how far other programs were in the way. The settings are those of `sc2_offline`. The peak of
memory is that of the process so far.

The yardstick is a step of behaviour cloning as in PyMARL: one shared GRU agent, stepped cell by
cell through time, forward and backward. It is timed in the same process.
"""

import argparse
import logging
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch as th
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from inspo import controllers, learners
from inspo.components.behaviour import attach_behaviour
from inspo.components.offline_buffer import OfflineBuffer
from inspo.data.episode_data import EpisodeData
from inspo.data.formats import from_episodes
from inspo.envs import EnvInfo
from inspo.learners import BaseLearner
from inspo.modules.mixers import REGISTRY as MIXERS
from inspo.modules.mixers import Mixer, QMixer
from inspo.run.settings import checked_settings
from inspo.utils.names import lookup
from inspo.utils.precision import autocast

# SMAC's maps: agents, actions, sizes of observation and state.
MAPS = {
    "3s_vs_5z": (3, 11, 48, 68),
    "2s3z": (5, 11, 80, 120),
    "5m_vs_6m": (5, 12, 55, 98),
    "6h_vs_8z": (6, 14, 78, 140),
    "10m_vs_11m": (10, 17, 105, 238),
    "27m_vs_30m": (27, 36, 285, 1170),
}
# Parts of a step: the methods of learners and the functions of their files that make them up.
METHODS = {"log_pi_taken": "ratio", "regulariser": "penalty"}
FUNCTIONS = {
    "teammates_log_pi_in": "ratio",
    "log_importance_ratio": "ratio",
    "resample": "ratio",
    "value_target": "targets",
    "double_q_targets": "targets",
    "lambda_returns": "targets",
    "soft_update": "targets",
    "teammates_divergence": "behaviour",
}
WARM_UP_STEPS = 10  # oneDNN compiles its kernels for the sizes of the first batches
# Quantiles of the lengths in 2s3z's datasets: 67 steps on average.
REAL_LENGTHS = [42, 50, 55, 58, 61, 64, 66, 68, 70, 73, 75, 76, 80, 100]


class Timers:
    """Seconds by part of a step. A part inside another one counts for itself only."""

    def __init__(self, device: th.device):
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self.inner: list[float] = []

    def now(self) -> float:
        if self.device.type == "cuda":
            th.cuda.synchronize(self.device)
        return time.perf_counter()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        start = self.now()
        self.inner.append(0.0)
        yield
        elapsed = self.now() - start
        self.seconds[name] += elapsed - self.inner.pop()
        if self.inner:
            self.inner[-1] += elapsed

    def timed(self, function: Callable, part: str | Callable[..., str]) -> Callable:
        """`function`, timed at every call. `part` is a name, or gives it from the arguments."""

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with self.part(part if isinstance(part, str) else part(*args)):
                return function(*args, **kwargs)

        return wrapper

    @contextmanager
    def watching(self, learner: BaseLearner, buffer: OfflineBuffer) -> Iterator[None]:
        """Times the parts of the learner's step inside the block."""
        with ExitStack() as stack:
            for owner, name, part in _parts(learner, buffer):
                timed = self.timed(getattr(owner, name), part)
                stack.enter_context(patch.object(owner, name, timed))
            yield


def _parts(
    learner: BaseLearner, buffer: OfflineBuffer
) -> Iterator[tuple[Any, str, str | Callable[..., str]]]:
    """Owner, name and part of all functions that are timed."""
    names = {optimiser: name.split("_")[0] for name, optimiser in learner.optimisers.items()}
    yield buffer, "sample", "sampling"
    yield learner, "step", lambda optimiser, loss: f"step of {names[optimiser]}"
    for network, part in _networks(learner):
        for name in ("outputs", "forward", "values", "weights"):
            if hasattr(network, name):
                yield network, name, part
    for name, part in METHODS.items():
        if hasattr(learner, name):
            yield learner, name, part
    for file in {sys.modules[kind.__module__] for kind in type(learner).__mro__}:
        for name, part in FUNCTIONS.items():
            if hasattr(file, name):
                yield file, name, part


def _networks(learner: BaseLearner) -> Iterator[tuple[nn.Module, str]]:
    """The learner's networks and the parts that they belong to."""
    for name, module in learner.modules.items():
        is_target = name.startswith("target")
        named = module.items() if isinstance(module, nn.ModuleDict) else [(name, module)]
        for key, network in named:
            part = "policy" if key == "mac" else key
            if isinstance(network, nn.ModuleList):
                networks = list(network)
            else:
                networks = [network, *getattr(network, "critics", ())]
            for one in networks:
                yield one, "targets" if is_target else part


class LoopedQMixer(QMixer):
    """QMIX's mixer as CFCQL's code uses it: all of it runs again for each counterfactual action."""

    mix_joint_actions = Mixer.mix_joint_actions
    mix_counterfactuals = Mixer.mix_counterfactuals

    def weights(self, state: Tensor) -> Tensor:
        return state

    def mix(self, agent_values: Tensor, weights: Tensor) -> Tensor:
        return super().mix(agent_values, super().weights(weights))


def main(arguments: list[str] | None = None) -> None:
    """Runs what the command line asks for and prints a table in Markdown."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = make_parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING)
    th.set_num_threads(options.threads)
    if options.agents and len(options.agents) > 1:
        run_each_in_its_own_process(options.agents, arguments)
        return
    n_agents, n_actions, obs, state = MAPS[options.map]
    if options.agents:
        n_agents = options.agents[0]
        state = 24 * n_agents
    info = EnvInfo(n_agents, n_actions, obs, state, 2 * max(lengths_of(options)))
    if options.counterfactuals:
        time_counterfactuals(info, options)
    else:
        time_learners(info, options)


def make_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--algorithms", nargs="+", default=["inspo", "bc"])
    add("--map", choices=MAPS, default="2s3z", help="sizes of the data")
    add("--agents", nargs="+", type=int, help="numbers of agents; other sizes are those of --map")
    add("--batch", type=int, default=32, help="episodes")
    add("--length", type=int, default=60, help="steps of an episode")
    real = "lengths as in 2s3z's datasets: 42 to 100 steps, 67 on average; instead of --length"
    add("--real-lengths", action="store_true", help=real)
    add("--precision", choices=["float32", "bf16"], default="float32")
    shared = "one network for all agents, or one each; by default as in the algorithm's YAML"
    add("--share-parameters", action=argparse.BooleanOptionalAction, help=shared)
    add("--device", default="cpu")
    graphs = "replay steps on a GPU as CUDA graphs; the table does not show where their time goes"
    add("--cuda-graphs", action="store_true", help=graphs)
    add("--threads", type=int, default=2)
    add("--repeats", type=int, default=20)
    add("--counterfactuals", action="store_true", help="time CFCQL's mixer instead")
    return parser


def run_each_in_its_own_process(numbers: list[int], arguments: list[str]) -> None:
    """One process for each number of agents, so that each has its own peak of memory."""
    position = arguments.index("--agents")
    rest = arguments[:position] + arguments[position + 1 + len(numbers) :]
    for number in numbers:
        subprocess.run([sys.executable, __file__, *rest, "--agents", str(number)], check=True)


def time_learners(info: EnvInfo, options: argparse.Namespace) -> None:
    """Prints a table of the yardstick and each algorithm's step."""
    print_heading(info, options)
    timers = Timers(th.device(options.device))
    unit = report("yardstick", yardstick(info, options), options, timers, None)
    data = synthetic(info, lengths_of(options), episodes=100)
    for algorithm in options.algorithms:
        learner, buffer = make(algorithm, info, data, options)
        report_learner(algorithm, learner, buffer, options, unit)


def time_counterfactuals(info: EnvInfo, options: argparse.Namespace) -> None:
    """Prints a table of CFCQL's step with QMIX's mixer in one pass and in a loop."""
    print_heading(info, options)
    data = synthetic(info, lengths_of(options), episodes=100)
    unit = None
    with patch.dict(MIXERS, looped=LoopedQMixer):
        for title, mixer in (("one pass", "qmix"), ("looped", "looped")):
            learner, buffer = make("cfcql", info, data, options, mixer=mixer, softmax_temp=0.5)
            times = report_learner(f"cfcql, {title}", learner, buffer, options, unit)
            unit = unit or times


def make(
    algorithm: str,
    info: EnvInfo,
    data: EpisodeData,
    options: argparse.Namespace,
    **settings: Any,
) -> tuple[BaseLearner, OfflineBuffer]:
    """A learner and a buffer, ready to train. Behaviour models are hardly trained."""
    device = th.device(options.device)
    settings |= {"batch_size": options.batch, "t_max": 10_000}
    settings.setdefault("use_cuda_graphs", options.cuda_graphs)
    if options.share_parameters is not None:
        settings["share_parameters"] = options.share_parameters
    args = checked_settings(algorithm, "sc2_offline", settings)
    buffer = OfflineBuffer(data, "episodes", device, seed=0)
    mac = lookup(controllers.REGISTRY, args.mac, "mac")(args, info).to(device)
    learner = lookup(learners.REGISTRY, args.learner, "learner")(args, info, mac)
    if learner.behaviour_models:
        briefly = args.model_copy(update={"behaviour_steps": 2, "behaviour_batch_size": 8})
        with tempfile.TemporaryDirectory() as cache:
            learner.behaviour = attach_behaviour(
                learner.behaviour_models,
                briefly,
                info,
                buffer,
                Path(cache),
                data.fingerprint,
            )
    return learner, buffer


def yardstick(info: EnvInfo, options: argparse.Namespace) -> Callable[[], None]:
    """PyMARL's cloning step: a shared GRU agent, one cell call per step, cross-entropy."""
    device = th.device(options.device)
    n_rows = options.batch * info.n_agents
    input_size = info.obs_shape + info.n_actions + info.n_agents
    hidden = 64
    inputs = th.randn(options.length, n_rows, input_size, device=device)
    actions = th.randint(info.n_actions, (options.length, n_rows), device=device)
    first = nn.Linear(input_size, hidden).to(device)
    cell = nn.GRUCell(hidden, hidden).to(device)
    last = nn.Linear(hidden, info.n_actions).to(device)
    parameters = [*first.parameters(), *cell.parameters(), *last.parameters()]
    optimiser = th.optim.Adam(parameters, lr=5e-4)

    def step() -> None:
        state = th.zeros(n_rows, hidden, device=device)
        logits = []
        for x in inputs:
            state = cell(F.relu(first(x)), state)
            logits.append(last(state))
        loss = F.cross_entropy(th.stack(logits).flatten(0, 1), actions.flatten())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 10)
        optimiser.step()

    return step


def report_learner(
    name: str,
    learner: BaseLearner,
    buffer: OfflineBuffer,
    options: argparse.Namespace,
    unit: tuple[float, float] | None,
) -> tuple[float, float]:
    """Prints the row of a learner's step; see `report`."""
    timers = Timers(th.device(options.device))

    def step() -> None:
        with autocast(options.precision, buffer.device):
            learner.train(buffer, False)

    # A CUDA graph is replayed as a whole: its parts have no times of their own.
    watching = nullcontext() if learner.graphs else timers.watching(learner, buffer)
    with watching:
        return report(name, step, options, timers, unit)


def print_heading(info: EnvInfo, options: argparse.Namespace) -> None:
    """Prints what is timed where, and the table's heading."""
    name = f"CPU, {options.threads} threads"
    if options.device.startswith("cuda"):
        name = th.cuda.get_device_name(th.device(options.device))
    lengths = lengths_of(options)
    steps = str(lengths[0]) if len(lengths) == 1 else f"{min(lengths)} to {max(lengths)}"
    show(f"\n{info}, {options.batch} episodes of {steps} steps, {name}\n")
    show("| step | median ms | 10-90 % | CPU ms | yardsticks | peak MiB | where the time goes |")
    show("|---|---|---|---|---|---|---|")


def report(
    name: str,
    step: Callable[[], Any],
    options: argparse.Namespace,
    timers: Timers,
    unit: tuple[float, float] | None,
) -> tuple[float, float]:
    """Times a step, prints its row, and returns the medians of wall and CPU milliseconds.

    Args:
        unit: medians of the step that others are compared with. None: this is that step.
    """
    for _ in range(WARM_UP_STEPS):
        step()
    timers.seconds.clear()
    walls, cpus = [], []
    for _ in range(options.repeats):
        started, cpu_started = timers.now(), time.process_time()
        step()
        walls.append(1e3 * (timers.now() - started))
        cpus.append(1e3 * (time.process_time() - cpu_started))
    wall, cpu = float(np.median(walls)), float(np.median(cpus))
    low, high = np.percentile(walls, [10, 90])
    ratio = f"{wall / unit[0]:.1f} ({cpu / unit[1]:.1f} by CPU)" if unit else "1"
    parts = shares_of(timers.seconds, total=sum(walls) / 1e3)
    cells = [name, f"{wall:.1f}", f"{low:.1f}-{high:.1f}", f"{cpu:.1f}", ratio]
    show(f"| {' | '.join(cells)} | {peak_memory(timers.device) / 2**20:.0f} | {parts} |")
    return wall, cpu


def shares_of(seconds: dict[str, float], total: float) -> str:
    """The parts' percentages of the total, largest first, and the rest."""
    parts = dict(sorted(seconds.items(), key=lambda item: -item[1]))
    if parts:
        parts["rest"] = total - sum(parts.values())
    return ", ".join(f"{part} {100 * value / total:.0f} %" for part, value in parts.items())


def peak_memory(device: th.device) -> int:
    """The peak of memory so far, in bytes."""
    if device.type == "cuda":
        return th.cuda.max_memory_allocated(device)
    return 2**10 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def lengths_of(options: argparse.Namespace) -> list[int]:
    """Lengths of the episodes, one or more, in turn."""
    return REAL_LENGTHS if options.real_lengths else [options.length]


def synthetic(info: EnvInfo, length: int | list[int], episodes: int) -> EpisodeData:
    """Random episodes of one length, or of several in turn, with all actions available."""
    lengths = length if isinstance(length, list) else [length]
    rng = np.random.default_rng(0)

    def episode(length: int) -> dict[str, np.ndarray]:
        n_rows = length + 1
        step = np.arange(n_rows)
        actions = rng.integers(info.n_actions, size=(n_rows, info.n_agents), dtype=np.uint8)
        actions[-1] = 0
        reward = rng.standard_normal(n_rows, dtype=np.float32)
        reward[-1] = 0
        return {
            "state": rng.standard_normal((n_rows, info.state_shape), dtype=np.float32),
            "obs": rng.standard_normal((n_rows, info.n_agents, info.obs_shape), dtype=np.float32),
            "actions": actions,
            "avail_actions": np.ones((n_rows, info.n_agents, info.n_actions), dtype=bool),
            "reward": reward,
            "terminated": step == length - 1,
            "truncated": np.zeros(n_rows, dtype=bool),
        }

    metadata = {
        "environment": "synthetic",
        "env_args": {},
        "behaviour": "random",
        "command": "benchmark",
    }
    all_lengths = [lengths[number % len(lengths)] for number in range(episodes)]
    return from_episodes(map(episode, all_lengths), metadata, "synthetic data")


def show(line: str) -> None:
    """Prints a line."""
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
