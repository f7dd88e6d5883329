"""Behaviour cloning (BC), the baseline that every offline method must beat."""

from torch import Tensor

from inspo.components.behaviour import cloning_loss
from inspo.components.offline_buffer import OfflineBuffer
from inspo.controllers import BasicMAC
from inspo.envs import EnvInfo
from inspo.learners.base_learner import BaseLearner, Stats, to_floats
from inspo.utils.batch import Batch, without_final_row
from inspo.utils.config import RunConfig
from inspo.utils.rl_utils import entropy, masked_mean


class BCLearner(BaseLearner):
    """Each agent imitates its own actions. All agents are updated at once."""

    def __init__(self, args: RunConfig, info: EnvInfo, mac: BasicMAC):
        super().__init__(args, info, mac)
        self.optimiser = self.adam("policy", {mac: args.lr})

    def train(self, buffer: OfflineBuffer, with_stats: bool) -> Stats:
        batch = without_final_row(self.sample(buffer))
        stats = self.compute(self.update, batch, with_stats)
        self.updates += 1
        return to_floats(stats)

    def update(self, batch: Batch, with_stats: bool) -> dict[str, Tensor]:
        """One gradient step. Returns metrics if `with_stats`."""
        log_pi = self.mac.log_probs(batch)  # [B, T, N, A]
        loss = cloning_loss(log_pi, batch)
        self.step(self.optimiser, loss)
        if not with_stats:
            return {}
        mask = batch["filled"][..., None].expand(log_pi.shape[:-1])
        policy_entropy = masked_mean(entropy(log_pi), mask)
        return {"policy_loss": loss, "policy_entropy": policy_entropy}
