"""MLflow: one parent run per suite version and store, one nested run per cell, keyed by cell_id; re-runs add to it.

Only the parent process writes. `import mlflow` takes seconds, so it comes with the first use.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.errors import StoreError
from bench.identity import digest
from bench.interfaces import ImageSet
from bench.machine import machine_key
from bench.paths import CELL_TAG, experiment_name, tracking_uri, ui_command
from bench.run.observers import Observer, RunStart
from bench.spec.plan import SynthJob
from bench.store.records import FINAL, ResultRecord

log = logging.getLogger(__name__)

__all__ = ["MlflowObserver", "tracking_uri", "ui_command"]

_PARAMS = ("dataset", "source", "model", "target", "compressor", "policy", "n", "seed", "preset", "membership")
_BATCH = 100  # MLflow takes at most 1,000 metrics, 100 params and 100 tags at once


class MlflowObserver(Observer):
    """Logs records as they come. A dead server costs a warning (Observers takes us out), never a result."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._client: Any = None
        self._experiment = ""
        self._parent = ""
        self._known: dict[str, str] = {}
        self._open: set[str] = set()  # of the known ones, those that a killed run left RUNNING
        self._ended = False
        self._suite = ""

    def run_started(self, start: RunStart) -> None:
        # A server that does not answer must not hold up a run for minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        import mlflow

        logging.getLogger("alembic").setLevel(logging.WARNING)
        self._client = mlflow.MlflowClient(tracking_uri=self._uri)
        suite = start.plan.suite
        self._suite = f"{suite.suite}@{suite.version}"
        name = experiment_name(suite.suite)
        found = self._client.get_experiment_by_name(name)
        self._experiment = found.experiment_id if found else self._client.create_experiment(name)
        key = digest([self._suite, str(start.store.resolve())])[:16]
        self._parent = self._find(f"tags.bench_parent = '{key}'") or self._create(
            self._suite, {"bench_parent": key, "suite": self._suite, "store": str(start.store)}
        )
        self._load_known()
        for cell_id in start.done:
            if cell_id not in self._known or self._known[cell_id] in self._open:
                self.record(start.done[cell_id])

    def record(self, record: ResultRecord) -> None:
        if self._client is None:  # what stood already, or never applied, is told before the run starts, and then again
            return
        from mlflow.entities import Metric, Param, RunTag

        run = self._known.get(record.cell_id)
        fresh = run is None or run in self._open
        if run is None:
            run = self._create(_title(record), {"mlflow.parentRunId": self._parent, CELL_TAG: record.cell_id})
            self._known[record.cell_id] = run
        stamp = int((record.finished or 0.0) * 1000)
        metrics = [Metric(k, v, stamp, 0) for k, v in _metrics(record).items()]
        params = [Param(k, str(v)[:500]) for k, v in _params(record).items()] if fresh else []
        tags = [RunTag(k, str(v)[:5000]) for k, v in _tags(record).items()]
        for first in range(0, max(len(params), len(tags), 1), _BATCH):
            part = slice(first, first + _BATCH)
            self._client.log_batch(run, metrics if first == 0 else [], params[part], tags[part])
        for name, curve in record.curves.items():
            points = [Metric(f"curve/{name}"[:240], value, stamp, step) for step, value in curve[:900]]
            if fresh and points:
                self._client.log_batch(run, points, [], [])
        if record.image_digest:
            self._log_dataset(run, record)
        self._client.set_terminated(run, _outcome([record]))
        self._open.discard(run)

    def image_set(self, job: SynthJob, read: Callable[[], ImageSet]) -> None:
        from bench.run.pictures import grid_png

        try:
            images = read()
        except StoreError as error:
            log.warning("an image set is not shown: %s", error)
            return
        with tempfile.TemporaryDirectory() as folder:
            stem = f"{job.source.label}-{job.model.replace('/', '_').replace(':', '_') or 'none'}-seed{job.seed}"
            grid, curves = Path(folder) / f"{stem}.png", Path(folder) / f"{stem}-curves.json"
            grid.write_bytes(grid_png(images.images.numpy(), job.dataset))
            curves.write_text(json.dumps(images.info["curves"]))
            for path in (grid, curves):
                self._client.log_artifact(self._parent, str(path), "image_sets")

    def run_ended(self, records: Sequence[ResultRecord]) -> None:
        from mlflow.entities import Metric

        ok = sum(record.status == "ok" for record in records)
        metrics = [Metric("cells", len(records), 0, 0), Metric("cells_ok", ok, 0, 0)]
        self._client.log_batch(self._parent, metrics, [], [])
        self._client.set_terminated(self._parent, _outcome(records))
        self._ended = True

    def close(self) -> None:
        """A parent whose run was left before its end is told so; what is done of it stays."""
        if self._parent and not self._ended:
            self._ended = True
            self._client.set_terminated(self._parent, "KILLED")

    def _find(self, query: str) -> str | None:
        found = self._client.search_runs([self._experiment], query, max_results=1)
        return found[0].info.run_id if found else None

    def _load_known(self) -> None:
        token = None
        query = f"tags.mlflow.parentRunId = '{self._parent}'"
        while True:
            page = self._client.search_runs([self._experiment], query, max_results=1000, page_token=token)
            self._known.update({run.data.tags[CELL_TAG]: run.info.run_id for run in page})
            self._open.update(run.info.run_id for run in page if run.info.status == "RUNNING")
            token = page.token
            if not token:
                return

    def _create(self, name: str, tags: dict[str, str]) -> str:
        return str(self._client.create_run(self._experiment, run_name=name, tags=tags).info.run_id)

    def _log_dataset(self, run: str, record: ResultRecord) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        made = Dataset(
            name=f"{record.source}[{record.model}]"[:500],
            digest=(record.image_digest or "")[:32],
            source_type="datafree-bench",
            source=json.dumps({"synth_id": record.synth_id, "n": record.n}),
        )
        self._client.log_inputs(run, [DatasetInput(made, [InputTag("mlflow.data.context", "calibration")])])


