"""Records of cells: labels and identities from the plan, facts from the job."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from bench import runtime
from bench.interfaces import TIERS, ImageSet
from bench.run.tasks import Failed
from bench.spec.catalogue import short_name
from bench.spec.graph import MeasureJob
from bench.spec.jobs import CellJob, SynthJob
from bench.spec.resolved import brought_by
from bench.store.image_gate import judged
from bench.store.records import ResultRecord, StageCost


def cell_record(
    cell: CellJob, images: SynthJob, suite: str, suite_version: int, status: str, **facts: Any
) -> ResultRecord:
    """A record of a cell: its labels and identities, and ``facts``."""
    resolved = cell.compressor_resolved
    if "provenance" in facts:
        facts["provenance"] = {**facts["provenance"], **brought_by(images.source, cell.search_resolved, resolved)}
    return ResultRecord.model_validate(
        {
            "suite": suite,
            "suite_version": suite_version,
            "status": status,
            **cell.axes(),
            "access": max(images.source.access, cell.search_access, key=TIERS.index),
            "test_digest": cell.test_digest,
            "source_version": images.source.version,
            "source_params": images.source.described,
            **changes_of(cell, images),
            **_search(cell),
            "compressor_version": resolved.version if resolved else 0,
            "compressor_params": _compressor_params(cell),
            "target_digest": cell.target_digest,
            "model_digests": list(images.model_digests),
            **facts,
        }
    )


def job_record(job: MeasureJob, cell: CellJob, status: str, **facts: Any) -> ResultRecord:
    """A record of one of the job's cells."""
    return cell_record(cell, job.images, job.suite, job.suite_version, status, **facts)


def broken_record(job: MeasureJob, cell: CellJob, error: Exception, facts: Mapping[str, Any]) -> ResultRecord:
    """The record of a cell that ``error`` ended."""
    end = Failed.by(error, job)
    return job_record(job, cell, end.status, reason=end.reason, traceback=end.traceback, provenance=dated(facts))


def _compressor_params(cell: CellJob) -> dict[str, Any]:
    """The compressor's parameters, and the row's option beside them."""
    resolved = cell.compressor_resolved
    if resolved is None:
        return {}
    taught = {"teacher": short_name(cell.dataset, resolved.teacher)} if resolved.teacher else {}
    return {**resolved.described, **taught}


def _search(cell: CellJob) -> dict[str, Any]:
    search = cell.search_resolved
    if search is None:
        return {}
    params = search.described
    return {"policy_method": search.method, "policy_version": search.version, "policy_params": params}


def changes_of(cell: CellJob, images: SynthJob) -> dict[str, dict[str, Any]]:
    """What differs from the preset the cell was planned with; another preset may have measured the same cell."""
    compressor = cell.compressor_resolved
    changes = dict(compressor.changes) if compressor else {}
    return {"source_changes": dict(images.source.changes), "compressor_changes": changes}


def origin(images: ImageSet) -> dict[str, Any]:
    """What a record says of the images: their digest, what the source read, how their own networks read them."""
    batches = images.info["batches"]
    audit = [entry for info in batches for entry in info.get("audit", [])]
    return {"image_digest": images.digest, "audit": audit, "image_gate": judged(batches)}


def synthesis_cost(images: ImageSet) -> StageCost:
    """What the images cost; a stream's seconds and memory are its consumer's."""
    if images.stream is None:
        return StageCost(**images.info["cost"])
    passes = images.stream.forward_equivalents
    return StageCost(forward_equivalents=passes, macs=passes * images.info["unit_macs"])


def cost(spent: runtime.Spent, forward_equivalents: float = 0.0) -> StageCost:
    """A stage's cost as it is recorded."""
    return StageCost(**dataclasses.asdict(spent), forward_equivalents=forward_equivalents)


def plain(value: Any) -> Any:
    """Mappings and tuples of a method's answer as plain JSON; numbers of other libraries as Python's."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value if value is None or isinstance(value, str | bool | int | float) else value.item()


def dated(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Provenance of what ends now."""
    return {**facts, "date": now(), "finished": time.time()}


def now() -> str:
    """The moment in ISO form, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
