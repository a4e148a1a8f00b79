"""MLflow: a suite's run, below it a run per row and per image set, below each row its seeds (docs/guide.md#in-mlflow).

One suite run per suite version and store; a cell is known by its id, so re-runs add to what is there. What stands in
the runs: :mod:`bench.run.tracked`. Only the parent process writes. `import mlflow` takes seconds, so it comes with the
first use.
"""

from __future__ import annotations

import getpass
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.errors import StoreError
from bench.identity import digest
from bench.interfaces import ImageSet
from bench.paths import CELL_TAG, experiment_name, tracking_uri, ui_command
from bench.run import tracked
from bench.run.observers import Observer, RunStart
from bench.run.tracked import Summarise
from bench.spec.plan import Plan, SynthJob
from bench.store.records import ResultRecord

log = logging.getLogger(__name__)

__all__ = ["MlflowObserver", "tracking_uri", "ui_command"]

KIND = "custom_model_development"
"""The kind of an experiment that MLflow opens as a training's list of runs; without it, it may guess otherwise."""

_BATCH = 100  # MLflow takes at most 1,000 metrics, 100 params and 100 tags at once
_POINTS = 900  # of a curve, for the same reason
_SUITE, _ROW, _IMAGES = "bench_parent", "bench_row", "bench_images"
_WITHIN = "bench_within"  # of every run below a suite's: the suite's run


