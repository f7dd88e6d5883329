"""How long a learner's step takes, and where the time goes, on synthetic data of a StarCraft II map's shapes.

    python benchmarks/train_step.py                                   # InSPO and BC at 2s3z's shapes
    python benchmarks/train_step.py --algorithms inspo cfcql --map 27m_vs_30m --threads 2
    python benchmarks/train_step.py --agents 3 5 10 27                # how time and memory grow with the agents
    python benchmarks/train_step.py --buffer                          # loading and sampling 5,000 episodes

Times are medians over the repeats, with the 10th and 90th percentile. The yardstick, timed in the same process, is a
PyMARL-style step of behaviour cloning: one shared GRU agent stepped cell by cell through time, forward and backward.
CPU seconds beside wall seconds show how far other programs were in the way. Settings are those of `sc2_offline`; the
peak of memory is the process's so far.
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
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from torch import nn
from torch.nn import functional as F  # noqa: N812

from inspo import controllers, envs, learners
from inspo.components.behaviour import attach_behaviour
from inspo.components.offline_buffer import OfflineBuffer
from inspo.data.episode_data import EpisodeData
from inspo.data.formats import from_episodes, load_dataset, write_h5
from inspo.envs import EnvInfo
from inspo.learners import BaseLearner
from inspo.utils.config import RunConfig, load_config, lookup

# agents, actions, observation, state: of SMAC's maps
MAPS = {
    "3s_vs_5z": (3, 11, 48, 68),
    "2s3z": (5, 11, 80, 120),
    "5m_vs_6m": (5, 12, 55, 98),
    "6h_vs_8z": (6, 14, 78, 140),
    "10m_vs_11m": (10, 17, 105, 238),
    "27m_vs_30m": (27, 36, 285, 1170),
}


METHODS = {
    "log_pi_taken": "ratio",
    "regulariser": "penalty",
}  # of learners that have them: part of the step
FUNCTIONS = {  # of learners' files, likewise
    **dict.fromkeys(("teammates_log_pi_in", "log_importance_ratio", "resample"), "ratio"),
    **dict.fromkeys(
        ("value_target", "double_q_targets", "lambda_returns", "soft_update"), "targets"
    ),
    "teammates_divergence": "behaviour",
}


class Timers:
    """Seconds by part of the step; a part within another counts for itself alone."""

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

    def wrap(self, owner: Any, attribute: str, name: str | Callable[..., str]) -> None:
        """Times every call of `owner.attribute` as part `name`, or as what `name` makes of the arguments."""
        function = getattr(owner, attribute)

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(name if isinstance(name, str) else name(*args, **kwargs)):
                return function(*args, **kwargs)

        setattr(owner, attribute, timed)


def main() -> None:
    """Runs what the command line asks for and prints a table in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--algorithms", nargs="+", default=["inspo", "bc"])
    parser.add_argument("--map", choices=MAPS, default="2s3z", help="whose shapes the data has")
    parser.add_argument(
        "--agents",
        nargs="+",
        type=int,
        help="instead of a map: numbers of agents, the rest as 2s3z's",
    )
    parser.add_argument("--batch", type=int, default=32, help="episodes")
    parser.add_argument("--length", type=int, default=60, help="steps of an episode")
    shared = "one network for all agents, or one each; if unsaid, as the algorithm's YAML has it"
    parser.add_argument("--share-parameters", action=argparse.BooleanOptionalAction, help=shared)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--buffer", action="store_true", help="time loading and sampling instead")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    th.set_num_threads(options.threads)
    if options.agents and len(options.agents) > 1:
        each_in_a_process_of_its_own(options.agents)
        return
    n_agents, n_actions, obs, state = MAPS[options.map]
    if options.agents:
        n_agents, state = options.agents[0], 24 * options.agents[0]
    info = EnvInfo(n_agents, n_actions, obs, state, 2 * options.length)
    if options.buffer:
        time_buffer(info, options)
    else:
        time_learners(info, options)


def each_in_a_process_of_its_own(numbers: list[int]) -> None:
    """So that the peak memory is that of one number of agents."""
    at = sys.argv.index("--agents")
    rest = sys.argv[1:at] + sys.argv[at + 1 + len(numbers) :]
    for number in numbers:
        subprocess.run([sys.executable, __file__, *rest, "--agents", str(number)], check=True)


