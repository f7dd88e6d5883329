"""The training loop, offline and online: rounds, evaluations, logs and checkpoints."""

import logging
import signal
import threading
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch as th

from inspo import learners
from inspo.learners.base_learner import BaseLearner, Stats
from inspo.run.checkpoint import check_fits, save_checkpoint
from inspo.run.checkpoint_content import checkpoint_errors, difference, optimiser_difference
from inspo.run.run_folder import SCORES, check_finite, check_folder
from inspo.run.session import Session
from inspo.utils.config import RunConfig, lookup
from inspo.utils.errors import CheckpointError, DivergenceError
from inspo.utils.files import remove_stale_files
from inspo.utils.progress import Progress

log = logging.getLogger(__name__)


class Interrupted(KeyboardInterrupt):
    """The run was stopped by Ctrl-C or SIGTERM and saved as `checkpoint`."""

    def __init__(self, checkpoint: Path):
        super().__init__(str(checkpoint))
        self.checkpoint = checkpoint


class TrainingSession(Session):
    """A run that trains. Subclasses load data, make the learner, and do a round of training."""

    learner: BaseLearner

    def __init__(self, args: RunConfig):
        super().__init__(args)
        self.load_data()
        self.checkpoint = self._checked_checkpoint() if args.checkpoint_path else None
        if args.share_parameters and not args.obs_agent_id:
            log.warning(
                "share_parameters without obs_agent_id: "
                "agents with equal observations have equal policies"
            )
        th.manual_seed(args.seed)
        self.build()
        if self.checkpoint is not None:
            self._check_structure()
        self._random_state = th.get_rng_state()

    @property
    @abstractmethod
    def step(self) -> int:
        """The current step, in `step_unit`."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """The dataset's fingerprint; empty if there is no dataset."""

    @abstractmethod
    def load_data(self) -> None:
        """Loads and checks the data. The run folder does not exist yet."""

    @abstractmethod
    def build(self) -> None:
        """Makes buffer and learner. The run folder does not exist yet."""

    @abstractmethod
    def prepare(self) -> None:
        """Gets ready in the run folder, and restores `self.checkpoint` if there is one."""

    @abstractmethod
    def advance(self) -> Stats:
        """One round of training, which increases `step`. Returns metrics if they are due."""

    @abstractmethod
    def origin(self) -> dict[str, Any]:
        """Where the training episodes were played, as in a dataset's metadata."""

    def run(self) -> None:
        """Trains until t_max, from the start or from the checkpoint."""
        th.set_rng_state(self._random_state)  # as the networks' initialisation left it
        self.prepare()
        self._loop()
        self.finish(self.step)

    def due(self, interval: int, before: int, after: int) -> bool:
        """Whether a multiple of `interval` or the end of training lies in (before, after]."""
        return after >= self.args.t_max or before // interval != after // interval

    def tested(self, scores: Stats) -> None:
        """Called with the scores of each evaluation. Subclasses may keep the policy."""

    def state(self) -> dict[str, Any]:
        """The content of a checkpoint. Subclasses add their own."""
        return {
            "learner": self.learner.state_dict(),
            "metrics": self.metrics.state_dict(),
            "torch_random_state": th.get_rng_state(),
            "env_info": vars(self.info),
            "origin": self.origin(),
            "wall_seconds": self.wall_seconds(),
        }

    def resume(self) -> None:
        """Restores the checkpoint to resume from.

        Raises:
            CheckpointError: its content does not have the structure that `state` returns.
        """
        path, content = self.checkpoint
        with checkpoint_errors(path, "cannot be resumed from"):
            self.restore(content)

    def restore(self, content: dict[str, Any]) -> None:
        """Restores what `state` returned."""
        self.learner.load_state_dict(content["learner"])
        self.metrics.load_state_dict(content["metrics"])
        self.seconds_before = content.get("wall_seconds", 0.0)  # which earlier checkpoints lack
        th.set_rng_state(content["torch_random_state"].cpu())

    def save(self) -> Path:
        """Writes a checkpoint and returns its path.

        Raises:
            DivergenceError: the policies are NaN or infinite. Older checkpoints stay.
            StorageError: the disk is full, read-only or failing. Older checkpoints stay. Or the run
                folder is gone.
        """
        check_folder(self.folder)
        if not all(parameter.isfinite().all() for parameter in self.learner.mac.parameters()):
            raise DivergenceError(
                f"training diverged by step {self.step}: the policies are NaN or infinite, and no "
                "checkpoint is written; try lower learning rates"
            )
        folder = self.folder / "checkpoints"
        return save_checkpoint(folder, self.step, self.state(), self.args, self.fingerprint)

    def make_learner(self) -> BaseLearner:
        """An untrained learner."""
        make = lookup(learners.REGISTRY, self.args.learner, "learner")
        return make(self.args, self.info, self.make_mac())

    def _check_structure(self) -> None:
        """Raises CheckpointError if the checkpoint's learner is built in another way."""
        path, content = self.checkpoint
        with checkpoint_errors(path, "cannot be resumed from"):
            if problem := _learner_difference(content["learner"], self.learner):
                raise CheckpointError(f"{path}: cannot be resumed from: {problem}")

    def _loop(self) -> None:
        """Trains until t_max. What happens depends only on the step, so that runs can resume."""
        args = self.args
        progress = Progress(args.t_max, "Training", done=self.step)
        with _stop_requests() as stop:
            if not self.metrics.rows:  # a resumed run has its first evaluation already
                progress.set_note(self._test())
            if args.save_model:
                self.save()
            while self.step < args.t_max:
                before = self.step
                stats = self.advance()
                check_finite(self.step, stats)
                progress.advance(self.step - before)
                if self.due(args.test_interval, before, self.step):
                    progress.set_note(self._test(stats))
                elif stats:
                    self.metrics.log(self.step, stats)
                if stop.is_set() and self.step < args.t_max:
                    path = self.save()
                    progress.close()
                    log.warning("Stopped at step %d, saved as %s", self.step, path)
                    raise Interrupted(path)
                if args.save_model and self.due(args.save_model_interval, before, self.step):
                    self.save()
        progress.close()

    def _test(self, stats: Stats | None = None) -> str:
        """Evaluates the learner. Returns its scores as text."""
        try:
            scores = self.evaluate(self.learner.mac, self.step, stats)
        except DivergenceError as error:
            raise DivergenceError(f"evaluation at step {self.step}: {error}") from None
        self.tested(scores)
        return ", ".join(f"{name} {scores[name]:.3f}" for name in SCORES if name in scores)

    def _checked_checkpoint(self) -> tuple[Path, dict[str, Any]]:
        """The checkpoint to resume from."""
        path, content = self.read_checkpoint()
        check_fits(content, path, self.args, vars(self.info), self.fingerprint)
        if content["step"] > self.args.t_max:
            raise CheckpointError(
                f"{path} is at step {content['step']}, beyond t_max={self.args.t_max}"
            )
        log.info("Resuming from %s, step %d", path, content["step"])
        self._warn_of_other_tests(content)
        _tidy(path)
        return path, content

    def _warn_of_other_tests(self, content: dict[str, Any]) -> None:
        """If this run's evaluations differ from those in the checkpoint's record."""
        if not any(name in row for row in content.get("metrics", []) for name in SCORES):
            return
        for key in ("test_nepisode", "test_greedy"):
            there, here = content["config"][key], getattr(self.args, key)
            if there != here:
                log.warning(
                    "%s: %s in the run that is resumed, %s here. The scores `last5` and `best` "
                    "will mix evaluations of both kinds",
                    key,
                    there,
                    here,
                )


def _tidy(checkpoint: Path) -> None:
    """Removes what a killed run left behind in its folder, which the resumed run does not use."""
    folder = checkpoint.parent
    if folder.name == "checkpoints":
        with suppress(OSError):  # it may be read-only
            remove_stale_files(folder)
            remove_stale_files(folder.parent)


def _learner_difference(found: dict[str, Any], learner: BaseLearner) -> str:
    """How a saved learner's structure differs from that of the new one; empty if it does not."""
    expected = learner.state_dict()
    del expected["optimisers"]
    optimisers = found.get("optimisers")
    others = {key: value for key, value in found.items() if key != "optimisers"}
    if problem := difference(others, expected, "learner"):
        return problem
    if not isinstance(optimisers, dict) or optimisers.keys() != learner.optimisers.keys():
        return f"learner.optimisers are not {', '.join(learner.optimisers)}"
    for name, optimiser in learner.optimisers.items():
        place = f"learner.optimisers.{name}"
        if problem := optimiser_difference(optimisers[name], optimiser, place):
            return problem
    return ""


@contextmanager
def _stop_requests() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C or SIGTERM sets. The second one ends the program as usual."""
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
