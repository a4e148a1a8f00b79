"""Jobs in this process, one after the other; for debugging and for machines where processes are no help (CUDA)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from bench import runtime
from bench.run.executors.base import execute
from bench.run.tasks import Done, Event, Failed, Progress, Settings, Started
from bench.spec.graph import Job

if TYPE_CHECKING:
    from bench.run.worker import Bench


class InlineExecutor:
    """Runs a job when polled. ``on_progress`` gets progress while the job runs; poll returns the rest."""

    def __init__(self, settings: Settings, on_progress: Callable[[Progress], None] | None = None) -> None:
        self._settings = settings
        self._waiting: Job | None = None
        self._bench: Bench | None = None
        self._on_progress = on_progress

    def free(self) -> int:
        return 0 if self._waiting is not None else 1

    def submit(self, job: Job) -> None:
        self._waiting = job

    def poll(self, timeout: float) -> list[Event]:
        job, self._waiting = self._waiting, None
        if job is None:
            return []
        from bench.run.worker import Bench

        if self._bench is None:
            runtime.set_threads(self._settings.threads)
            self._bench = Bench(self._settings)
        events: list[Event] = [Started(job, 0)]

        def emit(event: Event) -> None:
            if isinstance(event, Progress):
                if self._on_progress is not None:
                    self._on_progress(event)
            else:
                events.append(event)

        execute(self._bench, job, emit)
        if any(isinstance(event, Done | Failed) and event.spoilt for event in events):
            # Networks are loaded anew; code that was changed stays so, and every later measurement says it.
            self._bench = Bench(self._settings, self._bench.integrity)
        return events

    def close(self) -> None:
        self._waiting = None
