"""What training and evaluation share: environment, metrics, evaluation and summary.

A session's constructor checks environment, dataset and checkpoint, and builds buffer and learner.
After that, the run folder is made, and `start` runs in it.
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
from inspo.run.checkpoint import open_checkpoint
from inspo.run.plots import draw_curves
from inspo.run.run_folder import Metrics, check_folder, final_scores, new_run_name
from inspo.run.trackers import check_trackers, start_trackers
from inspo.utils.config import OnlineConfig, RunConfig, lookup
from inspo.utils.device import choose_device, compute_in_float32
from inspo.utils.errors import ConfigError, SimulatorError
from inspo.utils.files import code_hash, software_versions, write_json
from inspo.utils.precision import check_precision
from inspo.utils.pymarl_names import answer_to_key

log = logging.getLogger(__name__)


class Session(ABC):
    """One run: creates its parts and connects them."""

    needs_simulator = False  # True if a simulator is needed for more than evaluation
    info: EnvInfo

    def __init__(self, args: RunConfig):
        check_trackers(args)
        self.args = args
        self.device = choose_device(args.device, args.use_cuda)
        compute_in_float32()
        check_precision(args.precision, self.device)
        self.started = time.monotonic()
        self.seconds_before = 0.0  # of the runs that this one resumes
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
        """Trains or evaluates, in `self.folder`."""

    @property
    def step_unit(self) -> str:
        """The unit of t_max, of the intervals and of the x axis."""
        online = isinstance(self.args, OnlineConfig)
        return "environment steps" if online else "gradient steps"

    @property
    def n_envs(self) -> int:
        """Number of games in parallel. Online, training and evaluation share them."""
        online = isinstance(self.args, OnlineConfig)
        return self.args.n_parallel if online else self.args.test_nepisode

    def start(self, folder: Path, sacred_run: Any = None) -> None:
        """Runs in the existing folder `folder`.

        Args:
            sacred_run: sacred's record of the run; None: without sacred.
        """
        args = self.args
        th.manual_seed(args.seed)
        if args.num_threads:
            th.set_num_threads(args.num_threads)
        self.folder = folder
        labels = game_labels(args.env_args)
        trackers = start_trackers(args, folder)
        self.metrics = Metrics(folder, sacred_run, args.use_tensorboard, labels, trackers)
        self.about = self._about()
        self.notice()
        self.run()

    def close(self) -> None:
        """Closes environments, files and trackers."""
        for part in (self.env, self.runner):
            if part is not None:
                part.close()
        if self.metrics is not None:
            self.metrics.close(failed=not self.summary)

    def wall_seconds(self) -> float:
        """Wall time so far, with that of the runs that this one resumes up to their checkpoint."""
        return self.seconds_before + time.monotonic() - self.started

    def provenance(self) -> dict[str, str]:
        """Simulator and version. Without a simulator, the one in the settings."""
        if self.env is not None:
            return self.env.provenance()
        simulator = self.args.env_args.get("simulator")
        return {} if simulator is None else {"simulator": simulator}

    def evaluate(self, mac: BasicMAC, step: int, stats: Stats | None = None) -> Stats:
        """Plays the test episodes. Logs their scores together with `stats`; returns the scores."""
        scores = {}
        if self.evaluates:
            args, seed = self.args, evaluation_seed(self.args.seed, step)
            try:
                runner = self.get_runner()
                scores = runner.evaluate(mac, args.test_nepisode, args.test_greedy, seed)
            except SimulatorError as error:
                self._continue_without_simulator(error)
        if scores or stats:
            self.metrics.log(step, {**(stats or {}), **scores})
        return scores

    def get_runner(self) -> runners.BatchRunner:
        """The runner that plays episodes. It is made when it is first needed."""
        if self.runner is None:
            make = lookup(runners.REGISTRY, self.args.runner, "runner")
            self.runner = make(self.env.make_batch(self.n_envs))
        return self.runner

    def read_checkpoint(self) -> tuple[Path, dict[str, Any]]:
        """Path and content of the checkpoint that `checkpoint_path` and `load_step` select."""
        return open_checkpoint(self.args.checkpoint_path, self.args.load_step)

    def make_mac(self) -> BasicMAC:
        """An untrained controller."""
        make = lookup(controllers.REGISTRY, self.args.mac, "mac")
        return make(self.args, self.info).to(self.device)

    def run_name(self) -> str:
        """A new name for the run's folder."""
        return new_run_name(self.args)

    def write_info(self) -> None:
        """Writes run_info.json, which describes the run before it has finished."""
        write_json(self.folder / "run_info.json", self.about)

    def finish(self, steps: int) -> None:
        """Writes the summary and the picture, and logs the scores."""
        check_folder(self.folder)
        scores = final_scores(self.metrics)
        self.summary = {
            **self.about,
            "steps": steps,
            "scores": scores,
            "wall_time_seconds": round(self.wall_seconds(), 1),
        }
        write_json(self.folder / "summary.json", self.summary)
        if not self.args.evaluate:
            draw_curves(self.metrics, self.summary, self.folder / "curves.png")
        for name, score in scores.items():
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
            "code_hash": code_hash(),
        }

    def notice(self) -> None:
        """Logs the environment's warning about its scores, if it has one."""
        env = lookup(envs.REGISTRY, self.args.env, "env")
        notice = getattr(env, "notice", None)
        text = "" if notice is None else notice(self.args.env_args)
        if text:
            log.warning("%s", text)

    def _make_env(self) -> MultiAgentEnv | None:
        """None if there is no simulator and none is needed."""
        try:
            return make_env(self.args)
        except SimulatorError as error:
            self._continue_without_simulator(error)
            return None

    def _continue_without_simulator(self, error: SimulatorError) -> None:
        """Stops evaluating. Raises `error` if the run needs a simulator."""
        args = self.args
        required = args.require_simulator and args.test_nepisode
        if self.needs_simulator or args.evaluate or required:
            raise error
        self.evaluates = False
        if args.test_nepisode:
            log.warning("NO SIMULATOR: training WITHOUT EVALUATION, no test scores. %s", error)
        else:
            log.info("No simulator, and none is needed: %s", error)


def evaluation_seed(seed: int, step: int) -> int:
    """Every step's evaluation has its own seed, independent of training."""
    return (seed + 1) * 1_000_003 + step


def make_env(args: RunConfig) -> MultiAgentEnv:
    """Makes the environment.

    Raises:
        ConfigError: its settings are wrong.
        EnvContractError: it returns what cannot be used.
        SimulatorError: it cannot be played here.
    """
    make = envs.constructor(args.env)
    try:
        return make(**without_dataset(args.env_args))
    except MemoryError as error:
        raise ConfigError(
            f"environment '{args.env}': there is not enough memory for these env_args; make its "
            f"sizes smaller{f' ({error})' if str(error) else ''}"
        ) from None
    except (ValueError, TypeError) as error:
        named = [key for key in args.env_args if f"'{key}'" in str(error)]
        answers = "".join(answer_to_key(f"env_args.{key}") for key in named)
        raise ConfigError(f"environment '{args.env}': {error}{answers}") from None
