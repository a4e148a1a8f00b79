"""Sources by targets: which rows of the board stand in which square; pure, no user interface."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import pandas as pd

from bench.board.tables.grids import line_dicts
from bench.board.tables.means import RowsByKey, TargetMean, target_mean
from bench.board.tables.signs import DOUBTS, marks
from dashboard.text import digits_for, missing, number, row_name

Square = dict[str, Any]
_CONTROLS = {"upper": 0, "none": 1, "lower": 2}


@dataclass(frozen=True)
class CrossTable:
    """``squares[i][j]`` is the board's row of line i (a source) in column j (a target in some setting), or None.

    ``fp`` holds the uncompressed accuracy of each column in percent.
    """

    lines: tuple[str, ...]
    columns: tuple[tuple[str, str], ...]
    squares: tuple[tuple[Square | None, ...], ...]
    fp: tuple[float | None, ...]

    @property
    def headers(self) -> tuple[str, ...]:
        """Targets, with their setting on a second line where not all have the same."""
        same = len({setting for _, setting in self.columns}) == 1
        return tuple(target if same else f"{target}\n{setting}" for target, setting in self.columns)


@dataclass(frozen=True)
class Mean:
    """A line's mean over all columns in percent, with the decimals it warrants; None while a column is missing.

    ``interval``: at 95 %, blank with the reason where the columns share no seeds or test images.
    """

    value: float | None
    digits: int
    measured: int
    asked: int
    interval: TargetMean = field(default_factory=lambda: TargetMean(None))


def cross_table(part: pd.DataFrame, targets: Sequence[str] = ()) -> CrossTable:
    """The table of ``part``: real images first, then methods by what they look at, noise last.

    A source that only ever looks at the very target makes one line, [self], not one per network.  Of several rows in
    one square a measured, fresh one is taken.

    Args:
        part: rows of the board of one suite, data set, preset and image count.
        targets: their order; others follow by name.
    """
    rows = line_dicts(part)
    order = {name: i for i, name in enumerate(dict.fromkeys([*targets, *sorted(set(part["target"]))]))}
    columns = sorted({(str(r["target"]), str(r["setting_label"])) for r in rows}, key=lambda c: (order[c[0]], c[1]))
    own: dict[str, bool] = defaultdict(lambda: True)
    for row in rows:
        own[str(row["source"])] &= row["model"] == row["target"]
    several = part["compressor"].nunique() > 1
    lines: dict[str, dict[tuple[str, str], Square]] = {}
    for row in sorted(rows, key=lambda r: _place(r, own[str(r["source"])], order)):
        name = row_name(
            str(row["source"]), "self" if own[str(row["source"])] else str(row["model"]), str(row["policy"])
        )
        line = lines.setdefault(f"{name} · {row['compressor']}" if several else name, {})
        line.setdefault((str(row["target"]), str(row["setting_label"])), row)
    squares = tuple(tuple(line.get(column) for column in columns) for line in lines.values())
    return CrossTable(tuple(lines), tuple(columns), squares, tuple(_fp(rows, target) for target, _ in columns))


def _place(row: Square, own: bool, order: dict[str, int]) -> tuple[object, ...]:
    model = str(row["model"])
    kind = 0 if own else 1 if model in order else 2
    worse = missing(row["top1_mean"]), bool(row["stale"])
    return (
        _CONTROLS.get(str(row["control"]), 1),
        kind,
        str(row["source"]),
        order.get(model, -1),
        model,
        row["compressor"],
        worse,
    )


def _fp(rows: Sequence[Square], target: str) -> float | None:
    found = (float(r["fp_top1"]) for r in rows if r["target"] == target and not missing(r["fp_top1"]))
    return next(found, None)


def mean_of(line: Sequence[Square | None], rows: RowsByKey | None = None) -> Mean:
    """The mean over a line's columns; never over fewer than all of them.

    Args:
        rows: the measured rows behind the squares, for the interval.
    """
    known = [s for s in line if s is not None and not missing(s["top1_mean"]) and not s["stale"]]
    if len(known) < len(line) or not known:
        return Mean(None, 2, len(known), len(line))
    value = fmean(float(s["top1_mean"]) for s in known)
    found = target_mean(known, rows) if rows is not None else TargetMean(None)
    if found.interval is not None:
        width: float | None = (found.interval.high - found.interval.low) / 2
    else:
        # the mean of the half widths bounds that of the mean, however the columns' errors depend on each other
        widths = [_half(square) for square in known]
        width = None if any(w is None for w in widths) else fmean(w for w in widths if w is not None)
    return Mean(value, digits_for(width), len(known), len(line), found)


def _half(square: Square) -> float | None:
    low, high = square["top1_low"], square["top1_high"]
    return None if missing(low) or missing(high) else (float(high) - float(low)) / 2


def value_text(square: Square | None, what: str = "top1_mean") -> str:
    """``what`` (top1_mean or drop) rounded to the mean's uncertainty; "k of n" or the status if missing; with the signs
    of what may be doubted."""
    if square is None:
        return ""
    text = number(square[what], digits_for(_half(square)))
    if missing(square[what]):
        text = str(square["seeds"] if square["status"] in ("ok", "incomplete") else square["status"].replace("_", " "))
    return text + marks(square, DOUBTS)


def one_seed(part: pd.DataFrame) -> bool:
    """Whether every measured row stands on a single seed."""
    return {str(seeds).partition(" of ")[0] for seeds in part.loc[part["status"] == "ok", "seeds"]} == {"1"}
