"""The loop: ready jobs → executor → records. Running the same command again resumes; a failure is a record."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.run.cell import cell_record
from bench.run.executors.base import Executor
from bench.run.observers import Observers, RunStart
from bench.run.tasks import Done, Event, Failed, Progress, Started, Task
from bench.spec.plan import CellJob, Plan
from bench.store.artifacts import ArtifactStore
from bench.store.objects import LostArtifact
from bench.store.records import RecordStore, ResultRecord

FINAL = ("ok", "not_applicable")
"""Records that stand; failed and skipped cells are tried again."""


@dataclass
class _State:
    """What is left: batches per synthesis, cells that wait for them, cells that can run."""

    batches: deque[Task] = field(default_factory=deque)
    open_batches: dict[str, int] = field(default_factory=dict)
    waiting: dict[str, list[Task]] = field(default_factory=dict)
    ready: deque[Task] = field(default_factory=deque)
    running: set[str] = field(default_factory=set)

    @property
    def left(self) -> bool:
        return bool(self.batches or self.ready or self.running)


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
        state = self._state(todo)
        tasks = [*state.batches, *(task for tasks in state.waiting.values() for task in tasks), *state.ready]
        self.observers.tell("run_started", RunStart(self.plan, Path(self.artifacts.root), done, tasks))
        found = {record.cell_id: record for record in done}
        try:
            while state.left:
                self._feed(state)
                for event in self.executor.poll(0.25):
                    for record in self._handle(event, state):
                        found[record.cell_id] = record
        finally:
            self.executor.close()
        records = [found[cell.cell_id] for cell in self.plan.cells if cell.cell_id in found]
        self.observers.tell("run_ended", records)
        return records

    def _standing(self) -> tuple[list[ResultRecord], list[CellJob]]:
        """Records that stand and cells that are left; what cannot be is recorded at once."""
        done, todo = [], []
        for cell in self.plan.cells:
            if cell.not_applicable is not None:
                done.append(self._write(self._inapplicable(cell, cell.not_applicable)))
                continue
            record = None if self.fresh else self._find(cell)
            if record is None or record.status not in FINAL:
                todo.append(cell)
                continue
            done.append(self._adopt(record, cell))
        return done, todo

    def _find(self, cell: CellJob) -> ResultRecord | None:
        """This suite's own record of the cell when it stands, else another suite's."""
        own = self.records.get(self.plan.suite.suite, self.plan.suite.version, cell.cell_id)
        return own if own is not None and own.status in FINAL else self.records.find(cell.cell_id)

    def _adopt(self, record: ResultRecord, cell: CellJob) -> ResultRecord:
        """The record under this suite's name; a cell measured for another suite is not measured twice."""
        suite = self.plan.suite
        if (record.suite, record.suite_version) == (suite.suite, suite.version):
            return record
        renamed = {**cell.axes(), "suite": suite.suite, "suite_version": suite.version}
        return self._write(record.model_copy(update=renamed))

    def _state(self, cells: Sequence[CellJob]) -> _State:
        state = _State()
        for cell in cells:
            job = self.plan.synth(cell.synth_id)
            if cell.synth_id not in state.open_batches:
                missing = self.artifacts.missing(cell.synth_id, job.batches)
                state.open_batches[cell.synth_id] = len(missing)
                state.batches.extend(Task("batch", job, index) for index in missing)
            suite = self.plan.suite
            task = Task("cell", job, cell=cell, suite=suite.suite, suite_version=suite.version)
            if state.open_batches[cell.synth_id]:
                state.waiting.setdefault(cell.synth_id, []).append(task)
            else:
                state.ready.append(task)
        return state

    def _feed(self, state: _State) -> None:
        # Cells first: their records are what the user waits for, and batches fill the gaps between them.
        while self.executor.free() > 0 and (state.ready or state.batches):
            task = state.ready.popleft() if state.ready else state.batches.popleft()
            state.running.add(task.key)
            self.executor.submit(task)

    def _handle(self, event: Event, state: _State) -> list[ResultRecord]:
        if isinstance(event, Started):
            self.observers.tell("task_started", event.task, event.worker)
            return []
        if isinstance(event, Progress):
            self.observers.tell("progress", event)
            return []
        state.running.discard(event.task.key)
        self.observers.tell("task_done", event.task, event.seconds if isinstance(event, Done) else 0.0)
        if isinstance(event, Failed):
            return self._failed(event, state)
        if event.record is not None:
            self._show_images(event.task)
            return [self._write(event.record)]
        self._batch_done(event.task, state)
        return []

    def _batch_done(self, task: Task, state: _State) -> None:
        key = task.synth.synth_id
        state.open_batches[key] -= 1
        if state.open_batches[key] == 0:
            state.ready.extend(state.waiting.pop(key, []))

    def _failed(self, event: Failed, state: _State) -> list[ResultRecord]:
        """A cell whose worker died, or all cells of an image set that cannot be made."""
        status = "failed" if event.applicable else "not_applicable"
        facts = {"reason": event.reason, "traceback": event.traceback}
        if event.task.cell is not None:
            return [self._write(cell_record(event.task, status, **facts))]
        key = event.task.synth.synth_id
        state.batches = deque(task for task in state.batches if task.synth.synth_id != key)
        stage = f"synthesis, batch {event.task.batch}: {event.reason}"
        facts["reason"] = stage if event.applicable else event.reason
        return [self._write(cell_record(task, status, **facts)) for task in state.waiting.pop(key, [])]

    def _inapplicable(self, cell: CellJob, reason: str) -> ResultRecord:
        """A record for a cell that no job will ever run; its synthesis may not be in the plan."""
        suite = self.plan.suite
        facts = {"suite": suite.suite, "suite_version": suite.version, "status": "not_applicable", "reason": reason}
        return ResultRecord.model_validate({**cell.axes(), **facts, "test_digest": cell.test_digest})

    def _show_images(self, task: Task) -> None:
        if task.synth.synth_id in self._shown or task.synth.source.delivery == "stream":
            return
        assert task.cell is not None
        try:
            images = self.artifacts.read(task.synth.synth_id, task.cell.n, task.synth.source.label_kind)
        except LostArtifact:
            return  # nothing to show; the cell's record says what became of the images
        self._shown.add(task.synth.synth_id)
        self.observers.tell("image_set", task.synth, images)

    def _write(self, record: ResultRecord) -> ResultRecord:
        self.records.write(record)
        self.observers.tell("record", record)
        return record
