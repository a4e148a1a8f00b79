"""``ROOT/fp/<network>-<test set>.json``: what a network reaches in floating point, with the bitmaps that say so."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from bench.store.bitmaps import agrees
from bench.store.files import first_fault, read_stored, write_atomic
from bench.store.records import DamagedRecord, Whole
from bench.store.seals import DIGEST, intact, sealed


class StoredFp(BaseModel):
    """Top-1 in percent and packed correctness (:func:`bench.store.bitmaps.pack_bits`) of ``full_count`` images, and of
    the ``count`` of the subset in use."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    full_top1: float
    full_correct: str
    full_count: Whole
    top1: float
    correct: str
    count: Whole


def write_fp(path: Path, result: StoredFp) -> None:
    """Store a result with its digest, atomically.

    Raises:
        StoreError: the folder cannot be written.
    """
    write_atomic(path, sealed(result.model_dump()))


def read_fp(path: Path) -> StoredFp | None:
    """The result in a file; None when there is none.

    Raises:
        DamagedRecord: it is not what was written, was written before results carried their digest, or its top-1 is
            not its bitmap's: it is to be measured again.
        StoreError: it cannot be read.
    """
    raw = read_stored(path, partial(_damaged, path))
    if raw is None:
        return None
    if not isinstance(raw, dict) or DIGEST not in raw:
        raise _damaged(path, "it carries no digest")
    if not intact(raw):
        raise _damaged(path, "its content is not the one its digest was made of")
    try:
        found = StoredFp.model_validate({key: value for key, value in raw.items() if key != DIGEST})
        agrees(found.full_top1, found.full_correct, found.full_count)
        agrees(found.top1, found.correct, found.count)
    except ValidationError as error:
        raise _damaged(path, first_fault(error)) from error
    except ValueError as error:
        raise _damaged(path, error) from error
    return found


def _damaged(path: Path, why: object) -> DamagedRecord:
    return DamagedRecord("the network's own accuracy cannot be taken from here", where=str(path), got=why)
