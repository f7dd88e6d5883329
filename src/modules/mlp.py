"""Multi-layer perceptrons, one or several at once."""

from collections.abc import Sequence
from itertools import pairwise

import torch as th
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812

from inspo.utils.packing import few_sizes
from inspo.utils.precision import product_type

# On a CPU, one call for all networks is faster while they are small. Larger inputs are faster one
# network after the other, because the activations then stay in the processor's cache.
MAX_BATCHED_INPUTS = 1 << 16  # numbers
MAX_USED = 0.9  # share of the rows; if more would, all go through the backward pass
# oneDNN's products are faster than those of `th.mm` on large inputs, and do ReLU on the way.
# PyTorch has this operation for its compiler, and not in every build.
HAS_FUSED = th.backends.mkldnn.is_available() and hasattr(th.ops.mkldnn, "_linear_pointwise")
FUSED_TYPES = (th.float32, th.bfloat16)

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
    if inputs.device.type == "cpu" and inputs.numel() > MAX_BATCHED_INPUTS:
        parameters = [p for network in networks for p in network.parameters()]
        outputs = _OneByOne.apply(inputs.flatten(1, -2), *parameters)
        return outputs.unflatten(1, inputs.shape[1:-1])
    if len(networks) == 1:
        return networks[0](inputs)
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
    values = inputs
    for layer in layers[:-1]:
        values = linear(layer, values).relu_()
    return linear(layers[-1], values).to(inputs.dtype)


class _OneByOne(th.autograd.Function):
    """Networks one after the other. The backward pass leaves out most rows without a gradient."""

    @staticmethod
    def forward(ctx, inputs: Tensor, *parameters: Tensor) -> Tensor:
        """[G, R, I] to [G, R, O]. `parameters`: of each network, a weight and a bias per layer."""
        n_layers = len(parameters) // (2 * len(inputs))
        rows = inputs.to(product_type(inputs))
        parameters = [parameter.to(rows.dtype) for parameter in parameters]
        layers = [*zip(parameters[::2], parameters[1::2], strict=True)]
        outputs = inputs.new_empty(*inputs.shape[:2], len(parameters[-1]))
        activations = []
        for k, values in enumerate(rows):
            *hidden_layers, last = layers[k * n_layers : (k + 1) * n_layers]
            for layer in hidden_layers:
                values = _fused_linear(layer, values, relu=True)
                activations.append(values)
            outputs[k] = _fused_linear(last, values)
        ctx.save_for_backward(rows, *parameters[::2], *activations)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        inputs, *saved = ctx.saved_tensors
        n_layers = (len(saved) + len(inputs)) // (2 * len(inputs))
        weights, activations = saved[: n_layers * len(inputs)], saved[n_layers * len(inputs) :]
        needs_input = ctx.needs_input_grad[0]
        grad_inputs = grad_outputs.new_zeros(inputs.shape) if needs_input else None
        grads = []
        for k, (rows, grad) in enumerate(zip(inputs, grad_outputs, strict=True)):
            first = k * (n_layers - 1)
            layers_inputs = [rows, *activations[first : first + n_layers - 1]]
            used = _rows_with_gradient(grad)
            if used is not None:
                grad = grad.index_select(0, used)
                layers_inputs = [values.index_select(0, used) for values in layers_inputs]
            own_weights = weights[k * n_layers : (k + 1) * n_layers]
            grad, own_grads = _layers_backward(own_weights, layers_inputs, grad, needs_input)
            grads += own_grads
            if needs_input:
                grad_inputs[k, slice(None) if used is None else used] = grad.to(grad_inputs.dtype)
        return grad_inputs, *grads


def _fused_linear(
    layer: tuple[Tensor, Tensor | None], inputs: Tensor, relu: bool = False
) -> Tensor:
    """One layer without its own gradient, with ReLU behind it or not: [R, I] to [R, O]."""
    if HAS_FUSED and inputs.dtype in FUSED_TYPES:
        activation = "relu" if relu else "none"
        return th.ops.mkldnn._linear_pointwise(inputs, *layer, activation, [], "")
    outputs = F.linear(inputs, *layer)
    return outputs.relu_() if relu else outputs


def _rows_with_gradient(grad: Tensor) -> Tensor | None:
    """The numbers of the rows that are not 0 and of some others, if leaving out the rest pays."""
    has_gradient = (grad != 0).any(dim=-1)
    used = has_gradient.nonzero().squeeze(-1)
    n_rows = few_sizes(len(used))
    if n_rows > MAX_USED * len(grad):
        return None
    others = (~has_gradient).nonzero().squeeze(-1)
    return th.cat([used, others[: n_rows - len(used)]])


def _layers_backward(
    weights: Sequence[Tensor],
    inputs: Sequence[Tensor],
    grad: Tensor,
    needs_input: bool,
) -> tuple[Tensor, list[Tensor]]:
    """The backward pass of one network.

    Args:
        weights, inputs: of each layer.
        grad: of the outputs.

    Returns:
        the gradient of the first layer's inputs, if it is needed, and those of weights and biases.
    """
    kind = grad.dtype  # of the parameters
    grad = grad.to(weights[0].dtype)
    grads: list[Tensor] = []
    for k in reversed(range(len(weights))):
        grads[:0] = [(grad.T @ inputs[k]).to(kind), grad.sum(dim=0, dtype=kind)]
        if k or needs_input:
            grad = _fused_linear((weights[k].T.contiguous(), None), grad)
        if k:
            grad = th.ops.aten.threshold_backward(grad, inputs[k], 0)
    return grad, grads
