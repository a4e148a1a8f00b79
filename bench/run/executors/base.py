"""What runs jobs: one Protocol, so that the runner does not know whether workers are processes."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Protocol

from bench.errors import BenchError, NotApplicable
from bench.run.tasks import Done, Event, Failed, Progress, Task

Emit = Callable[[Event], None]


class Executor(Protocol):
    """Takes jobs while :meth:`free` is positive, answers with events."""

    def free(self) -> int:
        """How many more jobs can start now."""

    def submit(self, task: Task) -> None:
        """Start a job."""

    def poll(self, timeout: float) -> list[Event]:
        """Events since the last call; waits at most ``timeout`` seconds for the first."""

    def close(self) -> None:
        """Stop everything; jobs that run are lost (their batches are made again next time)."""


def execute(bench: object, task: Task, emit: Emit) -> None:
    """Run one job in this process and emit its outcome."""
    import time

    from bench.run.cell import run_batch, run_cell
    from bench.run.worker import Bench

    assert isinstance(bench, Bench)
    began = time.perf_counter()

    def report(stage: str, step: int, total: int) -> None:
        emit(Progress(task, stage, step, total))

    if task.kind == "cell":
        record = run_cell(bench, task, report)
        emit(Done(task, time.perf_counter() - began, record))
        return
    try:
        run_batch(bench, task, report)
    except NotApplicable as error:
        emit(Failed(task, str(error), applicable=False))
    except Exception as error:  # noqa: BLE001 - a job's failure is a record (design, rule 9)
        reason = str(error) if isinstance(error, BenchError) else f"{type(error).__name__}: {error}"
        emit(Failed(task, reason, traceback.format_exc(limit=20)))
    else:
        emit(Done(task, time.perf_counter() - began))
