"""What runs jobs: one Protocol, so that the runner does not know whether workers are processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from bench.run.tasks import Done, Event, Failed, Progress
from bench.spec.graph import Job
from bench.store.records import ResultRecord

if TYPE_CHECKING:
    from bench.run.worker import Bench

Emit = Callable[[Event], None]


class Executor(Protocol):
    """Takes jobs while :meth:`free` is positive, answers with events."""

    def free(self) -> int:
        """How many more jobs can start now."""

    def submit(self, job: Job) -> None:
        """Start a job."""

    def poll(self, timeout: float) -> list[Event]:
        """Events since the last call; waits at most ``timeout`` seconds for the first."""

    def close(self) -> None:
        """Stop everything; jobs that run are lost (their batches are made again next time)."""


def execute(bench: Bench, job: Job, emit: Emit) -> None:
    """Run one job in this process and emit its outcome."""
    from bench.run.perform import perform

    def report(stage: str, step: int, total: int) -> None:
        emit(Progress(job, stage, step, total))

    outcome = attempt(job, lambda: perform(job, bench, report))
    emit(replace(outcome, spoilt=bool(bench.integrity.changes())))


def attempt(job: Job, work: Callable[[], tuple[ResultRecord, ...]]) -> Done | Failed:
    """The job's outcome, whatever goes wrong."""
    began = time.perf_counter()
    try:
        records = work()
    except Exception as error:  # noqa: BLE001 - a job's failure is a record (docs/architecture.md#rule-9)
        return Failed.by(error, job)
    return Done(job, time.perf_counter() - began, records)
