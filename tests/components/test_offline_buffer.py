"""The offline buffer: batches of transitions and episodes, added columns, seeds."""

import numpy as np
import pytest
import torch as th
from conftest import make_args, make_buffer, make_data

from inspo.components import offline_buffer
from inspo.components.offline_buffer import OfflineBuffer, cut_into_chunks
from inspo.utils.batch import without_final_row
from inspo.utils.errors import ConfigError


def test_episodes_are_padded_to_the_longest(data):
    buffer = make_buffer(data)
    batch = buffer.gather(buffer.starts[[2, 1]], buffer.lengths[[2, 1]])  # 3 steps and 1 step
    assert batch["filled"].tolist() == [[True, True, True], [True, False, False]]
    rows = slice(data.starts[2], data.starts[2] + 4)
    for name in ("state", "obs", "avail_actions", "actions"):
        np.testing.assert_array_equal(batch[name][0], getattr(data, name)[rows])
    np.testing.assert_array_equal(batch["reward"][0], data.reward[rows][:-1])
    assert batch["terminated"][0].tolist() == [False, False, True]
    np.testing.assert_array_equal(batch["last_actions"][0, 1:], data.actions[rows][:-1])
    assert (batch["last_actions"][:, 0] == -1).all()
    assert all(th.isfinite(batch[name]).all() for name in ("state", "obs", "reward"))


def test_few_lengths_are_those_of_an_eighth_each():
    lengths = [*range(1, 30), 100]
    buffer = make_buffer(make_data(lengths=lengths))  # an eighth of the longest is 13 steps
    batches = [buffer.sample(2, few_lengths=True) for _ in range(30)]
    assert {batch["filled"].shape[1] for batch in batches} == {13, 26, 39, 100}
    again = make_buffer(make_data(lengths=lengths))
    for batch in batches:
        plain = again.sample(2)
        steps = plain["filled"].shape[1]
        assert not batch["filled"][:, steps:].any()
        assert th.equal(batch["filled"][:, :steps], plain["filled"])
        assert th.equal(batch["obs"][:, : steps + 1], plain["obs"])
    assert make_buffer(make_data(), "transitions").sample(9, few_lengths=True)["filled"].all()


def test_padding_repeats_the_episodes_own_final_row(data):
    buffer = make_buffer(data)
    batch = buffer.gather(buffer.starts[[1, 0]], buffer.lengths[[1, 0]])
    expected = np.tile(data.state[data.final_rows[1]], (5, 1))
    np.testing.assert_array_equal(batch["state"][0, 1:], expected)


def test_transitions_are_drawn_uniformly(data):
    batch = make_buffer(data, "transitions").sample(20_000)
    assert batch["obs"].shape == (20_000, 2, 3, 5)
    assert batch["filled"].all()
    rewards, counts = np.unique(batch["reward"].numpy(), return_counts=True)
    expected = np.delete(data.reward, data.final_rows)
    np.testing.assert_array_equal(np.sort(expected), rewards)
    np.testing.assert_allclose(counts / 20_000, 1 / data.n_transitions, atol=0.006)


def test_transitions_hold_the_next_row_and_the_last_action(data):
    batch = make_buffer(data, "transitions").sample(200)
    for k, reward in enumerate(batch["reward"][:, 0].tolist()):
        row = int(np.flatnonzero(data.reward == np.float32(reward))[0])
        np.testing.assert_array_equal(batch["obs"][k], data.obs[row : row + 2])
        first = np.isin(row, data.starts)
        last = np.full(3, -1) if first else data.actions[row - 1]
        np.testing.assert_array_equal(batch["last_actions"][k, 0], last)


def test_truncated_steps_are_not_terminated(data):
    buffer = make_buffer(data)
    batch = buffer.gather(buffer.starts, buffer.lengths)
    ends = batch["terminated"].any(dim=1)
    assert ends.tolist() == [True, False, True, False, True, False]


def test_columns_are_computed_once_for_every_row(data):
    buffer = make_buffer(data)
    assert not buffer.fingerprint()
    seen = []

    def compute(batch):
        seen.append(len(batch["reward"]))
        return batch["state"].sum(-1)

    buffer.add_column("state_sum", compute, batch_size=4)
    assert sum(seen) == buffer.n_episodes
    assert buffer.fingerprint()
    batch = buffer.sample(16)
    np.testing.assert_allclose(batch["state_sum"], batch["state"].sum(-1), rtol=1e-6)


