import pytest
import torch as th
from torch import nn

from inspo.modules.gru import gru
from inspo.modules.mlp import MLP, mlp


@pytest.mark.parametrize("networks", [1, 3])
def test_gru_and_its_gradients_are_those_of_pytorch(networks):
    th.manual_seed(0)
    nets = [nn.GRU(5, 7, batch_first=True).double() for _ in range(networks)]
    inputs = th.randn(networks, 4, 6, 5, dtype=th.double, requires_grad=True)
    hidden = th.randn(networks, 4, 7, dtype=th.double, requires_grad=True)
    parameters = [inputs, hidden, *(parameter for net in nets for parameter in net.parameters())]

    def pytorch():
        pairs = [
            net(rows, state[None]) for net, rows, state in zip(nets, inputs, hidden, strict=True)
        ]
        return th.stack([states for states, _ in pairs]), th.cat([last for _, last in pairs])

    results = []
    for states, last in (pytorch(), gru(nets, inputs, hidden)):
        loss = (states.sin() * th.arange(7)).sum() + last.square().sum()
        results.append([states, last, *th.autograd.grad(loss, parameters)])
    for expected, found in zip(*results, strict=True):
        th.testing.assert_close(found, expected, atol=1e-10, rtol=1e-8)
    with th.no_grad():
        th.testing.assert_close(gru(nets, inputs, hidden)[0], results[0][0])


def test_mlps_at_once_are_mlps_one_by_one():
    th.manual_seed(0)
    nets = [MLP(5, 8, 8, 3) for _ in range(4)]
    inputs = th.randn(4, 2, 6, 5)
    expected = th.stack([net(rows) for net, rows in zip(nets, inputs, strict=True)])
    th.testing.assert_close(mlp(nets, inputs), expected)
