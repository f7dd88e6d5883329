"""A double of the package `smac`, with a child process in the place of StarCraft II.

Its battle: two agents, and one enemy of four hit points. Action 6 hits the enemy, action 2 kills
the agent itself, action 1 does nothing. The limit is five steps. Tests tell the double by files
what shall go wrong.
"""

import time
from pathlib import Path

import psutil

SOURCE = '''
import os, subprocess, sys, time
from pathlib import Path

CONTROL = Path(os.environ["SMAC_DOUBLE"])


class StarCraft2Env:
    def __init__(self, seed=None, continuing_episode=False, replay_dir="", **rest):
        if rest.get("step_mul") == 0:
            raise ValueError("step_mul must not be 0")
        self.seed, self.continuing_episode = seed, continuing_episode
        self.replay_dir, self.replay_prefix = replay_dir, rest.get("replay_prefix", "")
        self.game, self.episodes, self.force_restarts = None, 0, 0

    def get_env_info(self):
        return {
            "n_agents": 2,
            "n_actions": 7,
            "obs_shape": 4,
            "state_shape": 3,
            "episode_limit": 5,
            "agent_features": ["health"],
        }

    def reset(self):
        if self.episodes == 0:  # as SMAC does, even if a game is running
            self.game = subprocess.Popen(["sleep", "600"])
            (CONTROL / f"game_{self.game.pid}").write_text(f"{self.seed} {os.environ['TMPDIR']}")
        trouble("reset", self)
        self.steps, self.health, self.alive = 0, 4, [True, True]
        return self.get_obs(), self.get_state()

    def step(self, actions):
        if trouble("step", self) == "lost":
            return 0, True, {}
        self.steps += 1
        self.health = max(self.health - actions.count(6), 0)
        self.alive = [a and action != 2 for a, action in zip(self.alive, actions)]
        won = self.health == 0
        info = {"battle_won": won, "dead_allies": self.alive.count(False), "dead_enemies": int(won)}
        over = won or not any(self.alive)
        if not over and self.steps == 5:
            over = True
            if self.continuing_episode:
                info["episode_limit"] = True
        self.episodes += over
        return 10 * actions.count(6), over, info

    def get_obs(self):
        return [[self.steps * a, self.health * a, self.seed % 1000 * a, int(a)] for a in self.alive]

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
        raise OSError("the zerg ate the cable")
    if kind == "hang":
        time.sleep(600)
    if kind == "die":
        print("segmentation fault of a kind", file=sys.stderr, flush=True)
        os._exit(3)
    if kind == "restart":  # what SMAC does when a reset meets a dead game
        env.force_restarts += 1
    return kind
'''


class Double:
    """The double and its games. `trouble` makes the next resets or steps fail."""

    def __init__(self, folder: Path):
        self.path, self.control = folder / "packages", folder / "control"
        self.control.mkdir()
        package = self.path / "smac" / "env"
        package.mkdir(parents=True)
        (self.path / "smac" / "__init__.py").touch()
        (package / "__init__.py").write_text(SOURCE)
        self.game = folder / "StarCraftII"
        (self.game / "Versions" / "Base75689").mkdir(parents=True)
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
