"""StarCraft II battles through SMAC (Samvelyan et al. 2019, package `smac`).

Each game runs in its own processes. Unlike SMAC, an episode that ends at the time limit is always
`truncated`, and one that the battle ends is `terminated`, with or without `continuing_episode`.
"""

import logging
import re
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from inspo.envs.multiagentenv import VectorEnv, VectorStep
from inspo.envs.sc2.single_battle import SingleBattle
from inspo.envs.sc2.starcraft_game import Game, GameProcessError, NoAnswerError, RefusedError
from inspo.envs.sc2.starcraft_install import check_map, starcraft_problem
from inspo.envs.sc2.starcraft_settings import check_settings
from inspo.utils.errors import ConfigError, SimulatorError
from inspo.utils.files import writable_folder

LAUNCH_GAP_SECONDS = 1.0  # between two launches: games compete for ports and the disk
BACK_OFF_SECONDS = 2.0  # before the first retry of a start; doubled for each further one
CLOSE_SECONDS = 15.0  # pysc2 itself gives a game 3 seconds to end
MAX_SEED = 2**31  # StarCraft II's range
SLOW_START = (
    "; fewer games at once (env_args.n_workers) or more time (env_args.start_timeout) may help"
)
VARYING = re.compile(r"\S*[/\d]\S*")  # words with ports, paths and numbers of processes
# The project's own settings; all others are SMAC's.
OWN_SETTINGS = ("start_timeout", "step_timeout", "start_retries", "n_workers")
log = logging.getLogger(__name__)


@dataclass(eq=False)
class StarCraft(SingleBattle):
    """One battle at a time. The first `reset` starts the game; its seed is used only then.

    The settings are PyMARL's env_args of sc2 with their defaults; SMAC's documentation explains
    them. Two differ: the seed is an argument of `reset`, and setting `replay_dir` is enough to get
    replays. Each game saves one replay, of all its episodes, when it is closed. With
    `heuristic_ai`, SMAC's script plays whatever the actions are: watch it, do not record it.
    The project adds these settings:

    Args:
        start_timeout: seconds for an episode to begin, including the game's start.
        step_timeout: seconds for a step. A game that takes longer is killed.
        start_retries: number of retries after a failed start, with growing pauses.
        n_workers: maximum number of games in parallel. Each uses a core and about 1 GB of memory.

    Raises:
        SimulatorError: the game, SMAC's maps or a package is missing, or SMAC cannot be imported.
        ConfigError: a setting is wrong, or the map or the version of the game is not there.
    """

    simulator = "starcraft2"
    package = "smac"
    repeatable = False  # the game's random numbers continue from episode to episode

    map_name: str = "2s3z"
    continuing_episode: bool = False
    difficulty: str = "7"
    game_version: str | None = None
    move_amount: float = 2
    obs_all_health: bool = True
    obs_instead_of_state: bool = False
    obs_last_action: bool = False
    obs_own_health: bool = True
    obs_pathing_grid: bool = False
    obs_terrain_height: bool = False
    obs_timestep_number: bool = False
    reward_death_value: float = 10
    reward_defeat: float = 0
    reward_negative_scale: float = 0.5
    reward_only_positive: bool = True
    reward_scale: bool = True
    reward_scale_rate: float = 20
    reward_sparse: bool = False
    reward_win: float = 200
    replay_dir: str = ""
    replay_prefix: str = ""
    state_last_action: bool = True
    state_timestep_number: bool = False
    step_mul: int = 8
    heuristic_ai: bool = False
    heuristic_rest: bool = False
    debug: bool = False
    start_timeout: float = 120.0
    step_timeout: float = 60.0
    start_retries: int = 3
    n_workers: int = 8

    def __post_init__(self) -> None:
        settings = asdict(self)
        check_settings(settings, {field.name: field.type for field in fields(self)})
        if problem := starcraft_problem(self.package):
            raise SimulatorError(f"StarCraft II cannot be played: {problem}")
        check_map(self.map_name, self.map_file)
        if self.replay_dir:  # pysc2 would look for a relative path in the game's folder
            folder = Path(self.replay_dir).expanduser()
            settings["replay_dir"] = str(writable_folder("env_args.replay_dir", folder, ""))
        if self.heuristic_ai:
            log.warning("env_args.heuristic_ai=True: SMAC's script plays, and actions do nothing")
        if self.move_amount % 1 == 0:  # SMAC takes it as an index of its grids
            settings["move_amount"] = int(self.move_amount)
        for name in OWN_SETTINGS:
            del settings[name]
        self.smac_args = settings
        sizes, self.game_version = self._describe()
        for name, size in sizes.items():
            setattr(self, name, size)
        log.info(
            "StarCraft II %s, map %s, %d agents", self.game_version, self.map_name, self.n_agents
        )

    @property
    def map_file(self) -> str:
        """The name of the map's file, without its ending."""
        return self.map_name

    def make_batch(self, n_envs: int) -> "StarCraftVectorEnv":
        """At most `n_workers` games. For more episodes, a runner plays more rounds."""
        return StarCraftVectorEnv(self, min(n_envs, self.n_workers))

    def _describe(self) -> tuple[dict[str, int], str]:
        """Sizes and game version, from SMAC. Does not start the game."""
        game = Game(self.smac_args)
        try:
            return game.call(self.start_timeout, "describe")
        except RefusedError as error:
            raise ConfigError(str(error)) from None
        except GameProcessError as error:
            raise SimulatorError(f"SMAC cannot be used: {error}") from None
        finally:
            game.kill()


