"""A policy that remembers: linear - GRU - linear, as PyMARL's (Appendix C.4 of the paper: StarCraft II)."""

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from inspo.modules.gru import gru
from inspo.modules.mlp import linear, linear_weights


class RNNAgent(nn.Module):
    """The GRU takes a whole sequence in one call."""

    def __init__(self, input_size: int, hidden_dim: int, n_actions: int):
        super().__init__()
        self.hidden_size = hidden_dim
        self.fc1 = nn.Linear(input_size, hidden_dim)
        self.rnn = nn.GRU(hidden_dim, hidden_dim, batch_first=True)
        self.fc2 = nn.Linear(hidden_dim, n_actions)

    @staticmethod
    def unroll(networks: list["RNNAgent"], inputs: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """See the package."""
        first, last = (
            linear_weights([getattr(network, name) for network in networks])
            for name in ("fc1", "fc2")
        )
        features = F.relu(linear(*first, inputs.flatten(1, 2))).unflatten(1, inputs.shape[1:3])
        states, hidden = gru([network.rnn for network in networks], features, hidden)
        return linear(*last, states.flatten(1, 2)).unflatten(1, inputs.shape[1:3]), hidden
