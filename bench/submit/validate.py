"""What of a record follows from the rest of it, computed anew: a number that was changed alone is refused.

Told by one record: its top-1 by its bitmap and bits per image by their sum (on every reading of records), the share of
right answers of the uncompressed target by the number of test images, BitOPs and MACs by the table of layers, the
protocol's id by the protocol, the ids of cell, job and row by all they are made of.  Told by the suite, once it is
planned: every label, parameter and id (:func:`differences`).  What no arithmetic tells is a number that was changed
with its bitmap; for that cells are run again.

Not told by one record alone: ids of image measures and of one of several delivered networks (what was asked), of rows
with a searched policy (whose images it may look at) or a source's student; the plan tells them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from bench.errors import StoreError
from bench.identity import cell_id, digest, row_id, source_identity
from bench.interfaces import Setting
from bench.run.reports import cell_record
from bench.spec import axes
from bench.spec.plan import CellJob, Plan
from bench.spec.plugins import KEY
from bench.store.records import ResultRecord

NEAR = 1e-6
"""Relative difference up to which sums in another order are the same."""

VERSIONS = ("source_version", "compressor_version", "policy_version", "target_digest", "model_digests", "test_digest")
"""What may be another here than where a record was made: its cell cannot be run again here, and is no forgery."""


FILES = ("source", "compressor", "policy")
"""Likewise a method that its user brought in a file."""


class Refused(StoreError):
    """A submission that is not what was written, or contradicts itself."""


class Fault(NamedTuple):
    """A field that does not follow from the rest: its name, what it is, and what it must be."""

    field: str
    got: object
    expected: str


def check_records(records: Sequence[ResultRecord], suite: tuple[str, int], where: str) -> None:
    """Check each record, and all of them together.

    Raises:
        Refused: the first that contradicts itself or is of another suite, or a cell that is there twice.
    """
    seen: dict[str, int] = {}
    for i, record in enumerate(records):
        place = f"{where}: records[{i}]"
        if (record.suite, record.suite_version) != suite:
            got = f"{record.suite}@{record.suite_version}"
            raise Refused("is of another suite", where=f"{place}.suite", got=got, expected=f"{suite[0]}@{suite[1]}")
        if record.cell_id in seen:
            expected = f"each cell once; it is records[{seen[record.cell_id]}], too"
            raise Refused("the cell is there twice", where=f"{place}.cell_id", got=record.cell_id, expected=expected)
        seen[record.cell_id] = i
        for fault in faults(record):
            raise Refused(
                "does not follow from the rest", where=f"{place}.{fault.field}", got=fault.got, expected=fault.expected
            )


def faults(record: ResultRecord) -> Iterator[Fault]:
    """What in a record does not follow from the rest of it."""
    yield from _status_faults(record)
    if record.status == "ok" and record.compressor_method:
        yield from _accuracy_faults(record)
        yield from _layer_faults(record)
    if record.protocol_id is not None or record.protocol:
        protocol = digest(record.protocol)[:16]
        if record.protocol_id != protocol:
            yield Fault("protocol_id", record.protocol_id, protocol)
        told = record.protocol.get("test_set")
        if told is not None and told != (record.test_digest or "")[:16]:
            yield Fault("protocol.test_set", told, (record.test_digest or "")[:16])
    yield from _id_faults(record)


def _status_faults(record: ResultRecord) -> Iterator[Fault]:
    if record.status == "ok":
        if not record.metrics:
            yield Fault("metrics", "none", "those of a measured cell")
        if record.reason:
            yield Fault("reason", record.reason, "none: the cell is ok")
        return
    if not record.reason:
        yield Fault("reason", record.reason, f"why the cell is {record.status}")
    if record.correct is not None or any(value is not None for value in record.metrics.values()):
        yield Fault("metrics", sorted(record.metrics), f"none: the cell is {record.status}")


def _accuracy_faults(record: ResultRecord) -> Iterator[Fault]:
    """Top-1 itself is checked against its bitmap wherever a record is read."""
    if record.correct is None or record.test_count < 1:
        yield Fault("correct", record.correct, "the bitmap of right answers, of one test image or more")
        return
    whole = record.metrics.get("fp_top1")
    if whole is None or not 0 <= whole <= 100:
        yield Fault("metrics.fp_top1", whole, "percent")
        return
    right = whole * record.test_count / 100
    if abs(right - round(right)) > NEAR * record.test_count:
        yield Fault("metrics.fp_top1", whole, f"a share of {record.test_count} images, such as {_share(right, record)}")


def _share(right: float, record: ResultRecord) -> str:
    return f"{100 * round(right) / record.test_count!r}"


def _layer_faults(record: ResultRecord) -> Iterator[Fault]:
    """BitOPs are the sum of MACs × weight bits × input bits over the layers, which hold all of the network's."""
    layers = record.report.get("layers")
    if not isinstance(layers, list) or record.image_bits is not None:
        return
    try:
        macs = float(sum(layer["macs"] for layer in layers))
        work = sum(layer["macs"] * layer["weight_bits"] * layer["activation_bits"] for layer in layers) / 1e9
    except (TypeError, KeyError):
        yield Fault("report.layers", "no table of layers", "macs, weight_bits and activation_bits of each")
        return
    for name, sum_ in (("macs", macs), ("bitops_g", work)):
        told = record.metrics.get(name)
        if told is not None and not math.isclose(told, sum_, rel_tol=NEAR):
            yield Fault(f"metrics.{name}", told, f"{sum_!r}, the sum over its layers")


