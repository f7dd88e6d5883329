"""StarCraft II battles by SMAC (Samvelyan et al. 2019, package `smac`), each game in processes of its own.

An episode that the time limit ends is `truncated`, one that the battle ends is `terminated`, with continuing_episode
or without: SMAC's own flag stores both as the same thing unless continuing_episode is set.
"""

import logging
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inspo.envs.multiagentenv import VectorEnv
from inspo.envs.sc2.single_battle import SingleBattle
from inspo.envs.sc2.starcraft_game import Game, GameProcessError
from inspo.envs.sc2.starcraft_install import check_map, installed
from inspo.utils.errors import SimulatorError

LAUNCH_GAP_SECONDS = (
    1.0  # between two launches: games that start at once compete for ports and the disk
)
BACK_OFF_SECONDS = 2.0  # before the first retry of a start; doubled for each further one
CLOSE_SECONDS = 15.0  # pysc2 itself gives a game 3 seconds to end
OURS = (
    "start_timeout",
    "step_timeout",
    "start_retries",
    "n_workers",
)  # the other fields are SMAC's
log = logging.getLogger(__name__)


@dataclass(eq=False)
class StarCraft(SingleBattle):
    """One battle at a time. No game is started before the first `reset`; StarCraftVectorEnv says what its seed is good for.

    The parameters are PyMARL's env_args of sc2, with their defaults and in their meaning (SMAC's documentation has
    them), except that the seed comes with `reset`, and that a `replay_dir` is enough for replays to be written: each
    game saves one, of all that it played, when it is closed. With heuristic_ai the units follow SMAC's script whatever
    actions are given: to be watched, not recorded. After these come the project's own:

    Args:
        start_timeout: seconds within which an episode has to be there, with the game's start where it does not run.
        step_timeout: seconds for a step; a game that takes longer hangs, and is killed.
        start_retries: how often a failed start is tried again, with growing pauses.
        n_workers: the largest number of games side by side. Each takes a core and about a gigabyte of memory.

    Raises:
        SimulatorError: the game, SMAC's maps or the package `smac` is missing, or SMAC refuses its arguments.
        ConfigError: there is no such map.
        ValueError: a version is a number, or one of our own arguments is out of range.
    """

    simulator = "starcraft2"

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
        self._check_settings()
        if missing := installed():
            raise SimulatorError(f"StarCraft II cannot be played: {missing}")
        check_map(self.map_name)
        self.smac_args: dict[str, Any] = {
            key: value for key, value in asdict(self).items() if key not in OURS
        }
        if self.replay_dir:  # pysc2 would look for a relative path in the game's folder
            self.smac_args["replay_dir"] = str(Path(self.replay_dir).expanduser().absolute())
        game = Game(self.smac_args)
        try:
            sizes, self.game_version = game.call(self.start_timeout, "describe")
        except GameProcessError as error:
            raise SimulatorError(f"SMAC cannot be used: {error}") from None
        finally:
            game.kill()
        for name, size in sizes.items():
            setattr(self, name, size)
        log.info(
            "StarCraft II %s, map %s, %d agents", self.game_version, self.map_name, self.n_agents
        )

    def make_batch(self, n_envs: int) -> "StarCraftVectorEnv":
        """One game a lane, and at most `n_workers` of both: a runner plays more rounds for more episodes."""
        return StarCraftVectorEnv(self, min(n_envs, self.n_workers))

    def _check_settings(self) -> None:
        """ValueError naming the setting."""
        if not isinstance(self.game_version, (str, type(None))):
            raise ValueError(
                f"env_args.game_version is the number {self.game_version}; a version needs quotes, as in '\"4.10\"'"
            )
        for name in ("start_timeout", "step_timeout"):
            if not (isinstance(value := getattr(self, name), (int, float)) and value > 0):
                raise ValueError(
                    f"env_args.{name} is {value!r}; it must be a number of seconds above 0"
                )
        for name, least in (("start_retries", 0), ("n_workers", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(
                    f"env_args.{name} is {value!r}; it must be a whole number, at least {least}"
                )


class StarCraftVectorEnv(VectorEnv):
    """K games side by side. A game that hangs, raises or dies ends its lane as `crashed`; `reset` starts another.

    A seed is the game's when it is started, and fixes nothing afterwards: a game that runs draws on from where it is,
    and StarCraft II does not promise the same battle for the same seed. Before the first reset all arrays are zero.
    """

    def __init__(self, env: StarCraft, n_envs: int):
        self.env, self.n_envs = env, n_envs
        self.games: list[Game | None] = [None] * n_envs
        self.playing = np.zeros(n_envs, dtype=bool)
        self.obs = np.zeros((n_envs, env.n_agents, env.obs_shape), dtype=np.float32)
        self.state = np.zeros((n_envs, env.state_shape), dtype=np.float32)
        self.avail_actions = np.zeros((n_envs, env.n_agents, env.n_actions), dtype=bool)

    def reset(self, seed: int) -> None:
        """As VectorEnv's; starts the games that do not run.

        Raises:
            SimulatorError: a game did not start, and neither did any of the retries.
        """
        self.playing[:] = False
        self._drop_interrupted()
        lanes = list(range(self.n_envs))
        for attempt in range(self.env.start_retries + 1):
            if attempt:
                time.sleep(BACK_OFF_SECONDS * 2 ** (attempt - 1))
            failed = self._begin_episodes(lanes, seed)
            if not failed:
                self.playing[:] = True
                return
            for lane, error in failed.items():
                log.warning("Game %d did not start (try %d): %s", lane, attempt + 1, error)
            lanes = list(failed)
        raise SimulatorError(
            f"StarCraft II did not start in {self.env.start_retries + 1} tries; fewer games at once "
            f"(env_args.n_workers) or more time (env_args.start_timeout) may help. The last failure: {error}"
        )

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        actions = self.check_actions(actions)
        reward = np.zeros(self.n_envs, dtype=np.float32)
        terminated, truncated, won, crashed = np.zeros((4, self.n_envs), dtype=bool)
        lanes = np.flatnonzero(self.playing)
        for lane in lanes:
            self.games[lane].send("step", actions[lane].tolist())
        deadline = time.monotonic() + self.env.step_timeout
        for lane in lanes:
            try:
                answer = self.games[lane].receive(deadline - time.monotonic())
            except GameProcessError as error:
                log.warning("Game %d is lost, its episode dropped: %s", lane, error)
                self._drop(lane)
                truncated[lane] = crashed[lane] = True
            else:
                reward[lane], terminated[lane], truncated[lane], won[lane], seen = answer
                self._look(lane, seen)
        self.playing = self.playing & ~(terminated | truncated)
        return reward, terminated, truncated, {"battle_won": won, "crashed": crashed}

    def get_obs(self) -> np.ndarray:
        return self.obs.copy()

    def get_state(self) -> np.ndarray:
        return self.state.copy()

    def get_avail_actions(self) -> np.ndarray:
        return self.avail_actions.copy()

    def close(self) -> None:
        """Lets all games end in their own way, side by side, after their replays are saved if that is wanted."""
        self._drop_interrupted()
        open_lanes = [lane for lane in range(self.n_envs) if self.games[lane] is not None]
        for lane in open_lanes:
            if self.env.replay_dir:
                self._save_replay(lane)
            self.games[lane].send("close")
        for lane in open_lanes:
            with suppress(GameProcessError):  # it does not matter any more
                self.games[lane].receive(CLOSE_SECONDS)
            self._drop(lane)

    def _begin_episodes(self, lanes: list[int], seed: int) -> dict[int, GameProcessError]:
        """Resets the games of `lanes`, side by side; those in which that failed are dropped and returned."""
        deadlines, failed = {}, {}
        for lane in lanes:
            if self.games[lane] is None:
                if deadlines:
                    time.sleep(LAUNCH_GAP_SECONDS)
                self.games[lane] = self._launch(lane, seed + lane)
            self.games[lane].send("reset")
            deadlines[lane] = time.monotonic() + self.env.start_timeout
        for lane, deadline in deadlines.items():
            try:
                self._look(lane, self.games[lane].receive(deadline - time.monotonic()))
            except GameProcessError as error:
                self._drop(lane)
                failed[lane] = error
        return failed

    def _launch(self, lane: int, seed: int) -> Game:
        smac_args = self.env.smac_args
        prefix = f"{smac_args['replay_prefix'] or smac_args['map_name']}_game{lane}"  # file names tell seconds only
        return Game(
            {**smac_args, "replay_prefix": prefix, "seed": seed % 2**31}
        )  # StarCraft II's range

    def _look(self, lane: int, seen: tuple) -> None:
        self.obs[lane], self.state[lane], self.avail_actions[lane] = seen

    def _drop(self, lane: int) -> None:
        self.games[lane].kill()
        self.games[lane] = None

    def _drop_interrupted(self) -> None:
        """Games whose answer nobody waited for, as at a Ctrl-C in mid-step."""
        for lane, game in enumerate(self.games):
            if game is not None and game.unanswered:
                self._drop(lane)

    def _save_replay(self, lane: int) -> None:
        try:
            paths = self.games[lane].call(self.env.step_timeout, "save_replay")
        except GameProcessError as error:
            log.warning("Game %d saved no replay: %s", lane, error)
        else:
            log.info("Game %d's replay: %s", lane, ", ".join(paths) or "SMAC wrote none")
