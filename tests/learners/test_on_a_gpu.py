"""On a pretended GPU: no mixed devices, no needless waits, resuming."""

import pytest
import torch as th
from conftest import make_args, make_data
from pretended_gpu import pretended_gpu
from replay import replay_of
from small_learners import ALGORITHMS, CPU, make_learner

from inspo.components.offline_buffer import OfflineBuffer
from inspo.controllers import BasicMAC
from inspo.learners.bc_learner import BCLearner
from inspo.learners.inspo_learner import InSPOLearner
from inspo.runners.batch_runner import MacPolicy
from inspo.utils.cuda_graphs import CUDAGraphs

GPU = th.device("cuda")
FALLING = {"beta": "decaying", "beta_start": 2.0, "beta_end": 0.1, "beta_decay_steps": 10}
IN_TURN = {
    "inspo in turn": {"updates_per_agent": 2, "alpha": "tuned", **FALLING},
    "inspo shared": {"share_parameters": True, **FALLING},
}
CASES = {**{algorithm: {} for algorithm in ALGORITHMS}, **IN_TURN}
BRIEF = {"behaviour_steps": 2, "behaviour_batch_size": 2}


def make(folder, case, device=GPU, **changed):
    settings = {"agent": "rnn", "use_cuda_graphs": True, **CASES[case], **changed}
    algorithm = case.split()[0]
    if "behaviour_steps" in ALGORITHMS[algorithm]:
        settings |= BRIEF
    return make_learner(folder, algorithm, device=device, **settings)


@pytest.mark.parametrize("case", CASES)
def test_a_step_waits_only_to_read_its_metrics(tmp_path, case):
    with pretended_gpu() as waits:
        learner, buffer = make(tmp_path, case)
        learner.train(buffer, with_stats=False)  # the first step reads what later ones keep
        waits.clear()
        learner.train(buffer, with_stats=False)
        assert not waits
        learner.train(buffer, with_stats=True)
        assert waits.total() == 1, waits


def test_the_pretended_gpu_has_a_gpus_rules():
    with pretended_gpu() as waits:
        here, there = th.ones(3), th.ones(3, device=GPU)
        for mix in (lambda: here + there, lambda: here.add_(there), lambda: th.cat([here, there])):
            with pytest.raises(RuntimeError, match="same device"):
                mix()
        with pytest.raises(RuntimeError, match="Expected a 'cuda' generator"):
            th.rand(3, device=GPU, generator=th.Generator())
        with pytest.raises(RuntimeError, match="wrong size"):
            th.Generator(GPU).set_state(th.Generator().get_state())
        assert not waits
        for wait in (
            lambda: there.sum().item(),
            lambda: there[there > 0],
            lambda: there[th.tensor([0])],
            lambda: there.multinomial(1),
            lambda: here.to(GPU, non_blocking=True),
        ):
            waits.clear()
            wait()
            assert waits
    assert not th.cuda.is_available()


@pytest.mark.parametrize("case", CASES)
def test_steps_replayed_as_a_graph_are_those_without(tmp_path, case):
    # What changes from round to round must reach a graph: rates and temperatures fall.
    settings = {"lr_decay_steps": 10, "grad_norm_clip": 1.0}
    with pretended_gpu(graphs=True) as waits:
        (plain, buffer), (other, other_buffer) = (
            make(tmp_path, case, use_cuda_graphs=use, **settings) for use in (False, True)
        )
        for step in range(6):
            with_stats = step in (1, 4, 5)
            stats = plain.train(buffer, with_stats)
            waits.clear()
            assert other.train(other_buffer, with_stats) == pytest.approx(stats, rel=1e-5, abs=1e-5)
            if step:  # the first one reads what later ones keep
                assert waits.total() == with_stats, waits
        assert other.graphs.graphs
        for one, two in zip(numbers(plain), numbers(other), strict=True):
            # Adam divides by a gradient's size: where it is tiny, rounding moves a parameter more.
            # With rates that do not fall, they would be more than 1e-3 apart.
            th.testing.assert_close(one, two, rtol=1e-5, atol=1e-4)


