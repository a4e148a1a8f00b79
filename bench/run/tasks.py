"""What workers are given besides jobs, and what they answer: plain frozen data that crosses a pipe."""

from __future__ import annotations

from dataclasses import dataclass

from bench.spec.graph import Job
from bench.store.records import ResultRecord


@dataclass(frozen=True)
class Settings:
    """How a run works; of it the dtype alone is identity. ``store`` is the store's folder, ``data_root`` the data
    set's."""

    store: str
    device: str = "cpu"
    threads: int = 1
    data_root: str | None = None
    unrelated: str | None = "digits"
    dtype: str = "float32"


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
    """A job that could not be done, or a worker that died; ``applicable`` is False when the method said why not;
    ``spoilt`` as in :class:`Done`."""

    job: Job
    reason: str
    traceback: str | None = None
    applicable: bool = True
    spoilt: bool = False


Event = Started | Progress | Silent | Done | Failed
