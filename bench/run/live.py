"""Tells the store how a run goes, so that the dashboard can show it: :mod:`bench.store.live`, about once a second."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from bench.errors import StoreError
from bench.run.observers import Observer, RunStart
from bench.run.progress import Work
from bench.run.tasks import Progress
from bench.spec.graph import Job
from bench.spec.jobs import title_of
from bench.store.live import BEAT, LiveRecord, LiveState, LiveTask, read_live, write_live
from bench.store.records import ResultRecord

log = logging.getLogger(__name__)

SHORTEST = 1.0  # seconds between two writes
SHOWN_RECORDS = 20
SHOWN_FAILURES = 50
CURVE = 120  # points
REASON = 500  # characters


class LiveObserver(Observer):
    """Keeps the state and writes it from a thread of its own, so that a long task without news is no silence.

    Closing it before the run has ended says that the run was interrupted.  Of several runs on one store the one that
    began last is shown.
    """

    def __init__(self, store: Path, workers: int) -> None:
        self._store, self._workers = store, max(workers, 1)
        self._work = Work((), self._workers)
        self._state: LiveState | None = None
        self._running: dict[str, LiveTask] = {}
        self._records: deque[LiveRecord] = deque(maxlen=SHOWN_RECORDS)
        self._failures: deque[LiveRecord] = deque(maxlen=SHOWN_FAILURES)
        self._failed = 0
        self._curve: list[tuple[float, int]] = []
        self._complained = False
        self._lock = threading.Lock()
        self._news, self._stop = threading.Event(), threading.Event()
        self._writer = threading.Thread(target=self._write_on, name="live", daemon=True)

    def run_started(self, start: RunStart) -> None:
        suite, now = start.plan.suite, time.time()
        self._work = Work(start.jobs, self._workers)
        self._state = LiveState(
            pid=os.getpid(),
            suite=suite.suite,
            suite_version=suite.version,
            preset=start.plan.preset,
            workers=self._workers,
            started=now,
            beat=now,
            tasks=len(start.jobs),
            standing=len(start.done),
        )
        self._write()
        self._writer.start()

    def job_started(self, job: Job, worker: int) -> None:
        with self._lock:
            self._begin(job)
        self._news.set()

    def progress(self, event: Progress) -> None:
        with self._lock:
            begun = self._begin(event.job)
            changes = {"stage": event.stage, "step": event.step, "total": event.total}
            self._running[event.job.key] = begun.model_copy(update=changes)
        self._news.set()

    def job_done(self, job: Job, seconds: float) -> None:
        with self._lock:
            self._running.pop(job.key, None)
            self._work.ended(job, seconds)
            self._count()
        self._news.set()

    def record(self, record: ResultRecord) -> None:
        if self._state is None:  # what stood already, or never applied, is told before the run starts
            return
        with self._lock:
            self._work.recorded(record)
            self._count()
            told = _told(record)
            self._records.append(told)
            if record.status in ("failed", "skipped"):
                self._failed += 1
                self._failures.append(told)
        self._news.set()

    def run_ended(self, records: Sequence[ResultRecord]) -> None:
        self._end("finished")

    def close(self) -> None:
        self._end("interrupted")

    def _begin(self, job: Job) -> LiveTask:
        """The task's line; an executor in this process tells of progress before it tells of the start."""
        if job.key not in self._running:
            taken = {line.worker for line in self._running.values()}
            slot = next(k for k in range(1, len(taken) + 2) if k not in taken)
            self._running[job.key] = LiveTask(worker=slot, title=job.title, kind=job.kind, began=time.time())
        return self._running[job.key]

    def _count(self) -> None:
        assert self._state is not None
        point = (round(time.time() - self._state.started, 1), self._work.done)
        if not self._curve or self._curve[-1][1] != point[1]:
            self._curve.append(point)
        if len(self._curve) >= 2 * CURVE:
            self._curve = [*self._curve[:-1:2], self._curve[-1]]

    def _end(self, how: Literal["finished", "interrupted"]) -> None:
        if self._state is None or self._stop.is_set():
            return
        self._stop.set()
        self._news.set()
        if self._writer.is_alive():
            self._writer.join()
        self._running.clear()
        self._write(how)

    def _write_on(self) -> None:
        while not self._stop.is_set():
            self._news.wait(BEAT)
            self._news.clear()
            if self._stop.is_set():
                return
            self._write()
            self._stop.wait(SHORTEST)

    def _write(self, ended: Literal["finished", "interrupted"] | None = None) -> None:
        assert self._state is not None
        with self._lock:
            changes = {
                "beat": time.time(),
                "done": self._work.done,
                "seconds_left": None if ended else self._work.seconds_left(),
                "running": tuple(sorted(self._running.values(), key=lambda line: line.worker)),
                "records": tuple(reversed(self._records)),
                "failures": tuple(reversed(self._failures)),
                "failed": self._failed,
                "curve": tuple(self._curve),
                "ended": ended,
            }
            state = self._state.model_copy(update=changes)
        try:
            if not self._superseded(state):
                write_live(self._store, state)
        except StoreError as error:  # tried again at the next beat: a full disk may be emptied
            if not self._complained:
                log.warning("the run's state is not shown: %s", error)
            self._complained = True

    def _superseded(self, state: LiveState) -> bool:
        """Whether a run that began later shows itself in this store."""
        try:
            shown = read_live(self._store)
        except StoreError:
            return False  # damaged: written anew
        later = shown is not None and shown.pid != state.pid and shown.started > state.started
        return later and shown is not None and shown.phase() == "running"


def _told(record: ResultRecord) -> LiveRecord:
    return LiveRecord(
        cell_id=record.cell_id,
        title=title_of(record),
        status=record.status,
        top1=record.metrics.get("top1"),
        reason=record.reason[:REASON] if record.reason else None,
        ended=time.time(),
    )
