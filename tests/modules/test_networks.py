"""GRUs and MLPs, several at once, against PyTorch's own and one by one."""

import pytest
import torch as th
from torch import nn

from inspo.modules import mlp as mlp_module
from inspo.modules.gru import gru
from inspo.modules.mlp import MLP, mlp


@pytest.mark.parametrize("n_networks", [1, 3])
def test_gru_and_its_gradients_are_those_of_pytorch(n_networks):
    th.manual_seed(0)
    networks = [nn.GRU(5, 7, batch_first=True).double() for _ in range(n_networks)]
    inputs = th.randn(n_networks, 4, 6, 5, dtype=th.double, requires_grad=True)
    hidden = th.randn(n_networks, 4, 7, dtype=th.double, requires_grad=True)
    parameters = [parameter for network in networks for parameter in network.parameters()]

    expected_states, expected_last = [], []
    for network, rows, start in zip(networks, inputs, hidden, strict=True):
        states, last = network(rows, start[None])
        expected_states.append(states)
        expected_last.append(last)
    expected = (th.stack(expected_states), th.cat(expected_last))

    results = []
    for states, last in (expected, gru(networks, inputs, hidden)):
        loss = (states.sin() * th.arange(7)).sum() + last.square().sum()
        gradients = th.autograd.grad(loss, [inputs, hidden, *parameters])
        results.append([states, last, *gradients])
    for one, other in zip(*results, strict=True):
        th.testing.assert_close(other, one, atol=1e-10, rtol=1e-8)
    with th.no_grad():
        th.testing.assert_close(gru(networks, inputs, hidden)[0], expected[0])


@pytest.mark.parametrize("max_batched", [0, 1 << 16])
def test_mlps_at_once_are_mlps_one_by_one(monkeypatch, max_batched):
    monkeypatch.setattr(mlp_module, "MAX_BATCHED_INPUTS", max_batched)
    th.manual_seed(0)
    networks = [MLP(5, 8, 8, 3) for _ in range(4)]
    inputs = th.randn(4, 2, 6, 5)
    expected = th.stack([network(rows) for network, rows in zip(networks, inputs, strict=True)])
    th.testing.assert_close(mlp(networks, inputs), expected)
