"""ResultRecord: the truth about one cell, as JSON, and the folder of such files.

A record's file carries the SHA-256 of its content, and its top-1 follows from its bitmap; both are checked on every
read, and a record that fails is refused: its cell is measured again.  Metrics are unrounded or null; never a rounded
string.  No torch import: the dashboard reads this, too.
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.errors import StoreError
from bench.identity import SEED_SCHEME
from bench.reading import LIMIT, parse_json, read_bytes, unzip
from bench.store.files import check_layout, first_fault, open_store, write_atomic
from bench.store.gate import ImageGate
from bench.store.migrations import MIGRATIONS
from bench.store.seals import DIGEST, intact, sealed, unsealed

log = logging.getLogger(__name__)

SCHEMA_VERSION = 3

SEALED_SINCE = 3
"""The schema whose files carry a digest."""

SAME = 1e-9
"""How far a recorded share may lie from the bitmap's."""

SUITE_FOLDER = re.compile(r"[a-z][a-z0-9_]*@[0-9]+")
CELL = re.compile(r"[0-9a-f]{8,64}")

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


def pack_bits(correct: NDArray[np.bool_]) -> str:
    """Pack a boolean vector [N] into base64 of zlib of its bits (most significant first)."""
    return base64.b64encode(zlib.compress(np.packbits(correct).tobytes(), 9)).decode("ascii")


def unpack_bits(text: str, count: int) -> NDArray[np.bool_]:
    """Inverse of :func:`pack_bits`; ``count`` cuts the padding of the last byte.

    Raises:
        ValueError: no bitmap of so many.
    """
    return np.unpackbits(np.frombuffer(_bitmap(text, count), dtype=np.uint8))[:count].astype(bool)


def share_of(text: str, count: int) -> float:
    """The share of ones in a bitmap of ``count``; none are 0.

    Raises:
        ValueError: no bitmap of so many.
    """
    ones = int.from_bytes(_bitmap(text, count), "big") >> (-count % 8)
    return ones.bit_count() / max(count, 1)


def _bitmap(text: str, count: int) -> bytes:
    size = (count + 7) // 8
    raw = unzip(binascii.a2b_base64(text), min(size, LIMIT)) if count >= 0 else b""
    if len(raw) != size:
        raise ValueError(f"the bitmap is of {8 * len(raw)} images, {count} are recorded")
    return raw


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
    """The record itself, whose top-1 is the share of right answers.

    Raises:
        DamagedRecord: it is not.
    """
    if record.correct is None:
        return record
    try:
        agrees(record.metrics.get("top1"), record.correct, record.test_count)
    except ValueError as error:
        raise _damaged(where, error) from error
    return record


def agrees(top1: float | None, correct: str, count: int) -> None:
    """Check a top-1 in percent against the packed correctness of ``count`` images.

    Raises:
        ValueError: it is not the share of right answers; no bitmap of so many.
    """
    share = share_of(correct, count)
    if top1 is None or not abs(top1 / 100 - share) <= SAME:
        raise ValueError(f"top-1 {top1}, its bitmap says {100 * share}")


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

Key = tuple[str, int, str]
"""Suite, its version, cell_id."""


