"""Times loading a dataset of 5,000 episodes from h5, and sampling batches of it.

python benchmarks/load_and_sample.py --map 27m_vs_30m
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch as th
from train_step import MAPS, show, synthetic

from inspo.components.offline_buffer import OfflineBuffer
from inspo.data.formats import load_dataset, write_h5
from inspo.envs import EnvInfo

# Runs in its own process, for its own peak of memory. (ru_maxrss would include the parent's.)
LOADER = """
import sys, time
from pathlib import Path
from inspo.data.formats import load_dataset

def peak():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024

before, started = peak(), time.perf_counter()
data = load_dataset(Path(sys.argv[1]))
seconds = time.perf_counter() - started
print(f"loading {data.n_bytes / 2**20:.0f} MiB (compact): {seconds:.1f} s, "
      f"peak {(peak() - before) / data.n_bytes:.2f} times its size")
"""


def main(arguments: list[str]) -> None:
    """Prints two lines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--map", choices=MAPS, default="2s3z", help="sizes of the data")
    add("--episodes", type=int, default=5000)
    add("--length", type=int, default=60, help="steps of an episode")
    add("--batch", type=int, default=32, help="episodes of a sample")
    add("--device", default="cpu")
    add("--repeats", type=int, default=20)
    options = parser.parse_args(arguments)
    info = EnvInfo(*MAPS[options.map], episode_limit=2 * options.length)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "synthetic.h5"
        write_h5(synthetic(info, options.length, options.episodes), path)
        command = [sys.executable, "-c", LOADER, str(path)]
        process = subprocess.run(command, check=True, capture_output=True, text=True)
        show(process.stdout.strip())
        data = load_dataset(path)
    buffer = OfflineBuffer(data, "episodes", th.device(options.device), seed=0)
    times = []
    for _ in range(options.repeats):
        started = time.perf_counter()
        buffer.sample(options.batch)
        times.append(1e3 * (time.perf_counter() - started))
    show(f"a sample of {options.batch} episodes: {np.median(times):.2f} ms")


if __name__ == "__main__":
    main(sys.argv[1:])
