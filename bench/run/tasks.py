"""What workers are given besides jobs, and what they answer: plain frozen data that crosses a pipe."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import Literal

from bench.errors import BenchError, GateClosed, NotApplicable
from bench.spec.graph import Job
from bench.spec.plugins import Plugin
from bench.store.records import ResultRecord


@dataclass(frozen=True)
class Settings:
    """How a run works; of it the dtype alone is identity. ``store`` is the store's folder, ``data_root`` the data
    set's, ``plugins`` are methods in files."""

    store: str
    device: str = "cpu"
    threads: int = 1
    data_root: str | None = None
    unrelated: str | None = "digits"
    dtype: str = "float32"
    plugins: tuple[Plugin, ...] = ()


@dataclass(frozen=True)
class Started:
    job: Job
    worker: int


@dataclass(frozen=True)
class Progress:
    """``stage`` is the method's word for what it does; ``step`` of ``total``."""

    job: Job
    stage: str
    step: int
    total: int


@dataclass(frozen=True)
class Silent:
    """Nothing has been heard of a job for ``seconds``: no progress of it or, unless ``alive``, not even that its worker
    runs."""

    job: Job
    worker: int
    seconds: float
    alive: bool


@dataclass(frozen=True)
class Done:
    """``records``: one for each of the job's cells; none for a job that makes what others need.  ``spoilt``: something
    that measures was changed in that process, so that it is to run no other job."""

    job: Job
    seconds: float
    records: tuple[ResultRecord, ...] = ()
    spoilt: bool = False


@dataclass(frozen=True)
class Failed:
    """A job that could not be done, or a worker that died; ``status`` is that of the cells that needed it; ``spoilt``
    as in :class:`Done`."""

    job: Job
    reason: str
    traceback: str | None = None
    status: Literal["failed", "skipped", "not_applicable"] = "failed"
    spoilt: bool = False

    @classmethod
    def by(cls, error: Exception, job: Job) -> Failed:
        """What ``error`` makes of a job: not applicable, skipped at the gate, or failed with its trace."""
        if isinstance(error, NotApplicable):
            return cls(job, str(error), status="not_applicable")
        if isinstance(error, GateClosed):
            return cls(job, error.what, status="skipped")
        reason = str(error) if isinstance(error, BenchError) else f"{type(error).__name__}: {error}"
        return cls(job, reason, "".join(traceback.format_exception(error, limit=20)))


Event = Started | Progress | Silent | Done | Failed
