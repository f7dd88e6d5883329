"""A GRU over sequences of different lengths, without padding.

The sequences are sorted by falling length. Their rows lie step by step: first the rows of all
sequences at step 0, then those of the sequences that last longer, and so on. `counts` says how many
rows each step has.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch as th
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812


class Packing(NamedTuple):
    """Where the rows of R sequences lie.

    order       int [R], the sequences by falling length
    steps       int [M], the step of each packed row
    sequences   int [M], the sequence of each packed row
    counts      rows of each step
    """

    order: Tensor
    steps: Tensor
    sequences: Tensor
    counts: list[int]


def pack(lengths: Tensor) -> Packing:
    """The packing of sequences of these lengths, int [R]."""
    order = lengths.argsort(descending=True, stable=True)
    time = th.arange(int(lengths.max()), device=lengths.device)
    runs = time[:, None] < lengths[order]  # [T, R]
    steps, places = runs.nonzero(as_tuple=True)
    return Packing(order, steps, order[places], runs.sum(dim=1).tolist())


def packed_gru(network: nn.GRU, inputs: Tensor, counts: Sequence[int]) -> Tensor:
    """The states after every row, from a state of zeros: [M, I] to [M, H]."""
    projected = F.linear(inputs, network.weight_ih_l0, network.bias_ih_l0)
    return _Unroll.apply(projected, network.weight_hh_l0, network.bias_hh_l0, counts)


class _Unroll(th.autograd.Function):
    """The recurrence, as in `inspo.modules.gru`, with H-sized blocks r, z and n:

    r, z = sigmoid(x_rz + W_rz h),  n = tanh(x_n + r (W_n h)),  h' = n + z (h - n)
    """

    @staticmethod
    def forward(ctx, projected: Tensor, w_hh: Tensor, b_hh: Tensor, counts: Sequence[int]):
        """The states after every row, [M, H], from the inputs after the input weights, [M, 3H]."""
        size = w_hh.shape[1]
        weight = w_hh.T.contiguous()
        states, before, candidates = projected.new_empty(3, len(projected), size)
        gates = projected[:, : 2 * size].clone()
        recurrent = th.empty_like(states)
        h = projected.new_zeros(counts[0], size)
        start = 0
        for count in counts:
            rows = slice(start, start + count)
            h = h[:count]
            before[rows] = h
            from_h = th.addmm(b_hh, h, weight)
            gate = gates[rows].add_(from_h[:, : 2 * size]).sigmoid_()
            recurrent[rows] = from_h[:, 2 * size :]
            n = candidates[rows]
            th.addcmul(projected[rows, 2 * size :], gate[:, :size], recurrent[rows], out=n)
            n.tanh_()
            h = states[rows]
            th.lerp(n, before[rows], gate[:, size:], out=h)
            start += count
        ctx.counts = counts
        ctx.save_for_backward(before, gates, candidates, recurrent, w_hh)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_states: Tensor):
        before, gates, n, recurrent, w_hh = ctx.saved_tensors
        r, z = gates.chunk(2, dim=-1)
        # Derivatives of the new state by what comes from the old one, block by block.
        to_n = (1 - z) * (1 - n.square())
        to_z = (before - n) * z * (1 - z)
        to_r = to_n * recurrent * r * (1 - r)
        to_recurrent = th.stack([to_r, to_z, to_n * r], dim=1)  # [M, 3, H]
        grad_h = grad_states.clone()  # of each state, through later steps too
        from_h = th.empty_like(to_recurrent)
        stop, later = len(n), n[:0]
        for count in reversed(ctx.counts):
            rows = slice(stop - count, stop)
            grad = grad_h[rows]
            grad[: len(later)] += later
            through = th.mul(grad.unsqueeze(1), to_recurrent[rows], out=from_h[rows])
            later = th.addmm(grad * z[rows], through.flatten(1), w_hh)
            stop -= count
        from_h = from_h.flatten(1)  # [M, 3H]
        size = n.shape[1]
        grad_projected = th.cat([from_h[:, : 2 * size], grad_h * to_n], dim=1)
        return grad_projected, from_h.T @ before, from_h.sum(dim=0), None