def test_graphs_rates_are_set_once_a_round(tmp_path, monkeypatch):
    with pretended_gpu(graphs=True):
        learner, buffer = make(tmp_path, "inspo shared", lr_decay_steps=10)
        for _ in range(3):
            learner.train(buffer, with_stats=False)
        calls, set_rates = [], learner._set_rates
        monkeypatch.setattr(learner, "_set_rates", lambda one: (calls.append(one), set_rates(one)))
        learner.train(buffer, with_stats=False)
        assert calls == [*learner.optimisers.values()]
        rates = [float(one.param_groups[0]["lr"]) for one in calls]
        assert rates[0] == pytest.approx(0.7 * learner.args.lr)


def test_graphs_that_cannot_be_used_are_told(tmp_path, caplog):
    learner, _ = make(tmp_path, "bc", CPU)
    assert learner.graphs is None
    assert "no effect without an NVIDIA GPU" in caplog.text
    with pretended_gpu(graphs=True):
        learner.replayable = False
        assert learner._make_graphs() is None
    assert "no effect on bc" in caplog.text


WAITS = {
    "a read": lambda batch: float(batch["reward"].sum()),
    "a wait that PyTorch does not refuse": lambda batch: th.cuda.synchronize(),
}


@pytest.mark.parametrize("wait", WAITS)
def test_a_step_that_waits_for_the_gpu_is_not_replayed(tmp_path, caplog, wait):
    class Waiting(InSPOLearner):
        def update_all_at_once(self, order, batch, *rest):
            WAITS[wait](batch)
            return super().update_all_at_once(order, batch, *rest)

    with pretended_gpu(graphs=True):
        pairs = [make(tmp_path, "inspo", use_cuda_graphs=use) for use in (False, True)]
        stream = th.cuda.current_stream()
        for learner, buffer in pairs:
            learner.__class__ = Waiting
            for _ in range(4):
                learner.train(buffer, with_stats=False)
        plain, other = (numbers(learner) for learner, _ in pairs)
        assert learner.graphs.off
        assert th.cuda.current_stream() is stream
    assert "not replayed as CUDA graphs" in caplog.text
    for one, two in zip(plain, other, strict=True):
        th.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)


def test_a_step_that_depends_on_the_number_of_updates_is_not_replayed(tmp_path, caplog):
    class Falling(BCLearner):
        def update(self, batch, with_stats):
            batch = {**batch, "obs": batch["obs"] / (1 + self.updates)}
            return super().update(batch, with_stats)

    with pretended_gpu(graphs=True):
        learner, buffer = make(tmp_path, "bc")
        learner.__class__ = Falling
        for _ in range(3):
            learner.train(buffer, with_stats=False)
        assert learner.graphs.off
    assert "depends on `updates`" in caplog.text


def test_after_loading_steps_are_replayed_again(tmp_path):
    with pretended_gpu(graphs=True):
        learner, buffer = make(tmp_path, "bc")
        for _ in range(2):
            for _ in range(3):
                learner.train(buffer, with_stats=True)
            assert learner.graphs.graphs
            learner.load_state_dict(learner.state_dict())
        assert not learner.graphs.off


def test_graphs_are_of_functions_and_have_no_history():
    with pretended_gpu(graphs=True):
        graphs = CUDAGraphs([th.Generator(GPU)])
        factor = th.full((), 2.0, device=GPU, requires_grad=True)

        def function_of(power):
            return lambda values: {"result": values * factor**power}

        functions, values = [function_of(1), function_of(2)], th.ones(3, device=GPU)
        for _ in range(3):
            results = [graphs.run(function, values)["result"] for function in functions]
            assert [result.sum().item() for result in results] == [6, 12]
        assert not any(result.requires_grad for result in results)


def numbers(learner):
    """All parameters of the learner, in main memory."""
    return [p.detach().cpu() for module in learner.modules.values() for p in module.parameters()]


def test_resuming_on_the_same_kind_of_device_is_bit_exact(tmp_path):
    case = "inspo in turn"  # draws on both devices
    with pretended_gpu():
        learner, buffer = make(tmp_path, case)
        learner.train(buffer, with_stats=False)
        saved = {"learner": learner.state_dict(), "buffer": buffer.state_dict()}
        th.save(saved, tmp_path / "saved.pt")
        learner.train(buffer, with_stats=False)
        other, other_buffer = make(tmp_path, case)
        saved = th.load(tmp_path / "saved.pt", weights_only=True)
        other.load_state_dict(saved["learner"])
        other_buffer.load_state_dict(saved["buffer"])
        other.train(other_buffer, with_stats=False)
        assert all(map(th.equal, numbers(learner), numbers(other)))