def _outcome(records: Sequence[ResultRecord]) -> str:
    """MLflow's word for a run of these cells."""
    return "FINISHED" if all(record.status in FINAL for record in records) else "FAILED"


def _title(record: ResultRecord) -> str:
    origin = f"{record.source}[{record.model}]" if record.model else record.source
    return f"{origin} {record.target} {record.compressor} {record.setting_label} s{record.seed}"


def _params(record: ResultRecord) -> dict[str, Any]:
    found = {name: getattr(record, name) for name in _PARAMS}
    found |= {"setting": record.setting_label, "variant": record.variant, **record.setting}
    found |= {f"source.{k}": v for k, v in record.source_params.items()}
    found |= {f"compressor.{k}": v for k, v in record.compressor_params.items()}
    return {k: v for k, v in found.items() if v != ""}


def _metrics(record: ResultRecord) -> dict[str, float]:
    found = {k: float(v) for k, v in record.metrics.items() if v is not None}
    for stage, cost in record.costs.items():
        found[f"{stage}_s"] = cost.seconds
        found[f"{stage}_cpu_s"] = cost.cpu_seconds
    return found


def _tags(record: ResultRecord) -> dict[str, str]:
    found = {
        "suite": f"{record.suite}@{record.suite_version}",
        "status": record.status,
        "reason": record.reason or "",
        "synth_id": record.synth_id or "",
        "row_id": record.row_id,
        "job_id": record.job_id,
        "policy_id": record.policy_id or "",
        "protocol_id": record.protocol_id or "",
        "access": record.access,
        "control": record.control,
        "test_digest": (record.test_digest or "")[:16],
        "image_digest": (record.image_digest or "")[:16],
        "machine": machine_key(record.provenance),
        "images_flagged": str(record.image_gate.flagged).lower() if record.image_gate else "",
    }
    return {k: v for k, v in found.items() if v}
