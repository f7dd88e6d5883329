"""What training and evaluation have in common: environment, metrics, evaluation, the summary.

A session is made first, which checks all that the user brings: environment, dataset, checkpoint.
Only then there is a run folder, and `start` runs in it.
"""

import logging
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch as th

from inspo import controllers, envs, runners
from inspo.controllers import BasicMAC
from inspo.envs import EnvInfo, MultiAgentEnv, game_labels, without_dataset
from inspo.learners.base_learner import Stats
from inspo.run.checkpoint import find_checkpoint, load_checkpoint
from inspo.run.plots import draw_curves
from inspo.run.run_folder import Metrics, scores, write_json
from inspo.utils.config import OnlineConfig, RunConfig, lookup
from inspo.utils.errors import ConfigError, SimulatorError
from inspo.utils.files import software_versions

log = logging.getLogger(__name__)


class Session(ABC):
    """One run's parts, wired together."""

    needs_simulator = False  # for more than evaluation
    info: EnvInfo

    def __init__(self, args: RunConfig):
        self.args = args
        self.device = _device(args.use_cuda)
        self.started = time.monotonic()
        self.folder: Path | None = None
        self.metrics: Metrics | None = None
        self.summary: dict[str, Any] = {}
        self.runner: runners.BatchRunner | None = None
        self.evaluates = bool(args.test_nepisode)
        self.env = self._make_env()
        if self.env is not None:
            self.info = EnvInfo(**self.env.get_env_info())

    @abstractmethod
    def run(self) -> None:
        """Does the work, in `self.folder`."""

    @property
    def step_unit(self) -> str:
        """What t_max, the intervals and the x axis count."""
        online = isinstance(self.args, OnlineConfig)
        return "environment steps" if online else "gradient steps"

    @property
    def n_envs(self) -> int:
        """How many games are played side by side. Online, training and evaluation share them."""
        online = isinstance(self.args, OnlineConfig)
        return self.args.n_parallel if online else self.args.test_nepisode

    def start(self, folder: Path, sacred_run: Any = None) -> None:
        """Runs in `folder`, which is there already."""
        args = self.args
        th.manual_seed(args.seed)
        if args.num_threads:
            th.set_num_threads(args.num_threads)
        self.folder = folder
        labels = game_labels(args.env_args)
        self.metrics = Metrics(folder, sacred_run, args.use_tensorboard, labels)
        self.about = self._about()
        self.notice()
        self.run()

    def close(self) -> None:
        """Frees environments and files."""
        for part in (self.env, self.runner, self.metrics):
            if part is not None:
                part.close()

    def provenance(self) -> dict[str, str]:
        """What plays here; without a simulator, which one the settings mean."""
        if self.env is not None:
            return self.env.provenance()
        return {key: self.args.env_args[key] for key in ("simulator",) if key in self.args.env_args}

    def evaluate(self, mac: BasicMAC, step: int, stats: Stats | None = None) -> Stats:
        """Plays the test episodes and records their scores beside `stats`. Returns the scores."""
        played = {}
        if self.evaluates:
            seed = evaluation_seed(self.args.seed, step)
            try:
                played = self.get_runner().evaluate(
                    mac, self.args.test_nepisode, self.args.test_greedy, seed
                )
            except SimulatorError as error:
                self._continue_without_simulator(error)
        if played or stats:
            self.metrics.log(step, {**(stats or {}), **played})
        return played

    def get_runner(self) -> runners.BatchRunner:
        """What plays, made when it is first needed."""
        if self.runner is None:
            make = lookup(runners.REGISTRY, self.args.runner, "runner")
            self.runner = make(self.env.make_batch(self.n_envs))
        return self.runner

    def read_checkpoint(self) -> tuple[Path, dict[str, Any]]:
        """The file that `checkpoint_path` and `load_step` mean, and what is in it."""
        path = find_checkpoint(Path(self.args.checkpoint_path), self.args.load_step)
        return path, load_checkpoint(path, self.device)

    def make_mac(self) -> BasicMAC:
        """The controller that the settings ask for, untrained."""
        make = lookup(controllers.REGISTRY, self.args.mac, "mac")
        return make(self.args, self.info).to(self.device)

    def write_info(self) -> None:
        """Writes what is run on what, for whoever looks before the run has finished."""
        write_json(self.folder / "run_info.json", self.about)

    def finish(self, steps: int) -> None:
        """Writes the summary and the picture."""
        result = scores(self.metrics)
        wall_time = round(time.monotonic() - self.started, 1)
        self.summary = {
            **self.about,
            "steps": steps,
            "scores": result,
            "wall_time_seconds": wall_time,
        }
        write_json(self.folder / "summary.json", self.summary)
        if not self.args.evaluate:
            draw_curves(self.metrics, self.summary, self.folder / "curves.png")
        for name, score in result.items():
            log.info(
                "%s: final %.3f, mean of the last five evaluations %.3f, "
                "best %.3f (selected after the fact)",
                name,
                score["final"],
                score["last5"],
                score["best"],
            )
        self.notice()
        log.info("Results in %s", self.folder)

    def _about(self) -> dict[str, Any]:
        args = self.args
        return {
            "algorithm": args.name,
            "environment": args.env_config,
            "env_args": without_dataset(args.env_args),
            **(self.env.provenance() if self.env is not None else {}),
            "dataset": args.env_args["dataset"],
            "seed": args.seed,
            "test_nepisode": args.test_nepisode,
            "test_greedy": args.test_greedy,
            "step_unit": self.step_unit,
            "device": str(self.device),
            "software": software_versions(),
        }

    def notice(self) -> None:
        """Shows what the environment says that nobody may overlook about its scores."""
        env = lookup(envs.REGISTRY, self.args.env, "env")
        notice = getattr(env, "notice", None)
        if notice and (text := notice(self.args.env_args)):
            log.warning("%s", text)

    def _make_env(self) -> MultiAgentEnv | None:
        """None where no game can be started and none is needed."""
        try:
            return make_env(self.args)
        except SimulatorError as error:
            self._continue_without_simulator(error)
            return None

    def _continue_without_simulator(self, error: SimulatorError) -> None:
        """No evaluation from here on. Raises `error` where there has to be one."""
        args = self.args
        wanted = args.require_simulator and args.test_nepisode
        if self.needs_simulator or args.evaluate or wanted:
            raise error
        self.evaluates = False
        if args.test_nepisode:
            log.warning(
                "NO SIMULATOR: training goes on WITHOUT EVALUATION, no test score is recorded. %s",
                error,
            )
        else:
            log.info("No simulator, and none is needed: %s", error)


def evaluation_seed(seed: int, step: int) -> int:
    """Each step's evaluation has a seed of its own: it changes no training and no other evaluation."""
    return (seed + 1) * 1_000_003 + step


def make_env(args: RunConfig) -> MultiAgentEnv:
    """The environment that the settings ask for.

    Raises:
        ConfigError: it cannot be made.
    """
    make = lookup(envs.REGISTRY, args.env, "env")
    try:
        return make(**without_dataset(args.env_args))
    except (ValueError, TypeError) as error:
        raise ConfigError(f"environment '{args.env}': {error}") from None


def _device(use_cuda: bool) -> th.device:
    if use_cuda and th.cuda.is_available():
        return th.device("cuda")
    if use_cuda:
        log.info("No CUDA device: training on the CPU")
    return th.device("cpu")
