"""Evaluation of a checkpoint's policies, without training."""

import logging

from inspo.data.episode_data import differences
from inspo.run.checkpoint import check_fits
from inspo.run.session import Session
from inspo.utils.config import RunConfig
from inspo.utils.errors import ConfigError

log = logging.getLogger(__name__)


class EvaluationSession(Session):
    """Plays test episodes with the policies that `checkpoint_path` names."""

    def __init__(self, args: RunConfig):
        if not args.checkpoint_path or not args.test_nepisode:
            raise ConfigError(
                "evaluate=True needs checkpoint_path=RUN_FOLDER and a positive test_nepisode"
            )
        super().__init__(args)
        self.path, self.content = self.read_checkpoint()
        check_fits(self.content, self.path, args, vars(self.info), fingerprint=None)

    def run(self) -> None:
        content = self.content
        mac = self.make_mac()
        mac.load_state_dict(content["learner"]["modules"]["mac"])
        log.info("Evaluating %s, step %d", self.path, content["step"])
        args, origin = self.args, content.get("origin", {})
        if elsewhere := differences(origin, args.env, args.env_args, self.provenance()):
            log.warning(
                "The policy was trained on episodes that were played elsewhere: %s", elsewhere
            )
        trained = content["config"]  # the policy's, whatever this command says
        self.about |= {
            "algorithm": trained["name"],
            "dataset": trained["env_args"]["dataset"],
            "seed": trained["seed"],
            "dataset_fingerprint": content["dataset"],
            "checkpoint": str(self.path),
        }
        self.write_info()
        self.evaluate(mac, content["step"])
        self.finish(content["step"])