def _id_faults(record: ResultRecord) -> Iterator[Fault]:
    if record.status == "not_applicable" and not record.compressor_version:
        return  # never planned in full
    teacher = _teacher(record)
    taught = {"teacher"} if teacher else set()
    params = {key: value for key, value in record.compressor_params.items() if key not in taught}
    try:
        cell = _cell_id(record, params, teacher)
        row = _row_id(record, params, teacher)
    except (TypeError, ValueError) as error:
        yield Fault("setting", error, "plain values")
        return
    if cell is not None and cell != record.cell_id:
        yield Fault("cell_id", record.cell_id, f"{cell}, as made of the record's own facts")
    if cell is not None and record.job_id != cell:
        yield Fault("job_id", record.job_id, f"{cell}, the cell's")
    if row is not None and row != record.row_id:
        yield Fault("row_id", record.row_id, f"{row}, as made of the record's own facts")


def _teacher(record: ResultRecord) -> str | None:
    told = record.report.get("teacher")
    return str(told["digest"]) if isinstance(told, dict) and "digest" in told else None


def _cell_id(record: ResultRecord, params: Mapping[str, Any], teacher: str | None) -> str | None:
    """The cell's id from its record alone; None where it takes the plan."""
    lost = "teacher" in record.compressor_params and teacher is None  # a cell that failed does not say its digest
    if record.variant or not record.compressor_method or record.synth_id is None or lost:
        return None
    return cell_id(
        synth=record.synth_id,
        count=record.n,
        compressor=record.compressor_method,
        version=record.compressor_version,
        params=params,
        setting=axes.identity(Setting.of(record.setting)),
        target_digest=record.target_digest,
        test_digest=record.test_digest or "",
        seed=record.seed,
        policy=record.policy_id,
        teacher=teacher,
    )


def _row_id(record: ResultRecord, params: Mapping[str, Any], teacher: str | None) -> str | None:
    """The row's id from its record alone; None where it takes the plan."""
    lost = "teacher" in record.compressor_params and teacher is None
    if record.variant or record.policy or lost or ":" in record.dataset:
        return None
    if record.source_params.get("student") or not record.compressor_method:
        return None
    compressor = {"method": record.compressor_method, "version": record.compressor_version, "params": params}
    return row_id(
        source=source_identity(
            record.source_method, record.source_version, record.source_params, record.model_digests, record.delivery
        ),
        compressor=compressor,
        setting=dict(record.setting),
        count=record.n,
        dataset=record.dataset,
        target_digest=record.target_digest,
        test_digest=record.test_digest or "",
        more={"teacher": teacher},
    )


# --- against the plan ---

Name = tuple[object, ...]
_NAMED = ("source", "model", "target", "compressor", "policy", "setting_label", "variant", "n", "seed")


def differences(records: Sequence[ResultRecord], plan: Plan, where: str) -> dict[str, str]:
    """Compare records with the cells that their suite plans here.

    Returns:
        cell_id → why it cannot be run again here: another version or file of a method, other weights, another test
        set.  Of all other cells every label, parameter and id is that of the plan.

    Raises:
        Refused: a record of no planned cell, or one that the plan contradicts.
    """
    planned = {_name(cell): cell for cell in plan.cells}
    elsewhere = {}
    for i, record in enumerate(records):
        cell = planned.get(_name(record))
        if cell is None:
            what = "the suite plans no such cell"
            raise Refused(what, where=f"{where}: records[{i}]", got=_title(record), expected=f"{len(planned)} cells")
        expected = _expected(cell, plan)
        other = [name for name in VERSIONS if getattr(record, name) != getattr(expected, name)]
        other += [f"file of the {name}" for name in FILES if _file(record, name) != _file(expected, name)]
        if other:
            elsewhere[record.cell_id] = ", ".join(f"another {name.replace('_', ' ')}" for name in other)
            continue
        for name in sorted(expected.model_fields_set - {"status", "reason"}):
            got, wanted = getattr(record, name), getattr(expected, name)
            if got != wanted:
                raise Refused(
                    "is not what the suite plans", where=f"{where}: records[{i}].{name}", got=got, expected=f"{wanted}"
                )
        if cell.not_applicable is not None and record.status != "not_applicable":
            place = f"{where}: records[{i}].status"
            raise Refused("cannot have been measured", where=place, got=record.status, expected=cell.not_applicable)
    return elsewhere


def _file(record: ResultRecord, kind: str) -> object:
    """Digest of the file that brought a method; None for one of this package or an installed one."""
    return getattr(record, f"{kind}_params").get(KEY)


def _expected(cell: CellJob, plan: Plan) -> ResultRecord:
    suite = plan.suite
    return cell_record(cell, plan.synth(cell.synth_id), suite.suite, suite.version, "failed")


def _name(cell: CellJob | ResultRecord) -> Name:
    return tuple(getattr(cell, name) for name in _NAMED)


def _title(record: ResultRecord) -> str:
    return " ".join(str(value) for value in _name(record) if value != "")
