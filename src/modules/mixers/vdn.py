"""VDN's mixer (Sunehag et al., AAMAS 2018, arXiv:1706.05296), and none at all."""

from torch import Tensor

from inspo.modules.mixers.base import Mixer
from inspo.utils.rl_utils import gather_last


class VDNMixer(Mixer):
    """Q_tot = sum_i q^i. It has no parameters and does not see the state."""

    def weights(self, state: Tensor) -> None:
        return None

    def mix(self, agent_values: Tensor, weights: None) -> Tensor:
        return agent_values.sum(dim=-1)

    def mix_joint_actions(self, agent_values: Tensor, weights: None) -> Tensor:
        """See the base class."""
        return agent_values.sum(dim=2)

    def mix_counterfactuals(self, q: Tensor, actions: Tensor, weights: None) -> Tensor:
        """See the base class. Another action of agent i changes its own term alone."""
        taken = gather_last(q, actions)  # [B, T, N]
        teammates = taken.sum(dim=-1, keepdim=True) - taken
        return teammates.unsqueeze(-1) + q


class NoMixer(Mixer):
    """`mixer: null`: every agent keeps its own value, [B, T, N], as independent learners do."""

    def weights(self, state: Tensor) -> None:
        return None

    def mix(self, agent_values: Tensor, weights: None) -> Tensor:
        """The agents' values as they are, [B, T, N]."""
        return agent_values
