"""Sources over all targets of a suite: a table for each setting and image count, with the means over the targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from bench.board.claims.verdicts import suite_of
from bench.board.index.rows import BESIDE
from bench.board.tables.means import RowsByKey, setting_groups
from bench.board.tables.signs import DOUBTS, legend
from dashboard.crosstable import CrossTable, Mean, cross_table, mean_of, value_text
from dashboard.links import cell_link
from dashboard.load import rows_of, snapshot
from dashboard.tables import Column, Html, html_table
from dashboard.text import BLANK, interval, number, plain


def target_means(suite_name: str, table: pd.DataFrame) -> None:
    """One table per setting and image count: sources by targets, with the mean over the targets."""
    suite = suite_of(suite_name)
    targets = suite.grid.target if suite is not None else ()
    for label, settings in setting_groups(table).items():
        for count, part in table[table["setting_label"].isin(settings)].groupby("n"):
            crossed = cross_table(part, targets)
            st.header(plain(f"{len(crossed.columns)} targets · {label} · {count} images"))
            measured = rows_of(_cells_of(part))
            st.html(means_table(crossed, measured))
            spans = sorted({str(p) for p in part["protocol_id"].dropna()})
            notes = [
                f"The mean spans {len(spans)} protocol{'s' if len(spans) != 1 else ''} ({', '.join(spans)}), each "
                "target with the same weight; it is blank, with “k of n”, while a target is missing.",
                "Its interval covers seeds and test images, which the targets share; the targets are taken as they "
                "are, not as a sample of networks. No rank is formed over targets.",
                *_without_interval(crossed, measured),
                *(f"{note}." for note in legend(part, DOUBTS)),
            ]
            st.caption(plain(" ".join(notes)))


def _cells_of(part: pd.DataFrame) -> pd.DataFrame:
    """The measured records of these rows and of those beside them, which their variance between seeds is from."""
    keys = [*BESIDE, "preset"]
    cells = snapshot().cells
    return cells[cells["status"] == "ok"].merge(part[keys].drop_duplicates(), on=keys)


def _without_interval(table: CrossTable, measured: RowsByKey) -> list[str]:
    """Why means have no interval, each reason once."""
    means = [mean_of(line, measured) for line in table.squares]
    reasons = dict.fromkeys(m.interval.why for m in means if m.value is not None and m.interval.interval is None)
    return [f"No interval where {why}." for why in reasons]


def means_table(table: CrossTable, measured: RowsByKey | None = None) -> str:
    """Sources by targets, highest mean first, controls last; each value leads to its cell.

    Args:
        measured: the rows behind it, for the means' intervals.
    """
    columns = [
        Column("source"),
        Column("mean", True, "over all targets, each with the same weight"),
        Column("95 % interval", True, "of the mean, over seeds and test images"),
        *(Column(header, True) for header in table.headers),
    ]
    lines = [(name, mean_of(line, measured), line) for name, line in zip(table.lines, table.squares, strict=True)]
    lines.sort(key=lambda item: (_control(item[2]) != "none", item[1].value is None, -(item[1].value or 0.0)))
    known = [fp for fp in table.fp if fp is not None]
    top = number(sum(known) / len(known)) if len(known) == len(table.fp) else f"{len(known)} of {len(table.fp)}"
    body: list[Sequence[str | Html]] = [["uncompressed", top, "", *(number(fp) for fp in table.fp)]]
    for name, mean, line in lines:
        cells = ["" if s is None else cell_link(value_text(s), s["suite"], s["cell_id"]) for s in line]
        body.append([name, _mean_text(mean), _mean_interval(mean), *cells])
    best = next((i for i, item in enumerate(lines) if item[1].value is not None and _control(item[2]) == "none"), None)
    marks = ["best" if i == best else "control" if _control(item[2]) != "none" else "" for i, item in enumerate(lines)]
    return html_table(columns, body, ["control", *marks])


def _mean_text(mean: Mean) -> str:
    return f"{mean.measured} of {mean.asked}" if mean.value is None else number(mean.value, mean.digits)


def _mean_interval(mean: Mean) -> str:
    ends = mean.interval.interval
    return BLANK if ends is None else interval(ends.low, ends.high)


def _control(line: Sequence[dict[str, Any] | None]) -> str:
    return next((str(square["control"]) for square in line if square is not None), "none")
