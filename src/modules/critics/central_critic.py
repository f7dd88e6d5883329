"""The team's value V(s), which sees the state."""

from torch import Tensor, nn

from inspo.envs import EnvInfo
from inspo.modules.mlp import MLP


class CentralCritic(nn.Module):
    """A network of three ReLU layers."""

    def __init__(self, info: EnvInfo, hidden_dim: int):
        super().__init__()
        self.net = MLP(info.state_shape, hidden_dim, hidden_dim, hidden_dim, 1)

    def forward(self, state: Tensor) -> Tensor:
        """V(s), [..., S] to [...]."""
        return self.net(state).squeeze(-1)
