"""Contracts that all learners keep."""

from copy import deepcopy

import numpy as np
import pytest
import torch as th
from conftest import make_data
from small_learners import ALGORITHMS, make_learner

from inspo.controllers import basic_controller
from inspo.modules import mlp as mlp_module
from inspo.modules.critics import local_critic
from inspo.utils.batch import without_final_row
from inspo.utils.packing import packing

UNSHARED = ["alberdice"]  # refuse share_parameters

every_algorithm = pytest.mark.parametrize("algorithm", list(ALGORITHMS))


@pytest.mark.parametrize("agent", ["mlp", "rnn"])
@pytest.mark.parametrize("share", [False, True])
@every_algorithm
def test_training_moves_every_policy_and_stays_finite(tmp_path, algorithm, share, agent):
    if share and algorithm in UNSHARED:
        pytest.skip("shares no parameters")
    learner, buffer = make_learner(
        tmp_path,
        algorithm,
        share_parameters=share,
        agent=agent,
        obs_agent_id=share,
        obs_last_action=agent == "rnn",
    )
    before = {name: value.clone() for name, value in learner.mac.state_dict().items()}
    for _ in range(20):
        stats = learner.train(buffer, with_stats=True)
        assert stats
        assert all(np.isfinite(value) for value in stats.values())
    assert learner.updates == 20
    after = learner.mac.state_dict()
    assert not [name for name, value in after.items() if th.equal(value, before[name])]
    assert not learner.train(buffer, with_stats=False)


def make_many_lengths(tmp_path, algorithm, **settings):
    """A learner and a batch, of which `packing` keeps some padding."""
    data = make_data(lengths=(13, 1, 7, 4, 12, 5, 9, 2, 13, 11))
    learner, buffer = make_learner(tmp_path, algorithm, data=data, **settings)
    batch = buffer.sample(41)
    for rows in (batch, without_final_row(batch)):
        packed = packing(rows, recurrent=True)
        assert (packed.places == rows["obs"][..., 0, 0].numel()).any()
    buffer.sample = lambda _: batch
    return learner, buffer, batch


def with_other_padding(batch, change):
    """The batch with `change` added to all numbers in its padding."""
    steps = batch["filled"].shape[1]
    lengths = batch["filled"].sum(dim=1)
    # Row L holds what followed the last step. The rows after it are padding.
    padding = th.arange(steps + 1) > lengths[:, None]
    assert padding.any()
    changed = dict(batch)
    for name in ("state", "obs"):
        rows = padding.view(*padding.shape, *(1,) * (batch[name].ndim - 2))
        changed[name] = th.where(rows, batch[name] + change, batch[name])
    changed["reward"] = th.where(padding[:, :-1], batch["reward"] + change, batch["reward"])
    return changed


@every_algorithm
def test_padding_changes_no_loss(tmp_path, algorithm):
    """One update gives the same networks, whatever stands in the padding."""
    networks = []
    for change in (0.0, 1000.0):
        learner, buffer, batch = make_many_lengths(tmp_path, algorithm)
        batch = with_other_padding(batch, change)
        buffer.sample = lambda _, batch=batch: batch
        learner.train(buffer, with_stats=False)
        parameters = [p for module in learner.modules.values() for p in module.parameters()]
        networks.append(th.cat([p.detach().flatten() for p in parameters]))
    assert th.equal(*networks)


@every_algorithm
def test_rows_without_an_available_action_make_no_nan(tmp_path, algorithm):
    """In StarCraft II, no action is available in the final row of a terminated episode."""
    data = make_data()
    terminated = data.terminated[data.final_rows - 1]
    data.avail_actions[data.final_rows[terminated]] = False
    data.check()
    learner, buffer = make_learner(tmp_path, algorithm, data=data)
    for _ in range(5):
        stats = learner.train(buffer, with_stats=True)
        # A leak of the mask's -1e9 would be larger.
        assert all(abs(value) < 1e6 for value in stats.values())


@every_algorithm
def test_learning_rates_decay_to_zero(tmp_path, algorithm):
    learner, buffer = make_learner(tmp_path, algorithm, lr_decay_steps="t_max", t_max=4)
    for _ in range(4):
        learner.train(buffer, with_stats=False)
    groups = [group for opt in learner.optimisers.values() for group in opt.param_groups]
    rates = {group["lr"] / group["initial_lr"] for group in groups}
    assert 0.25 in rates  # at the fourth step
    assert rates <= {0.25, 1.0}  # the optimiser of a fixed alpha takes no step
    before = [value.clone() for value in learner.mac.parameters()]
    learner.train(buffer, with_stats=False)
    assert all(map(th.equal, before, learner.mac.parameters()))


@every_algorithm
def test_a_restored_learner_continues_bit_for_bit(tmp_path, algorithm):
    learner, buffer = make_learner(tmp_path, algorithm)
    for _ in range(3):
        learner.train(buffer, with_stats=False)
    th.save({"learner": learner.state_dict(), "buffer": buffer.state_dict()}, tmp_path / "state.pt")
    expected = [learner.train(buffer, with_stats=True) for _ in range(3)]
    other, its_buffer = make_learner(tmp_path, algorithm)
    other.train(its_buffer, with_stats=False)
    state = th.load(tmp_path / "state.pt", weights_only=True)
    other.load_state_dict(state["learner"])
    its_buffer.load_state_dict(state["buffer"])
    assert [other.train(its_buffer, with_stats=True) for _ in range(3)] == expected


def without_packing(batch, recurrent):
    """Stands for `packing` and keeps all padding."""
    return packing({"obs": batch["obs"]}, recurrent)


@pytest.mark.parametrize("agent", ["mlp", "rnn"])
@every_algorithm
def test_packed_rows_give_the_losses_and_gradients_of_padded_ones(
    tmp_path, monkeypatch, algorithm, agent
):
    monkeypatch.setattr(mlp_module, "MAX_BATCHED_INPUTS", 0)  # else rows stay in the backward pass
    learner, buffer, _ = make_many_lengths(tmp_path, algorithm, agent=agent)
    found = []

    def note(optimisers, loss):
        """Stands for the gradient step, so that the second pass starts from the same networks."""
        groups = [group for optimiser in optimisers for group in optimiser.param_groups]
        parameters = [p for group in groups for p in group["params"]]
        grads = th.autograd.grad(loss, parameters, allow_unused=True)
        found[-1] += [loss.detach(), *(grad for grad in grads if grad is not None)]

    monkeypatch.setattr(learner, "step_all", note)
    state = deepcopy(learner.state_dict())
    for packs in (packing, without_packing):
        monkeypatch.setattr(basic_controller, "packing", packs)
        monkeypatch.setattr(local_critic, "packing", packs)
        learner.load_state_dict(state)
        found.append([])
        learner.train(buffer, with_stats=False)
    for one, other in zip(*found, strict=True):
        th.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