@pytest.mark.parametrize(("first", "second"), [(CPU, GPU), (GPU, CPU)])
def test_a_run_goes_on_on_the_other_kind_of_device(tmp_path, caplog, first, second):
    with pretended_gpu():
        learner, buffer = make(tmp_path, "inspo", first)
        learner.train(buffer, with_stats=False)
        th.save(learner.state_dict(), tmp_path / "saved.pt")
        other, buffer = make(tmp_path, "inspo", second)
        other.load_state_dict(th.load(tmp_path / "saved.pt", weights_only=True))
        assert "another kind of device" in caplog.text
        assert all(map(th.equal, numbers(learner), numbers(other)))
        assert other.updates == 1
        other.train(buffer, with_stats=True)


@pytest.mark.parametrize("greedy", [False, True])
def test_acting_waits_once_for_all_games(monkeypatch, greedy):
    # The pretended tensors do not work in inference mode.
    monkeypatch.setattr(BasicMAC, "act", th.no_grad()(BasicMAC.act.__wrapped__))
    info = make_data().env_info(episode_limit=5)
    obs, available = th.randn(7, 3, 5).numpy(), th.ones(7, 3, 4, dtype=th.bool).numpy()
    with pretended_gpu() as waits:
        mac = BasicMAC(make_args("bc", agent="rnn", batch_unit="episodes"), info).to(GPU)
        policy = MacPolicy(mac, seed=0, greedy=greedy, epsilon=0.1)
        policy.hidden = mac.init_hidden(7)
        waits.clear()
        actions = policy.act(obs, available, th.full((7, 3), -1).numpy())
        assert waits.total() == 1, waits
        assert actions.shape == (7, 3)


def equal_batches(one, other):
    assert one.keys() == other.keys()
    return all(th.equal(values, other[name].cpu()) for name, values in one.items())


@pytest.mark.parametrize("free", [80 << 30, 100])
def test_batches_are_the_cpus_wherever_the_data_are(caplog, free):
    data = make_data()
    with pretended_gpu(free) as waits:
        here, there = (OfflineBuffer(data, "episodes", device, 0) for device in (CPU, GPU))
        there.checked_sizes = {(8, 5)}
        batch = here.sample(8)
        waits.clear()
        other = there.sample(8)
        assert not waits
        assert {values.device.type for values in other.values()} == {"cuda"}
        assert equal_batches(batch, other)
    assert there.storage.type == ("cpu" if free == 100 else "cuda")
    assert ("stays in main memory" in caplog.text) == (free == 100)


def test_a_replay_buffers_batches_are_the_cpus():
    with pretended_gpu() as waits:
        buffer = replay_of(make_data())
        state = buffer.state_dict()
        batch = buffer.sample(6)
        buffer.load_state_dict(state)
        buffer.device = GPU
        waits.clear()
        other = buffer.sample(6)
        assert not waits
        assert equal_batches(batch, other)


def no_memory(*_):
    raise th.cuda.OutOfMemoryError("CUDA out of memory")


def test_data_for_which_there_is_no_memory_stay_in_main_memory(monkeypatch, caplog):
    with pretended_gpu():
        with monkeypatch.context() as patched:
            patched.setattr(th.Tensor, "to", no_memory)
            buffer = OfflineBuffer(make_data(), "episodes", GPU, 0)
        assert buffer.storage == CPU
        assert "stays in main memory" in caplog.text
        assert buffer.sample(4)["obs"].is_cuda


def test_columns_for_which_there_is_no_memory_move_the_data(monkeypatch, caplog):
    with pretended_gpu():
        buffer = OfflineBuffer(make_data(), "episodes", GPU, 0)
        assert buffer.storage.type == "cuda"
        computed, compute = [], lambda batch: batch["obs"].sum(-1)

        def first_fails(batch):
            computed.append(batch)
            return no_memory() if len(computed) == 1 else compute(batch)

        buffer.add_column("sums", first_fails)
        assert buffer.storage == CPU
        assert "moves to main memory" in caplog.text
        batch = buffer.sample(8)
        th.testing.assert_close(batch["sums"].cpu(), batch["obs"].sum(-1).cpu())


def test_a_cpu_run_leaves_the_gpu_alone(tmp_path, monkeypatch):
    with pretended_gpu():
        monkeypatch.setattr(th.cuda, "get_rng_state", no_memory)
        learner, buffer = make(tmp_path, "inspo", CPU)
        learner.train(buffer, with_stats=True)
