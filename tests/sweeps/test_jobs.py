"""What is tried again, what is given up, and what an interruption does."""

import logging

import pytest
from fake_pool import FakePool

from inspo.sweeps.jobs import MAX_LOSSES, State, Task, carry_out
from inspo.sweeps.pool import fitting
from inspo.utils.command import INTERRUPTED


def tasks(*ids: str, **changes) -> list[Task]:
    return [Task(name, name, make=dict, **changes) for name in ids]


def ended_as(*statuses: int | None):
    """A pool's function: job by job, these exit statuses."""
    left = list(statuses)
    return lambda job: left.pop(0)


def test_as_many_at_a_time_as_fit():
    pool = FakePool(lambda job: 0, n_slots=2)
    assert carry_out(tasks(*"abcde"), pool) == []
    assert [job["id"] for job in pool.done] == list("abcde")
    assert pool.most_at_once == 2


def test_a_failed_job_is_tried_once_again_at_once():
    pool = FakePool(ended_as(2, 0, 0, 0), n_slots=1)
    assert carry_out(tasks("a", "b"), pool) == []
    assert [job["id"] for job in pool.done] == ["a", "a", "b"]


def test_the_others_go_on_when_one_fails_twice(caplog):
    caplog.set_level(logging.WARNING)
    pool = FakePool(lambda job: 2 if job["id"] == "a" else 0, n_slots=1)
    (failed,) = carry_out(tasks("a", "b", "c"), pool)
    assert failed.id == "a"
    assert failed.state is State.FAILED
    assert failed.lines == ["status 2"]
    assert [job["id"] for job in pool.done] == ["a", "a", "b", "c"]
    assert "a: FAILED: status 2" in caplog.text


def test_a_job_that_leaves_nothing_behind_has_failed():
    pool = FakePool(lambda job: 0)
    (failed,) = carry_out(tasks("a", succeeded=lambda: False), pool)
    assert "were they changed" in failed.lines[0]


@pytest.mark.parametrize("status", [None, INTERRUPTED])
def test_a_job_that_keeps_being_killed_at_the_same_step_is_given_up(status):
    pool = FakePool(lambda job: status)
    assert len(carry_out(tasks("a", succeeded=lambda: False), pool)) == 1
    assert len(pool.done) == MAX_LOSSES


def test_a_job_that_gets_on_may_be_killed_any_number_of_times():
    pool = FakePool(ended_as(*[None] * 20, 0))
    steps = iter(range(100))
    task = {"step": lambda: next(steps), "succeeded": lambda: len(pool.done) > 20}
    assert carry_out(tasks("a", **task), pool) == []
    assert len(pool.done) == 21


def test_a_job_that_is_killed_after_its_end_is_done():
    pool = FakePool(lambda job: None)
    assert carry_out(tasks("a"), pool) == []
    assert len(pool.done) == 1


def test_waits_for_a_machine(caplog):
    pool = FakePool(lambda job: 0)
    n_slots = iter([0, 0, 2, 2, 2])
    take = pool.finished
    pool.slots = lambda: next(n_slots)
    pool.finished = lambda seconds: take(seconds) if pool.waiting else []
    assert carry_out(tasks("a"), pool) == []
    assert "No machine has room" in caplog.text


def test_an_interruption_stops_the_jobs():
    def interrupt(job):
        raise KeyboardInterrupt

    pool = FakePool(interrupt)
    with pytest.raises(KeyboardInterrupt):
        carry_out(tasks("a", "b"), pool)
    assert pool.stopped


@pytest.mark.parametrize(
    ("needs", "n_runs"),
    [
        ({"CPU": 1, "GPU": 0}, 16),
        ({"CPU": 3, "GPU": 0}, 5),
        ({"CPU": 1, "GPU": 0.3}, 6),
        ({"CPU": 1, "GPU": 0.4}, 4),  # two on each
        ({"CPU": 0.1, "GPU": 2}, 1),
        ({"CPU": 20, "GPU": 0}, 0),
        ({"CPU": 1, "GPU": 3}, 0),
    ],
)
def test_runs_on_a_machine(needs, n_runs):
    assert fitting({"CPU": 16.0, "GPU": 2.0}, needs) == n_runs


def test_fractions_of_the_smallest_numbers_fit():
    assert fitting({"CPU": 0.3}, {"CPU": 0.1}) == 3
    assert fitting({"CPU": 4.0}, {"CPU": 1, "GPU": 0.5}) == 0
