"""ResultRecord: the truth about one cell, as JSON.

A record's file carries the SHA-256 of its content, and its top-1 follows from its bitmap; both are checked on every
read, and a record that fails is refused: its cell is measured again.  Metrics are unrounded or null; never a rounded
string.  No torch import: the dashboard reads this, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.errors import StoreError
from bench.identity import SEED_SCHEME
from bench.reading import parse_json, read_bytes
from bench.store.bitmaps import agrees
from bench.store.files import first_fault
from bench.store.image_bits import ImageBits, check_image_bits
from bench.store.image_gate import ImageGate
from bench.store.migrations import MIGRATIONS
from bench.store.seals import DIGEST, intact, sealed, unsealed

SCHEMA_VERSION = 4

SEALED_SINCE = 3
"""The schema whose files carry a digest."""

Selection = Literal["last", "best-on-test"]
Status = Literal["ok", "failed", "skipped", "not_applicable"]


LATEST = 1e15
"""Seconds since 1970; a later date is none."""

Whole = Annotated[int, Field(ge=0, lt=2**31)]
"""Counts, seeds and versions; tables hold no longer ones."""


class StageCost(BaseModel):
    """What a stage took: wall and CPU seconds, forward-equivalents, the same in multiply-accumulates (a synthesis, from
    schema 3 on), peak resident memory in MiB."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    forward_equivalents: float = 0.0
    macs: float | None = None
    peak_memory_mib: float | None = None


