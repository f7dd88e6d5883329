"""Times learners' steps against those of OffPyMARL, step by step in turn, in one process.

    git clone https://github.com/zzq-bot/offline-marl-framework-offpymarl PATH
    export PYTHONPATH=PATH/src
    python benchmarks/against_offpymarl.py PATH
    python benchmarks/against_offpymarl.py PATH --algorithms omiga --map 27m_vs_30m --threads 2

Both get the same synthetic episodes of a SMAC map's sizes. Networks have equal sizes: a shared GRU
policy of 64, and mixers of 32 with hypernetworks of 64. Critics have two layers of 256 as in
OffPyMARL, not three as otherwise in this project. Sampling is not timed. The ratio is OffPyMARL's
time divided by this project's, pair by pair: the median, with the 10th and 90th percentile.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock, patch

import numpy as np
import torch as th
import yaml
from train_step import MAPS, make, show, synthetic

from inspo.envs import EnvInfo
from inspo.modules.critics import local_critic
from inspo.modules.mlp import MLP
from inspo.utils.batch import Batch

# Here and there; and the settings there that make networks and batches equal.
ALGORITHMS = {
    "bc": ("bc", {}),
    "qmix_cql": ("qmix_cql", {}),
    "cfcql": ("cfcql", {"train_behaviour": False}),
    "icq": ("icq", {"optim_type": "adam"}),
    "omar": ("omar", {}),
    "omiga": ("omiga", {"rnn_hidden_dim": 64}),
}
WARM_UP_PAIRS = 2


def main(arguments: list[str] | None = None) -> None:
    """Runs what the command line asks for and prints a table in Markdown."""
    options = make_parser().parse_args(arguments)
    th.set_num_threads(options.threads)
    info = EnvInfo(*MAPS[options.map], episode_limit=2 * options.length)
    data = synthetic(info, options.length, episodes=50)
    show(f"\n{options.batch} episodes of {options.length} steps, {options.threads} threads\n")
    show("| algorithm | theirs, CPU ms | ours, CPU ms | theirs / ours | 10-90 % |")
    show("|---|---|---|---|---|")
    for name in options.algorithms:
        with patch.object(local_critic, "MLP", two_layers):
            learner, buffer = make(name, info, data, options)
        batch = buffer.sample(options.batch)
        buffer.sample = lambda *_, batch=batch: batch
        ours = lambda learner=learner, buffer=buffer: learner.train(buffer, False)  # noqa: E731
        theirs = their_step(options.path / "src", name, info, batch)
        report(name, theirs, ours, options.repeats)


def make_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("path", type=Path, help="a checkout of OffPyMARL")
    add("--algorithms", nargs="+", choices=ALGORITHMS, default=[*ALGORITHMS])
    add("--map", choices=MAPS, default="2s3z", help="sizes of the data")
    add("--batch", type=int, default=32, help="episodes")
    add("--length", type=int, default=60, help="steps of an episode")
    add("--threads", type=int, default=1)
    add("--repeats", type=int, default=10)
    parser.set_defaults(device="cpu", share_parameters=True)
    return parser


def two_layers(*sizes: int) -> MLP:
    """Critics with one hidden layer less."""
    return MLP(*sizes[:2], *sizes[3:])


def report(name: str, theirs: Callable[[], Any], ours: Callable[[], Any], repeats: int) -> None:
    """Times pairs of steps and prints a row."""
    times = []
    for _ in range(WARM_UP_PAIRS + repeats):
        pair = []
        for step in (theirs, ours):
            started = time.process_time()
            step()
            pair.append(1e3 * (time.process_time() - started))
        times.append(pair)
    there, here = np.array(times[WARM_UP_PAIRS:]).T
    low, median, high = np.percentile(there / here, [10, 50, 90])
    show(
        f"| {name} | {np.median(there):.0f} | {np.median(here):.0f} | {median:.2f} "
        f"| {low:.2f}-{high:.2f} |"
    )


def their_step(source: Path, name: str, info: EnvInfo, batch: Batch) -> Callable[[], Any]:
    """A training step of OffPyMARL's learner on the batch."""
    from components.offline_buffer import OfflineDataBatch
    from controllers import REGISTRY as CONTROLLERS
    from learners import REGISTRY as LEARNERS

    there, changes = ALGORITHMS[name]
    values = yaml.safe_load((source / "config" / "default.yaml").read_text())
    values |= yaml.safe_load((source / "config" / "algs" / f"{there}.yaml").read_text())
    values |= {"use_cuda": False, "device": "cpu", **vars(info), **changes}
    values["learner_log_interval"] = 10**9
    args = SimpleNamespace(**values)
    scheme = their_scheme(info)
    mac = CONTROLLERS[args.mac](scheme, {"agents": info.n_agents}, args)
    learner = LEARNERS[args.learner](mac, scheme, MagicMock(), args)
    learner.log_stats_t = 0  # metrics are not due
    n_rows = batch["state"].shape[1]
    theirs = OfflineDataBatch(their_fields(batch), len(batch["state"]), n_rows)
    return lambda: learner.train(theirs, 1, 1)


def their_scheme(info: EnvInfo) -> dict[str, dict[str, Any]]:
    """OffPyMARL's description of a batch's fields."""
    agents = {"group": "agents"}
    return {
        "state": {"vshape": info.state_shape},
        "obs": {"vshape": info.obs_shape, **agents},
        "actions": {"vshape": (1,), "dtype": th.long, **agents},
        "actions_onehot": {"vshape": (info.n_actions,), **agents},
        "avail_actions": {"vshape": (info.n_actions,), "dtype": th.int, **agents},
        "reward": {"vshape": (1,)},
        "terminated": {"vshape": (1,), "dtype": th.uint8},
    }


def their_fields(batch: Batch) -> dict[str, th.Tensor]:
    """A batch in OffPyMARL's form: all fields have T + 1 rows."""
    fields = {name: batch[name] for name in ("state", "obs")}
    for name in ("reward", "terminated", "filled"):
        last = th.zeros_like(batch[name][:, :1])
        fields[name] = th.cat([batch[name], last], dim=1).unsqueeze(-1)
    fields["terminated"] = fields["terminated"].byte()
    fields["filled"] = fields["filled"].long()
    fields["actions"] = batch["actions"].unsqueeze(-1)
    n_actions = batch["avail_actions"].shape[-1]
    fields["actions_onehot"] = th.nn.functional.one_hot(batch["actions"], n_actions).float()
    fields["avail_actions"] = batch["avail_actions"].int()
    return fields


if __name__ == "__main__":
    main()
