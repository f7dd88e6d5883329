"""A plain multi-layer perceptron."""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class MLP(nn.Module):
    """Linear layers with ReLU between them, on the last axis: [..., sizes[0]] to [..., sizes[-1]]."""

    def __init__(self, *sizes: int):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(inputs, outputs) for inputs, outputs in pairwise(sizes))

    def forward(self, inputs: Tensor) -> Tensor:
        """See the class."""
        # Small networks on a CPU spend much of their time in Python: plain functions cost less than modules.
        *hidden, last = self.layers
        for layer in hidden:
            inputs = F.relu(F.linear(inputs, layer.weight, layer.bias))
        return F.linear(inputs, last.weight, last.bias)
