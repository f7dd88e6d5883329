"""A GRU over whole sequences, for one network or several at once.

On a CPU, `nn.GRU` spends most of its time on bookkeeping: its backward pass goes through some fifteen small operations
at every step, and adds up the weights' gradient step by step. Written as one autograd function, the backward pass has
four operations at a step, and the weights' gradient is one product over all steps. Networks with weights of their own
are a batch of matrices. On a GPU, cuDNN does all that better.
"""

import torch as th
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def gru(networks: list[nn.GRU], inputs: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """What one-layer, batch-first `nn.GRU`s put out, each for rows of its own.

    Args:
        networks: G of them, of one size.
        inputs: [G, R, T, I], R sequences for each network.
        hidden: the states before the first step, [G, R, H].

    Returns:
        the states after every step [G, R, T, H], and after the last [G, R, H].
    """
    if inputs.is_cuda:
        pairs = [
            net(rows, state[None].contiguous())
            for net, rows, state in zip(networks, inputs, hidden, strict=True)
        ]
        return th.stack([states for states, _ in pairs]), th.cat([last for _, last in pairs])
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    if len(networks) == 1:
        w_ih, w_hh, b_ih, b_hh = (getattr(networks[0], name)[None] for name in names)
    else:
        w_ih, w_hh, b_ih, b_hh = (
            th.stack([getattr(net, name) for net in networks]) for name in names
        )
    sizes = inputs.shape[1:3]
    projected = th.baddbmm(b_ih[:, None], inputs.flatten(1, 2), w_ih.mT).unflatten(
        1, sizes
    )  # [G, R, T, 3H]
    states = _Unroll.apply(
        projected.permute(2, 0, 1, 3).contiguous(), hidden, w_hh, b_hh
    )  # [T, G, R, H]
    return states.permute(1, 2, 0, 3), states[-1]


class _Unroll(th.autograd.Function):
    """The recurrence: r, z = sigmoid(x_rz + W_rz h), n = tanh(x_n + r (W_n h)), h' = n + z (h - n), biases within."""

    @staticmethod
    def forward(ctx, projected: Tensor, hidden: Tensor, w_hh: Tensor, b_hh: Tensor) -> Tensor:
        """projected [T, G, R, 3H], hidden [G, R, H], w_hh [G, 3H, H], b_hh [G, 3H] to the states [T, G, R, H]."""
        size = hidden.shape[-1]
        bias, weight = b_hh[:, None], w_hh.mT.contiguous()
        states = hidden.new_empty(len(projected) + 1, *hidden.shape)
        states[0] = hidden
        keep = any(ctx.needs_input_grad)
        gates, candidates, recurrent = [], [], []
        for t, x in enumerate(projected.unbind()):
            h = states[t]
            from_h = th.baddbmm(bias, h, weight)
            gate = (x[..., : 2 * size] + from_h[..., : 2 * size]).sigmoid_()
            n = th.addcmul(x[..., 2 * size :], gate[..., :size], from_h[..., 2 * size :]).tanh_()
            th.lerp(n, h, gate[..., size:], out=states[t + 1])
            if keep:
                gates.append(gate)
                candidates.append(n)
                recurrent.append(from_h[..., 2 * size :])
        if keep:
            ctx.save_for_backward(
                states, th.stack(gates), th.stack(candidates), th.stack(recurrent), w_hh
            )
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_states: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        states, gates, n, recurrent, w_hh = ctx.saved_tensors
        r, z = gates.chunk(2, dim=-1)
        before = states[:-1]
        # What a gate's input gets for each unit of the new state's gradient; all steps at once.
        to_n = (1 - z) * (1 - n.square())
        to_z = (before - n) * z * (1 - z)
        to_r = to_n * recurrent * r * (1 - r)
        to_gates = th.stack(
            [to_r, to_z, to_n * r], dim=-2
        )  # [T, G, R, 3, H], of what the state is multiplied into
        grad_h = th.empty_like(n)  # of the states, what later steps bring included
        later = th.zeros_like(n[0])
        for t in range(len(n) - 1, -1, -1):
            th.add(grad_states[t], later, out=grad_h[t])
            through = (grad_h[t].unsqueeze(-2) * to_gates[t]).flatten(-2)
            later = th.baddbmm(grad_h[t] * z[t], through, w_hh)
        grad_from_h = (grad_h.unsqueeze(-2) * to_gates).flatten(-2)  # [T, G, R, 3H]
        grad_projected = th.cat([grad_from_h[..., : 2 * n.shape[-1]], grad_h * to_n], dim=-1)
        rows = grad_from_h.transpose(0, 1).flatten(1, 2)  # [G, T * R, 3H]
        grad_w = th.bmm(rows.mT, before.transpose(0, 1).flatten(1, 2))
        return grad_projected, later, grad_w, rows.sum(dim=1)
