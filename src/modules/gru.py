"""A GRU over whole sequences, for one network or several at once.

PyTorch's `nn.GRU` is slow on a CPU: its backward pass needs some fifteen small operations per step,
and sums the weights' gradient step by step. Here the whole layer is one autograd function. It works
in place, has four operations per step in its backward pass, and one matrix product over all steps
for the weights. Networks with their own weights are batched. On a GPU, cuDNN is faster and used
instead.
"""

from collections.abc import Sequence

import torch as th
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.rnn import PackedSequence

from inspo.utils.precision import in_float32

WEIGHTS = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


def gru(networks: Sequence[nn.GRU], inputs: Tensor, sizes: list[int], hidden: Tensor) -> Tensor:
    """The states of G one-layer, batch-first `nn.GRU`s of equal size, after every step.

    Each network has its own R sequences, packed as in `inspo.utils.packing`.

    Args:
        networks: the G networks.
        inputs: [G, P, I], of the type in which products over all steps are computed.
        sizes: how many of the R sequences run at each step; they never increase.
        hidden: the states before the first step, [G, R, H].

    Returns:
        [G, P, H].
    """
    if inputs.is_cuda:
        return _gru_of_pytorch(networks, inputs, sizes, hidden)
    return _Unroll.apply(inputs, sizes, hidden, *(_stack(networks, name) for name in WEIGHTS))


# With any autocast, PyTorch gives cuDNN's GRUs float16, in which small gradients are 0.
@in_float32
def _gru_of_pytorch(
    networks: Sequence[nn.GRU], inputs: Tensor, sizes: list[int], hidden: Tensor
) -> Tensor:
    inputs = inputs.to(hidden.dtype)
    n_sequences, one_length = sizes[0], sizes[0] == sizes[-1]
    batch_sizes = th.tensor(sizes)
    outputs = []
    for network, rows, start in zip(networks, inputs, hidden, strict=True):
        start = start[None].contiguous()
        if one_length:
            # Not packed, small networks get a faster algorithm of cuDNN's. Both views are free: it
            # wants the steps first in memory.
            sequences = rows.unflatten(0, (-1, n_sequences)).transpose(0, 1)
            states, _ = network(sequences, start)
            outputs.append(states.transpose(0, 1).flatten(0, 1))
        else:
            states, _ = network(PackedSequence(rows, batch_sizes), start)
            outputs.append(states.data)
    return th.stack(outputs) if len(outputs) > 1 else outputs[0][None]


def _stack(networks: Sequence[nn.GRU], name: str) -> Tensor:
    """One weight of all networks, [G, ...]."""
    if len(networks) == 1:
        return getattr(networks[0], name)[None]
    return th.stack([getattr(network, name) for network in networks])


class _Unroll(th.autograd.Function):
    """r, z = sigmoid(W_rz x + U_rz h),  n = tanh(W_n x + r (U_n h)),  h' = n + z (h - n)

    Biases are left out here. The values of a step lie beside each other, as n, r, z and U_n h: the
    inputs' weights concern the first three, the recurrent weights the last three. They are computed
    in place. tanh(x) is 2 sigmoid(2x) - 1, which is faster: n and U_n h are doubled before.
    """

    @staticmethod
    @th.autocast("cpu", enabled=False)
    def forward(ctx, inputs, sizes, hidden, w, u, w_bias, u_bias) -> Tensor:
        """See `gru`. w, u: the weights [G, 3H, I], [G, 3H, H], with biases [G, 3H]."""
        size = hidden.shape[-1]
        values = hidden.new_empty(*inputs.shape[:2], 4 * size)
        weight, bias = _candidate_first(w), _candidate_first(w_bias)
        bias[:, size:] += u_bias[:, : 2 * size]
        recurrent = u.mT.clone(memory_format=th.contiguous_format)
        for doubled in (weight[:, :size], bias[:, :size], recurrent[..., 2 * size :]):
            doubled.mul_(2)
        if inputs.dtype == values.dtype:
            th.baddbmm(bias[:, None], inputs, weight.mT, out=values[..., : 3 * size])
        else:
            projected = th.bmm(inputs, weight.mT.to(inputs.dtype))
            th.add(projected, bias[:, None], out=values[..., : 3 * size])
        values[..., 3 * size :] = 2 * u_bias[:, None, 2 * size :]
        states = hidden.new_empty(*inputs.shape[:2], size)
        # Plain products of matrices are faster: a single network goes without its axis.
        _unroll(*(one.squeeze(0) for one in (values, hidden, recurrent, states)), sizes)
        ctx.sizes = sizes
        ctx.save_for_backward(inputs, hidden, values, states, w, u)
        return states

    @staticmethod
    @once_differentiable
    @th.autocast("cpu", enabled=False)
    def backward(ctx, grad_states: Tensor) -> tuple[Tensor | None, ...]:
        inputs, hidden, values, states, w, u = ctx.saved_tensors
        size = hidden.shape[-1]
        earlier = (hidden, *states.split(ctx.sizes, 1))
        before = th.cat([h[:, :k] for h, k in zip(earlier, ctx.sizes, strict=False)], dim=1)
        grads = _slopes(values, before)  # then times the states' gradients
        grad_h = grad_states.clone()  # through later steps, too
        from_later = _through_time(grad_h, grads, values[..., 2 * size : 3 * size], u, ctx.sizes)
        sums = grads.sum(dim=1)
        grads, before = grads.to(inputs.dtype), before.to(inputs.dtype)
        grad_x, from_h = grads[..., : 3 * size], grads[..., size:]
        first = _candidate_first(w).to(inputs.dtype)
        return (
            th.bmm(grad_x, first) if ctx.needs_input_grad[0] else None,
            None,
            from_later,
            _candidate_last(th.bmm(grad_x.mT, inputs)).to(w.dtype),
            th.bmm(from_h.mT, before).to(w.dtype),
            _candidate_last(sums[:, : 3 * size]),
            sums[:, size:],
        )


