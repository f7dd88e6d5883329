"""Doubles of `smac`, `smacv2` and `pysc2`, with a child process in the place of StarCraft II.

They have the real packages' habits as far as the project meets them: flags that must be parsed,
the count of time-outs, a column too many for the time step, restarts inside of a step, and a scale
of rewards that grows with every launch.

SMACv2's draws its teams from generators of its own, and notes them in the file `teams`.

The battle: agent 0 fights, agent 1 only heals, and one enemy has four hit points. Action 6 hits the
enemy, action 2 kills the agent itself, action 1 does nothing. The limit is five steps. Tests tell
the double by files what shall go wrong.
"""

import time
from pathlib import Path

import psutil

SMAC = '''
import os, subprocess, sys, time
from pathlib import Path
from types import SimpleNamespace

from absl import flags

flags.FLAGS(["main.py"])
CONTROL = Path(os.environ["SMAC_DOUBLE"])


class StarCraft2Env:
    def __init__(self, map_name, seed=None, continuing_episode=False, replay_dir="", **rest):
        {"2s3z": 2, "3m": 3}[map_name]
        if rest["reward_win"] < 0:
            raise ValueError("reward_win must not be negative")
        self.seed, self.continuing_episode = seed, continuing_episode
        self.replay_dir, self.replay_prefix = replay_dir, rest.get("replay_prefix", "")
        self.obs_timestep_number = rest["obs_timestep_number"]
        self.obs_instead_of_state = rest["obs_instead_of_state"]
        self.game, self.episodes, self.timeouts, self.max_reward = None, 0, 0, 30

    def get_env_info(self):
        obs_shape = 4 + self.obs_timestep_number
        return {
            "n_agents": 2,
            "n_actions": 7,
            "obs_shape": obs_shape,
            "state_shape": 2 * obs_shape if self.obs_instead_of_state else 3,
            "episode_limit": 5,
            "agent_features": ["health"],
        }

    def reset(self):
        if self.episodes == 0:
            self.launch()
            self.enemies = {0: SimpleNamespace(health_max=4.0, shield_max=6.0)}
            self.max_reward += 10
        trouble("reset", self)
        self.steps, self.health, self.alive = 0, 4, [True, True]
        return self.get_obs(), self.get_state()

    def launch(self):  # even if a game is running
        self.game = subprocess.Popen(["sleep", "600"])
        (CONTROL / f"game_{self.game.pid}").write_text(f"{self.seed} {os.environ['TMPDIR']}")

    def full_restart(self):
        self.close()
        self.launch()

    def step(self, actions):
        if trouble("step", self) == "lost":
            try:
                raise OSError("the cable fell out")
            except OSError:
                self.full_restart()
                return 0, True, {}
        self.steps += 1
        self.health = max(self.health - actions.count(6), 0)
        self.alive = [a and action != 2 for a, action in zip(self.alive, actions)]
        won = self.health == 0
        info = {"battle_won": won, "dead_allies": self.alive.count(False), "dead_enemies": int(won)}
        over = won or not self.alive[0]
        if not over and self.steps == 5:
            over = True
            self.timeouts += 1
            if self.continuing_episode:
                info["episode_limit"] = True
        self.episodes += over
        return actions.count(6) / (self.max_reward / 400), over, info

    def get_obs(self):
        rows = [[self.steps * a, self.health * a, self.seed % 1000 * a, int(a)] for a in self.alive]
        if self.obs_timestep_number:
            rows = [[*row, 0, self.steps / 5] for row in rows]
        return rows

    def get_state(self):
        return [self.steps, self.health, sum(self.alive)]

    def get_avail_actions(self):
        return [[0, 1, 1, 0, 0, 0, 1] if a else [1, 0, 0, 0, 0, 0, 0] for a in self.alive]

    def save_replay(self):
        os.makedirs(self.replay_dir, exist_ok=True)
        Path(self.replay_dir, f"{self.replay_prefix}_now.SC2Replay").write_bytes(b"replay")

    def close(self):
        if self.game is not None:
            self.game.terminate()
            self.game.wait()


def trouble(where, env):
    """What the file `where` says. Its number is how many more times."""
    try:
        kind, times = (CONTROL / where).read_text().split()
        (CONTROL / where).rename(CONTROL / f"taken_{os.getpid()}")  # by one of several games
    except FileNotFoundError:
        return
    if int(times) > 1:
        (CONTROL / where).write_text(f"{kind} {int(times) - 1}")
    if kind == "raise":
        print("a word of the zerg", flush=True)
        raise OSError("the zerg ate the cable")
    if kind == "hang":
        time.sleep(600)
    if kind == "die":
        print("segmentation fault of a kind", file=sys.stderr, flush=True)
        os._exit(3)
    if kind == "restart":  # a reset meets a dead game
        try:
            raise OSError("the game is dead")
        except OSError:
            env.full_restart()
    return kind
'''

