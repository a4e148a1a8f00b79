"""Crash-isolated workers: a job that kills its process becomes a failed record, and the worker is replaced."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from bench import runtime
from bench.run.executors.base import execute
from bench.run.tasks import Event, Failed, Progress, Settings, Started
from bench.spec.graph import Job
from bench.terminal import take_any_text

PROGRESS_EVERY = 0.2  # seconds between two progress events of a worker
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection
    job: Job | None = None


class ProcessExecutor:
    """``workers`` spawned processes with ``settings.threads`` threads each; one job at a time in each."""

    def __init__(self, settings: Settings, workers: int) -> None:
        self._settings = settings
        self._context = multiprocessing.get_context("spawn")
        self._count = workers
        self._workers: list[_Worker] = []

    def free(self) -> int:
        idle = sum(worker.job is None for worker in self._workers)
        return idle + self._count - len(self._workers)

    def submit(self, job: Job) -> None:
        worker = next((w for w in self._workers if w.job is None), None) or self._spawn()
        worker.job = job
        worker.pipe.send(job)

    def poll(self, timeout: float) -> list[Event]:
        busy = {worker.pipe: worker for worker in self._workers if worker.job is not None}
        events: list[Event] = []
        if not busy:
            return events
        for ready in wait(list(busy), timeout):
            assert isinstance(ready, Connection)
            events.extend(self._drain(busy[ready]))
        return events

    def close(self) -> None:
        for worker in self._workers:
            if worker.job is None and worker.process.is_alive():
                _quietly_send(worker.pipe)
            else:
                worker.process.kill()
        for worker in self._workers:
            worker.process.join(timeout=5)
            if worker.process.is_alive():
                worker.process.kill()
            worker.pipe.close()
        self._workers.clear()

    def _spawn(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self._settings, len(self._workers)), daemon=True)
        with _thread_limit(self._settings.threads):
            process.start()
        theirs.close()
        worker = _Worker(process, ours)
        self._workers.append(worker)
        return worker

    def _drain(self, worker: _Worker) -> Iterator[Event]:
        try:
            while worker.job is not None and worker.pipe.poll():
                event: Event = worker.pipe.recv()
                if not isinstance(event, Progress | Started):
                    worker.job = None
                yield event
        except (EOFError, OSError):
            yield self._died(worker)

    def _died(self, worker: _Worker) -> Event:
        worker.process.join(timeout=5)
        self._workers.remove(worker)
        worker.pipe.close()
        code = worker.process.exitcode
        how = f"killed by signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        assert worker.job is not None
        return Failed(worker.job, f"the worker process died ({how})")


def _quietly_send(pipe: Connection) -> None:
    try:
        pipe.send(None)
    except OSError:
        return  # it died between the check and now; join and kill follow


@contextmanager
def _thread_limit(threads: int) -> Iterator[None]:
    """OpenMP reads its limit when the library loads, so the child must be born with it."""
    old = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))
    try:
        yield
    finally:
        for name, value in old.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _serve(pipe: Connection, settings: Settings, number: int) -> None:
    """A worker's life: take a job, answer with events, until None comes or the parent is gone."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    take_any_text()  # what a method prints must not end its job
    runtime.set_threads(settings.threads)
    from bench.run.worker import Bench

    bench = Bench(settings)
    last = 0.0

    def emit(event: Event) -> None:
        nonlocal last
        now = time.monotonic()
        if isinstance(event, Progress):
            if now - last < PROGRESS_EVERY:
                return
            last = now
        pipe.send(event)

    try:
        while (job := pipe.recv()) is not None:
            emit(Started(job, number))
            execute(bench, job, emit)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
