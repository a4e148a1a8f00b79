"""The queue: jobs start when what they need is there, and what nobody needs any more is dropped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bench.run.queue import Queue


@dataclass(frozen=True)
class Thing:
    """A job of which the queue sees key, needs and whether it makes records."""

    key: str
    needs: frozenset[str] = frozenset()
    cells: tuple[Any, ...] = ()
    kind: str = "thing"
    title: str = ""
    like: tuple[str, ...] = ()


def thing(key: str, *needs: str, cells: int = 0) -> Thing:
    return Thing(key, frozenset(needs), tuple(range(cells)))


def drain(queue: Queue) -> list[str]:
    out = []
    while (job := queue.take()) is not None:
        out.append(job.key)
        queue.done(job)
    return out


def test_a_job_waits_for_all_it_needs() -> None:
    queue = Queue([thing("a"), thing("b"), thing("search", "a"), thing("cell", "a", "b", "search", cells=1)])
    assert drain(queue) == ["a", "b", "search", "cell"]
    assert not queue.left


def test_jobs_that_make_records_go_first() -> None:
    queue = Queue([thing("a"), thing("b"), thing("x", "a", cells=1), thing("y", "b", cells=1)])
    assert drain(queue) == ["a", "x", "b", "y"]


def test_what_is_stored_is_not_done_again() -> None:
    queue = Queue([thing("a"), thing("x", "a", cells=1)], stored=["a"])
    assert [job.key for job in queue.open] == ["x"]
    assert drain(queue) == ["x"]


def test_a_failure_takes_along_what_needs_it_and_what_only_those_needed() -> None:
    jobs = [thing("a"), thing("b"), thing("c"), thing("search", "a"), thing("x", "search", "b", cells=1)]
    queue = Queue([*jobs, thing("y", "c", cells=1)])
    first = queue.take()
    assert first is not None
    assert [job.key for job in queue.failed(first)] == ["a", "search", "x"]
    assert drain(queue) == ["c", "y"]  # b is made for nobody
    assert not queue.left


def test_a_dropped_job_that_runs_is_waited_for() -> None:
    queue = Queue([thing("a"), thing("b"), thing("x", "a", "b", cells=1)])
    one, other = queue.take(), queue.take()
    assert one is not None
    assert other is not None
    queue.failed(one)
    assert queue.left
    queue.done(other)
    assert not queue.left


@given(st.data())
def test_every_job_of_a_graph_is_done_once_after_its_needs(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 12))
    jobs = []
    for k in range(count):
        needs = data.draw(st.sets(st.integers(0, k - 1))) if k else set()
        jobs.append(thing(str(k), *map(str, needs), cells=data.draw(st.integers(0, 1))))
    order = drain(Queue(jobs))
    assert sorted(order, key=int) == [job.key for job in jobs]
    for job in jobs:
        assert all(order.index(need) < order.index(job.key) for need in job.needs)