class MlflowObserver(Observer):
    """Logs records as they come. A dead server costs a warning (Observers takes us out), never a result.

    Args:
        summarise: makes the board that is logged at the end; none, no board and no intervals.
    """

    def __init__(self, uri: str, summarise: Summarise | None = None) -> None:
        self._uri = uri
        self._summarise = summarise
        self._client: Any = None
        self._experiment = ""
        self._parent = ""
        self._plan: Plan | None = None
        self._known: dict[str, str] = {}  # cell → run
        self._rows: dict[str, str] = {}  # row → run
        self._images: dict[str, str] = {}  # image set → run
        self._open: set[str] = set()  # of all these, those that a killed run left RUNNING
        self._old: set[str] = set()  # cells' runs that lie right below the suite's, as older versions had them
        self._context: dict[str, str] = {}
        self._monitor: Any = None
        self._ended = False

    def run_started(self, start: RunStart) -> None:
        # A server that does not answer must not hold up a run for minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        import mlflow

        logging.getLogger("alembic").setLevel(logging.WARNING)
        self._client = mlflow.MlflowClient(tracking_uri=self._uri)
        self._plan = start.plan
        suite = start.plan.suite
        self._context = _context(suite.suite)
        name = experiment_name(suite.suite)
        found = self._client.get_experiment_by_name(name)
        self._experiment = found.experiment_id if found else self._client.create_experiment(name)
        self._client.set_experiment_tag(self._experiment, "mlflow.note.content", tracked.described(suite))
        self._client.set_experiment_tag(self._experiment, "mlflow.experimentKind", KIND)
        label = f"{suite.suite}@{suite.version}"
        key = digest([label, str(start.store.resolve())])[:16]
        self._parent = self._find(f"tags.{_SUITE} = '{key}'") or self._create(
            label, {_SUITE: key, "suite": label, "store": str(start.store)}, _now()
        )
        self._load_known()
        for cell_id in start.done:
            if self._known.get(cell_id, "") in {"", *self._open, *self._old}:
                self.record(start.done[cell_id])
        if start.jobs:
            self._client.update_run(self._parent, status="RUNNING")
            self._monitor = _watched(self._parent, self._uri)

    def record(self, record: ResultRecord) -> None:
        if self._client is None:  # what stood already, or never applied, is told before the run starts, and then again
            return
        run = self._known.get(record.cell_id)
        fresh = run is None or run in self._open
        begun, ended = tracked.span(record)
        if run is None:
            place = {"mlflow.parentRunId": self._row_of(record, begun), CELL_TAG: record.cell_id, _WITHIN: self._parent}
            run = self._known[record.cell_id] = self._create(tracked.title(record), place, begun)
        elif run in self._old:
            self._client.set_tag(run, "mlflow.parentRunId", self._row_of(record, begun))
            self._client.set_tag(run, _WITHIN, self._parent)
            self._old.discard(run)
        curves = record.curves if fresh else {}
        tags = {**tracked.tags(record), **self._seen_with(record)}
        self._log(run, tracked.metrics(record), tracked.params(record) if fresh else {}, tags, curves, ended)
        if record.image_digest:
            self._log_dataset(run, record)
        self._end(run, tracked.outcome([record]), ended)

    def image_set(self, job: SynthJob, read: Callable[[], ImageSet]) -> None:
        from bench.run.pictures import grid_png

        if job.synth_id in self._images and self._images[job.synth_id] not in self._open:
            return
        try:
            images = read()
        except StoreError as error:
            log.warning("an image set is not shown: %s", error)
            return
        cost = images.info["cost"]
        ended = _now()
        run = self._images.get(job.synth_id)
        if run is None:
            place = {"mlflow.parentRunId": self._parent, _IMAGES: job.synth_id, _WITHIN: self._parent}
            begun = ended - int(1000 * cost["seconds"])
            run = self._images[job.synth_id] = self._create(f"images: {job.title}", place, begun)
        spent = {f"synthesis_{name}": float(value) for name, value in cost.items() if value is not None}
        curves = images.info["curves"]
        self._log(run, spent, tracked.image_params(job), {"synth_id": job.synth_id}, _drawn(curves), ended)
        with tempfile.TemporaryDirectory() as folder:
            grid, lines = Path(folder) / "grid.png", Path(folder) / "curves.json"
            grid.write_bytes(grid_png(images.images.numpy(), job.dataset))
            lines.write_text(json.dumps(curves))
            for path in (grid, lines):
                self._client.log_artifact(run, str(path))
        self._end(run, "FINISHED", ended)

    def run_ended(self, records: Sequence[ResultRecord]) -> None:
        ok = sum(record.status == "ok" for record in records)
        self._log(self._parent, {"cells": len(records), "cells_ok": ok}, {}, {}, {}, _now())
        self._summary(records)
        by_row: dict[str, list[ResultRecord]] = {}
        for record in records:
            by_row.setdefault(record.row_id, []).append(record)
        for row_id, seeds in by_row.items():
            if row_id in self._rows:
                self._end(self._rows[row_id], tracked.outcome(seeds), max(tracked.span(seed)[1] for seed in seeds))
        self._stop_watching()
        self._end(self._parent, tracked.outcome(records), _now())
        self._ended = True

    def close(self) -> None:
        """A suite's run and its rows that were left before their end are told so; what is done of it stays."""
        self._stop_watching()
        if self._parent and not self._ended:
            self._ended = True
            for run in (*(run for run in self._rows.values() if run in self._open), self._parent):
                self._end(run, "KILLED", _now())

    def _summary(self, records: Sequence[ResultRecord]) -> None:
        """The board as files of the suite's run; of each row its mean over seeds, with interval and rank."""
        if self._summarise is None or self._plan is None:
            return
        summary = self._summarise(self._plan, records)
        for name, content in summary.files.items():
            self._client.log_text(self._parent, content, name)
        for row_id, values in summary.rows.items():
            if row_id in self._rows:
                self._log(self._rows[row_id], values, {}, {}, {}, _now())

    def _row_of(self, record: ResultRecord, begun: int) -> str:
        """The run of a record's row, made with its first seed."""
        run = self._rows.get(record.row_id)
        if run is None:
            place = {"mlflow.parentRunId": self._parent, _ROW: record.row_id, _WITHIN: self._parent}
            run = self._rows[record.row_id] = self._create(tracked.row_title(record), place, begun)
            self._log(run, {}, tracked.params(record, seed=False), {"row_id": record.row_id}, {}, begun)
            self._open.add(run)
        return run

    def _seen_with(self, record: ResultRecord) -> dict[str, str]:
        """The way from a cell to its images, which is one click."""
        run = self._images.get(record.synth_id or "")
        if run is None:
            return {}
        return {"mlflow.note.content": f"[its images and their curves](#/experiments/{self._experiment}/runs/{run})"}

    def _log(
        self,
        run: str,
        metrics: Mapping[str, float],
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        curves: Mapping[str, Sequence[tuple[int, float]]],
        stamp: int,
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        values = [Metric(name, value, stamp, 0) for name, value in metrics.items()]
        told = [Param(name, str(value)[:500]) for name, value in params.items()]
        marks = [RunTag(name, str(value)[:5000]) for name, value in tags.items()]
        if len(values) > 1:  # told in the order in which they came, and the compare view opens on the first
            self._client.log_batch(run, values[:1], [], [])
            values = values[1:]
        for first in range(0, max(len(told), len(marks), 1), _BATCH):
            part = slice(first, first + _BATCH)
            self._client.log_batch(run, values if first == 0 else [], told[part], marks[part])
        for name, curve in curves.items():
            points = [Metric(f"curve/{name}"[:240], value, stamp, step) for step, value in curve[:_POINTS]]
            if points:
                self._client.log_batch(run, points, [], [])

    def _find(self, query: str) -> str | None:
        found = self._client.search_runs([self._experiment], query, max_results=1)
        return found[0].info.run_id if found else None

    def _load_known(self) -> None:
        """Every run below the suite's."""
        found = {run.info.run_id: run for query in self._below() for run in self._pages(query)}
        for key, run in found.items():
            kinds = ((CELL_TAG, self._known), (_ROW, self._rows), (_IMAGES, self._images))
            for tag, known in kinds:
                if tag in run.data.tags:
                    known[run.data.tags[tag]] = key
            if CELL_TAG in run.data.tags and run.data.tags.get("mlflow.parentRunId") == self._parent:
                self._old.add(key)
            if run.info.status == "RUNNING":
                self._open.add(key)

    def _below(self) -> tuple[str, str]:
        return f"tags.{_WITHIN} = '{self._parent}'", f"tags.mlflow.parentRunId = '{self._parent}'"

    def _pages(self, query: str) -> list[Any]:
        found: list[Any] = []
        token = None
        while True:
            page = self._client.search_runs([self._experiment], query, max_results=1000, page_token=token)
            found += page
            token = page.token
            if not token:
                return found

    def _create(self, name: str, tags: dict[str, str], begun: int) -> str:
        made = self._client.create_run(
            self._experiment, start_time=begun, run_name=name, tags={**self._context, **tags}
        )
        return str(made.info.run_id)

    def _end(self, run: str, status: str, ended: int) -> None:
        self._client.set_terminated(run, status, end_time=ended)
        self._open.discard(run)

    def _log_dataset(self, run: str, record: ResultRecord) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        made = Dataset(
            name=f"{record.source}[{record.model}]"[:500],
            digest=(record.image_digest or "")[:32],
            source_type="datafree-bench",
            source=json.dumps({"synth_id": record.synth_id, "n": record.n}),
        )
        self._client.log_inputs(run, [DatasetInput(made, [InputTag("mlflow.data.context", "calibration")])])

    def _stop_watching(self) -> None:
        if self._monitor is not None:
            self._monitor.finish()
            self._monitor = None


def _now() -> int:
    return int(time.time() * 1000)


def _context(suite: str) -> dict[str, str]:
    """Who runs what, from which commit."""
    found = {"mlflow.source.name": f"bench run {suite}", "mlflow.source.type": "LOCAL"}
    found["mlflow.source.git.commit"] = tracked.commit()
    with suppress(KeyError, OSError):  # a user without a name
        found["mlflow.user"] = getpass.getuser()
    return {name: value for name, value in found.items() if value}


def _watched(run: str, uri: str) -> Any:
    """Processor, memory, disk and network of this machine as system metrics of a run, until it is finished."""
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    logging.getLogger("mlflow.system_metrics").setLevel(logging.ERROR)  # no GPU is no news
    monitor = SystemMetricsMonitor(run, tracking_uri=uri)
    monitor.start()
    return monitor


def _drawn(curves: Mapping[str, Any]) -> dict[str, list[tuple[int, float]]]:
    """An image set's curves as steps and values."""
    return {name: [(int(step), float(value)) for step, value in points] for name, points in curves.items()}
