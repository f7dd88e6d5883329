"""An offline run: a dataset, a buffer that samples from it, and gradient steps."""

import logging
from pathlib import Path
from typing import Any

import torch as th

from inspo.components.behaviour import attach_behaviour
from inspo.components.offline_buffer import OfflineBuffer
from inspo.controllers import BasicMAC
from inspo.data.catalogue import find_dataset
from inspo.data.scaling import scaled, scaling_of
from inspo.learners.base_learner import Stats
from inspo.run.shipped_policies import recorders
from inspo.run.training import TrainingSession
from inspo.utils.errors import CheckpointError
from inspo.utils.files import dataset_root
from inspo.utils.precision import autocast

log = logging.getLogger(__name__)


class OfflineSession(TrainingSession):
    """data -> buffer -> learner -> metrics."""

    @property
    def step(self) -> int:
        return self.learner.updates

    @property
    def fingerprint(self) -> str:
        return self.about_data["dataset_fingerprint"]

    def load_data(self) -> None:
        args = self.args
        self.root = dataset_root(args.dataset_root)
        self.data = data = find_dataset(args, self.env, self.root, recorders(args, self.env))
        log.info("Dataset %s", data.summary())
        self.about_data = {
            "dataset_fingerprint": data.fingerprint,
            "dataset_return": data.score_statistics(),
            "reference_return": data.reference_return,
        }
        if args.max_episodes:
            log.info("max_episodes=%d: uses only the first episodes", args.max_episodes)
        if self.env is None:
            self.info = data.env_info(episode_limit=int(data.lengths.max()))
        else:
            data.check_env(self.info)
        if args.env == "none":  # there is no game that could differ
            return
        if changes := data.made_elsewhere(args.env, args.env_args, self.provenance()):
            log.warning("The dataset was recorded in another game: %s", changes)

    def build(self) -> None:
        args = self.args
        self._scale()
        self.buffer = OfflineBuffer(
            self.data, args.batch_unit, self.device, args.seed, args.chunk_length
        )
        self.learner = self.make_learner()

    def make_mac(self) -> BasicMAC:
        mac = super().make_mac()
        mac.scale_observations(self.scaling)
        return mac

    def prepare(self) -> None:
        self.about |= self.about_data
        self.write_info()
        if self.learner.behaviour_models:
            self.attach_behaviour()
        if self.checkpoint is not None:
            self.resume()

    def advance(self) -> Stats:
        after = self.step + self.learner.steps_per_round
        with_stats = self.due(self.args.log_interval, self.step, after)
        with autocast(self.args.precision, self.device):
            return self.learner.train(self.buffer, with_stats)

    def origin(self) -> dict[str, Any]:
        return self.data.origin()

    def state(self) -> dict[str, Any]:
        return {
            **super().state(),
            "buffer": self.buffer.state_dict(),
            "behaviour": self.buffer.fingerprint(),
            "scaling": self.scaling,
        }

    def restore(self, content: dict[str, Any]) -> None:
        super().restore(content)
        if self.step != content["step"]:
            raise CheckpointError(f"step {content['step']}, but {self.step} updates")
        self.buffer.load_state_dict(content["buffer"])
        if content["behaviour"] != self.buffer.fingerprint():
            log.warning("The behaviour models were retrained: resuming is not bit-exact")

    def _scale(self) -> None:
        """Scales the dataset: as the run that is resumed, or by the dataset's own numbers."""
        args = self.args
        if self.checkpoint is not None:
            _, content = self.checkpoint
            self.scaling = content.get("scaling", {})
            scaling = {name: values.cpu().numpy() for name, values in self.scaling.items()}
        else:
            scaling = scaling_of(self.data, args.standardise_rewards, args.standardise_obs)
            self.scaling = {name: th.from_numpy(values) for name, values in scaling.items()}
        if args.standardise_rewards:
            log.info("Rewards are divided by %g; scores are not", scaling["reward_scale"].item())
        self.data = scaled(self.data, scaling)

    def attach_behaviour(self) -> None:
        """Trains the learner's behaviour models, or takes them from the cache."""
        learner = self.learner
        learner.behaviour = attach_behaviour(
            learner.behaviour_models,
            self.args,
            self.info,
            self.buffer,
            _behaviour_cache(Path(self.data.path), self.root),
            self.fingerprint,
        )
        if self.args.init_from_behaviour:
            learner.warm_start(learner.behaviour.individual)


def _behaviour_cache(dataset: Path, root: Path) -> Path:
    """Beside the dataset if it is below the dataset root. Other folders are not written to."""
    inside = dataset.absolute().is_relative_to(root)
    return (dataset.parent if inside else root) / "behaviour"
