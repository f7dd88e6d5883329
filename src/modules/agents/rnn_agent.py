"""A recurrent policy: linear - GRU - linear, as PyMARL's (Appendix C.4 of the paper: StarCraft)."""

from collections.abc import Sequence

from torch import Tensor, nn

from inspo.modules.gru import gru
from inspo.modules.mlp import linear, stack_linear


class RNNAgent(nn.Module):
    """The GRU processes a whole sequence in one call."""

    def __init__(self, input_size: int, hidden_dim: int, n_actions: int):
        super().__init__()
        self.hidden_size = hidden_dim
        self.fc1 = nn.Linear(input_size, hidden_dim)
        self.rnn = nn.GRU(hidden_dim, hidden_dim, batch_first=True)
        self.fc2 = nn.Linear(hidden_dim, n_actions)

    @staticmethod
    def unroll(
        networks: Sequence["RNNAgent"],
        inputs: Tensor,
        sizes: list[int],
        hidden: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """See the package."""
        first = stack_linear([network.fc1 for network in networks])
        last = stack_linear([network.fc2 for network in networks])
        features = linear(first, inputs).relu()
        states = gru([network.rnn for network in networks], features, sizes, hidden)
        return linear(last, states).to(inputs.dtype), states
