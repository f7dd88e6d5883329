"""GRUs and MLPs, several at once, against PyTorch's own and one by one."""

import pytest
import torch as th
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from inspo.modules import mlp as mlp_module
from inspo.modules.gru import gru
from inspo.modules.mlp import MLP, mlp


@pytest.mark.parametrize("n_networks", [1, 3])
@pytest.mark.parametrize("sizes", [[4] * 6, [4, 4, 2, 2, 2, 1]])
@pytest.mark.parametrize("size", [7, 1])
def test_gru_and_its_gradients_are_those_of_pytorch(n_networks, sizes, size):
    th.manual_seed(0)
    networks = [nn.GRU(5, size, batch_first=True).double() for _ in range(n_networks)]
    inputs = th.randn(n_networks, sum(sizes), 5, dtype=th.double, requires_grad=True)
    hidden = th.randn(n_networks, 4, size, dtype=th.double, requires_grad=True)
    parameters = [parameter for network in networks for parameter in network.parameters()]

    expected = []
    for network, rows, start in zip(networks, inputs, hidden, strict=True):
        states, _ = network(PackedSequence(rows, th.tensor(sizes)), start[None])
        expected.append(states.data)
    expected = th.stack(expected)

    results = []
    for states in (expected, gru(networks, inputs, sizes, hidden)):
        loss = (states.sin() * th.arange(1, 1 + size)).sum()
        gradients = th.autograd.grad(loss, [inputs, hidden, *parameters])
        results.append([states, *gradients])
    for one, other in zip(*results, strict=True):
        th.testing.assert_close(other, one, atol=1e-10, rtol=1e-8)
    with th.no_grad():
        th.testing.assert_close(gru(networks, inputs, sizes, hidden), expected)


@pytest.mark.parametrize("max_batched", [0, 1 << 16])
def test_mlps_at_once_are_mlps_one_by_one(monkeypatch, max_batched):
    monkeypatch.setattr(mlp_module, "MAX_BATCHED_INPUTS", max_batched)
    th.manual_seed(0)
    networks = [MLP(5, 8, 8, 3) for _ in range(4)]
    inputs = th.randn(4, 2, 6, 5)
    expected = th.stack([network(rows) for network, rows in zip(networks, inputs, strict=True)])
    th.testing.assert_close(mlp(networks, inputs), expected)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(("kind", "tolerance"), [(th.double, 1e-10), (th.float32, 1e-5)])
@pytest.mark.parametrize("n_networks", [1, 3])
def test_rows_without_a_gradient_change_no_gradient(
    monkeypatch, n_networks, kind, tolerance, fused
):
    monkeypatch.setattr(mlp_module, "HAS_FUSED", mlp_module.HAS_FUSED and fused)
    monkeypatch.setattr(mlp_module, "MAX_BATCHED_INPUTS", 0)
    th.manual_seed(0)
    networks = [MLP(5, 8, 8, 3).to(kind) for _ in range(n_networks)]
    inputs = th.randn(n_networks, 210, 5, dtype=kind, requires_grad=True)
    weights = th.randint(2, (n_networks, 210, 1)) * th.randn(3)
    weights[0] = 0  # no row of the first network has a gradient
    results = []
    for outputs in (
        th.stack([network(rows) for network, rows in zip(networks, inputs, strict=True)]),
        mlp(networks, inputs),
    ):
        parameters = [parameter for network in networks for parameter in network.parameters()]
        results.append(th.autograd.grad((outputs.sin() * weights).sum(), [inputs, *parameters]))
    for one, other in zip(*results, strict=True):
        th.testing.assert_close(other, one, atol=tolerance, rtol=tolerance)
