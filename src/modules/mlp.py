"""Multi-layer perceptrons, one or several at once."""

from collections.abc import Sequence
from itertools import pairwise

import torch as th
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

# On a CPU, one call for all networks is faster while they are small. Larger inputs are faster one
# network after the other, because the activations then stay in the processor's cache.
MAX_BATCHED_INPUTS = 1 << 16  # numbers

Layer = tuple[Tensor, Tensor]  # weight and bias


class MLP(nn.Module):
    """Linear layers of the given sizes with ReLU between them."""

    def __init__(self, *sizes: int):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Linear(inputs, outputs) for inputs, outputs in pairwise(sizes)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., sizes[0]] to [..., sizes[-1]]."""
        return _forward([(layer.weight, layer.bias) for layer in self.layers], inputs)


def mlp(networks: Sequence[MLP], inputs: Tensor) -> Tensor:
    """Outputs of G networks of equal sizes, each for its own rows: [G, ..., I] to [G, ..., O]."""
    if len(networks) == 1:
        return networks[0](inputs)
    if inputs.device.type == "cpu" and inputs.numel() > MAX_BATCHED_INPUTS:
        outputs = [network(rows) for network, rows in zip(networks, inputs, strict=True)]
        return th.stack(outputs)
    layers_of_networks = zip(*(network.layers for network in networks), strict=True)
    layers = [stack_linear(same_layer) for same_layer in layers_of_networks]
    outputs = _forward(layers, inputs.flatten(1, -2))
    return outputs.unflatten(1, inputs.shape[1:-1])


def stack_linear(layers: Sequence[nn.Linear]) -> Layer:
    """Weights [G, O, I] and biases [G, 1, O] of G layers. A single layer's are not stacked."""
    if len(layers) == 1:
        return layers[0].weight, layers[0].bias
    weights = th.stack([layer.weight for layer in layers])
    biases = th.stack([layer.bias for layer in layers])
    return weights, biases[:, None]


def linear(layer: Layer, inputs: Tensor) -> Tensor:
    """Applies one layer, or G stacked layers to inputs [G, R, I]."""
    # Plain functions, since calls of nn.Module cost small networks on a CPU much of their time.
    weight, bias = layer
    if weight.dim() == 2:
        return F.linear(inputs, weight, bias)
    return th.baddbmm(bias, inputs, weight.mT)


def _forward(layers: list[Layer], inputs: Tensor) -> Tensor:
    for layer in layers[:-1]:
        inputs = linear(layer, inputs).relu_()
    return linear(layers[-1], inputs)
