"""Multi-layer perceptrons, one or several at once."""

from itertools import pairwise

import torch as th
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

# Small networks gain from one call for all of them. In large ones the arithmetic counts, and one by one their
# activations stay in the processor's cache.
BATCHED_UP_TO = 1 << 16  # numbers of input


class MLP(nn.Module):
    """Linear layers with ReLU between them, on the last axis: [..., sizes[0]] to [..., sizes[-1]]."""

    def __init__(self, *sizes: int):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Linear(inputs, outputs) for inputs, outputs in pairwise(sizes)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """See the class."""
        return _layers([(layer.weight, layer.bias) for layer in self.layers], inputs)


def mlp(networks: list[MLP], inputs: Tensor) -> Tensor:
    """What MLPs of one size put out, each for rows of its own: [G, ..., I] to [G, ..., O] for G networks."""
    if len(networks) == 1:
        return networks[0](inputs)
    if inputs.numel() > BATCHED_UP_TO:
        return th.stack([network(rows) for network, rows in zip(networks, inputs, strict=True)])
    weights = [
        linear_weights(layers)
        for layers in zip(*(network.layers for network in networks), strict=True)
    ]
    return _layers(weights, inputs.flatten(1, -2)).unflatten(1, inputs.shape[1:-1])


def linear_weights(layers: tuple[nn.Linear, ...]) -> tuple[Tensor, Tensor]:
    """Weights and biases of linear layers of one size, as a batch: [G, O, I] and [G, 1, O]; of one layer, its own."""
    if len(layers) == 1:
        return layers[0].weight, layers[0].bias
    return th.stack([layer.weight for layer in layers]), th.stack([layer.bias for layer in layers])[
        :, None
    ]


def linear(weight: Tensor, bias: Tensor, inputs: Tensor) -> Tensor:
    """A linear layer, or a batch of them if the weights are one: then inputs are [G, R, I]."""
    # Small networks on a CPU spend much of their time in Python: plain functions cost less than modules.
    return (
        F.linear(inputs, weight, bias) if weight.dim() == 2 else th.baddbmm(bias, inputs, weight.mT)
    )


def _layers(weights: list[tuple[Tensor, Tensor]], inputs: Tensor) -> Tensor:
    for weight, bias in weights[:-1]:
        inputs = linear(weight, bias, inputs).relu_()
    return linear(*weights[-1], inputs)
