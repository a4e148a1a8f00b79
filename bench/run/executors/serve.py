"""A worker's life in its own process, and its end as the parent sees it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

import psutil

from bench import runtime
from bench.run.executors.base import execute
from bench.run.tasks import Event, Progress, Settings, Started
from bench.terminal import take_any_text

PROGRESS_EVERY = 0.2
"""Seconds between two progress events of a worker."""

BEAT = 2.0
"""Seconds between two beats of a worker; so long it outlives its parent at most."""


@dataclass(frozen=True)
class Beat:
    """A worker's word that its process runs, whatever its job does."""


def serve(pipe: Connection, settings: Settings, number: int) -> None:
    """Take a job, answer with events, until None comes or the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    lock = threading.Lock()  # two threads that send at once would mix their bytes
    threading.Thread(target=_beat, args=(pipe, lock), name="beat", daemon=True).start()
    take_any_text()  # what a method prints must not end its job
    _lock_bars_by_thread()
    runtime.set_threads(settings.threads)
    from bench.run import perform  # noqa: F401 - loading takes seconds that are not the first job's
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
        with lock:
            pipe.send(event)

    try:
        while (job := pipe.recv()) is not None:
            last = 0.0  # the first word of each job is told
            emit(Started(job, number))
            execute(bench, job, emit)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _lock_bars_by_thread() -> None:
    """Give tqdm, which torch calls, no lock between processes: that is a named semaphore which a spawned process takes
    back when it ends in order only, so that the parent would warn of a leak for each worker that was killed."""
    with contextlib.suppress(ImportError):
        from tqdm import tqdm  # type: ignore[import-untyped]

        tqdm.set_lock(threading.RLock())


def _beat(pipe: Connection, lock: threading.Lock) -> None:
    """Beat until the parent is gone; then this process ends, whatever its job does."""
    while True:
        time.sleep(BEAT)
        try:
            with lock:
                pipe.send(Beat())
        except OSError:
            os._exit(1)


def ended(process: SpawnProcess, patience: float) -> int | None:
    """The exit code of a worker that ends by itself within ``patience`` seconds, or is killed with all it started."""
    process.join(timeout=patience)
    if process.is_alive():
        children: list[psutil.Process] = []
        with contextlib.suppress(psutil.Error):
            children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        for child in children:
            with contextlib.suppress(psutil.Error):
                child.kill()
        process.join(timeout=5.0)
    return process.exitcode
