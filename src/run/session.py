"""What every run does, offline or online: environment, metrics, evaluation, checkpoints, the loop, the summary."""

import logging
import math
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch as th

import controllers
import envs
import learners
import runners
from components.episode_data import differences
from envs import EnvInfo, MultiAgentEnv
from learners import BaseLearner
from learners.base_learner import Stats
from run.checkpoint import check_fits, load_checkpoint, save_checkpoint
from run.plots import draw_curves
from run.run_folder import SCORES, Metrics, find_checkpoint, scores, write_json
from utils.config import RunConfig
from utils.errors import CheckpointError, ConfigError, DivergenceError, SimulatorError
from utils.files import software_versions
from utils.progress import Progress

log = logging.getLogger(__name__)


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop (Ctrl-C, SIGTERM), and saved at `checkpoint`."""

    def __init__(self, checkpoint: Path):
        super().__init__(str(checkpoint))
        self.checkpoint = checkpoint


class Session(ABC):
    """One run's parts, wired together. A subclass says in `prepare` what is learnt from, and in `advance` how.

    `prepare` has to set `learner`.
    """

    step_unit: str  # what `step`, t_max and the intervals count
    needs_simulator = False  # for more than evaluation
    learner: BaseLearner

    def __init__(self, args: RunConfig, sacred_run: Any, folder: Path):
        self.args, self.folder = args, folder
        self.device = _device(args.use_cuda)
        self.started = time.monotonic()
        self.summary: dict[str, Any] = {}
        self.runner: runners.BatchRunner | None = None
        self.evaluates = bool(args.test_nepisode)
        self.env = self._make_env()
        if self.env is not None:
            self.info = EnvInfo(**self.env.get_env_info())
        labels = {key: args.env_args[key] for key in ("simulator", "map_name") if key in args.env_args}
        self.metrics = Metrics(folder, sacred_run, args.use_tensorboard, labels)
        self.about: dict[str, Any] = {
            "algorithm": args.name,
            "environment": args.env_config,
            "env_args": {key: value for key, value in args.env_args.items() if key != "dataset"},
            **(self.env.provenance() if self.env is not None else {}),
            "dataset": args.env_args["dataset"],
            "seed": args.seed,
            "test_nepisode": args.test_nepisode,
            "test_greedy": args.test_greedy,
            "step_unit": self.step_unit,
            "device": str(self.device),
            "software": software_versions(),
        }
        self._notice()
        if args.share_parameters and not args.obs_agent_id:
            log.warning("share_parameters without obs_agent_id: agents that see the same will do the same")

    @property
    @abstractmethod
    def step(self) -> int:
        """How far training is, in `step_unit`."""

    @property
    @abstractmethod
    def n_lanes(self) -> int:
        """How many games the runner plays side by side."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Of the dataset; empty if there is none."""

    @abstractmethod
    def prepare(self) -> None:
        """Makes the learner and what it learns from, or takes them from the checkpoint that `checkpoint_path` names."""

    @abstractmethod
    def advance(self) -> Stats:
        """One round of work; `step` grows. Metrics to log, if a record is due."""

    @abstractmethod
    def origin(self) -> dict[str, Any]:
        """Where the episodes that are learnt from were played, as a dataset's metadata says it."""

    def provenance(self) -> dict[str, str]:
        """What plays here; where there is no simulator, which one the settings mean."""
        if self.env is not None:
            return self.env.provenance()
        return {key: self.args.env_args[key] for key in ("simulator",) if key in self.args.env_args}

    def train(self) -> None:
        """The whole run, or the rest of the one that `checkpoint_path` names."""
        self.prepare()
        self._loop()
        self._finish(self.step)

    def evaluate_only(self) -> None:
        """Plays test episodes with a checkpoint's policies."""
        args = self.args
        if not args.checkpoint_path or not args.test_nepisode:
            raise ConfigError("evaluate=True needs checkpoint_path=RUN_FOLDER and a positive test_nepisode")
        path = find_checkpoint(Path(args.checkpoint_path), args.load_step)
        content = load_checkpoint(path, self.device)
        check_fits(content, path, args, vars(self.info), fingerprint=None)
        mac = self._make_mac()
        mac.load_state_dict(content["learner"]["modules"]["mac"])
        log.info("Evaluating %s, step %d", path, content["step"])
        if foreign := differences(content.get("origin", {}), args.env, args.env_args, self.provenance()):
            log.warning("The policy was learnt from episodes played elsewhere than it is evaluated: %s", foreign)
        trained = content["config"]  # the policy's, whatever this command says
        self.about |= {"algorithm": trained["name"], "dataset": trained["env_args"]["dataset"], "seed": trained["seed"]}
        self.about |= {"dataset_fingerprint": content["dataset"], "checkpoint": str(path)}
        write_json(self.folder / "run_info.json", self.about)
        self._evaluate(mac, content["step"])
        self._finish(content["step"])

    def close(self) -> None:
        """Frees environments and files."""
        if self.env is not None:
            self.env.close()
        if self.runner is not None:
            self.runner.close()
        self.metrics.close()

    def due(self, interval: int, before: int, after: int) -> bool:
        """Whether a multiple of `interval`, or the end of training, lies between two steps."""
        return after >= self.args.t_max or before // interval != after // interval

    def _loop(self) -> None:
        """Rounds until t_max. What happens at a step depends on the step alone: a resumed run does the same."""
        args = self.args
        shown = Progress(args.t_max, "Training", done=self.step)
        with _stop_requests() as stop:
            if not self.metrics.rows:  # else it was killed after the first evaluation, and goes on
                shown.set_note(self._test())
            if args.save_model:  # from here on a kill loses no more than save_model_interval steps
                path = self._save()
            while self.step < args.t_max:
                before = self.step
                stats = self.advance()
                self._check_finite(stats)
                shown.advance(self.step - before)
                if self.due(args.test_interval, before, self.step):
                    shown.set_note(self._test(stats))
                elif stats:
                    self.metrics.log(self.step, stats)
                stopped = stop.is_set() and self.step < args.t_max
                if stopped or (args.save_model and self.due(args.save_model_interval, before, self.step)):
                    path = self._save()
                if stopped:
                    shown.close()
                    log.warning("Stopped at step %d, saved as %s", self.step, path)
                    raise Interrupted(path)
        shown.close()

    def _check_finite(self, stats: Stats) -> None:
        """DivergenceError if a metric is NaN or infinite: no later step would mend that."""
        if broken := [name for name, value in stats.items() if not math.isfinite(value)]:
            raise DivergenceError(
                f"training diverged by step {self.step}: {', '.join(broken)} not finite; try lower learning rates"
            )

    def _test(self, stats: Stats | None = None) -> str:
        """An evaluation of the learner; its scores as a note."""
        played = self._evaluate(self.learner.mac, self.step, stats)
        self.tested(played)
        return ", ".join(f"{name} {played[name]:.3f}" for name in SCORES if name in played)

    def tested(self, scores: Stats) -> None:
        """Called with the scores of each evaluation of the learner, in case a subclass wants to keep something."""

    def _evaluate(self, mac: controllers.BasicMAC, step: int, stats: Stats | None = None) -> Stats:
        """Plays the test episodes and records their scores beside the learner's `stats`. Returns the scores."""
        played = {}
        if self.evaluates:
            # Its own seed for each step: neither training nor another evaluation changes with it.
            seed = (self.args.seed + 1) * 1_000_003 + step
            try:
                played = self._runner().evaluate(mac, self.args.test_nepisode, self.args.test_greedy, seed)
            except SimulatorError as error:
                self._do_without_simulator(error)
        if played or stats:
            self.metrics.log(step, {**(stats or {}), **played})
        return played

    def _runner(self) -> runners.BatchRunner:
        if self.runner is None:
            self.runner = runners.REGISTRY[self.args.runner](self.env.make_batch(self.n_lanes))
        return self.runner

    def _state(self) -> dict[str, Any]:
        """What a checkpoint holds. A subclass adds its own."""
        return {
            "learner": self.learner.state_dict(),
            "metrics": self.metrics.state_dict(),
            "torch_random_state": th.get_rng_state(),
            "env_info": vars(self.info),
            "origin": self.origin(),
        }

    def _save(self) -> Path:
        return save_checkpoint(self.folder / "checkpoints", self.step, self._state(), self.args, self.fingerprint)

    def _checkpoint(self) -> tuple[Path, dict[str, Any]] | None:
        """The checkpoint to go on from, if there is one, checked before any time is spent."""
        if not self.args.checkpoint_path:
            return None
        path = find_checkpoint(Path(self.args.checkpoint_path), self.args.load_step)
        content = load_checkpoint(path, self.device)
        check_fits(content, path, self.args, vars(self.info), self.fingerprint)
        if content["step"] > self.args.t_max:
            raise CheckpointError(f"{path} is at step {content['step']}, beyond t_max={self.args.t_max}")
        log.info("Going on from %s, step %d", path, content["step"])
        return path, content

    def _restore(self, content: dict[str, Any]) -> None:
        """The counterpart of `_state`."""
        self.learner.load_state_dict(content["learner"])
        self.metrics.load_state_dict(content["metrics"])
        th.set_rng_state(content["torch_random_state"].cpu())

    def _finish(self, steps: int) -> None:
        """The summary and the picture."""
        result = scores(self.metrics)
        wall_time = round(time.monotonic() - self.started, 1)
        self.summary = {**self.about, "steps": steps, "scores": result, "wall_time_seconds": wall_time}
        write_json(self.folder / "summary.json", self.summary)
        if not self.args.evaluate:
            draw_curves(self.metrics, self.summary, self.folder / "curves.png")
        for name, score in result.items():
            log.info(
                "%s: final %.3f, mean of the last five evaluations %.3f, best %.3f (picked afterwards)",
                *(name, score["final"], score["last5"], score["best"]),
            )
        self._notice()
        log.info("Results in %s", self.folder)

    def _notice(self) -> None:
        """What nobody may overlook about the scores, if the environment says so."""
        notice = getattr(envs.REGISTRY[self.args.env], "notice", None)
        if notice and (text := notice(self.args.env_args)):
            log.warning("%s", text)

    def _make_env(self) -> MultiAgentEnv | None:
        """None where no game can be started and none is needed."""
        try:
            return make_env(self.args)
        except SimulatorError as error:
            self._do_without_simulator(error)
            return None

    def _do_without_simulator(self, error: SimulatorError) -> None:
        """No evaluation from here on; raises `error` if there has to be one."""
        args = self.args
        if self.needs_simulator or args.evaluate or (args.require_simulator and args.test_nepisode):
            raise error
        self.evaluates = False
        if not args.test_nepisode:
            log.info("No simulator, and none is needed: %s", error)
            return
        log.warning("NO SIMULATOR: training goes on WITHOUT EVALUATION, no test score will be recorded. %s", error)

    def _make_mac(self) -> controllers.BasicMAC:
        return controllers.REGISTRY[self.args.mac](self.args, self.info).to(self.device)

    def _make_learner(self) -> BaseLearner:
        return learners.REGISTRY[self.args.learner](self.args, self.info, self._make_mac())


def make_env(args: RunConfig) -> MultiAgentEnv:
    """The environment that the settings ask for; ConfigError if it cannot be made."""
    env_args = {key: value for key, value in args.env_args.items() if key != "dataset"}
    try:
        return envs.REGISTRY[args.env](**env_args)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"environment '{args.env}': {error}") from None


def _device(use_cuda: bool) -> th.device:
    if use_cuda and th.cuda.is_available():
        return th.device("cuda")
    if use_cuda:
        log.info("No CUDA device: training on the CPU")
    return th.device("cpu")


@contextmanager
def _stop_requests() -> Iterator[threading.Event]:
    """An event that Ctrl-C or SIGTERM sets. A second request ends the program at once, as usual."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    previous: dict[int, Any] = {}

    def request(number: int, _frame: Any) -> None:
        stop.set()
        signal.signal(number, previous[number])

    for number in (signal.SIGINT, signal.SIGTERM):
        previous[number] = signal.signal(number, request)
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
