"""A submission: a suite's records, packed as those that travel with the package, with the suite itself and a digest.

One xz file of JSON: a header (:class:`Header`), ``records`` (each as :func:`bench.store.measured.slim` packs it:
metrics and bitmaps as they are, curves thinned) and ``digest``, the SHA-256 of all the rest (:mod:`bench.store.seals`).
The suite travels as the text of its file with the options it was asked with, so that who checks plans the same cells.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench import __version__
from bench.errors import StoreError
from bench.interfaces import Preset
from bench.reading import parse_json, read_bytes, unxz
from bench.run.session import Options, plan_of
from bench.spec.plan import Plan
from bench.spec.suite import suite_text
from bench.store.files import first_fault, write_atomic
from bench.store.measured import slim, xz
from bench.store.record_store import RecordReader
from bench.store.records import ResultRecord, parse_record
from bench.store.seals import DIGEST, intact, sealed
from bench.submit.validate import Refused, check_records

RECORDS = "records"
MISSING = "missing"
"""Cells that the suite plans and no record is of."""

SUBMITTER = re.compile(r"[\w .,@/+-]{0,80}")


class Asked(BaseModel):
    """The suite's file, and the options its cells were planned with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    overrides: tuple[str, ...] = ()
    dataset: str | None = None
    preset: Preset | None = None
    seeds: Annotated[int, Field(ge=1)] | None = None
    only: str | None = None

    def plan(self, shown: str, data_root: Path | None = None, plugins: Sequence[Path] = ()) -> Plan:
        """The cells it plans here; ``shown`` is what the suite is called in messages, ``plugins`` are the files of
        methods that neither this package nor an installed one has.

        Raises:
            BenchError: whatever is wrong with the suite, its data or weights, or with a method's file.
        """
        options = Options(
            shown,
            only=self.only,
            overrides=self.overrides,
            dataset=self.dataset,
            preset=self.preset,
            seeds=self.seeds,
            data_root=data_root,
            plugins=plugins,
        )
        return plan_of(options, self.text)


