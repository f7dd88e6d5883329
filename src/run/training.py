"""The training loop: rounds, evaluations, records and checkpoints, offline or online."""

import logging
import math
import signal
import threading
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch as th

from inspo import learners
from inspo.learners.base_learner import BaseLearner, Stats
from inspo.run.checkpoint import check_fits, save_checkpoint
from inspo.run.run_folder import SCORES
from inspo.run.session import Session
from inspo.utils.config import RunConfig, lookup
from inspo.utils.errors import CheckpointError, DivergenceError
from inspo.utils.progress import Progress

log = logging.getLogger(__name__)


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop (Ctrl-C, SIGTERM), and saved at `checkpoint`."""

    def __init__(self, checkpoint: Path):
        super().__init__(str(checkpoint))
        self.checkpoint = checkpoint


class TrainingSession(Session):
    """A subclass checks its data in `load_data`, makes its learner in `prepare`, works in `advance`."""

    learner: BaseLearner

    def __init__(self, args: RunConfig):
        super().__init__(args)
        self.load_data()
        self.checkpoint = self._checked_checkpoint() if args.checkpoint_path else None
        if args.share_parameters and not args.obs_agent_id:
            log.warning(
                "share_parameters without obs_agent_id: agents that see the same act the same"
            )

    @property
    @abstractmethod
    def step(self) -> int:
        """How far training is, in `step_unit`."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Of the dataset; empty if there is none."""

    @abstractmethod
    def load_data(self) -> None:
        """Loads and checks what is learnt from, before there is a run folder."""

    @abstractmethod
    def prepare(self) -> None:
        """Makes the learner, or restores it from `self.checkpoint`."""

    @abstractmethod
    def advance(self) -> Stats:
        """One round of work; `step` grows. Returns metrics if a record is due."""

    @abstractmethod
    def origin(self) -> dict[str, Any]:
        """Where the episodes that are learnt from were played, as a dataset's metadata says it."""

    def run(self) -> None:
        """The whole training, or the rest of the run that `checkpoint_path` names."""
        self.prepare()
        self._loop()
        self.finish(self.step)

    def due(self, interval: int, before: int, after: int) -> bool:
        """Whether a multiple of `interval`, or the end of training, lies between two steps."""
        return after >= self.args.t_max or before // interval != after // interval

    def tested(self, scores: Stats) -> None:
        """Called with the scores of each evaluation, in case a subclass keeps something."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds. A subclass adds its own."""
        return {
            "learner": self.learner.state_dict(),
            "metrics": self.metrics.state_dict(),
            "torch_random_state": th.get_rng_state(),
            "env_info": vars(self.info),
            "origin": self.origin(),
        }

    def restore(self, content: dict[str, Any]) -> None:
        """The counterpart of `state`."""
        self.learner.load_state_dict(content["learner"])
        self.metrics.load_state_dict(content["metrics"])
        th.set_rng_state(content["torch_random_state"].cpu())

    def save(self) -> Path:
        """Writes a checkpoint of this step."""
        folder = self.folder / "checkpoints"
        return save_checkpoint(folder, self.step, self.state(), self.args, self.fingerprint)

    def make_learner(self) -> BaseLearner:
        """The learner that the settings ask for, untrained."""
        make = lookup(learners.REGISTRY, self.args.learner, "learner")
        return make(self.args, self.info, self.make_mac())

    def _loop(self) -> None:
        """Rounds until t_max. What happens at a step depends on the step alone: resuming repeats it."""
        args = self.args
        shown = Progress(args.t_max, "Training", done=self.step)
        with _stop_requests() as stop:
            if not self.metrics.rows:  # else it was killed after the first evaluation
                shown.set_note(self._test())
            if args.save_model:  # from here on a kill loses no more than save_model_interval steps
                path = self.save()
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
                save_now = self.due(args.save_model_interval, before, self.step)
                if stopped or (args.save_model and save_now):
                    path = self.save()
                if stopped:
                    shown.close()
                    log.warning("Stopped at step %d, saved as %s", self.step, path)
                    raise Interrupted(path)
        shown.close()

    def _check_finite(self, stats: Stats) -> None:
        """Raises DivergenceError if a metric is NaN or infinite: no later step would mend that."""
        if broken := [name for name, value in stats.items() if not math.isfinite(value)]:
            raise DivergenceError(
                f"training diverged by step {self.step}: {', '.join(broken)} not finite; "
                "try lower learning rates"
            )

    def _test(self, stats: Stats | None = None) -> str:
        """An evaluation of the learner; its scores as a note."""
        played = self.evaluate(self.learner.mac, self.step, stats)
        self.tested(played)
        return ", ".join(f"{name} {played[name]:.3f}" for name in SCORES if name in played)

    def _checked_checkpoint(self) -> tuple[Path, dict[str, Any]]:
        """The checkpoint to resume from."""
        path, content = self.read_checkpoint()
        check_fits(content, path, self.args, vars(self.info), self.fingerprint)
        if content["step"] > self.args.t_max:
            raise CheckpointError(
                f"{path} is at step {content['step']}, beyond t_max={self.args.t_max}"
            )
        log.info("Resuming from %s, step %d", path, content["step"])
        return path, content


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
