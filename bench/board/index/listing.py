"""Records as one plain table: what pages choose by, and the file behind each, without opening the records again."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.spec.axes import columns
from bench.store.exports import PARITY
from bench.store.records import DamagedRecord, ResultRecord, refused

if TYPE_CHECKING:
    import pandas as pd  # takes longer to load than a board to print

log = logging.getLogger(__name__)

STANDARD = frozenset(
    [
        *("top1", "fp_top1", "macs", "macs_effective", "bitops_g", "size_bytes", "size_ratio", "float_weights"),
        *("float_macs", PARITY),
    ]
)
"""Metrics of every compressed cell; others (image measures) become columns of their own."""

KEYS = ("suite", "suite_version", "cell_id")
FILE = ("place", "size", "time")
_TEXT = (
    *("dataset", "source", "source_method", "delivery", "model", "target", "compressor", "compressor_method", "policy"),
    *("setting_label", "variant", "row_id", "preset", "control", "membership", "status"),
)
_READ = (*KEYS, *_TEXT, "reason", "n", "seed", "synth_id", "image_digest")
CELL_COLUMNS = (*_READ, *(column.key for column in columns()), "top1", "finished", "metrics", *FILE)
"""One row per record; ``place`` is its file: ``records/SUITE@V/CELL.json`` or ``measured/FILE#POSITION``."""

DTYPES = dict.fromkeys(CELL_COLUMNS, "str")
DTYPES |= dict.fromkeys(("suite_version", "n", "seed", "size", "time"), "int64")
DTYPES |= dict.fromkeys(("top1", "finished"), "float64")
DTYPES |= {column.key: column.dtype for column in columns()}


class Place(NamedTuple):
    """Where a record lies, with what tells that the file has not changed; a packed one bears its pack's size and
    time (ns)."""

    place: str
    size: int
    time: int


def cell_row(record: ResultRecord, file: Place) -> dict[str, Any]:
    """The record's line of the table."""
    return {
        **{name: getattr(record, name) for name in _READ},
        **{column.key: record.setting.get(column.key) for column in columns()},
        "top1": record.metrics.get("top1"),
        "finished": record.finished,
        "metrics": ",".join(sorted(set(record.metrics) - STANDARD)),
        **file._asdict(),
    }


def sound(records: Iterable[ResultRecord]) -> list[ResultRecord]:
    """The records whose settings a board can show; the others are said."""
    found, errors = [], []
    for record in records:
        try:
            found.append(checked(record, f"{record.suite}@{record.suite_version}, cell {record.cell_id}"))
        except DamagedRecord as error:
            errors.append(error)
    if errors:
        log.warning("%s", refused(errors))
    return found


def checked(record: ResultRecord, where: str) -> ResultRecord:
    """The record itself.

    Raises:
        DamagedRecord: a value of its setting is of another kind than the axis's.
    """
    for column in columns():
        value = record.setting.get(column.key)
        if not column.fits(value):
            raise DamagedRecord("the record is damaged", where=where, got=f"setting.{column.key}: {value!r:.100}")
    return record


def cell_table(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """The lines as a table whose types do not depend on what is in it."""
    import pandas as pd

    return pd.DataFrame(list(rows), columns=list(CELL_COLUMNS)).astype(DTYPES)


def one_per_cell(cells: pd.DataFrame) -> pd.DataFrame:
    """One row per cell of a suite, in the order of their keys: the store's in place of the package's."""
    ordered = cells.assign(_packed=cells["place"].str.startswith("measured/")).sort_values([*KEYS, "_packed", "place"])
    return ordered.drop_duplicates(list(KEYS)).drop(columns="_packed").reset_index(drop=True)