class RecordReader:
    """``ROOT/records/<suite>@<version>/<cell_id>.json``, and the measured records shipped beside the suites; looks and
    writes nothing.

    Args:
        root: the store's folder; one that does not exist is empty.
        measured: records that came with the package (by key, where they are opened only when needed); the store's own
            win over them.

    Raises:
        StoreError: the folder cannot be read, or a newer version wrote it.
    """

    def __init__(self, root: Path | str, measured: Iterable[ResultRecord] | Mapping[Key, ResultRecord] = ()) -> None:
        self.root = Path(root)
        check_layout(self.root)
        self._folder = self.root / "records"
        self.measured: Mapping[Key, ResultRecord] = (
            measured if isinstance(measured, Mapping) else {_key(record): record for record in measured}
        )

    def get(self, suite: str, version: int, cell_id: str) -> ResultRecord | None:
        """The record of a cell of this suite, from the store or else the measured ones; None when there is none.

        Raises:
            StoreError: damaged, or written by a newer schema.
        """
        path = self._path(suite, version, cell_id)
        return read_record(path) if path.is_file() else self.measured.get((suite, version, cell_id))

    def find(self, cell_id: str) -> ResultRecord | None:
        """A record of this cell under whichever suite measured it; one with status ok if there is any, none that is
        damaged.

        A cell's id holds no suite, so another suite's result is the same result.  This looks into every suite's folder;
        for many cells see :class:`bench.store.index.Listing`.

        Raises:
            StoreError: a newer schema wrote one, or it cannot be read.
        """
        if not CELL.fullmatch(cell_id):
            return None
        found = _sound(sorted(self._folder.glob(f"*@*/{cell_id}.json")))
        found += [self.measured[key] for key in self.measured if key[2] == cell_id]
        return min(found, key=lambda record: record.status != "ok", default=None)

    def all(self, suite: str | None = None, version: int | None = None) -> list[ResultRecord]:
        """All records (of a suite, of one version of it), the store's own in place of measured ones of their cell.

        Those that are damaged are left out, and it is said.

        Raises:
            StoreError: a newer schema wrote one, or it cannot be read.
        """

        def wanted(name: str, number: int) -> bool:
            return suite in (None, name) and version in (None, number)

        found = {key: self.measured[key] for key in self.measured if wanted(*key[:2])}
        for record in _sound(path for path in self._paths() if wanted(*_suite(path))):
            found[_key(record)] = record
        return sorted((r for r in found.values() if wanted(r.suite, r.suite_version)), key=_key)

    def own(self, suite: str, version: int, cell_id: str) -> bool:
        """Whether the store itself (not the package) holds this record."""
        return self._path(suite, version, cell_id).is_file()

    def _paths(self) -> list[Path]:
        if not self._folder.is_dir():
            return []
        folders = [folder for folder in self._folder.iterdir() if SUITE_FOLDER.fullmatch(folder.name)]
        return sorted(path for folder in folders for path in folder.glob("*.json") if CELL.fullmatch(path.stem))

    def _path(self, suite: str, version: int, cell_id: str) -> Path:
        folder = f"{suite}@{version}"
        if not SUITE_FOLDER.fullmatch(folder) or not CELL.fullmatch(cell_id):
            raise ValueError(f"no key of a record: {folder!r}, {cell_id!r}")
        return self._folder / folder / f"{cell_id}.json"


def _suite(path: Path) -> tuple[str, int]:
    name, _, number = path.parent.name.partition("@")
    return name, int(number)


def _sound(paths: Iterable[Path]) -> list[ResultRecord]:
    """The records of the files that are not damaged; the others are said."""
    found, errors = [], []
    for path in paths:
        try:
            found.append(read_record(path))
        except DamagedRecord as error:
            errors.append(error)
    if errors:
        log.warning("%s", refused(errors))
    return found


class RecordStore(RecordReader):
    """As :class:`RecordReader`, and writes records; the folder is made when missing.

    Raises:
        StoreError: the folder cannot be written, or a newer version wrote it.
    """

    def __init__(self, root: Path | str, measured: Iterable[ResultRecord] | Mapping[Key, ResultRecord] = ()) -> None:
        super().__init__(open_store(root), measured)

    def write(self, record: ResultRecord) -> Path:
        """Store a record, atomically, in place of an earlier one of the same cell; returns its path.

        Raises:
            StoreError: the folder cannot be written; a number is not finite.
        """
        path = self._path(record.suite, record.suite_version, record.cell_id)
        try:
            content = record_bytes(record)
        except ValueError as error:
            raise StoreError("the record holds a number that is not finite", where=str(path), got=error) from error
        write_atomic(path, content)
        return path


def _key(record: ResultRecord) -> Key:
    return (record.suite, record.suite_version, record.cell_id)


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
