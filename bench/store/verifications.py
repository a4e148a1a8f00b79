"""What a re-run of a submission's cells found, as a file beside it: which cells, on what machine, inside or outside.

Its name is ``SUBMISSION.KEY.verification``; it carries the SHA-256 of its content as records do
(:mod:`bench.store.seals`).  A digest is no signature: it tells damage, not who wrote the file.
"""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.errors import StoreError
from bench.machine import machine_key
from bench.reading import read_json
from bench.store.files import first_fault, write_atomic
from bench.store.records import ResultRecord
from bench.store.seals import DIGEST, intact, sealed

log = logging.getLogger(__name__)

SUBMISSIONS = "submissions"
"""Folder below a store where submissions and the reports on them lie, unless another is named."""

ENDING = ".verification"
SAME = 1e-9
"""How far a recorded difference may lie from that of the two numbers beside it."""

Answers = tuple[str, str]
"""Cell and digest of its right answers: what was re-run, and no other record of that cell."""

Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")]
Points = Annotated[float, Field(ge=0, le=100)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Checked(_Strict):
    """One cell: what was submitted, what the re-run got (None where it failed, with the reason), the half width of the
    interval of their difference in points, whether it is inside, whether both answer every test image alike, and the
    share they do.  ``machine``: the key of the one that measured the submitted number; ``differs``: other metrics that
    are not equal, submitted and again, which are told and not judged."""

    cell_id: Hex
    row_id: Hex
    title: str
    seed: int
    answers: Hex
    submitted: Points
    again: Points | None
    half_width: Annotated[float, Field(ge=0)]
    inside: bool
    equal: bool
    agreement: Annotated[float, Field(ge=0, le=1)] | None = None
    machine: str = ""
    differs: dict[str, tuple[float | None, float | None]] = Field(default_factory=dict)
    reason: str | None = None


class KindChecked(_Strict):
    """A kind of cell: how many of the submission's cells are of it, what its spread is taken from; in points, medians
    over these of the standard deviation of one run and of the smallest forgery that is detected with 80 % power, and
    the ``widest`` such forgery of any of them."""

    title: str
    cells: int
    basis: str
    deviation: float
    smallest_forgery: float
    widest: float


class Verification(_Strict):
    """The report; ``cells`` of the submission can be re-run there, ``elsewhere`` cannot, ``seed`` drew ``checked`` of
    them, ``facts`` are those of the machine that did it, ``level`` is that of all intervals together."""

    format: Literal["datafree-bench verification"] = "datafree-bench verification"
    schema_version: Literal[1] = 1
    submission: Hex
    suite: str
    suite_version: int
    benchmark: str
    made: str
    facts: dict[str, Any]
    cells: Annotated[int, Field(ge=1)]
    elsewhere: Annotated[int, Field(ge=0)] = 0
    seed: Annotated[int, Field(ge=0)]
    level: Annotated[float, Field(gt=0, lt=1)]
    checked: Annotated[tuple[Checked, ...], Field(min_length=1)]
    kinds: tuple[KindChecked, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every cell is inside."""
        return all(cell.inside for cell in self.checked)

    @property
    def contradicts(self) -> bool:
        """Whether some cell was measured again and is outside; one that failed says nothing of the number."""
        return any(cell.again is not None and not cell.inside for cell in self.checked)

    @property
    def machine(self) -> str:
        """The key of the machine that re-ran the cells; empty where its facts say nothing."""
        return machine_key(self.facts)


def answers_of(record: ResultRecord) -> str:
    """Digest of a record's right answers; of one without a bitmap that of its top-1."""
    text = f"{record.correct}|{record.test_count}|{record.metrics.get('top1')!r}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_verification(report: Verification, beside: Path) -> Path:
    """Write the report beside a submission; returns its path.

    Raises:
        StoreError: the folder cannot be written.
    """
    content = sealed(report.model_dump(mode="json"))
    key = hashlib.sha256(content).hexdigest()[:10]
    path = beside.with_name(f"{stem_of(beside)}.{key}{ENDING}")
    write_atomic(path, content)
    return path


def stem_of(submission: Path) -> str:
    """A submission's name without its endings."""
    return submission.name.removesuffix(".xz").removesuffix(".json")


def read_verification(path: Path) -> Verification:
    """The report in a file.

    Raises:
        StoreError: it cannot be read, is not what was written, or contradicts itself.
    """
    try:
        raw = read_json(path)
    except (OSError, ValueError) as error:
        raise StoreError("the verification cannot be read", where=str(path), got=error) from error
    if not isinstance(raw, dict) or not intact(raw):
        raise StoreError("the verification is not what was written", where=str(path), got="another digest")
    try:
        found = Verification.model_validate({key: value for key, value in raw.items() if key != DIGEST})
    except ValidationError as error:
        raise StoreError("the verification is damaged", where=str(path), got=first_fault(error)) from error
    for cell in found.checked:
        if cell.inside != is_inside(cell.submitted, cell.again, cell.half_width):
            got = f"inside: {cell.inside}, {cell.submitted} and {cell.again} within {cell.half_width}"
            raise StoreError("the verification contradicts itself", where=f"{path}: cell {cell.cell_id}", got=got)
    return found


def is_inside(submitted: float, again: float | None, half_width: float) -> bool:
    """Whether a re-run lies within the interval."""
    return again is not None and abs(again - submitted) <= half_width + SAME


def verification_files(*folders: Path) -> list[Path]:
    """The reports in these folders; one that does not exist is empty."""
    return sorted(path for folder in folders if folder.is_dir() for path in folder.glob(f"*{ENDING}"))


class Outcome(NamedTuple):
    """Machines on which a cell's re-run was inside, and those on which it was not."""

    inside: frozenset[str]
    outside: frozenset[str]


def outcomes(reports: Iterable[Verification]) -> Mapping[Answers, Outcome]:
    """What the re-runs of each cell found; those on the machine of the submitted number prove nothing to others and
    are left out."""
    found: dict[Answers, tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    for report in reports:
        for cell in report.checked:
            if report.machine and report.machine != cell.machine and cell.again is not None:
                found[cell.cell_id, cell.answers][0 if cell.inside else 1].add(report.machine)
    return {key: Outcome(frozenset(a), frozenset(b)) for key, (a, b) in found.items()}


def outcomes_of_folders(*folders: Path) -> Mapping[Answers, Outcome]:
    """As :func:`outcomes`, of the reports in these folders; damaged ones are left out, and it is said."""
    found = []
    for path in verification_files(*folders):
        try:
            found.append(read_verification(path))
        except StoreError as error:
            log.warning("left out: %s", error)
    return outcomes(found)
