"""The loop: ready jobs → executor → records. Running the same command again resumes; a failure is a record."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from bench.errors import StoreError
from bench.run.executors.base import Executor
from bench.run.observers import Observers, RunStart
from bench.run.queue import Queue
from bench.run.reports import cell_record, changes_of
from bench.run.standing import Standing, stored
from bench.run.tasks import Done, Event, Failed, Silent, Started
from bench.spec.plan import CellJob, Plan
from bench.store.artifacts import ArtifactStore
from bench.store.index import Listing
from bench.store.record_store import RecordStore
from bench.store.records import DamagedRecord, ResultRecord, refused

log = logging.getLogger(__name__)


class Runner:
    """Runs a plan into a store.

    Args:
        plan: what is asked.
        artifacts, records: the store.
        executor: where jobs run.
        observers: who watches.
        fresh: measure every cell again, image sets included only where they are missing.
    """

    def __init__(
        self,
        plan: Plan,
        artifacts: ArtifactStore,
        records: RecordStore,
        executor: Executor,
        observers: Observers,
        fresh: bool = False,
    ) -> None:
        self.plan, self.artifacts, self.records = plan, artifacts, records
        self.executor, self.observers, self.fresh = executor, observers, fresh
        self._shown: set[str] = set()

    def run(self) -> list[ResultRecord]:
        """Do what is left and return the records of all cells of the plan, in its order.

        Raises:
            StoreError: the store can no longer be written.
        """
        done, todo = self._standing()
        graph = self.plan.graph(todo)
        queue = Queue(graph, stored(graph, self.artifacts))
        self.observers.tell("run_started", RunStart(self.plan, Path(self.artifacts.root), done, queue.open))
        found: dict[str, ResultRecord] = {}
        try:
            while queue.left:
                while self.executor.free() > 0 and (job := queue.take()) is not None:
                    self.executor.submit(job)
                for event in self.executor.poll(0.25):
                    for record in self._handle(event, queue):
                        found[record.cell_id] = record
        finally:
            self.executor.close()
        for cell in self.plan.cells:
            if cell.cell_id not in found and cell.cell_id in done:
                found[cell.cell_id] = self._stood(cell, done)
        records = [found[cell.cell_id] for cell in self.plan.cells if cell.cell_id in found]
        self.observers.tell("run_ended", records)
        return records

    def _standing(self) -> tuple[Standing, list[CellJob]]:
        """Cells that stand and cells that are left; what cannot be is recorded at once."""
        done: dict[str, Callable[[], ResultRecord]] = {}
        todo = []
        listing = None if self.fresh else Listing(self.records)
        suite = self.plan.suite
        for cell in self.plan.cells:
            place = listing.standing(cell.cell_id, suite.suite, suite.version) if listing else None
            own = place is not None and (place.suite, place.version) == (suite.suite, suite.version)
            if cell.not_applicable is not None:
                record = self._record(cell, "not_applicable", reason=cell.not_applicable)
                if listing is None or place is None or not own or not _says(partial(listing.read, place), record):
                    self._write(record)
                done[cell.cell_id] = partial(_same, record)
            elif listing is None or place is None:
                todo.append(cell)
            elif own:
                done[cell.cell_id] = partial(listing.read, place)
            else:
                done[cell.cell_id] = partial(_same, self._adopt(listing.read(place), cell))
        if listing is not None and listing.refused:
            log.warning("%s", refused(list(listing.refused.values())))
        return Standing(done), todo

    def _stood(self, cell: CellJob, done: Standing) -> ResultRecord:
        """The record of a cell that was listed as standing; one that turns out damaged is recorded as failed, so that
        the next run measures it again."""
        try:
            return done[cell.cell_id]
        except DamagedRecord as error:
            return self._write(self._record(cell, "failed", reason=str(error)))

    def _adopt(self, record: ResultRecord, cell: CellJob) -> ResultRecord:
        """Another suite's record under this suite's name; a cell measured there is not measured twice."""
        suite = self.plan.suite
        changes = changes_of(cell, self.plan.synth(cell.synth_id))
        renamed = {**cell.axes(), **changes, "suite": suite.suite, "suite_version": suite.version}
        return self._write(record.model_copy(update=renamed))

    def _handle(self, event: Event, queue: Queue) -> list[ResultRecord]:
        if isinstance(event, Done | Failed):
            return self._ended(event, queue)
        if isinstance(event, Started):
            self.observers.tell("job_started", event.job, event.worker)
        else:
            self.observers.tell("silent" if isinstance(event, Silent) else "progress", event)
        return []

    def _ended(self, event: Done | Failed, queue: Queue) -> list[ResultRecord]:
        """What ended is written first and shown afterwards."""
        if isinstance(event, Failed):
            seconds, records = 0.0, self._failed(event, queue)
        else:
            seconds, records = event.seconds, list(event.records)
            queue.done(event.job)
        for record in records:
            self.records.write(record)
        self.observers.tell("job_done", event.job, seconds)
        if isinstance(event, Done):
            self._show_images(records)
        for record in records:
            self.observers.tell("record", record)
        return records

    def _failed(self, event: Failed, queue: Queue) -> list[ResultRecord]:
        """Records of the job's own cells, or of all that needed what it was to make."""
        facts = {"reason": event.reason, "traceback": event.traceback}
        lost = queue.failed(event.job)
        if not event.job.cells and event.status == "failed":
            facts["reason"] = f"{event.job.kind}, {event.job.title}: {event.reason}"
        return [self._record(cell, event.status, **facts) for job in lost for cell in job.cells]

    def _record(self, cell: CellJob, status: str, **facts: str | None) -> ResultRecord:
        suite = self.plan.suite
        return cell_record(cell, self.plan.synth(cell.synth_id), suite.suite, suite.version, status, **facts)

    def _show_images(self, records: Sequence[ResultRecord]) -> None:
        record = next((r for r in records if r.synth_id is not None and r.delivery != "stream"), None)
        if record is None or record.synth_id is None or record.synth_id in self._shown:
            return
        self._shown.add(record.synth_id)
        job = self.plan.synth(record.synth_id)
        # Opened by who wants to see it: images that are damaged meanwhile are an observer's trouble, not the run's.
        read = partial(self.artifacts.read, job.synth_id, record.n, job.source.label_kind)
        self.observers.tell("image_set", job, read)

    def _write(self, record: ResultRecord) -> ResultRecord:
        self.records.write(record)
        self.observers.tell("record", record)
        return record


def _same(record: ResultRecord) -> ResultRecord:
    return record


def _says(read: Callable[[], ResultRecord], record: ResultRecord) -> bool:
    """Whether the stored record says all that ``record`` says; one that is damaged does not."""
    try:
        stored = read()
    except StoreError:
        return False
    return all(getattr(stored, name) == getattr(record, name) for name in record.model_fields_set)
