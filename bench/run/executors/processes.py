"""Crash-isolated workers: a job that kills or hangs its process becomes a failed record, and the worker is replaced."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from bench import runtime
from bench.errors import BenchError
from bench.run.executors.serve import Beat, ended, serve
from bench.run.interrupts import held_back
from bench.run.tasks import Done, Event, Failed, Settings, Silent, Started
from bench.spec.graph import Job

log = logging.getLogger(__name__)

UNHEARD = 30.0
"""Seconds without a beat after which a worker is said to be stopped or hung."""

STALLED = 600.0
"""Seconds without progress of its job after which a worker, though alive, is said to stand still."""

AWAY = 5.0
"""Seconds between two polls from which on this process itself was stopped or held up; they count against no job."""

PATIENCE = 5.0
"""Seconds a worker that is to end, or whose pipe is closed, has for it."""

BIRTH = 300.0
"""Seconds a worker may take to be born and begin, on top of the job's limit; a cold disk loads torch for minutes."""


@dataclass
class _Worker:
    """A process and what is known of it; times are of ``time.monotonic``.

    ``began``: when its job was handed over, then when the worker took it up (``started``).  ``heard``: its last beat or
    event; ``moved``: its job's last progress; ``told``: that it is silent was said.
    """

    process: SpawnProcess
    pipe: Connection
    number: int
    job: Job | None = None
    started: bool = False
    began: float = 0.0
    heard: float = field(default_factory=time.monotonic)
    moved: float = 0.0
    told: bool = False

    def give(self, job: Job) -> None:
        """Hand the job over.

        Raises:
            OSError: the process is gone.
        """
        self.pipe.send(job)
        self.job, self.started, self.told = job, False, False
        self.began = self.heard = self.moved = time.monotonic()

    def shift(self, seconds: float) -> None:
        """Its clocks stood still for so long."""
        now = time.monotonic()
        self.began, self.heard, self.moved = (min(now, at + seconds) for at in (self.began, self.heard, self.moved))

    def note(self, event: object) -> None:
        """Its word came."""
        now = time.monotonic()
        if isinstance(event, Started):
            self.started, self.began = True, now
        if not isinstance(event, Beat):
            self.moved, self.told = now, False
        self.heard = now


