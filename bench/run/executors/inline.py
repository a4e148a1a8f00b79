"""Jobs in this process, one after the other; for debugging and for machines where processes are no help (CUDA)."""

from __future__ import annotations

from collections.abc import Callable

from bench import runtime
from bench.run.executors.base import execute
from bench.run.tasks import Event, Progress, Settings, Started, Task


class InlineExecutor:
    """Runs a job when polled. ``on_progress`` gets progress while the job runs; poll returns the rest."""

    def __init__(self, settings: Settings, on_progress: Callable[[Progress], None] | None = None) -> None:
        self._settings = settings
        self._waiting: Task | None = None
        self._bench: object | None = None
        self._on_progress = on_progress

    def free(self) -> int:
        return 0 if self._waiting is not None else 1

    def submit(self, task: Task) -> None:
        self._waiting = task

    def poll(self, timeout: float) -> list[Event]:
        task, self._waiting = self._waiting, None
        if task is None:
            return []
        if self._bench is None:
            from bench.run.worker import Bench

            runtime.set_threads(self._settings.threads)
            self._bench = Bench(self._settings)
        events: list[Event] = [Started(task, 0)]

        def emit(event: Event) -> None:
            if isinstance(event, Progress):
                if self._on_progress is not None:
                    self._on_progress(event)
            else:
                events.append(event)

        execute(self._bench, task, emit)
        return events

    def close(self) -> None:
        self._waiting = None
