"""``ROOT/exports/CELL.json``: how a cell's exported network agreed with the simulated one, by its last export."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.errors import StoreError
from bench.store.files import first_fault, open_store, read_stored, write_atomic
from bench.store.records import ResultRecord, Whole
from bench.store.seals import DIGEST, intact, sealed

FOLDER = "exports"

PARITY = "integer_parity"
"""The metric's name on the board."""

Percent = Annotated[float, Field(ge=0, le=100)]


class StoredExport(BaseModel):
    """The share of equal predictions and both top-1 in percent, on so many test images, and what file it was."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    cell_id: str
    file_digest: str
    images: Whole
    agreement: Percent
    simulated_top1: Percent
    exported_top1: Percent
    software: dict[str, str] = Field(default_factory=dict)


def write_export(store: Path, found: StoredExport) -> Path:
    """Keep what was found, with its digest; what an earlier export of the cell found is replaced, unless it is of the
    same file on more images.

    Raises:
        StoreError: the store cannot be written.
    """
    path = open_store(store) / FOLDER / f"{found.cell_id}.json"
    with suppress(StoreError):  # what cannot be read says nothing
        earlier = read_export(path)
        if earlier is not None and earlier.file_digest == found.file_digest and earlier.images > found.images:
            return path
    write_atomic(path, sealed(found.model_dump(mode="json")))
    return path


def read_export(path: Path) -> StoredExport | None:
    """What a file holds; None where there is none.

    Raises:
        StoreError: it is not what was written, or cannot be read.
    """
    raw = read_stored(path, partial(_damaged, path))
    if raw is None:
        return None
    if not isinstance(raw, dict) or not intact(raw):
        raise _damaged(path, "its content is not the one its digest was made of")
    try:
        return StoredExport.model_validate({key: value for key, value in raw.items() if key != DIGEST})
    except ValidationError as error:
        raise _damaged(path, first_fault(error)) from error


def _damaged(path: Path, why: object) -> StoreError:
    hint = "Delete the file and export the cell again."
    return StoreError("the result of an export cannot be taken from here", where=str(path), got=why, hint=hint)


def export_files(store: Path | None) -> list[Path]:
    """The files of a store's exports."""
    return sorted((store / FOLDER).glob("*.json")) if store is not None else []


def export_stamps(store: Path | None) -> list[list[object]]:
    """The files of a store's exports, with what tells that they have not changed."""
    stats = ((path, path.stat()) for path in export_files(store))
    return [[path.name, stat.st_size, stat.st_mtime_ns] for path, stat in stats]


def parities(store: Path | None) -> dict[str, float]:
    """Cell → integer parity in percent; files that cannot be read are left out: a blank says it was not exported."""
    found = {}
    for path in export_files(store):
        try:
            one = read_export(path)
        except StoreError:
            continue
        if one is not None and path.stem == one.cell_id:
            found[one.cell_id] = one.agreement
    return found


def with_parity(records: Iterable[ResultRecord], known: Mapping[str, float]) -> list[ResultRecord]:
    """The records, those of exported cells with their parity among the metrics."""
    return [
        record.model_copy(update={"metrics": {**record.metrics, PARITY: known[record.cell_id]}})
        if record.cell_id in known
        else record
        for record in records
    ]
