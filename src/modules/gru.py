"""A GRU over whole sequences, for one network or several at once.

PyTorch's `nn.GRU` is slow on a CPU: its backward pass needs some fifteen small operations per step,
and sums the weights' gradient step by step. Here the recurrence is one autograd function. Its
backward pass has four operations per step and one matrix product over all steps for the weights.
Networks with their own weights are batched. On a GPU, cuDNN is faster and used instead.
"""

from collections.abc import Sequence

import torch as th
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

WEIGHTS = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


def gru(networks: Sequence[nn.GRU], inputs: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs of G one-layer, batch-first `nn.GRU`s of equal size, each for its own R sequences.

    Args:
        networks: the G networks.
        inputs: [G, R, T, I].
        hidden: the states before the first step, [G, R, H].

    Returns:
        the states after every step [G, R, T, H], and after the last step [G, R, H].
    """
    if inputs.is_cuda:
        return _gru_of_pytorch(networks, inputs, hidden)
    w_ih, w_hh, b_ih, b_hh = (_stack_weights(networks, name) for name in WEIGHTS)
    projected = th.baddbmm(b_ih[:, None], inputs.flatten(1, 2), w_ih.mT)
    projected = projected.unflatten(1, inputs.shape[1:3])  # [G, R, T, 3H]
    time_first = projected.permute(2, 0, 1, 3).contiguous()
    states = _Unroll.apply(time_first, hidden, w_hh, b_hh)  # [T, G, R, H]
    return states.permute(1, 2, 0, 3), states[-1]


def _gru_of_pytorch(
    networks: Sequence[nn.GRU],
    inputs: Tensor,
    hidden: Tensor,
) -> tuple[Tensor, Tensor]:
    all_states, last_states = [], []
    for network, rows, start in zip(networks, inputs, hidden, strict=True):
        states, last = network(rows, start[None].contiguous())
        all_states.append(states)
        last_states.append(last)
    return th.stack(all_states), th.cat(last_states)


def _stack_weights(networks: Sequence[nn.GRU], name: str) -> Tensor:
    """One weight of all networks, [G, ...]."""
    if len(networks) == 1:
        return getattr(networks[0], name)[None]
    return th.stack([getattr(network, name) for network in networks])


class _Unroll(th.autograd.Function):
    """The recurrence, with the biases left out:

    r, z = sigmoid(x_rz + W_rz h),  n = tanh(x_n + r (W_n h)),  h' = n + z (h - n)
    """

    @staticmethod
    def forward(ctx, projected: Tensor, hidden: Tensor, w_hh: Tensor, b_hh: Tensor) -> Tensor:
        """The states after every step.

        Args:
            projected: the inputs after the input weights, x, [T, G, R, 3H].
            hidden: [G, R, H].
            w_hh, b_hh: the recurrent weights [G, 3H, H] and biases [G, 3H].

        Returns:
            [T, G, R, H].
        """
        size = hidden.shape[-1]
        bias = b_hh[:, None]
        weight = w_hh.mT.contiguous()
        states = hidden.new_empty(len(projected) + 1, *hidden.shape)
        states[0] = hidden
        needs_backward = any(ctx.needs_input_grad)
        gates, candidates, recurrent = [], [], []
        for t, x in enumerate(projected.unbind()):
            h = states[t]
            from_h = th.baddbmm(bias, h, weight)
            gate = (x[..., : 2 * size] + from_h[..., : 2 * size]).sigmoid_()
            n = th.addcmul(x[..., 2 * size :], gate[..., :size], from_h[..., 2 * size :]).tanh_()
            th.lerp(n, h, gate[..., size:], out=states[t + 1])
            if needs_backward:
                gates.append(gate)
                candidates.append(n)
                recurrent.append(from_h[..., 2 * size :])
        if needs_backward:
            steps = [th.stack(values) for values in (gates, candidates, recurrent)]
            ctx.save_for_backward(states, *steps, w_hh)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_states: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        states, gates, n, recurrent, w_hh = ctx.saved_tensors
        r, z = gates.chunk(2, dim=-1)
        before = states[:-1]
        # Derivatives of the new state by the inputs of the gates and the candidate, at all steps.
        to_n = (1 - z) * (1 - n.square())
        to_z = (before - n) * z * (1 - z)
        to_r = to_n * recurrent * r * (1 - r)
        to_recurrent = th.stack([to_r, to_z, to_n * r], dim=-2)  # [T, G, R, 3, H]
        grad_h = th.empty_like(n)  # of each state, through later steps too
        from_later = th.zeros_like(n[0])
        for t in range(len(n) - 1, -1, -1):
            th.add(grad_states[t], from_later, out=grad_h[t])
            through = (grad_h[t].unsqueeze(-2) * to_recurrent[t]).flatten(-2)
            from_later = th.baddbmm(grad_h[t] * z[t], through, w_hh)
        grad_from_h = (grad_h.unsqueeze(-2) * to_recurrent).flatten(-2)  # [T, G, R, 3H]
        gates_part = grad_from_h[..., : 2 * n.shape[-1]]
        grad_projected = th.cat([gates_part, grad_h * to_n], dim=-1)
        rows = grad_from_h.transpose(0, 1).flatten(1, 2)  # [G, T * R, 3H]
        grad_w = th.bmm(rows.mT, before.transpose(0, 1).flatten(1, 2))
        return grad_projected, from_later, grad_w, rows.sum(dim=1)