def time_learners(info: EnvInfo, options: argparse.Namespace) -> None:
    """A table: the yardstick, and each algorithm's step."""
    device = th.device(options.device)
    name = (
        th.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU, {options.threads} threads"
    )
    print(f"\n{info}, {options.batch} episodes of {options.length} steps, {name}\n")  # noqa: T201
    print("| step | median ms | 10-90 % | CPU ms | yardsticks | peak MiB | where the time goes |")  # noqa: T201
    print("|---|---|---|---|---|---|---|")  # noqa: T201
    unit = report("yardstick", yardstick(info, options, device), options, Timers(device), None)
    data = synthetic(info, options.length, episodes=100)
    for algorithm in options.algorithms:
        learner, buffer = make(algorithm, info, data, options, device)
        timers = Timers(device)
        watch(timers, learner, buffer)
        report(
            algorithm,
            lambda one=learner, rows=buffer: one.train(rows, False),
            options,
            timers,
            unit,
        )


def make(
    algorithm: str, info: EnvInfo, data: EpisodeData, options: argparse.Namespace, device: th.device
) -> tuple[BaseLearner, OfflineBuffer]:
    """A learner ready to train, its behaviour models hardly trained: their outputs' values cost nothing."""
    args = config(
        algorithm, batch_size=options.batch, share_parameters=options.share_parameters, t_max=10_000
    )
    buffer = OfflineBuffer(data, "episodes", device, seed=0)
    mac = controllers.REGISTRY[args.mac](args, info).to(device)
    learner = learners.REGISTRY[args.learner](args, info, mac)
    if learner.behaviour_models:
        with tempfile.TemporaryDirectory() as cache:
            briefly = args.model_copy(update={"behaviour_steps": 2, "behaviour_batch_size": 8})
            models = (learner.behaviour_models, briefly, info, buffer)
            learner.behaviour = attach_behaviour(*models, Path(cache), data.fingerprint)
    return learner, buffer


def config(algorithm: str, **settings: Any) -> RunConfig:
    """The algorithm's settings for battles, as shipped but for `settings` that are not None."""
    return load_config(
        algorithm,
        "sc2_offline",
        {key: value for key, value in settings.items() if value is not None},
        schema_of=lambda name: lookup(learners.REGISTRY, name, "learner").Config,
        env_of=lambda name: lookup(envs.REGISTRY, name, "env"),
    )


def watch(timers: Timers, learner: BaseLearner, buffer: OfflineBuffer) -> None:
    """Names the parts of a step; what belongs to none is the rest."""
    timers.wrap(buffer, "sample", "sampling")
    names = {id(optimiser): name for name, optimiser in learner.optimisers.items()}
    timers.wrap(
        learner, "step", lambda optimiser, *_: f"step of {names[id(optimiser)].split('_')[0]}"
    )
    for name, module in learner.modules.items():
        target = "targets" if name.startswith("target") else None
        if isinstance(module, controllers.BasicMAC):
            timers.wrap(module, "outputs", target or "policy")
            continue
        # A dict of networks is never called itself; QMIX's mixer is asked for weights, AlberDICE's critics one by one.
        for key, part in module.items() if isinstance(module, nn.ModuleDict) else [(name, module)]:
            for network in (
                part if isinstance(part, nn.ModuleList) else [part, *getattr(part, "critics", ())]
            ):
                for function in ("forward", "values", "weights"):
                    if hasattr(network, function) and not isinstance(network, nn.ParameterList):
                        timers.wrap(network, function, target or key)
    for method, part in METHODS.items():
        if hasattr(learner, method):
            timers.wrap(learner, method, part)
    for file in {
        kind.__module__ for kind in type(learner).__mro__
    }:  # what learners share is in their parents' files
        for function, part in FUNCTIONS.items():
            if hasattr(sys.modules[file], function):
                timers.wrap(sys.modules[file], function, part)


def yardstick(info: EnvInfo, options: argparse.Namespace, device: th.device) -> Callable[[], None]:
    """PyMARL's way: a shared GRU agent, one cell call for each step, cross entropy of the actions taken."""
    rows, hidden = options.batch * info.n_agents, 64
    inputs = th.randn(
        options.length, rows, info.obs_shape + info.n_actions + info.n_agents, device=device
    )
    actions = th.randint(info.n_actions, (options.length, rows), device=device)
    first, cell = (
        nn.Linear(inputs.shape[-1], hidden).to(device),
        nn.GRUCell(hidden, hidden).to(device),
    )
    last = nn.Linear(hidden, info.n_actions).to(device)
    parameters = [parameter for module in (first, cell, last) for parameter in module.parameters()]
    optimiser = th.optim.Adam(parameters, lr=5e-4)

    def step() -> None:
        state, logits = th.zeros(rows, hidden, device=device), []
        for x in inputs:
            state = cell(F.relu(first(x)), state)
            logits.append(last(state))
        loss = F.cross_entropy(th.stack(logits).flatten(0, 1), actions.flatten())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 10)
        optimiser.step()

    return step


