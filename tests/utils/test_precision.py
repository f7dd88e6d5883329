"""The setting `precision`."""

import pytest
import torch as th
from small_learners import ALGORITHMS, make_learner

from inspo.main import main
from inspo.modules import mlp as mlp_module
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


def test_it_is_refused_where_it_would_be_slower(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(th.cpu, "get_capabilities", lambda: {"avx2": True}, raising=False)
    words = ["precision=bf16", "use_cuda=False", f"local_results_path={tmp_path}"]
    assert main(["--config=bc", "--env-config=xor_offline", "with", *words]) == 2
    assert "It needs a CPU with AVX512-BF16 or AMX; leave precision=float32" in (
        capsys.readouterr().err
    )
    assert not [*tmp_path.iterdir()]
