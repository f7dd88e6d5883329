"""The base of OMAR, OMIGA and ICQ: policies and value networks that learn side by side."""

from abc import abstractmethod

from torch import Tensor, nn

from inspo.components.offline_buffer import OfflineBuffer
from inspo.learners.base_learner import BaseLearner, Stats, target_of, to_floats
from inspo.utils.batch import Batch
from inspo.utils.config import ValueConfig
from inspo.utils.rl_utils import soft_update


class ActorCriticLearner(BaseLearner):
    """Updates all agents at once: one batch, one gradient step, one soft update of the targets.

    A subclass passes its value networks to `add_values` and implements `losses`.
    """

    args: ValueConfig
    parameters: list[Tensor]  # of the networks that have targets
    target_parameters: list[Tensor]  # of the targets, in the same order

    def add_values(self, values: nn.ModuleDict) -> nn.ModuleDict:
        """Trains the networks of `values` beside the policies and gives them targets.

        The gradient norm of each network is clipped on its own.

        Returns:
            the targets, under the same names.
        """
        values.to(self.device)
        targets = target_of(values, self.device)
        self.modules |= {"values": values, "target_values": targets}
        rates: dict[nn.Module, float] = {self.mac: self.args.lr}
        rates |= dict.fromkeys(values.values(), self.args.critic_lr)
        self.optimiser = self.adam("all", rates)
        self.parameters = [*values.parameters()]
        self.target_parameters = [*targets.parameters()]
        return targets

    def train(self, buffer: OfflineBuffer, with_stats: bool) -> Stats:
        batch = self.sample(buffer)
        stats = self.compute(self.update, batch, with_stats)
        self.updates += 1
        return to_floats(stats)

    def update(self, batch: Batch, with_stats: bool) -> dict[str, Tensor]:
        """One step of all networks and their targets. Returns metrics if `with_stats`."""
        loss, stats = self.losses(batch, with_stats)
        self.step(self.optimiser, loss)
        soft_update(self.target_parameters, self.parameters, self.args.tau)
        return stats

    @abstractmethod
    def losses(self, batch: Batch, with_stats: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum of all losses, a scalar, and metrics if `with_stats`.

        Policies and value networks must have no parameter in common.
        """