def report(
    name: str,
    step: Callable[[], Any],
    options: argparse.Namespace,
    timers: Timers,
    unit: tuple[float, float] | None,
) -> tuple[float, float]:
    """Prints a row; returns the medians of wall and CPU milliseconds."""
    for _ in range(3):
        step()
    timers.seconds.clear()
    walls, cpus = [], []
    for _ in range(options.repeats):
        started, cpu = timers.now(), time.process_time()
        step()
        walls.append(1e3 * (timers.now() - started))
        cpus.append(1e3 * (time.process_time() - cpu))
    wall, cpu = float(np.median(walls)), float(np.median(cpus))
    low, high = np.percentile(walls, [10, 90])
    ratio = f"{wall / unit[0]:.1f} ({cpu / unit[1]:.1f} by CPU)" if unit else "1"
    total = sum(walls) / 1e3
    parts = dict(sorted(timers.seconds.items(), key=lambda item: -item[1]))
    if parts:
        parts["rest"] = total - sum(parts.values())
    split = ", ".join(f"{part} {100 * seconds / total:.0f} %" for part, seconds in parts.items())
    if timers.device.type == "cuda":
        peak = th.cuda.max_memory_allocated(timers.device) / 2**20
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(
        f"| {name} | {wall:.1f} | {low:.1f}-{high:.1f} | {cpu:.1f} | {ratio} | {peak:.0f} | {split} |"
    )  # noqa: T201
    return wall, cpu


def time_buffer(info: EnvInfo, options: argparse.Namespace) -> None:
    """Loading 5,000 episodes from h5, what that takes at its peak, and sampling batches of them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "synthetic.h5"
        write_h5(synthetic(info, options.length, episodes=5000), path)
        command = [sys.executable, "-c", LOADER, str(path)]
        print(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())  # noqa: T201
        buffer = OfflineBuffer(load_dataset(path), "episodes", th.device(options.device), seed=0)
        times = []
        for _ in range(options.repeats):
            started = time.perf_counter()
            buffer.sample(options.batch)
            times.append(1e3 * (time.perf_counter() - started))
        print(f"a sample of {options.batch} episodes: {np.median(times):.2f} ms")  # noqa: T201


LOADER = """
import sys, time
from pathlib import Path
from inspo.data.formats import load_dataset
def peak():  # ru_maxrss would be the parent's, if that was higher
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
before, started = peak(), time.perf_counter()
data = load_dataset(Path(sys.argv[1]))
seconds = time.perf_counter() - started
print(f"loading {data.n_bytes / 2**20:.0f} MiB (compact): {seconds:.1f} s, "
      f"peak {(peak() - before) / data.n_bytes:.2f} times its size")
"""


def synthetic(info: EnvInfo, length: int, episodes: int) -> EpisodeData:
    """Random episodes of one length, everything available."""
    rng = np.random.default_rng(0)

    def episode() -> dict[str, np.ndarray]:
        rows = length + 1
        last = np.arange(rows) == length - 1
        return {
            "state": rng.standard_normal((rows, info.state_shape), dtype=np.float32),
            "obs": rng.standard_normal((rows, info.n_agents, info.obs_shape), dtype=np.float32),
            "actions": rng.integers(info.n_actions, size=(rows, info.n_agents), dtype=np.uint8)
            * (~last[-1]),
            "avail_actions": np.ones((rows, info.n_agents, info.n_actions), dtype=bool),
            "reward": np.where(np.arange(rows) < length, rng.standard_normal(rows), 0).astype(
                np.float32
            ),
            "terminated": last,
            "truncated": np.zeros(rows, dtype=bool),
        }

    metadata = {
        "environment": "synthetic",
        "env_args": {},
        "behaviour": "random",
        "command": "benchmark",
    }
    return from_episodes((episode() for _ in range(episodes)), metadata, "synthetic data")


if __name__ == "__main__":
    main()
