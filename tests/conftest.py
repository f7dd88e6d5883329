"""What several test files need: tiny games and datasets, and the command line."""

import csv
import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import torch as th

from inspo.components.offline_buffer import OfflineBuffer
from inspo.data.builtin_datasets import make_builtin
from inspo.data.episode_data import EpisodeData
from inspo.data.formats import from_episodes
from inspo.run.plots import make_figure
from inspo.run.settings import checked_settings
from inspo.utils.config import RunConfig
from inspo.utils.pictures import drawing

# Tests run in several processes: more threads in each would slow all of them down. Subprocesses
# inherit the variable.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Expected numbers are the CPU's. tests/pretended_gpu.py has a GPU's rules, and
# benchmarks/gpu_check.py tries a real one.
os.environ["CUDA_VISIBLE_DEVICES"] = ""
th.set_num_threads(1)

needs_smax = pytest.mark.skipif(
    find_spec("jaxmarl") is None, reason="needs jaxmarl, for Python 3.11 and later"
)
PROJECT = Path(__file__).resolve().parents[1]
RECORDED = PROJECT.parent / "shared" / "data" / "alberdice"
FAKE_GAME = PROJECT.parent / "shared" / "tools" / "fake_sc2" / "fake_sc2.py"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With `-n 2`, a file's tests share a process, and so its datasets, runs and compiled games.

    Those of tests/learning share nothing, and come one by one.
    """
    from xdist.scheduler import LoadScopeScheduling

    class FileScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return nodeid if "/learning/" in file else file

    config.option.loadscopereorder = False
    return FileScheduling(config, log) if config.option.dist == "load" else None


def pytest_collection_modifyitems(config, items):
    """Fast tests first. Among several processes the slow ones, so that all end together."""
    in_worker = hasattr(config, "workerinput")
    items.sort(key=lambda item: (item.get_closest_marker("slow") is not None) != in_worker)


@pytest.fixture(scope="session")
def recorded() -> Path:
    """Datasets recorded by AlberDICE's authors. They are not part of the project."""
    if not RECORDED.is_dir():
        pytest.skip(f"needs AlberDICE's recorded buffers in {RECORDED}")
    return RECORDED


@pytest.fixture(scope="session", autouse=True)
def _sketched_curves():
    """Runs in this process make the figure of curves.png, and do not render it: saves a second."""

    def sketch(metrics, summary, path: Path) -> None:
        with drawing(path):
            if make_figure(metrics, summary) is not None:
                path.write_bytes(b"\x89PNG")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("inspo.run.session.draw_curves", sketch)
        yield


@pytest.fixture(scope="session", autouse=True)
def _remembered_datasets():
    """This process makes each built-in dataset once, and writes it wherever it is missing."""
    made = {}

    def remember(environment, env, name, path, env_args):
        key = repr((environment, name, sorted(env_args.items())))
        if key not in made:
            made[key] = make_builtin(environment, env, name, path, env_args)
        return replace(made[key], path=path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("inspo.data.catalogue.make_builtin", remember)
        yield


@pytest.fixture
def _no_child(monkeypatch):
    """Opens h5 files without probing them in a child process first: saves 0.3 s for each."""
    monkeypatch.setattr("inspo.data.formats.h5_files.check_in_child", lambda path: None)


@pytest.fixture
def double(tmp_path, monkeypatch):
    """A double of SMAC, whose games are all closed at the end."""
    from smac_double import Double

    from inspo.envs.sc2 import starcraft

    made = Double(tmp_path)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(made.path)
    monkeypatch.setattr(starcraft, "LAUNCH_GAP_SECONDS", 0.05)
    monkeypatch.setattr(starcraft, "BACK_OFF_SECONDS", 0.05)
    yield made
    assert made.all_gone()


@pytest.fixture(scope="session")
def fake_installation(tmp_path_factory) -> Path:
    """A folder for SC2PATH with a fake game, which the real pysc2, smac and smacv2 play.

    It takes StarCraft II's place on the wire. It is not part of the project.
    """
    missing = [name for name in ("pysc2", "s2clientprotocol") if find_spec(name) is None]
    if missing or not FAKE_GAME.is_file():
        pytest.skip(f"needs {', '.join(missing) or FAKE_GAME}")
    spec = spec_from_file_location("fake_sc2", FAKE_GAME)
    fake = module_from_spec(spec)
    spec.loader.exec_module(fake)
    maps = tmp_path_factory.mktemp("maps")
    for name in (*fake.MAPS, "32x32_flat"):  # it reads none of them
        (maps / f"{name}.SC2Map").touch()
    fake.install(maps.parent / "fake", maps)
    return maps.parent / "fake"


@pytest.fixture
def fake_game(fake_installation, monkeypatch):
    """The fake game as this machine's StarCraft II. Battles are short defeats."""
    from inspo.envs.sc2 import starcraft

    monkeypatch.setenv("SC2PATH", str(fake_installation))
    monkeypatch.setenv("FAKE_SC2_ENEMY", "8")
    monkeypatch.setattr(starcraft, "LAUNCH_GAP_SECONDS", 0.05)


@pytest.fixture
def data() -> EpisodeData:
    """Six random episodes of 1 to 5 steps: 3 agents, 4 actions, obs of 5 numbers, state of 7."""
    return make_data()


def make_data(
    seed: int = 0,
    n_agents: int = 3,
    n_actions: int = 4,
    lengths: tuple = (5, 1, 3, 4, 2, 5),
    obs_shape: int = 5,
    state_shape: int = 7,
) -> EpisodeData:
    rng = np.random.default_rng(seed)
    episodes = []
    for number, steps in enumerate(lengths):
        available = rng.random((steps + 1, n_agents, n_actions)) < 0.6
        available[..., 1] = True
        actions = np.array(
            [[rng.choice(np.flatnonzero(row)) for row in rows] for rows in available]
        )
        last = np.arange(steps + 1) == steps - 1
        reward = rng.standard_normal(steps + 1)
        reward[-1], actions[-1] = 0, 0  # the final row holds neither
        episodes.append(
            {
                "state": rng.standard_normal((steps + 1, state_shape)),
                "obs": rng.standard_normal((steps + 1, n_agents, obs_shape)),
                "actions": actions,
                "avail_actions": available,
                "reward": reward,
                "terminated": last & (number % 2 == 0),
                "truncated": last & (number % 2 == 1),
            }
        )
    metadata = {"environment": "test", "env_args": {}, "behaviour": "random", "command": "pytest"}
    return from_episodes(episodes, metadata, "test data")


def make_args(
    algorithm: str = "inspo", environment: str = "bridge_offline", **overrides
) -> RunConfig:
    return checked_settings(algorithm, environment, overrides)


def make_buffer(data: EpisodeData, batch_unit: str = "episodes", seed: int = 0) -> OfflineBuffer:
    return OfflineBuffer(data, batch_unit, th.device("cpu"), seed)


def metrics(run: Path) -> list[dict[str, str]]:
    """The rows of a run's metrics.csv, all values as text."""
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def main_command(*arguments: str, cwd: Path, **kwargs) -> subprocess.CompletedProcess:
    """`python src/main.py ...` as a user types it, from any folder."""
    return subprocess.run(
        [sys.executable, str(PROJECT / "src" / "main.py"), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, "PYTHONWARNINGS": "default"},
        **kwargs,
    )