class ProcessExecutor:
    """``workers`` spawned processes with ``settings.threads`` threads each; one job at a time in each.

    Args:
        job_timeout: seconds a job may take; then its worker is killed and the job has failed.  None: for ever.
    """

    def __init__(self, settings: Settings, workers: int, job_timeout: float | None = None) -> None:
        self._settings = settings
        self._context = multiprocessing.get_context("spawn")
        self._count, self._timeout = workers, job_timeout
        self._workers: list[_Worker] = []
        self._refused: list[Event] = []
        self._polled = time.monotonic()
        self._again: set[str] = set()  # jobs that one worker died with before it began them

    def free(self) -> int:
        idle = sum(worker.job is None for worker in self._workers)
        return idle + self._count - len(self._workers)

    def submit(self, job: Job) -> None:
        try:
            self._hand_over(job)
        except (pickle.PicklingError, TypeError, AttributeError) as error:  # what pickle says of what it cannot take
            self._refused.append(Failed(job, f"cannot be handed to a worker: {error}"))

    def _hand_over(self, job: Job) -> None:
        for worker in [w for w in self._workers if w.job is None]:
            try:
                worker.give(job)
                return
            except OSError:
                self._bury(worker)
        worker = self._spawn()
        try:
            worker.give(job)
        except OSError:
            self._refused.append(Failed(job, f"the worker process died ({self._bury(worker)})"))

    def poll(self, timeout: float) -> list[Event]:
        events, self._refused = self._refused, []
        if events or not any(worker.job for worker in self._workers):
            return events
        of = {worker.pipe: worker for worker in self._workers}
        for ready in wait(list(of), timeout):
            assert isinstance(ready, Connection)
            events.extend(self._drain(of[ready]))
        self._forgive()
        for worker in [w for w in self._workers if w.job is not None]:
            events.extend(self._watch(worker))
        return events

    def close(self) -> None:
        with held_back():  # a second Ctrl-C must not leave a worker behind
            for worker in self._workers:
                if worker.job is None:
                    _quietly_send(worker.pipe)
            for worker in self._workers:
                ended(worker.process, patience=PATIENCE if worker.job is None else 0.0)
                worker.pipe.close()
            self._workers.clear()

    def _spawn(self) -> _Worker:
        """A new worker.

        Raises:
            BenchError: the machine starts no further process.
        """
        taken = {worker.number for worker in self._workers}
        number = next(k for k in range(self._count) if k not in taken)
        resource_tracker.ensure_running()  # starting it unblocks the interrupt that the worker must be born without
        with held_back(), _thread_limit(self._settings.threads):
            ours, theirs = self._context.Pipe()
            process = self._context.Process(target=serve, args=(theirs, self._settings, number), daemon=True)
            try:
                process.start()
            except OSError as error:
                raise BenchError(
                    "no worker can be started", got=error.strerror, hint="Give fewer --workers."
                ) from error
            theirs.close()
            worker = _Worker(process, ours, number)
            self._workers.append(worker)
        return worker

    def _drain(self, worker: _Worker) -> Iterator[Event]:
        try:
            while worker.pipe.poll():
                event: Event | Beat = worker.pipe.recv()
                worker.note(event)
                if isinstance(event, Beat):
                    continue
                if isinstance(event, Done | Failed):
                    worker.job = None
                    self._again.discard(event.job.key)
                yield event
                if isinstance(event, Done | Failed) and event.spoilt:
                    self._remove(worker)
                    return
        except (EOFError, OSError):
            yield from self._died(worker)

    def _remove(self, worker: _Worker) -> None:
        """End a worker at once, with all it started; the next job gets a new one."""
        self._workers.remove(worker)
        ended(worker.process, patience=0.0)
        worker.pipe.close()

    def _died(self, worker: _Worker) -> Iterator[Event]:
        """The job it was at has failed; one that it never began is another worker's."""
        how, job = self._bury(worker), worker.job
        if job is None:
            return
        if worker.started or job.key in self._again:
            yield Failed(job, f"the worker process died ({how})")
            return
        self._again.add(job.key)
        self.submit(job)

    def _bury(self, worker: _Worker) -> str:
        """Forget a worker that is gone, and say so; the next job gets a new one.  Returns how it ended."""
        self._workers.remove(worker)
        code = ended(worker.process, PATIENCE)
        worker.pipe.close()
        how = f"killed by signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        if worker.job is None or not worker.started:
            log.warning("a worker died before it began a job (%s); another takes its place", how)
        return how

    def _forgive(self) -> None:
        """Time in which nobody polled (Ctrl-Z, a slow observer) counts against no job."""
        now = time.monotonic()
        away, self._polled = now - self._polled, now
        if away > AWAY:
            for worker in self._workers:
                worker.shift(away)

    def _watch(self, worker: _Worker) -> Iterator[Event]:
        """End a job that takes too long; say once when nothing is heard of it."""
        assert worker.job is not None
        now, job = time.monotonic(), worker.job
        if self._timeout is not None:
            limit = self._timeout if worker.started else self._timeout + BIRTH
            if now - worker.began > limit:
                self._remove(worker)
                yield Failed(job, f"took longer than --job-timeout {self._timeout:g} seconds; its worker was killed")
                return
        unheard, still = now - worker.heard, now - worker.moved
        alive = unheard <= (UNHEARD if worker.started else BIRTH)
        if not worker.told and (not alive or still > STALLED):
            worker.told = True
            yield Silent(job, worker.number, max(unheard, still), alive)


def _quietly_send(pipe: Connection) -> None:
    try:
        pipe.send(None)
    except OSError:
        return  # it is dead already; join follows


@contextmanager
def _thread_limit(threads: int) -> Iterator[None]:
    """OpenMP reads its limit when the library loads, so the child must be born with it."""
    wanted = runtime.thread_variables(threads)
    old = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in old.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
