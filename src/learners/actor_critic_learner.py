"""Policies that learn beside value networks: what OMAR, OMIGA and ICQ have in common apart from their losses."""

from abc import abstractmethod
from copy import deepcopy

from torch import Tensor, nn

from inspo.components.offline_buffer import OfflineBuffer
from inspo.learners.base_learner import BaseLearner, Stats
from inspo.utils.batch import Batch
from inspo.utils.config import ValueConfig
from inspo.utils.rl_utils import soft_update


class ActorCriticLearner(BaseLearner):
    """All agents at once: one batch, one gradient step of policies and values, then a soft update of the targets.

    A subclass hands its value networks to `add_values`, and implements `losses`.
    """

    args: ValueConfig
    parameters: list[Tensor]  # of all that has a target,
    target_parameters: list[Tensor]  # and of the targets, in that order

    def add_values(self, values: nn.ModuleDict) -> nn.ModuleDict:
        """Lets the networks of `values` learn beside the policies, each with its gradient clipped by its own norm.

        Returns:
            their targets, by the same names.
        """
        values.to(self.device)
        targets = deepcopy(values).requires_grad_(False)
        self.modules |= {"values": values, "target_values": targets}
        rates = {self.mac: self.args.lr, **dict.fromkeys(values.values(), self.args.critic_lr)}
        self.optimiser = self.adam("all", rates)
        self.parameters, self.target_parameters = [*values.parameters()], [*targets.parameters()]
        return targets

    def train(self, buffer: OfflineBuffer, with_stats: bool) -> Stats:
        """One update of everything, on one batch."""
        loss, stats = self.losses(buffer.sample(self.args.batch_size), with_stats)
        self.step(self.optimiser, loss)
        soft_update(self.target_parameters, self.parameters, self.args.tau)
        self.updates += 1
        return {name: value.item() for name, value in stats.items()}

    @abstractmethod
    def losses(self, batch: Batch, with_stats: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum of all networks' losses, which have no parameter in common, and metrics if `with_stats`."""