class Header(BaseModel):
    """What a submission says besides its records; ``counts``: status, or "missing", → cells."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["datafree-bench submission"] = "datafree-bench submission"
    schema_version: Literal[1] = 1
    suite: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    suite_version: Annotated[int, Field(ge=0)]
    asked: Asked
    benchmark: str
    submitter: Annotated[str, Field(pattern=f"^{SUBMITTER.pattern}$")] = ""
    made: str
    counts: dict[str, Annotated[int, Field(ge=0)]]


@dataclass(frozen=True)
class Submission:
    """A submission that was read and checked, or is to be written; ``digest`` is that of its file."""

    header: Header
    records: tuple[ResultRecord, ...]
    digest: str = ""

    @property
    def measured(self) -> tuple[ResultRecord, ...]:
        """The records with status ok."""
        return tuple(record for record in self.records if record.status == "ok")

    @property
    def name(self) -> str:
        """The suite with its version."""
        return f"{self.header.suite}@{self.header.suite_version}"


def make_submission(options: Options, submitter: str = "") -> Submission:
    """The records that the store itself holds of a suite's cells; those that came with the package are not the user's
    to submit.

    Raises:
        BenchError: what is wrong with the suite; nothing measured.
        Refused: the records contradict themselves.
    """
    if not SUBMITTER.fullmatch(submitter):
        raise StoreError(
            "is no name of a submitter", where="--by", got=submitter, expected="letters, digits, . , @ / + -"
        )
    text, _ = suite_text(options.suite)
    plan = plan_of(options)
    suite = plan.suite
    stored = {r.cell_id: r for r in RecordReader(options.store).all(suite.suite, suite.version)}
    records = tuple(stored[cell.cell_id] for cell in plan.cells if cell.cell_id in stored)
    if not any(record.status == "ok" for record in records):
        hint = f"Measure it: bench run {options.suite} --fresh --store {options.store}"
        raise StoreError("nothing of this suite was measured into this store", where=str(options.store), hint=hint)
    counts = Counter(record.status for record in records) | Counter({MISSING: len(plan.cells) - len(records)})
    asked = Asked(
        text=text,
        overrides=tuple(options.overrides),
        dataset=options.dataset,
        preset=options.preset,
        seeds=options.seeds,
        only=options.only,
    )
    header = Header(
        suite=suite.suite,
        suite_version=suite.version,
        asked=asked,
        benchmark=__version__,
        submitter=submitter,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        counts={key: count for key, count in sorted(counts.items()) if count},
    )
    made = Submission(header, records)
    check(made, str(options.store))
    return made


def write_submission(submission: Submission, path: Path) -> Submission:
    """Write a submission's file, whole or not at all; returns it with its digest.

    Raises:
        StoreError: it cannot be written.
    """
    content = sealed(to_json(submission))
    write_atomic(path, xz(content))
    return replace(submission, digest=str(json_of(content)[DIGEST]))


def to_json(submission: Submission) -> dict[str, Any]:
    """The JSON value of a submission, without its digest."""
    header = submission.header.model_dump(mode="json")
    return {**header, RECORDS: [slim(record) for record in submission.records]}


def json_of(content: bytes) -> dict[str, Any]:
    """The JSON object in ``content``.

    Raises:
        ValueError: it is none.
    """
    raw = parse_json(content)
    if not isinstance(raw, dict):
        raise ValueError(f"a {type(raw).__name__} instead of an object")
    return raw


def read_submission(path: Path) -> Submission:
    """A submission's file, checked: form, digest, and whatever of a record follows from the rest of it.

    Raises:
        Refused: it is none, not what was written, or contradicts itself; with the place, what was got and what is
            allowed.
    """
    where = str(path)
    try:
        raw = json_of(unxz(read_bytes(path)))
    except (OSError, ValueError) as error:
        raise Refused("cannot be read", where=where, got=error, expected="a file that bench submit wrote") from error
    if not intact(raw):
        raise Refused(
            "the digest is not that of the content",
            where=f"{where}: {DIGEST}",
            got=raw.get(DIGEST),
            expected="the SHA-256 of the rest of the file",
        )
    return parse_submission(raw, where)


def parse_submission(raw: Mapping[str, Any], where: str) -> Submission:
    """As :func:`read_submission`, from the JSON value, whose digest is not looked at.

    Raises:
        Refused: as there.
    """
    records = raw.get(RECORDS)
    if not isinstance(records, list) or not records:
        raise Refused("holds no records", where=f"{where}: {RECORDS}", got=type(records).__name__, expected="a list")
    header = {key: value for key, value in raw.items() if key not in (RECORDS, DIGEST)}
    try:
        found = Header.model_validate_json(json.dumps(header), strict=True)
    except ValidationError as error:
        place = ".".join(map(str, error.errors(include_url=False)[0]["loc"]))
        raise Refused("the form is not a submission's", where=f"{where}: {place}", got=first_fault(error)) from error
    parsed = []
    for i, item in enumerate(records):
        try:
            parsed.append(parse_record(item, f"{where}: {RECORDS}[{i}]"))
        except StoreError as error:
            raise Refused(error.what, where=error.where, got=error.got, expected=error.expected) from error
    made = Submission(found, tuple(parsed), str(raw.get(DIGEST, "")))
    check(made, where)
    return made


def check(submission: Submission, where: str) -> None:
    """Raise Refused where something in a submission does not follow from the rest of it."""
    header = submission.header
    counts = Counter(record.status for record in submission.records)
    told = {key: count for key, count in header.counts.items() if key != MISSING}
    if told != dict(counts):
        raise Refused(
            "the counts do not add up", where=f"{where}: counts", got=_counted(told), expected=_counted(counts)
        )
    check_records(submission.records, (header.suite, header.suite_version), where)


def _counted(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{count} {status}" for status, count in sorted(counts.items())) or "none"
