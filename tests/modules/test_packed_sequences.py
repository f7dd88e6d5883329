"""Sequences without padding: the same states and gradients as PyTorch's GRU on padded ones."""

import pytest
import torch as th
from conftest import make_args, make_data
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from inspo.controllers import BasicMAC
from inspo.modules import gru as module
from inspo.modules.gru import gru
from inspo.utils.packing import few_sizes, packing, sequence_rows
from inspo.utils.precision import autocast

LENGTHS = th.tensor([3, 6, 1, 6, 4])


def test_rows_lie_step_by_step_with_the_longest_sequence_first():
    rows = sequence_rows(th.tensor([1, 3, 2]))
    assert rows.steps.tolist() == [0, 0, 0, 1, 1, 2]
    assert rows.sequences.tolist() == [1, 2, 0, 1, 2, 1]
    assert rows.sizes == [3, 2, 1]


def test_padding_that_is_kept_continues_the_shortest_sequences():
    rows = sequence_rows(th.tensor([1, 5, 2]), n_extra=3)
    assert rows.sizes == [3, 3, 3, 1, 1]
    assert rows.sequences.tolist() == [1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 1]
    everything = sequence_rows(th.tensor([1, 5, 2]), n_extra=100)
    assert everything.sizes == [3] * 5


def test_sizes_are_few_and_little_more_than_asked():
    sizes = {0: 0, 1: 1, 31: 31, 33: 34, 1024: 1024, 1025: 1088, 2000: 2048}
    assert {n: few_sizes(n) for n in sizes} == sizes
    assert all(n <= few_sizes(n) <= n * 17 / 16 for n in range(5000))
    assert len({few_sizes(n) for n in range(1024, 4096)}) == 33


@pytest.mark.parametrize("recurrent", [True, False])
@pytest.mark.parametrize("final_row", [0, 1])
def test_batches_have_few_sizes_and_get_nothing_back_for_padding(recurrent, final_row):
    th.manual_seed(0)
    n_rows, seen = set(), set()
    for _ in range(40):
        lengths = th.randint(40, 100, (32,))
        filled = th.arange(int(lengths.max())) < lengths[:, None]
        real = th.arange(int(lengths.max()) + final_row) < lengths[:, None] + final_row
        values = th.randn(*real.shape, 2).requires_grad_()
        packed = packing({"obs": values, "filled": filled}, recurrent)
        assert sum(packed.sizes) == len(packed.pack(values)) == few_sizes(int(real.sum()))
        assert packed.sizes == sorted(packed.sizes, reverse=True)
        result = packed.unpack(packed.pack(values) + 1)
        th.testing.assert_close(result, (values + 1) * real[..., None])
        result.square().sum().backward()
        assert (values.grad != 0).any(dim=-1).equal(real)
        n_rows.add(sum(packed.sizes))
        seen.add(int(real.sum()))
    assert len(n_rows) < len(seen) / 2


@pytest.mark.parametrize("lengths", [LENGTHS, th.full((5,), 6)], ids=["several", "one"])
@pytest.mark.parametrize("unroll", [gru, module._gru_of_pytorch], ids=["ours", "on GPUs"])
def test_states_and_gradients_are_those_of_pytorchs_gru(unroll, lengths):
    th.manual_seed(0)
    network = nn.GRU(5, 7, batch_first=True)
    padded = th.randn(5, 6, 5, requires_grad=True)
    sequences, steps, sizes = sequence_rows(lengths)
    rows = sequences, steps
    packed = padded.detach()[rows].requires_grad_()
    weights = th.randn(int(lengths.sum()), 7)

    expected = network(padded)[0][rows]
    (expected * weights).sum().backward()
    gradients = [parameter.grad.clone() for parameter in network.parameters()]
    network.zero_grad()
    (states,) = unroll([network], packed[None], sizes, th.zeros(1, len(lengths), 7))
    (states * weights).sum().backward()

    th.testing.assert_close(states, expected)
    th.testing.assert_close(packed.grad, padded.grad[rows])
    for parameter, gradient in zip(network.parameters(), gradients, strict=True):
        th.testing.assert_close(parameter.grad, gradient, atol=1e-5, rtol=1e-5)


def test_a_gpu_gets_sequences_of_one_length_unpacked():
    """Then cuDNN has its fastest kernels. Steps come first in memory, as it needs them."""
    network = nn.GRU(5, 7, batch_first=True)
    given = []
    network.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    for sizes in ([3, 3], [3, 2]):
        module._gru_of_pytorch([network], th.randn(1, sum(sizes), 5), sizes, th.zeros(1, 3, 7))
    plain, packed = given
    assert plain.shape == (3, 2, 5)
    assert plain.transpose(0, 1).is_contiguous()
    assert isinstance(packed, PackedSequence)


@pytest.mark.parametrize("sizes", [[3, 3], [3, 2]])
def test_recurrences_stay_in_float32_with_bf16(sizes):
    """On GPUs, too, where PyTorch's autocast would compute them in float16."""
    network = nn.GRU(5, 7, batch_first=True)
    inputs = th.randn(1, sum(sizes), 5).bfloat16()
    hidden = th.zeros(1, 3, 7)
    exact = module._gru_of_pytorch([network], inputs.float(), sizes, hidden)
    with autocast("bf16", inputs.device):
        for unroll in (gru, module._gru_of_pytorch):
            states = unroll([network], inputs, sizes, hidden)
            assert states.dtype == th.float32
        assert th.equal(states, exact)


@pytest.mark.parametrize("agent", ["rnn", "mlp"])
@pytest.mark.parametrize("shared", [True, False])
def test_packed_policies_are_the_policies(agent, shared):
    args = make_args("mappo", agent=agent, share_parameters=shared, hidden_dim=8)
    info = make_data().env_info(episode_limit=5)
    th.manual_seed(0)
    mac = BasicMAC(args, info)
    batch = {
        "obs": th.randn(4, 5, info.n_agents, info.obs_shape),
        "last_actions": th.full((4, 5, info.n_agents), -1),
    }
    lengths = th.randint(1, 6, (4, info.n_agents))
    rows = mac.pack(lengths)
    inputs = mac.build_inputs(batch["obs"], batch["last_actions"])
    outputs = mac.packed_outputs(inputs[rows.index], rows)
    assert len(outputs) == lengths.sum()
    th.testing.assert_close(outputs, mac.outputs(batch)[rows.index])