SMACV2 = """
import random
from types import SimpleNamespace

import numpy as np
from numpy.random import default_rng
from smac.env import CONTROL, trouble
from smac.env import StarCraft2Env as SMAC


class CannotResetException(Exception):
    pass


class StarCraft2Env(SMAC):
    def __init__(self, map_name, capability_config, **rest):
        {"10gen_protoss": 10}[map_name]
        super().__init__("3m", **rest)

    def reset(self, episode_config):
        super().reset()  # launches in the first episode
        if trouble("place", self):
            raise CannotResetException
        team = episode_config["team_gen"]["ally_team"]
        healths = {"stalker": 10, "zealot": 20, "colossus": 40}
        units = [SimpleNamespace(health_max=healths[name], shield_max=0.0) for name in team]
        self.enemies = dict(enumerate(units))
        with (CONTROL / "teams").open("a") as file:
            print(*team, file=file)
        return self.get_obs(), self.get_state()

    def get_obs(self):
        return [[random.random(), np.random.rand(), 0, row[3]] for row in super().get_obs()]

    def get_state(self):
        return [np.random.default_rng().uniform(), self.health, sum(self.alive)]


class WeightedTeams:
    def __init__(self, config):
        self.config, self.rng = config, default_rng()

    def generate(self):
        types, weights = self.config["unit_types"], self.config["weights"]
        team = [str(name) for name in self.rng.choice(types, self.config["n_units"], p=weights)]
        random.shuffle(team)
        types.reverse()  # settings are not to be changed, but SMACv2 does such things
        return {"team_gen": {"ally_team": team, "enemy_team": team, "id": 0}}


class StarCraftCapabilityEnvWrapper:
    def __init__(self, **kwargs):
        self.distribution_config = kwargs["capability_config"]
        self.env_key_to_distribution_map = {}
        self._parse_distribution_config()
        self.env = StarCraft2Env(**kwargs)

    def _parse_distribution_config(self):
        config = self.distribution_config["team_gen"]
        config["n_units"] = self.distribution_config["n_units"]
        self.env_key_to_distribution_map["team_gen"] = WeightedTeams(config)
"""

PYSC2 = """
import os
from types import SimpleNamespace

from absl import flags

from pysc2.run_configs.lib import VERSIONS

flags.DEFINE_string("double_version", None, "as pysc2 has flags")


def get(version=None):
    version = version or flags.FLAGS.double_version
    folder = os.environ["SC2PATH"]
    builds = [int(name.removeprefix("Base")) for name in os.listdir(f"{folder}/Versions")]
    known = {one.game_version: one for one in VERSIONS.values() if one.build_version in builds}
    known["latest"] = SimpleNamespace(game_version="latest", build_version=max(builds))
    if version and version not in known:
        raise ValueError(f"Unknown game version: {version}. Known versions: {sorted(known)}.")
    chosen = known[version or "latest"]
    return SimpleNamespace(version=chosen, data_dir=folder, _exec_name="SC2_x64")
"""

VERSIONS = """
from types import SimpleNamespace

VERSIONS = {
    name: SimpleNamespace(game_version=name, build_version=build)
    for name, build in (("4.10.0", 75689), ("4.11.0", 77379), ("4.11.2", 77379))
}
"""

PACKAGES = {
    "smac/__init__.py": "",
    "smac/env/__init__.py": SMAC,
    "smacv2/__init__.py": "",
    "smacv2/env/__init__.py": (
        "from smacv2.env.starcraft2.starcraft2 import StarCraftCapabilityEnvWrapper"
    ),
    "smacv2/env/starcraft2/__init__.py": "",
    "smacv2/env/starcraft2/starcraft2.py": SMACV2,
    "pysc2/__init__.py": "",
    "pysc2/run_configs/__init__.py": PYSC2,
    "pysc2/run_configs/lib.py": VERSIONS,
    "s2clientprotocol/__init__.py": "",
}


class Double:
    """The double and its games. `trouble` makes the next resets or steps fail."""

    def __init__(self, folder: Path):
        self.path, self.control = folder / "packages", folder / "control"
        self.control.mkdir()
        for name, source in PACKAGES.items():
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            (self.path / name).write_text(source)
        self.game = folder / "StarCraftII"
        self.install(75689)
        (self.game / "Maps" / "SMAC_Maps").mkdir(parents=True)
        for name in ("2s3z", "3m"):
            (self.game / "Maps" / "SMAC_Maps" / f"{name}.SC2Map").touch()

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PYTHONPATH": str(self.path),
            "SMAC_DOUBLE": str(self.control),
            "SC2PATH": str(self.game),
        }

    def install(self, build: int) -> Path:
        """Puts another version of the game beside the first one. Returns its program."""
        program = self.game / "Versions" / f"Base{build}" / "SC2_x64"
        program.parent.mkdir(parents=True)
        program.touch(0o755)
        return program

    def trouble(self, where: str, kind: str, times: int = 1) -> None:
        (self.control / where).write_text(f"{kind} {times}")

    def games(self) -> dict[int, list[str]]:
        """Process ids of all games ever started, each with its seed and temporary folder."""
        files = self.control.glob("game_*")
        return {int(path.name.removeprefix("game_")): path.read_text().split() for path in files}

    def alive(self) -> list[int]:
        """Games that are running."""
        return [pid for pid in self.games() if is_alive(pid)]

    def all_gone(self, *others: int, seconds: float = 10) -> bool:
        """Whether all games, their temporary folders and other processes are gone in time."""
        deadline = time.monotonic() + seconds
        folders = [Path(folder) for _, folder in self.games().values()]
        while any(map(is_alive, [*self.games(), *others])) or any(map(Path.exists, folders)):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