def _unroll(
    values: Tensor, hidden: Tensor, recurrent: Tensor, states: Tensor, sizes: list[int]
) -> None:
    """Computes all states, from the first step to the last, in place.

    Args:
        values: what the inputs contribute, [(G), P, 4H].
        hidden: before the first step, [(G), R, H].
        recurrent: U transposed, [(G), H, 3H].
        states: [(G), P, H].
    """
    size = hidden.shape[-1]
    add_product = Tensor.baddbmm_ if values.dim() == 3 else Tensor.addmm_
    minus_one = values.new_tensor(-1)  # a tensor, since Python's numbers are converted in each call
    n, r, z, u_n = (part.split(sizes, -2) for part in values.split(size, -1))
    gates = values[..., size : 3 * size].split(sizes, -2)
    from_h = values[..., size:].split(sizes, -2)
    h = hidden
    for t, after in enumerate(states.split(sizes, -2)):
        h = h[..., : sizes[t], :]
        add_product(from_h[t], h, recurrent)
        gates[t].sigmoid_()
        half = n[t].addcmul_(r[t], u_n[t]).sigmoid_()
        th.add(minus_one, half, alpha=2, out=half)
        th.lerp(half, h, z[t], out=after)
        h = after


def _slopes(values: Tensor, before: Tensor) -> Tensor:
    """Derivatives of each new state by W_n x, the inputs of r and z, and U_n h, [G, P, 4H]."""
    n, r, z, doubled_u_n = values.chunk(4, dim=-1)
    slopes = th.empty_like(values)
    by_n, by_r, by_z, by_u_n = slopes.chunk(4, dim=-1)
    th.mul(1 - z, 1 - n.square(), out=by_n)
    th.mul(by_n, r, out=by_u_n)
    th.mul(by_u_n, doubled_u_n, out=by_r).mul_(0.5 * (1 - r))
    th.mul(before - n, z - z.square(), out=by_z)
    return slopes


def _through_time(grad_h: Tensor, grads: Tensor, z: Tensor, u: Tensor, sizes: list[int]) -> Tensor:
    """Completes the gradients of all states, from the last step to the first.

    Args:
        grad_h: of each state directly; later steps' are added, [G, P, H].
        grads: slopes, which are multiplied with grad_h, [G, P, 4H].
        z: [G, P, H].

    Returns:
        the gradient of the state before the first step.
    """
    size = grad_h.shape[-1]
    steps = zip(
        grad_h.split(sizes, 1),
        grads.unflatten(-1, (4, size)).split(sizes, 1),
        grads[..., size:].split(sizes, 1),
        z.split(sizes, 1),
        strict=True,
    )
    from_later = None
    for grad, all_parts, from_h, keep in reversed([*steps]):
        if from_later is not None:
            grad[:, : from_later.shape[1]].add_(from_later)
        all_parts.mul_(grad.unsqueeze(-2))
        from_later = th.baddbmm(grad * keep, from_h, u)
    return from_later


def _candidate_first(rows: Tensor) -> Tensor:
    """A copy with the rows of r, z and n in the order n, r, z, [G, 3H, ...]."""
    return th.cat([rows.chunk(3, dim=1)[k] for k in (2, 0, 1)], dim=1)


def _candidate_last(rows: Tensor) -> Tensor:
    """The reverse of `_candidate_first`."""
    return th.cat([rows.chunk(3, dim=1)[k] for k in (1, 2, 0)], dim=1)