class StarCraftVectorEnv(VectorEnv):
    """K games in parallel. A game that fails is reported as `crashed`; `reset` starts another.

    A game takes its seed when it is started, and continues its random numbers in later episodes.
    Even the first battle is not guaranteed to be the same for the same seed. Before the first
    `reset`, observations, states and available actions are zero.
    """

    def __init__(self, env: StarCraft, n_envs: int):
        self.env, self.n_envs = env, n_envs
        self.games: list[Game | None] = [None] * n_envs
        self.playing = np.zeros(n_envs, dtype=bool)
        fields = [
            ("obs", np.float32, (env.n_agents, env.obs_shape)),
            ("state", np.float32, (env.state_shape,)),
            ("avail_actions", bool, (env.n_agents, env.n_actions)),
        ]
        seen = np.zeros(n_envs, np.dtype(fields, align=True))
        self.obs, self.state, self.avail_actions = (seen[name] for name, *_ in fields)
        # A game sends these arrays in one piece, which goes to the start of its row.
        n_bytes = sum(seen[0][name].nbytes for name, *_ in fields)
        rows = seen.view(np.uint8).reshape(n_envs, -1)
        self.rows = [memoryview(row)[:n_bytes] for row in rows]
        self.available = [row[-env.n_agents * env.n_actions :] for row in self.rows]

    def reset(self, seed: int) -> None:
        """As VectorEnv's. Starts the games that are not running.

        Raises:
            SimulatorError: a game did not start, and the retries failed too.
        """
        self.playing[:] = False
        self._drop_interrupted()
        tries = self.env.start_retries + 1
        missing, causes = list(range(self.n_envs)), set()
        for attempt in range(tries):
            if attempt:
                time.sleep(BACK_OFF_SECONDS * 2 ** (attempt - 1))
            failed = self._begin_episodes(missing, seed)
            if not failed:
                self.playing[:] = True
                return
            _log_failures(failed, attempt + 1, causes)
            missing = list(failed)
        last = failed[missing[-1]]
        advice = SLOW_START if isinstance(last, NoAnswerError) else ""
        raise SimulatorError(
            f"StarCraft II did not start in {tries} tries{advice}. The last failure: {last}"
        )

    def step(self, actions: np.ndarray) -> VectorStep:
        playing = np.flatnonzero(self.playing).tolist()
        chosen = self._checked(np.asarray(actions, dtype=np.int64), playing)
        reward = np.zeros(self.n_envs, dtype=np.float32)
        terminated, truncated, won, crashed = np.zeros((4, self.n_envs), dtype=bool)
        for k in playing:
            self.games[k].send("step", chosen[k])
        deadline = time.monotonic() + self.env.step_timeout
        for k in playing:
            try:
                answer = self.games[k].receive(deadline - time.monotonic())
            except GameProcessError as error:
                log.warning("Game %d failed, its episode is dropped: %s", k, error)
                self._drop(k)
                truncated[k] = crashed[k] = True
            else:
                reward[k], terminated[k], truncated[k], won[k], self.rows[k][:] = answer
        self.playing = self.playing & ~(terminated | truncated)
        return reward, terminated, truncated, {"battle_won": won, "crashed": crashed}

    def get_obs(self) -> np.ndarray:
        return self.obs.copy()

    def get_state(self) -> np.ndarray:
        return self.state.copy()

    def get_avail_actions(self) -> np.ndarray:
        return self.avail_actions.copy()

    def close(self) -> None:
        """Saves the replays if `replay_dir` is set, then ends all games."""
        self._drop_interrupted()
        running = [k for k, game in enumerate(self.games) if game is not None]
        if self.env.replay_dir:
            running = self._save_replays(running)
        for k in running:
            self.games[k].send("close")
        deadline = time.monotonic() + CLOSE_SECONDS
        for k in running:
            with suppress(GameProcessError):  # it is killed next
                self.games[k].receive(deadline - time.monotonic())
            self._drop(k)

    def _checked(self, actions: np.ndarray, playing: list[int]) -> list[list[int]]:
        """The actions as lists. As `check_actions`, which takes longer for few games."""
        if actions.shape != self.avail_actions.shape[:2]:
            self.check_actions(actions)  # says what is wrong
        chosen, n_actions = actions.tolist(), self.env.n_actions
        for k in playing:
            available, first = self.available[k], 0
            for action in chosen[k]:
                if not (0 <= action < n_actions and available[first + action]):
                    self.check_actions(actions)
                first += n_actions
        return chosen

    def _begin_episodes(self, numbers: list[int], seed: int) -> dict[int, GameProcessError]:
        """Resets these games in parallel. Those that fail are dropped and returned."""
        deadlines, failed = {}, {}
        for k in numbers:
            if self.games[k] is None:
                if deadlines:
                    time.sleep(LAUNCH_GAP_SECONDS)
                self.games[k] = self._launch(k, seed + k)
            self.games[k].send("reset", seed + k)
            deadlines[k] = time.monotonic() + self.env.start_timeout
        for k, deadline in deadlines.items():
            try:
                self.rows[k][:] = self.games[k].receive(deadline - time.monotonic())
            except GameProcessError as error:
                self._drop(k)
                failed[k] = error
        return failed

    def _launch(self, k: int, seed: int) -> Game:
        smac_args = self.env.smac_args
        # The number keeps apart the replays of games that end in the same second.
        prefix = f"{smac_args['replay_prefix'] or smac_args['map_name']}_game{k}"
        return Game({**smac_args, "replay_prefix": prefix, "seed": seed % MAX_SEED})

    def _drop(self, k: int) -> None:
        self.games[k].kill()
        self.games[k] = None

    def _drop_interrupted(self) -> None:
        """Drops games with unanswered requests, as after Ctrl-C during a step."""
        for k, game in enumerate(self.games):
            if game is not None and game.unanswered:
                self._drop(k)

    def _save_replays(self, numbers: list[int]) -> list[int]:
        """Returns the games that did so. The others are dropped."""
        for k in numbers:
            self.games[k].send("save_replay")
        deadline = time.monotonic() + self.env.step_timeout
        saved = []
        for k in numbers:
            try:
                paths = self.games[k].receive(deadline - time.monotonic())
            except GameProcessError as error:
                log.warning("Game %d saved no replay: %s", k, error)
                self._drop(k)
            else:
                log.info("Game %d's replay: %s", k, ", ".join(paths) or "SMAC wrote none")
                saved.append(k)
        return saved


def _log_failures(failed: dict[int, GameProcessError], attempt: int, known: set[str]) -> None:
    """Logs each cause once. Adds it to `known`: those of earlier attempts are not repeated."""
    games: dict[str, list[int]] = {}
    for k, error in failed.items():
        games.setdefault(VARYING.sub("", str(error)), []).append(k)
    for cause, numbers in games.items():
        names = f"Game{'s' if numbers[1:] else ''} {', '.join(map(str, numbers))}"
        why = "as before" if cause in known else failed[numbers[0]]
        log.warning("%s did not start (try %d): %s", names, attempt, why)
        known.add(cause)
