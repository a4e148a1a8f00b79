"""Read-only events for whoever watches a run. An observer that fails is a warning, never a failed run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.interfaces import ImageSet
from bench.run.tasks import Progress
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

    def job_done(self, job: Job, seconds: float) -> None: ...

    def image_set(self, job: SynthJob, images: ImageSet) -> None: ...

    def record(self, record: ResultRecord) -> None: ...

    def run_ended(self, records: Sequence[ResultRecord]) -> None: ...


class Observers:
    """Calls each observer; the first failure of one is logged, and it is not asked again."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._alive = list(observers)

    def tell(self, event: str, *facts: object) -> None:
        """Call method ``event`` of every observer."""
        for observer in list(self._alive):
            try:
                getattr(observer, event)(*facts)
            except Exception as error:  # noqa: BLE001 - an observer never fails a run (docs/architecture.md#rule-9)
                self._alive.remove(observer)
                log.warning("%s is out after an error: %s", type(observer).__name__, error)
