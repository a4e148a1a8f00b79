"""What MLflow is told of a record, an image set and a suite: names, parameters, metrics, tags, times.  Without MLflow.

MLflow's compare view opens on the first three parameters, by name, in which runs differ, and on the first metric; so
what a method was called with stands below ``with.``, behind ``bits``, ``compressor``, ``source`` and ``target``.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from bench.machine import machine_key
from bench.spec.plan import Plan, SynthJob
from bench.spec.suite import SuiteSpec
from bench.store.records import FINAL, ResultRecord

FIRST = "top1"
"""The metric that is logged before the others, and therefore shown first."""

_PARAMS = {
    "bits": "setting_label",
    "compressor": "compressor",
    "dataset": "dataset",
    "images": "n",
    "policy": "policy",
    "preset": "preset",
    "source": "source",
    "with.membership": "membership",
    "with.model": "model",
    "target": "target",
    "variant": "variant",
}
"""Parameter → field of the record."""


@dataclass(frozen=True)
class Summary:
    """The board of a run: ``files`` (name → content) and, of each row by its id, its metrics over seeds."""

    files: Mapping[str, str] = field(default_factory=dict)
    rows: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


Summarise = Callable[[Plan, Sequence[ResultRecord]], Summary]


def row_title(record: ResultRecord) -> str:
    """A row's name: what its seeds have in common."""
    origin = f"{record.source}[{record.model}]" if record.model else record.source
    searched = f"{record.policy} " if record.policy else ""
    return f"{origin} {record.target} {searched}{record.compressor} {record.setting_label}"


def title(record: ResultRecord) -> str:
    """A cell's name."""
    return f"{row_title(record)} s{record.seed}"


def params(record: ResultRecord, *, seed: bool = True) -> dict[str, Any]:
    """A cell's parameters, without the seed those of its row."""
    found = {name: getattr(record, attribute) for name, attribute in _PARAMS.items()}
    found |= {"seed": record.seed} if seed else {}
    found |= {f"with.{name}": value for name, value in record.setting.items()}
    found |= {f"with.source.{name}": value for name, value in record.source_params.items()}
    found |= {f"with.compressor.{name}": value for name, value in record.compressor_params.items()}
    return {name: value for name, value in found.items() if value not in ("", None)}


def metrics(record: ResultRecord) -> dict[str, float]:
    """A cell's metrics and costs, :data:`FIRST` first."""
    found = {name: float(value) for name, value in record.metrics.items() if value is not None}
    for stage, cost in record.costs.items():
        found[f"{stage}_s"] = cost.seconds
        found[f"{stage}_cpu_s"] = cost.cpu_seconds
    return dict(sorted(found.items(), key=lambda item: item[0] != FIRST))


def tags(record: ResultRecord) -> dict[str, str]:
    """What identifies a cell and says how it stands."""
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
    return {name: value for name, value in found.items() if value}


def span(record: ResultRecord) -> tuple[int, int]:
    """When the work on a cell began and ended, in milliseconds since 1970; its images' own work aside."""
    end = int((record.finished or 0.0) * 1000)
    own = sum(cost.seconds for stage, cost in record.costs.items() if stage != "synthesis")
    return max(0, end - int(own * 1000)), end


def outcome(records: Sequence[ResultRecord]) -> str:
    """MLflow's word for a run of these cells."""
    return "FINISHED" if all(record.status in FINAL for record in records) else "FAILED"


def image_params(job: SynthJob) -> dict[str, Any]:
    """The parameters of an image set."""
    found = {"source": job.source.label, "with.model": job.model, "dataset": job.dataset_name, "images": job.count}
    found |= {"seed": job.seed, "preset": job.preset}
    found |= {f"with.source.{name}": value for name, value in job.source.described.items()}
    return {name: value for name, value in found.items() if value not in ("", None)}


def described(suite: SuiteSpec) -> str:
    """An experiment's description, as Markdown: the suite's title, what it is about, its grid, its claims."""
    head = [f"**{suite.title or suite.suite}**", suite.about or ""]
    if suite.reproduces:
        head.append(f"Reproduces {suite.reproduces}.")
    head.append(f"Data set {suite.dataset}, preset {suite.preset}, {len(suite.seeds)} seeds.")
    claims = [f"- {claim.says}" for claim in suite.claims]
    return "\n\n".join([part for part in head if part] + (["Claims:\n" + "\n".join(claims)] if claims else []))


@cache
def commit() -> str:
    """The commit of the checkout that this package runs from; empty where it is installed."""
    root = Path(__file__).resolve().parent.parent.parent
    if not (root / ".git").exists():
        return ""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