class ResultRecord(BaseModel):
    """One cell of the grid, measured or with the reason why not. See the fields' comments for units."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: int = SCHEMA_VERSION
    cell_id: str
    row_id: str  # of the row: the cell without its seed
    job_id: str  # of the compression that made it; shared where one training yields several networks
    synth_id: str | None
    policy_id: str | None = None  # of the searched bits per layer
    seed_scheme: Whole = SEED_SCHEME  # how the cell's generator was seeded, see bench.identity
    suite: str
    suite_version: Whole
    dataset: str

    source: str  # label of the row: method name plus its non-default parameters, e.g. mixmix(mix=1)
    source_method: str  # registered name of the method
    model: str  # the network the images come from, "zoo:NAME" for a zoo, "" for none
    target: str  # name without the data set, e.g. resnet18_w16
    compressor: str  # label, as for source
    compressor_method: str
    setting: dict[str, Any] = Field(default_factory=dict)  # what it is of, by key: weight_bits, sparsity, …
    setting_label: str = ""  # the same for people: resnet18_w16 S50 W4A4
    variant: str = ""  # "W4A4 of W8A8", where one compression asked for the latter yields several networks
    policy: str = ""  # label of the search of bits per layer; empty where the setting alone says them
    policy_method: str = ""
    policy_version: Whole = 0
    policy_params: dict[str, Any] = Field(default_factory=dict)
    selection: Selection = "last"  # which of a training's networks: printed numbers may be the best on the test set
    delivery: str = "cached"  # images stored, or a stream
    n: Whole  # images
    seed: Whole
    preset: str
    control: str  # upper | lower | none, as the source declares
    membership: str  # held-out architecture | same architecture | same checkpoint | none

    status: Status
    reason: str | None = None
    traceback: str | None = None

    metrics: dict[str, float | None] = Field(
        default_factory=dict
    )  # top1, fp_top1 in percent; macs, bitops_g, size_bytes
    correct: str | None = None  # per-sample correctness on the test set, see pack_bits
    test_count: Whole = 0
    test_digest: str | None = None
    image_bits: ImageBits | None = None  # of each test image, where bits depend on the image

    costs: dict[str, StageCost] = Field(default_factory=dict)  # synthesis | compress | measure | fp
    protocol: dict[str, Any] = Field(default_factory=dict)
    protocol_id: str | None = None  # fingerprint of `protocol`; ranks are formed within one
    access: str = "T0"
    audit: list[dict[str, Any]] = Field(default_factory=list)
    curves: dict[str, list[tuple[int, float]]] = Field(default_factory=dict)
    report: dict[str, Any] = Field(default_factory=dict)
    image_digest: str | None = None
    image_gate: ImageGate | None = None  # whether the images invert their own networks; None where that is no question

    source_version: Whole = 0
    compressor_version: Whole = 0
    source_params: dict[str, Any] = Field(default_factory=dict)
    compressor_params: dict[str, Any] = Field(default_factory=dict)
    source_changes: dict[str, Any] = Field(default_factory=dict)  # what of the parameters differs from the preset
    compressor_changes: dict[str, Any] = Field(default_factory=dict)
    target_digest: str = ""
    model_digests: list[str] = Field(default_factory=list)
    provenance: dict[str, Any] = Field(default_factory=dict)  # dates, machine, versions, threads: never identity

    @property
    def finished(self) -> float | None:
        """When the cell was done, in seconds since 1970; None where that was not written down."""
        found = self.provenance.get("finished")
        return float(found) if isinstance(found, int | float) and abs(found) < LATEST else None


class DamagedRecord(StoreError):
    """A record that is none, is not what was written, or contradicts itself: it does not stand, and its cell is
    measured again."""


def parse_record(raw: Any, where: str) -> ResultRecord:
    """A record from its JSON value, brought to the present schema.  Whether its top-1 is its bitmap's is checked; its
    digest is its file's (:func:`read_record`, packs carry one of their own).

    Raises:
        DamagedRecord: no record at all, or one that contradicts itself.
        StoreError: a newer schema, or an older one without a way here.
    """
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if not isinstance(version, int) or version < 1:
        hint = "Delete or move this file."
        raise DamagedRecord("is no result record", where=where, got=type(raw).__name__, hint=hint)
    if version > SCHEMA_VERSION:
        raise StoreError(
            "a newer version of datafree-bench wrote this record",
            where=where,
            got=f"schema_version {version}",
            expected=f"up to {SCHEMA_VERSION}",
            hint="Update datafree-bench, or choose another folder with --store DIR.",
        )
    while version < SCHEMA_VERSION:
        if version not in MIGRATIONS:
            raise StoreError("the record's schema is too old", where=where, got=f"schema_version {version}")
        try:
            raw = {**MIGRATIONS[version](dict(raw)), "schema_version": version + 1}
        except (TypeError, ValueError, AttributeError) as error:
            raise _damaged(where, error) from error
        version += 1
    try:
        return _checked(ResultRecord.model_validate({k: v for k, v in raw.items() if k != DIGEST}), where)
    except ValidationError as error:
        raise _damaged(where, first_fault(error)) from error


def _checked(record: ResultRecord, where: str) -> ResultRecord:
    """The record itself, whose top-1 is the share of right answers, and whose bit operations are the images' mean.

    Raises:
        DamagedRecord: one of them is not.
    """
    try:
        if record.correct is not None:
            agrees(record.metrics.get("top1"), record.correct, record.test_count)
        if record.image_bits is not None:
            check_image_bits(record.image_bits, record.metrics.get("bitops_g"), record.test_count)
    except ValueError as error:
        raise _damaged(where, error) from error
    return record


def _damaged(where: str, why: object) -> DamagedRecord:
    return DamagedRecord("the record is damaged", where=where, got=why, hint="Its cell is measured again.")


def record_bytes(record: ResultRecord) -> bytes:
    """The record as it is stored: sorted keys, indented, UTF-8, with the digest of its content.

    Raises:
        ValueError: a number that is not finite (a metric that could not be had is None).
    """
    return sealed(record.model_dump(mode="json"))


FINAL: tuple[Status, ...] = ("ok", "not_applicable")
"""Records that stand; failed and skipped cells are tried again."""


def read_record(path: Path) -> ResultRecord:
    """The record in a file.

    Raises:
        DamagedRecord: it is not what was written.
        StoreError: it cannot be read, or a newer schema wrote it.
    """
    try:
        content = read_bytes(path)
        record = _as_written(content, str(path))
        if record is not None:
            return record
        raw = parse_json(content)
    except OSError as error:
        raise StoreError("cannot be read", where=str(path), got=error.strerror) from error
    except ValueError as error:
        raise _damaged(str(path), error) from error
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if isinstance(version, int) and SEALED_SINCE <= version <= SCHEMA_VERSION and not intact(raw):
        raise _damaged(str(path), "its content is not the one its digest was made of")
    return parse_record(raw, str(path))


def _as_written(content: bytes, where: str) -> ResultRecord | None:
    """The record of a file that is to the byte what this schema writes, in half the time; None for any other file.

    pydantic's own reader takes no more than 200 levels.
    """
    rest = unsealed(content)
    if rest is None or _PRESENT not in rest:
        return None
    try:
        return _checked(ResultRecord.model_validate_json(rest), where)
    except ValidationError:
        return None  # said by the longer way, as of any other file


_PRESENT = f'\n "schema_version": {SCHEMA_VERSION},'.encode()


def refused(errors: Sequence[DamagedRecord], most: int = 5) -> str:
    """How many records do not stand, which, and why, as a sentence; empty where there are none."""
    if not errors:
        return ""
    many = "a record is" if len(errors) == 1 else f"{len(errors)} records are"
    lines = [f"  {error.where}: {error.got or error.what}" for error in errors[:most]]
    rest = [f"  … and {len(errors) - most} more"] if len(errors) > most else []
    return "\n".join([f"{many} refused and measured again by the next run:", *lines, *rest])
