"""An offline run: a dataset, a buffer over it, and gradient steps on what the buffer samples."""

import logging
from pathlib import Path
from typing import Any

from components.behaviour import attach_behaviour
from components.offline_buffer import OfflineBuffer
from components.recipes import find_dataset
from learners.base_learner import Stats
from run.run_folder import dataset_root, write_json
from run.session import Session

log = logging.getLogger(__name__)


class OfflineSession(Session):
    """data -> buffer -> learner -> metrics."""

    step_unit = "gradient steps"

    @property
    def step(self) -> int:
        return self.learner.updates

    @property
    def n_lanes(self) -> int:
        return self.args.test_nepisode

    @property
    def fingerprint(self) -> str:
        return self.data.fingerprint

    def prepare(self) -> None:
        args = self.args
        root = dataset_root(args.dataset_root)
        self.data = data = find_dataset(args, self.env, root)
        log.info("Dataset %s", data.summary())
        if self.env is None:
            self.info = data.env_info(episode_limit=int(data.lengths.max()))
        else:
            data.check_env(self.info)
        if foreign := data.made_elsewhere(args.env, args.env_args, self.provenance()):
            log.warning("The dataset was recorded elsewhere than this run is to be played: %s", foreign)
        checkpoint = self._checkpoint()
        self.about |= {"dataset_fingerprint": data.fingerprint, "dataset_return": data.score_statistics()}
        write_json(self.folder / "run_info.json", self.about)
        if args.max_episodes:
            log.info(
                "max_episodes=%d: trained on at most so many episodes, the first of the dataset", args.max_episodes
            )
        self.buffer = OfflineBuffer(data, args.batch_unit, self.device, args.seed)
        self.learner = learner = self._make_learner()
        if learner.behaviour_models:
            cache = _behaviour_cache(Path(data.path), root)
            models = (learner.behaviour_models, args, self.info, self.buffer)
            learner.behaviour = attach_behaviour(*models, cache, data.fingerprint)
            if args.init_from_behaviour:
                learner.warm_start(learner.behaviour.individual)
        if checkpoint is not None:
            self._restore(checkpoint[1])

    def advance(self) -> Stats:
        after = self.step + self.learner.steps_per_round
        return self.learner.train(self.buffer, self.due(self.args.log_interval, self.step, after))

    def origin(self) -> dict[str, Any]:
        return self.data.origin()

    def _state(self) -> dict[str, Any]:
        return super()._state() | {"buffer": self.buffer.state_dict(), "behaviour": self.buffer.fingerprint()}

    def _restore(self, content: dict[str, Any]) -> None:
        super()._restore(content)
        self.buffer.load_state_dict(content["buffer"])
        if content["behaviour"] != self.buffer.fingerprint():
            log.warning("The behaviour models were trained anew since: the numbers will not be the same bit for bit")


def _behaviour_cache(dataset: Path, root: Path) -> Path:
    """Beside the dataset if it is one of ours; nothing is ever written into a folder of somebody else's data."""
    return (dataset.parent if dataset.absolute().is_relative_to(root) else root) / "behaviour"