def draw(buffer):
    return buffer.sample(8)["reward"].sum().item()


def test_sampling_depends_on_the_seed_and_resumes_from_a_state(data):
    first, second, other = (make_buffer(data, seed=seed) for seed in (0, 0, 1))
    assert draw(first) == draw(second) != draw(other)
    state = first.state_dict()
    expected = draw(first)
    draw(second)
    second.load_state_dict(state)
    assert draw(second) == expected


def test_sampling_with_another_seed_leaves_no_trace(data):
    first, second = make_buffer(data), make_buffer(data)
    with first.sampling_with(5):
        inside = draw(first)
    expected = draw(second)
    assert inside != expected
    assert draw(first) == expected


def test_memory_stays_compact(data):
    assert data.actions.dtype == np.uint8
    assert data.avail_actions.dtype == bool
    assert data.obs.dtype == np.float32
    many = make_data(n_agents=1, n_actions=300, lengths=(3,))
    assert many.actions.dtype == np.int16


def test_without_final_row(data):
    batch = make_buffer(data).sample(4)
    steps = batch["filled"].shape[1]
    assert {rows.shape[1] for rows in without_final_row(batch).values()} == {steps}


@pytest.mark.parametrize("unit", ["transitions", "episodes"])
def test_batch_size_may_exceed_the_dataset(data, unit):
    assert len(make_buffer(data, unit).sample(100)["reward"]) == 100


def make_chunks(data, chunk_length):
    return OfflineBuffer(data, "episodes", th.device("cpu"), 0, chunk_length)


def test_chunks_cover_every_step_once():
    starts, lengths = np.array([0, 6, 8]), np.array([5, 1, 4])
    begins, steps, ends_episode = cut_into_chunks(starts, lengths, 2)
    assert begins.tolist() == [0, 2, 4, 6, 8, 10]
    assert steps.tolist() == [2, 2, 1, 1, 2, 2]
    assert ends_episode.tolist() == [False, False, True, True, False, True]


def test_episodes_that_fit_into_one_chunk_stay_as_they_are(data):
    """Bit for bit, as without chunks."""
    whole, cut = make_buffer(data), make_chunks(data, int(data.lengths.max()))
    for _ in range(3):
        first, second = whole.sample(4), cut.sample(4)
        assert all(th.equal(first[name], second[name]) for name in first)


def test_a_chunk_knows_what_came_before_and_after_it(data):
    buffer = make_chunks(data, 2)
    assert buffer.lengths.tolist() == [2, 2, 1, 1, 2, 1, 2, 2, 2, 2, 2, 1]
    batch = buffer.gather(buffer.starts[1:2], buffer.lengths[1:2])  # steps 2 and 3 of episode 0
    np.testing.assert_array_equal(batch["obs"][0], data.obs[2:5])
    np.testing.assert_array_equal(batch["reward"][0], data.reward[2:4])
    np.testing.assert_array_equal(batch["last_actions"][0], data.actions[1:4])
    assert not batch["terminated"].any()  # bootstrapped, as after a truncation
    first = buffer.gather(buffer.starts[:1], buffer.lengths[:1])
    assert (first["last_actions"][0, 0] == -1).all()


def test_added_columns_are_computed_chunk_by_chunk(data):
    """A model with a memory starts anew in each chunk: here it counts the steps."""
    buffer = make_chunks(data, 2)

    def count_steps(batch):
        return th.arange(batch["obs"].shape[1]).expand(len(batch["obs"]), -1).float() + 1

    buffer.add_column("step", count_steps)
    row = data.starts[0]
    assert buffer.columns["step"][row : row + 6].tolist() == [1, 2, 1, 2, 1, 2]


def test_a_batch_that_does_not_fit_is_refused_before_it_is_made(data, monkeypatch):
    monkeypatch.setattr(offline_buffer, "_free_memory", lambda device: 100_000)
    buffer = make_buffer(data)
    buffer.sample(8)
    with pytest.raises(ConfigError, match=r"a batch of 800 episodes, the longest of 5 steps") as e:
        buffer.sample(800)
    assert all(name in str(e.value) for name in ("batch_size", "chunk_length", "max_episodes"))
    make_chunks(data, 1).sample(80)


def test_chunks_need_whole_episodes():
    with pytest.raises(ConfigError, match="it needs batch_unit=episodes"):
        make_args("bc", batch_unit="transitions", chunk_length=5)
    assert make_args("bc", batch_unit="episodes", chunk_length=5).chunk_length == 5
