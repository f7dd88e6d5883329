"""The setting `precision`."""

import pytest
import torch as th
from small_learners import ALGORITHMS, make_learner

from inspo.learners.alberdice_losses import gradient_penalty
from inspo.main import main
from inspo.modules import mlp as mlp_module
from inspo.modules.mlp import MLP
from inspo.utils.precision import autocast

CPU = th.device("cpu")


@pytest.mark.parametrize("max_batched", [0, 1 << 16])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_bf16_has_nearly_the_losses_of_float32(tmp_path, monkeypatch, algorithm, max_batched):
    """And parameters, optimisers and losses stay in float32; the same numbers come each time."""
    monkeypatch.setattr(mlp_module, "MAX_BATCHED_INPUTS", max_batched)
    found = []
    for precision in ("float32", "bf16", "bf16"):
        learner, buffer = make_learner(tmp_path, algorithm, agent="rnn")
        losses = []
        step_all = learner.step_all

        def noted(optimisers, loss, step_all=step_all, losses=losses):
            losses.append(loss.detach())
            step_all(optimisers, loss)

        monkeypatch.setattr(learner, "step_all", noted)
        with autocast(precision, CPU):
            learner.train(buffer, with_stats=True)
        parameters = [p for module in learner.modules.values() for p in module.parameters()]
        state = [value for optimiser in learner.optimisers.values() for value in optimiser.state]
        assert {value.dtype for value in (*losses, *parameters, *state)} == {th.float32}
        found.append((losses, parameters))
    (losses, exact), (near_losses, near), (_, again) = found
    for one, other in zip(losses, near_losses, strict=True):
        th.testing.assert_close(other, one, rtol=0.03, atol=0.03)
    assert not all(map(th.equal, exact, near))
    assert all(map(th.equal, near, again))


@pytest.mark.parametrize("algorithm", ["inspo", "alberdice"])
def test_a_restored_learner_continues_bit_for_bit(tmp_path, monkeypatch, algorithm):
    monkeypatch.setattr(mlp_module, "MAX_BATCHED_INPUTS", 0)
    learner, buffer = make_learner(tmp_path, algorithm, agent="rnn")
    with autocast("bf16", CPU):
        learner.train(buffer, with_stats=False)
        saved = {"learner": learner.state_dict(), "buffer": buffer.state_dict()}
        th.save(saved, tmp_path / "state.pt")
        expected = [learner.train(buffer, with_stats=True) for _ in range(2)]
    saved = th.load(tmp_path / "state.pt", weights_only=True)
    other, its_buffer = make_learner(tmp_path, algorithm, agent="rnn")
    other.load_state_dict(saved["learner"])
    its_buffer.load_state_dict(saved["buffer"])
    with autocast("bf16", CPU):
        assert [other.train(its_buffer, with_stats=True) for _ in range(2)] == expected


def test_alberdices_penalty_is_that_of_float32():
    th.manual_seed(0)
    networks = [MLP(4, 8, 8, 1) for _ in range(2)]
    state, filled = th.randn(3, 5, 4), th.ones(3, 5, dtype=th.bool)
    penalties = []
    for precision in ("float32", "bf16"):
        with autocast(precision, CPU):
            generator = th.Generator().manual_seed(1)
            penalties.append(gradient_penalty(networks, state, filled, generator))
    assert th.equal(*penalties)


def test_it_is_refused_where_it_would_be_slower(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(th.cpu, "get_capabilities", lambda: {"avx2": True}, raising=False)
    words = ["precision=bf16", "use_cuda=False", f"local_results_path={tmp_path}"]
    assert main(["--config=bc", "--env-config=xor_offline", "with", *words]) == 2
    assert "It needs a CPU with AVX512-BF16 or AMX; leave precision=float32" in (
        capsys.readouterr().err
    )
    assert not [*tmp_path.iterdir()]
