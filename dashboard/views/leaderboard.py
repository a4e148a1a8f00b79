"""Leaderboard: the ranked rows of one target with intervals, ties, coverage and costs; the means over all targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from bench.board.costs import equal_budget
from bench.board.verdicts import suite_of
from dashboard.common import Scope, problems, scope
from dashboard.crosstable import CrossTable, Mean, bit_groups, cross_table, mean_of, one_seed, value_text
from dashboard.figures.leaderboard import leaderboard_bars
from dashboard.filters import choice, choices
from dashboard.links import cell_link, with_cells
from dashboard.load import snapshot
from dashboard.pairwise import critical_differences, pairwise
from dashboard.tables import Column, Html, html_table, interval_bar
from dashboard.text import BLANK, digits_for, interval, missing, number, rounded, row_name, seconds, size

Ends = tuple[float, float]
Shown = tuple[Column, str, Callable[[Any, Ends], str | Html]]
"""A column, the frame's column it needs (it is left out when the frame has none), and its cell of a row."""

SAID_ONCE = {"compressor": "compressor", "n": "images"}
"""Columns that go into the caption where they hold one value."""

ALL_TARGETS = "all targets (means)"
SORTS = {
    "rank": ("rank", True),
    "top-1": ("top1_mean", False),
    "drop": ("drop", True),
    "synthesis time": ("synthesis_s", True),
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


def _rank(row: Any, _: Ends) -> str:
    return BLANK if missing(row.rank) else f"{row.rank}{'=' if row.tied else ''}"


def _ranks(row: Any, _: Ends) -> str:
    if missing(row.rank_low) or missing(row.rank_high):
        return BLANK
    return f"{row.rank_low}" if row.rank_low == row.rank_high else f"{row.rank_low}–{row.rank_high}"


def _name(row: Any, _: Ends) -> str | Html:
    return cell_link(row_name(row.source, row.model) + (" †" if row.stale else ""), row.suite, row.cell_id)


def _note(row: Any, _: Ends) -> str:
    """Why a row has no value."""
    if row.status == "ok":
        return ""
    return f"{row.status.replace('_', ' ')}: {row.reason}" if row.reason else row.status.replace("_", " ")


def _recovered(row: Any, _: Ends) -> str:
    if missing(row.recovered):
        return BLANK
    ends = interval(row.recovered_low, row.recovered_high)
    return f"{rounded(row.recovered, row.recovered_low, row.recovered_high)} {ends}"


COLUMNS: tuple[Shown, ...] = (
    (
        Column(
            "rank", True, "within this target and protocol; = where no difference to the first of the rank was shown"
        ),
        "rank",
        _rank,
    ),
    (Column("rank interval", True, "ranks not ruled out at 95 %"), "rank_low", _ranks),
    (
        Column("ties", help="rows that share a letter are not shown to differ"),
        "letters",
        lambda r, _: "" if missing(r.letters) else str(r.letters),
    ),
    (Column("source", help="where the images come from; leads to the cell of its first seed"), "source", _name),
    (Column("compressor"), "compressor", lambda r, _: r.compressor),
    (
        Column("top-1 %", True, "mean over seeds, rounded to its uncertainty"),
        "top1_mean",
        lambda r, _: rounded(r.top1_mean, r.top1_low, r.top1_high),
    ),
    (
        Column("", help="the mean and its 95 % interval"),
        "top1_mean",
        lambda r, ends: interval_bar(r.top1_mean, r.top1_low, r.top1_high, ends, r.control),
    ),
    (Column("95 % interval", True), "top1_low", lambda r, _: interval(r.top1_low, r.top1_high)),
    (
        Column("drop", True, "points below the uncompressed network"),
        "drop",
        lambda r, _: number(r.drop, _digits(r)),
    ),
    (
        Column(
            "recovered %",
            True,
            "share of the way from noise (0) to as many real images (100); blank where these do not differ",
        ),
        "recovered",
        _recovered,
    ),
    (
        Column("detectable", True, "minimum detectable effect: points that would be found with 80 % power"),
        "mde",
        lambda r, _: number(r.mde),
    ),
    (
        Column("seeds", True, "measured of asked for; a mean is blank while one is missing"),
        "seeds",
        lambda r, _: r.seeds,
    ),
    (Column("remark"), "reason", _note),
    (Column("images", True), "n", lambda r, _: number(r.n, 0)),
    (
        Column("target in source", help="is the target, or its architecture, among the networks the images come from"),
        "membership",
        lambda r, _: "" if r.membership == "none" else str(r.membership),
    ),
    (
        Column("access", help="what the source may look at: T0 nothing … T6 the training set"),
        "access",
        lambda r, _: r.access,
    ),
    (
        Column("synthesis", True, "wall time of the image set, charged in full"),
        "synthesis_s",
        lambda r, _: seconds(r.synthesis_s),
    ),
    (Column("compression", True, "wall time"), "compress_s", lambda r, _: seconds(r.compress_s)),
    (
        Column("passes", True, "forward-equivalents of synthesis and compression: the optimiser budget"),
        "forward_equivalents",
        lambda r, _: number(r.forward_equivalents, 0),
    ),
    (Column("peak", True, "memory, MiB"), "peak_memory_mib", lambda r, _: number(r.peak_memory_mib, 0)),
    (Column("size", True, "of the compressed network"), "size_bytes", lambda r, _: size(r.size_bytes)),
    (Column("GBitOPs", True), "bitops_g", lambda r, _: number(r.bitops_g, 3)),
)


def show() -> None:
    """Draw the page."""
    st.title("Leaderboard")
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
        st.caption(f"{len(table)} rows, {len(table[table['status'] == 'ok'])} complete")
        protocols = table.groupby("bits")["protocol_id"].nunique(dropna=False)
        for (bits, protocol), part in table.groupby(["bits", "protocol_id"], sort=False, dropna=False):
            mark = f" · protocol {str(protocol)[:6]}" if protocols[str(bits)] > 1 and not missing(protocol) else ""
            _target(found.suite, f"{target} · {bits}{mark}", protocol, _sorted(part, order))
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
    columns = st.columns([3, 2, 2, 2, 2])
    with columns[0]:
        target = choice("Target", "target", [*dict.fromkeys(table["target"]), ALL_TARGETS])
    table = table if target == ALL_TARGETS else table[table["target"] == target]
    with columns[1]:
        compressors = choices("Compressor", "compressor", list(dict.fromkeys(table["compressor"])))
    with columns[2]:
        bits = choices("Bits", "bits", list(dict.fromkeys(table["bits"])))
    with columns[3]:
        budget = choice("Budget", "budget", list(BUDGETS))
    with columns[4]:
        order = choice("Sort by", "sort", list(SORTS)) if target != ALL_TARGETS else ""
    table = table[table["compressor"].isin(compressors) & table["bits"].isin(bits)]
    ratio = BUDGETS[budget]
    return target, order, table if ratio is None else _equal_budget(table, ratio)


def _equal_budget(table: pd.DataFrame, ratio: float) -> pd.DataFrame:
    """The methods whose optimiser and image budgets lie within ``ratio``; controls, which spend next to none, stay."""
    method = table["control"] == "none"
    found = equal_budget(table[method], ratio)
    out = int(method.sum()) - len(found.rows)
    st.caption(f"{out} rows spend more or less than the others and are left out; ranks are those of the whole board.")
    return table[~method | table.index.isin(found.rows.index)]


def _sorted(part: pd.DataFrame, order: str) -> pd.DataFrame:
    """By the chosen column; equal and missing values stay in the board's order."""
    column, ascending = SORTS[order]
    return part.sort_values(column, ascending=ascending, kind="stable", na_position="last")


# --- one target ---


def _target(suite: str, title: str, protocol: object, part: pd.DataFrame) -> None:
    fp = part["fp_top1"].dropna()
    reference = f", uncompressed {float(fp.iloc[0]):.2f} %" if len(fp) else ""
    st.subheader(f"{title}{reference}")
    measured = part[part["top1_mean"].notna()]
    if len(measured):
        figure = leaderboard_bars(measured)
        key = f"bars-{suite}-{title}-{protocol}"
        st.plotly_chart(figure, width="stretch", key=key, config={"displayModeBar": False})
    columns = shown_columns(part)
    st.html(html_table([column for column, _, _ in columns], rows(part, columns), classes(part)))
    st.caption(" · ".join(_notes(part, protocol)))
    pairwise(part, f"{suite}-{title}-{protocol}")


def _notes(part: pd.DataFrame, protocol: object) -> list[str]:
    once = [f"{label} {part[name].iloc[0]}" for name, label in SAID_ONCE.items() if part[name].nunique() == 1]
    notes = [f"all rows: {', '.join(once)}"] if once else []
    if not missing(protocol):
        images = f"{part['test_count'].max():,} test images"
        notes.append(f"protocol {protocol}, {images}; ranks are formed within it, over all compressors")
    if one_seed(part):
        notes.append("one seed: intervals and ties hold for that seed only")
    if part["tied"].fillna(False).any():
        notes.append("= no difference to the first of that rank was shown")
    if part["stale"].any():
        notes.append("† measured with an older version of its method; not ranked")
    if (part["control"] != "none").any():
        notes.append("italic: controls, which stand beside and have no rank")
    return notes


def shown_columns(part: pd.DataFrame) -> list[Shown]:
    """Those whose values the board has; remarks only where there is one, and none that is the same in every row."""
    left_out = {name for name in SAID_ONCE if part[name].nunique() == 1}
    if (part["status"] == "ok").all():
        left_out.add("reason")
    return [item for item in COLUMNS if item[1] in part and item[1] not in left_out]


def rows(part: pd.DataFrame, columns: Sequence[Shown]) -> list[Sequence[str | Html]]:
    """The rows of one target as cells of ``columns``."""
    low, high = part["top1_low"].min(), part["top1_high"].max()
    ends = (0.0, 100.0) if missing(low) or missing(high) else (float(low), float(high))
    return [[cell(row, ends) for _, _, cell in columns] for row in part.itertuples()]


def classes(part: pd.DataFrame) -> list[str]:
    """How each row stands out: the best of its group, or a control beside it."""
    return [
        "best" if r.best is True or r.best == 1 else "control" if r.control != "none" else "" for r in part.itertuples()
    ]


def _digits(row: Any) -> int:
    return digits_for(None if missing(row.top1_low) or missing(row.top1_high) else (row.top1_high - row.top1_low) / 2)


# --- all targets ---


def _means(found: Scope, table: pd.DataFrame) -> None:
    """One table per bits and image count: sources by targets, with the mean over the targets."""
    suite = suite_of(found.suite)
    targets = suite.grid.target if suite is not None else ()
    for label, bits in bit_groups(table).items():
        for count, part in table[table["bits"].isin(bits)].groupby("n"):
            crossed = cross_table(part, targets)
            st.subheader(f"{len(crossed.columns)} targets · {label} · {count} images")
            st.html(means_table(crossed))
            spans = sorted({str(p) for p in part["protocol_id"].dropna()})
            st.caption(
                f"The mean spans {len(spans)} protocol{'s' if len(spans) != 1 else ''} ({', '.join(spans)}), each "
                "target with the same weight; it is blank, with “k of n”, while a target is missing. No rank is "
                "formed over targets. Rounded to the targets' mean uncertainty."
            )


def means_table(table: CrossTable) -> str:
    """Sources by targets, highest mean first, controls last; each value leads to its cell."""
    columns = [Column("source"), Column("mean", True), *(Column(header, True) for header in table.headers)]
    lines = [(name, mean_of(line), line) for name, line in zip(table.lines, table.squares, strict=True)]
    lines.sort(key=lambda item: (_control(item[2]) != "none", item[1].value is None, -(item[1].value or 0.0)))
    known = [fp for fp in table.fp if fp is not None]
    top = number(sum(known) / len(known)) if len(known) == len(table.fp) else f"{len(known)} of {len(table.fp)}"
    body: list[Sequence[str | Html]] = [["uncompressed", top, *(number(fp) for fp in table.fp)]]
    for name, mean, line in lines:
        cells = ["" if s is None else cell_link(value_text(s), s["suite"], s["cell_id"]) for s in line]
        body.append([name, _mean_text(mean), *cells])
    best = next((i for i, item in enumerate(lines) if item[1].value is not None and _control(item[2]) == "none"), None)
    marks = ["best" if i == best else "control" if _control(item[2]) != "none" else "" for i, item in enumerate(lines)]
    return html_table(columns, body, ["control", *marks])


def _mean_text(mean: Mean) -> str:
    return f"{mean.measured} of {mean.asked}" if mean.value is None else number(mean.value, mean.digits)


def _control(line: Sequence[dict[str, Any] | None]) -> str:
    return next((str(square["control"]) for square in line if square is not None), "none")
