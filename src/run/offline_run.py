"""An offline run, from its configuration to its summary."""

import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch as th

import controllers
import envs
import learners
import runners
from components.behaviour import attach_behaviour
from components.episode_data import EpisodeData
from components.offline_buffer import OfflineBuffer
from components.recipes import find_dataset
from envs import EnvInfo, MultiAgentEnv
from learners import BaseLearner
from run.checkpoint import check_fits, load_checkpoint, save_checkpoint
from run.plots import draw_curves
from run.run_folder import SCORES, Metrics, dataset_root, find_checkpoint, scores, write_json
from utils.config import RunConfig
from utils.errors import CheckpointError, ConfigError, SimulatorError
from utils.files import software_versions
from utils.progress import Progress

log = logging.getLogger(__name__)


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop (Ctrl-C, SIGTERM), and saved at `checkpoint`."""

    def __init__(self, checkpoint: Path):
        super().__init__(str(checkpoint))
        self.checkpoint = checkpoint


def run(args: RunConfig, sacred_run: Any, folder: str) -> float | None:
    """Trains, evaluates and records; with `evaluate` only evaluates. Returns the final mean test return."""
    run_folder = Path(folder)
    with _log_file(run_folder / "run.log"):
        log.info("Run folder: %s", run_folder)
        th.manual_seed(args.seed)
        if args.num_threads:
            th.set_num_threads(args.num_threads)
        session = Session(args, sacred_run, run_folder)
        try:
            session.evaluate_only() if args.evaluate else session.train()
        finally:
            session.close()
        result = session.summary["scores"].get("test_return_mean")
        return result["final"] if result else None


class Session:
    """One run's parts, wired together: data -> buffer -> learner -> metrics."""

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
            "device": str(self.device),
            "software": software_versions(),
        }
        self._notice()
        if args.share_parameters and not args.obs_agent_id:
            log.warning("share_parameters without obs_agent_id: agents that see the same will do the same")

    def train(self) -> None:
        """The whole run, or the rest of the one that `checkpoint_path` names."""
        args = self.args
        root = dataset_root(args.dataset_root)
        data = find_dataset(args, self.env, root)
        log.info("Dataset %s", data.summary())
        if self.env is None:
            self.info = data.env_info(episode_limit=int(data.lengths.max()))
        else:
            data.check_env(self.info)
            if foreign := data.made_elsewhere(args.env, args.env_args, self.env.provenance()):
                log.warning("The dataset was recorded elsewhere than it is evaluated: %s", foreign)
        content = self._checkpoint(data) if args.checkpoint_path else None
        self.about |= {"dataset_fingerprint": data.fingerprint, "dataset_return": data.return_statistics()}
        write_json(self.folder / "run_info.json", self.about)
        if args.max_episodes:
            log.info(
                "max_episodes=%d: trained on at most so many episodes, the first of the dataset", args.max_episodes
            )
        buffer = OfflineBuffer(data, args.batch_unit, self.device, args.seed)
        learner = self._make_learner()
        if learner.behaviour_models:
            cache = _behaviour_cache(Path(data.path), root)
            behaviour = attach_behaviour(learner.behaviour_models, args, self.info, buffer, cache, data.fingerprint)
            if args.init_from_behaviour:
                learner.warm_start(behaviour)
        if content is not None:
            self._restore(content, learner, buffer)
        self._loop(learner, buffer, data)
        self._finish(learner.updates)

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

    def _loop(self, learner: BaseLearner, buffer: OfflineBuffer, data: EpisodeData) -> None:
        """Gradient steps until t_max. What happens at a step depends on the step alone: a resumed run does the same."""
        args = self.args
        shown = Progress(args.t_max, "Training", done=learner.updates)
        with _stop_requests() as stop:
            if not self.metrics.rows:  # else it was killed after the first evaluation, and goes on
                shown.set_note(self._evaluate(learner.mac, 0))
            if args.save_model:  # from here on a kill loses no more than save_model_interval steps
                path = self._save(learner, buffer, data)
            while learner.updates < args.t_max:
                before = learner.updates
                with_stats = before // args.log_interval != (before + learner.steps_per_round) // args.log_interval
                stats = learner.train(buffer, with_stats or before + learner.steps_per_round >= args.t_max)
                shown.advance(learner.updates - before)
                done = learner.updates >= args.t_max

                def due(interval: int, before: int = before, done: bool = done) -> bool:
                    return done or before // interval != learner.updates // interval

                if due(args.test_interval):
                    shown.set_note(self._evaluate(learner.mac, learner.updates, stats))
                elif stats:
                    self.metrics.log(learner.updates, stats)
                save = args.save_model and due(args.save_model_interval)
                if save or (stop.is_set() and not done):
                    path = self._save(learner, buffer, data)
                if stop.is_set() and not done:
                    shown.close()
                    log.warning("Stopped at step %d, saved as %s", learner.updates, path)
                    raise Interrupted(path)
        shown.close()

    def _evaluate(self, mac: controllers.BasicMAC, step: int, stats: dict[str, float] | None = None) -> str:
        """Plays the test episodes, records their scores beside the learner's `stats`, returns the scores as a note."""
        played = {}
        if self.evaluates:
            if self.runner is None:
                self.runner = runners.REGISTRY[self.args.runner](self.env.make_batch(self.args.test_nepisode))
            # Its own seed for each step: neither training nor another evaluation changes with it.
            seed = (self.args.seed + 1) * 1_000_003 + step
            try:
                played = self.runner.evaluate(mac, self.args.test_nepisode, self.args.test_greedy, seed)
            except SimulatorError as error:
                self._do_without_simulator(error)
        if played or stats:
            self.metrics.log(step, {**(stats or {}), **played})
        return ", ".join(f"{name} {played[name]:.3f}" for name in SCORES if name in played)

    def _save(self, learner: BaseLearner, buffer: OfflineBuffer, data: EpisodeData) -> Path:
        state = {
            "learner": learner.state_dict(),
            "buffer": buffer.state_dict(),
            "metrics": self.metrics.state_dict(),
            "torch_random_state": th.get_rng_state(),
            "env_info": vars(self.info),
            "behaviour": buffer.fingerprint(),
        }
        return save_checkpoint(self.folder / "checkpoints", learner.updates, state, self.args, data.fingerprint)

    def _checkpoint(self, data: EpisodeData) -> dict[str, Any]:
        """The checkpoint to go on from, checked before any time is spent."""
        path = find_checkpoint(Path(self.args.checkpoint_path), self.args.load_step)
        content = load_checkpoint(path, self.device)
        check_fits(content, path, self.args, vars(self.info), data.fingerprint)
        if content["step"] > self.args.t_max:
            raise CheckpointError(f"{path} is at step {content['step']}, beyond t_max={self.args.t_max}")
        log.info("Going on from %s, step %d", path, content["step"])
        return content

    def _restore(self, content: dict[str, Any], learner: BaseLearner, buffer: OfflineBuffer) -> None:
        learner.load_state_dict(content["learner"])
        buffer.load_state_dict(content["buffer"])
        self.metrics.load_state_dict(content["metrics"])
        th.set_rng_state(content["torch_random_state"].cpu())
        if content["behaviour"] != buffer.fingerprint():
            log.warning("The behaviour models were trained anew since: the numbers will not be the same bit for bit")

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
        env_args = {key: value for key, value in self.args.env_args.items() if key != "dataset"}
        try:
            return envs.REGISTRY[self.args.env](**env_args)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"environment '{self.args.env}': {error}") from None
        except SimulatorError as error:
            self._do_without_simulator(error)
            return None

    def _do_without_simulator(self, error: SimulatorError) -> None:
        """No evaluation from here on; raises `error` if there has to be one."""
        args = self.args
        if args.evaluate or (args.require_simulator and args.test_nepisode):
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


def _behaviour_cache(dataset: Path, root: Path) -> Path:
    """Beside the dataset if it is one of ours; nothing is ever written into a folder of somebody else's data."""
    return (dataset.parent if dataset.absolute().is_relative_to(root) else root) / "behaviour"


def _device(use_cuda: bool) -> th.device:
    if use_cuda and th.cuda.is_available():
        return th.device("cuda")
    if use_cuda:
        log.info("No CUDA device: training on the CPU")
    return th.device("cpu")


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("[%(levelname)s %(asctime)s] %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


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
