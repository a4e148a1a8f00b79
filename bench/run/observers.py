"""Read-only events for whoever watches a run. An observer that fails is a warning, never a failed run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.interfaces import ImageSet
from bench.run.interrupts import held_back
from bench.run.tasks import Progress, Silent
from bench.spec.graph import Job
from bench.spec.plan import Plan, SynthJob
from bench.store.records import ResultRecord

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunStart:
    """``done`` are records that stand already, by cell_id and opened when asked for; ``jobs`` what is left to do."""

    plan: Plan
    store: Path
    done: Mapping[str, ResultRecord]
    jobs: Sequence[Job]


class Observer:
    """Base with nothing in it; override what you want to see."""

    def run_started(self, start: RunStart) -> None: ...

    def job_started(self, job: Job, worker: int) -> None: ...

    def progress(self, event: Progress) -> None: ...

    def silent(self, event: Silent) -> None: ...

    def job_done(self, job: Job, seconds: float) -> None: ...

    def image_set(self, job: SynthJob, read: Callable[[], ImageSet]) -> None:
        """The first cell of an image set stands. ``read`` opens it, and raises StoreError when it is gone or damaged
        meanwhile."""

    def record(self, record: ResultRecord) -> None: ...

    def run_ended(self, records: Sequence[ResultRecord]) -> None: ...

    def close(self) -> None:
        """The run is left: after its end, or because it was interrupted or failed, or never began.  An observer that is
        out after an error is asked this, too."""


class Observers:
    """Calls each observer; the first failure of one is logged, and it is not asked again.

    Use it as a context, so that every observer is closed however the run ends.
    """

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._all = tuple(observers)
        self._alive = list(observers)

    def __enter__(self) -> Observers:
        return self

    def __exit__(self, *_: object) -> None:
        with held_back():
            for observer in self._all:
                self._ask(observer, "close")

    def tell(self, event: str, *facts: object) -> None:
        """Call method ``event`` of every observer."""
        for observer in list(self._alive):
            self._ask(observer, event, *facts)

    def _ask(self, observer: Observer, event: str, *facts: object) -> None:
        try:
            getattr(observer, event)(*facts)
        except Exception as error:  # noqa: BLE001 - an observer never fails a run (docs/architecture.md#rule-9)
            what = "could not be closed" if event == "close" else "is out after an error"
            log.warning("%s %s: %s", type(observer).__name__, what, error)
            if observer in self._alive:
                self._alive.remove(observer)
