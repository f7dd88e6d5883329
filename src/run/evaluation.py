"""Evaluation of a checkpoint's policies, without training."""

import logging

from inspo.data.episode_data import differences
from inspo.run.checkpoint import check_fits, policy_of
from inspo.run.run_folder import new_run_name
from inspo.run.session import Session
from inspo.utils.config import RunConfig
from inspo.utils.errors import CheckpointError, ConfigError

log = logging.getLogger(__name__)


class EvaluationSession(Session):
    """Plays test episodes with the policies of `checkpoint_path`."""

    def __init__(self, args: RunConfig):
        if not args.checkpoint_path or not args.test_nepisode:
            raise ConfigError(
                "evaluate=True needs checkpoint_path=RUN_FOLDER and a positive test_nepisode"
            )
        super().__init__(args)
        self.path, self.content = self.read_checkpoint()
        check_fits(self.content, self.path, args, vars(self.info), fingerprint=None)
        if args.standardise_obs and "obs_mean" not in self.content.get("scaling", {}):
            raise CheckpointError(
                f"standardise_obs=True, but the policies of {self.path} were trained without it"
            )

    def run_name(self) -> str:
        """Says whose policies play: `--config` and dataset need not be those of their training."""
        trained = self.content["config"]
        env_args = {**self.args.env_args, "dataset": trained["env_args"]["dataset"]}
        named = {"name": trained["name"], "seed": trained["seed"], "env_args": env_args}
        return f"evaluation_{new_run_name(self.args.model_copy(update=named))}"

    def run(self) -> None:
        step = self.content["step"]
        mac = policy_of(self.content, self.path).to(self.device)
        log.info("Evaluating %s, step %d", self.path, step)
        self._warn_if_recorded_elsewhere()
        trained = self.content["config"]
        self.about |= {
            "algorithm": trained["name"],
            "dataset": trained["env_args"]["dataset"],
            "seed": trained["seed"],
            "dataset_fingerprint": self.content["dataset"],
            "checkpoint": str(self.path),
        }
        self.write_info()
        self.evaluate(mac, step)
        self.finish(step)

    def _warn_if_recorded_elsewhere(self) -> None:
        """The training could not compare data and game if it ran without a simulator."""
        origin = self.content.get("origin", {})
        changes = differences(origin, self.args.env, self.args.env_args, self.provenance())
        if changes:
            log.warning("The policy was trained on episodes of another game: %s", changes)
