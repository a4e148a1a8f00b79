"""Leaderboard: the ranked rows of one target with intervals, ties, coverage and costs; the means over all targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from bench.board.claims.verdicts import suite_of
from bench.board.index.rows import BESIDE
from bench.board.tables.costs import equal_budget
from bench.board.tables.grids import best_notes
from bench.board.tables.means import RowsByKey, setting_groups
from bench.board.tables.settings import setting_name
from bench.board.tables.signs import DOUBTS, legend
from dashboard.board_columns import SAID_ONCE, classes, rows, shown_columns, values
from dashboard.common import Scope, heading, problems, scope, telling_target
from dashboard.crosstable import CrossTable, Mean, cross_table, mean_of, one_seed, value_text
from dashboard.figures.leaderboard import leaderboard_bars
from dashboard.filters import choice, choices
from dashboard.links import cell_link, with_cells
from dashboard.load import rows_of, snapshot
from dashboard.pairwise import critical_differences, pairwise
from dashboard.tables import Column, Html, html_table
from dashboard.text import BLANK, interval, missing, number, plain

ALL_TARGETS = "all targets (means)"
SORTS = {
    "rank": ("rank", True),
    "top-1": ("top1_mean", False),
    "drop": ("drop", True),
    "synthesis time": ("synthesis_s", True),
    "synthesis MACs": ("synthesis_gmacs", True),
    "compression time": ("compress_s", True),
    "passes": ("forward_equivalents", True),
    "size": ("size_bytes", True),
    "GBitOPs": ("bitops_g", True),
    "source": ("source", True),
}

BUDGETS: dict[str, float | None] = {
    "any": None,
    "equal within 1.25×": 1.25,
    "equal within 2×": 2.0,
    "equal within 4×": 4.0,
}
"""How far optimiser passes and image counts of the rows may lie apart."""


def show() -> None:
    """Draw the page."""
    heading(
        "Leaderboard",
        "Which synthetic images, and which compressor, keep most of a network's accuracy: one target network at a "
        "time, best rows first, with what they cost.",
    )
    problems()
    found = scope(snapshot().table["compressor"] != "")
    if found is None:
        return
    target, order, table = _filtered(found)
    if table.empty:
        st.info("No row has all of these; take a filter off.")
        return
    table = with_cells(table, snapshot().cells)
    if target == ALL_TARGETS:
        _means(found, table)
        critical_differences(table)
    else:
        st.caption(plain(f"{len(table)} rows, {len(table[table['status'] == 'ok'])} complete"))
        protocols = table.groupby("setting_label")["protocol_id"].nunique(dropna=False)
        for (setting, protocol), part in table.groupby(["setting_label", "protocol_id"], sort=False, dropna=False):
            mark = f" · protocol {str(protocol)[:6]}" if protocols[str(setting)] > 1 and not missing(protocol) else ""
            _target(found.suite, f"{target} · {setting}{mark}", protocol, _sorted(part, order))
    st.download_button(
        "Download these rows (CSV)",
        table.drop(columns="cell_id").to_csv(index=False),
        f"{found.suite}.csv",
        "text/csv",
        key="csv",
    )


def _filtered(found: Scope) -> tuple[str, str, pd.DataFrame]:
    """The target, what to sort by, and the rows left."""
    table = found.table
    columns = st.columns([4, 4, 3, 3, 3])
    with columns[0]:
        target = choice("Target", "target", [*dict.fromkeys(table["target"]), ALL_TARGETS], telling_target(table))
    table = table if target == ALL_TARGETS else table[table["target"] == target]
    with columns[1]:
        compressors = choices("Compressor", "compressor", list(dict.fromkeys(table["compressor"])))
    with columns[2]:
        settings = choices(setting_name(table), "setting", list(dict.fromkeys(table["setting_label"])))
    with columns[3]:
        budget = choice("Budget", "budget", list(BUDGETS))
    with columns[4]:
        order = choice("Sort by", "sort", list(SORTS)) if target != ALL_TARGETS else ""
    table = table[table["compressor"].isin(compressors) & table["setting_label"].isin(settings)]
    ratio = BUDGETS[budget]
    return target, order, table if ratio is None else _equal_budget(table, ratio)


def _equal_budget(table: pd.DataFrame, ratio: float) -> pd.DataFrame:
    """The methods whose optimiser and image budgets lie within ``ratio``; controls, which spend next to no passes, stay
    where a method left has as many images."""
    method = table["control"] == "none"
    found = equal_budget(table[method], ratio)
    out = int(method.sum()) - len(found.rows)
    st.caption(
        plain(f"{out} rows spend more or less than the others and are left out; ranks are those of the whole board.")
    )
    controls = ~method & (table["n"].isin(found.rows["n"]) | found.rows.empty)
    return table[controls | table.index.isin(found.rows.index)]


def _sorted(part: pd.DataFrame, order: str) -> pd.DataFrame:
    """By the chosen column; equal and missing values stay in the board's order."""
    column, ascending = SORTS[order]
    return part.sort_values(column, ascending=ascending, kind="stable", na_position="last")


# --- one target ---


def _target(suite: str, title: str, protocol: object, part: pd.DataFrame) -> None:
    st.header(plain(title))
    measured = part[part["top1_mean"].notna()]
    if len(measured):
        figure = leaderboard_bars(measured)
        key = f"bars-{suite}-{title}-{protocol}"
        st.plotly_chart(figure, width="stretch", key=key, config={"displayModeBar": False})
    columns = shown_columns(part)
    st.html(html_table([column for column, _, _ in columns], rows(part, columns), classes(part)))
    st.caption(plain(" · ".join(_notes(part, protocol))))
    pairwise(part, f"{part['setting_label'].iloc[0]}-{'none' if missing(protocol) else str(protocol)[:6]}")


def _ranked_within(part: pd.DataFrame) -> str:
    return "ranks are formed within each compressor" if part["rank_group"].any() else "ranks are over all compressors"


def _notes(part: pd.DataFrame, protocol: object) -> list[str]:
    once = [f"{label} {found[0]}" for name, label in SAID_ONCE.items() if len(found := values(part, name)) == 1]
    notes = [f"all rows: {', '.join(once)}"] if once else []
    fp = part["fp_top1"].dropna()
    if len(fp):
        notes.append(f"the uncompressed network reaches {float(fp.iloc[0]):.2f} %")
    if not missing(protocol):
        images = f"{part['test_count'].max():,} test images"
        notes.append(f"protocol {protocol}, {images}; {_ranked_within(part)}")
    if one_seed(part):
        notes.append("one seed: no rank and no tie; intervals have what such rows vary by between seeds")
    notes += best_notes(part)
    if part["tied"].fillna(False).any():
        notes.append("= no difference to the first of that rank was shown")
    notes += legend(part)
    if (part["control"] != "none").any():
        notes.append("italic: controls, which stand beside and have no rank")
    return notes


# --- all targets ---


def _means(found: Scope, table: pd.DataFrame) -> None:
    """One table per setting and image count: sources by targets, with the mean over the targets."""
    suite = suite_of(found.suite)
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
