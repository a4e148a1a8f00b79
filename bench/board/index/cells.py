"""How one cell is measured again, and where its MLflow run is found."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from bench.paths import CELL_TAG, experiment_name, tracking_uri, ui_command
from bench.spec.axes import WHOLE
from bench.spec.resolved import BROUGHT
from bench.store.records import ResultRecord


def repro_command(record: ResultRecord, store: Path | None = None) -> str:
    """The one command that measures this cell again, into ``store`` (the default store unless given)."""
    r = record
    parts = {"source": r.source, "model": r.model, "target": r.target, "compressor": r.compressor}
    parts |= {"policy": r.policy, WHOLE: r.setting_label, "variant": r.variant}
    only = ",".join(f"{key}={value}" for key, value in [*parts.items(), ("seed", r.seed)] if value != "")
    threads = str(r.provenance.get("threads", 1))
    words = ["bench", "run", r.suite, "--only", only, "--set", f"images={r.n}", "--preset", r.preset]
    kernels = r.provenance.get("kernels")
    words += ["--threads", threads, *(["--kernels", str(kernels)] if kernels == "portable" else [])]
    words += [word for file in _files(r) for word in ("--plugin", file)]
    words += ["--fresh", *(["--store", str(store)] if store else [])]
    return shlex.join(words)


def _files(record: ResultRecord) -> list[str]:
    """The names of the methods' files that the cell was measured with; where they lie, no record says."""
    found = record.provenance.get(BROUGHT)
    facts = found.values() if isinstance(found, dict) else ()
    told = [str(fact.get("by", "")) for fact in facts if isinstance(fact, dict)]
    return sorted({by.removeprefix("file ") for by in told if by.startswith("file ")})


@dataclass(frozen=True)
class MlflowRun:
    """Where a cell's run is: the experiment's name, the search that finds the run in it, the command that serves the
    runs, and the server's address when runs are tracked on one."""

    experiment: str
    search: str
    command: str
    server: str | None


def mlflow_run(record: ResultRecord) -> MlflowRun:
    """Read off the record and $MLFLOW_TRACKING_URI; no server is asked, and no password of it is shown."""
    uri = tracking_uri()
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    shown = urlunsplit((parts.scheme, host, parts.path, "", "")) if "@" in parts.netloc else uri
    server = shown if parts.scheme in ("http", "https") else None
    search = f"tags.{CELL_TAG} = '{record.cell_id}'"
    return MlflowRun(experiment_name(record.suite), search, ui_command(shown), server)
