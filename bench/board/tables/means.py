"""The interval of a mean over targets, of lines of the frame, and which settings of the frame share a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from bench.board.index.rows import Row, make_rows
from bench.board.stats.paired import LEVEL
from bench.board.tables.averages import TargetMean, joined_settings, mean_interval
from bench.board.tables.grids import missing
from bench.spec.axes import columns
from bench.store.records import ResultRecord

__all__ = ["RowsByKey", "TargetMean", "rows_by_key", "setting_groups", "target_mean"]

KEYS = ("suite", "suite_version", "preset", "row_id", "protocol_id")
"""What a line of the frame is found by among the rows."""

RowsByKey = Mapping[tuple[object, ...], Row]


def rows_by_key(records: Iterable[ResultRecord]) -> RowsByKey:
    """The measured rows of ``records`` for :func:`target_mean`."""
    rows = [row for row in make_rows(records) if row.measured]
    return {_key({name: getattr(row.head, name) for name in KEYS}): row for row in rows}


def _key(item: Mapping[str, Any]) -> tuple[object, ...]:
    return tuple("" if missing(item[name]) else str(item[name]) for name in KEYS)


def target_mean(line: Sequence[Mapping[str, Any]], rows: RowsByKey, level: float = LEVEL) -> TargetMean:
    """The interval of the mean over ``line``, rows of the frame with a mean, one per target
    (:func:`bench.board.tables.averages.mean_interval`)."""
    found = [_row(item, rows) for item in line]
    known = [row for row in found if row is not None]
    return mean_interval(known if len(known) == len(found) else [], level)


def _row(item: Mapping[str, Any], rows: RowsByKey) -> Row | None:
    """The row behind a line of the frame; None for one without a mean."""
    return None if missing(item["top1_mean"]) else rows.get(_key(item))


def setting_groups(table: pd.DataFrame) -> dict[str, list[str]]:
    """Settings of the frame that belong in one table: :func:`bench.board.tables.averages.joined_settings`."""
    keys = [column.key for column in columns() if column.key != "act_bits"]
    targets: dict[str, set[str]] = {}
    alike: dict[str, tuple[str, ...]] = {}
    for setting, part in table.groupby("setting_label", sort=True):
        targets[str(setting)] = set(part["target"])
        alike[str(setting)] = tuple("" if missing(part[key].iloc[0]) else str(part[key].iloc[0]) for key in keys)
    return joined_settings(targets, alike)
