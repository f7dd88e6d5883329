"""A policy that remembers: linear - GRU - linear, as PyMARL's (Appendix C.4 of the paper: StarCraft II)."""

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class RNNAgent(nn.Module):
    """The GRU takes a whole sequence in one call."""

    def __init__(self, input_size: int, hidden_dim: int, n_actions: int):
        super().__init__()
        self.hidden_size = hidden_dim
        self.fc1 = nn.Linear(input_size, hidden_dim)
        self.rnn = nn.GRU(hidden_dim, hidden_dim, batch_first=True)
        self.fc2 = nn.Linear(hidden_dim, n_actions)

    def forward(self, inputs: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs [B, T, I] and hidden [B, H] to logits [B, T, A] and the hidden state after step T."""
        outputs, last = self.rnn(F.relu(self.fc1(inputs)), hidden.unsqueeze(0).contiguous())
        return self.fc2(outputs), last.squeeze(0)
