"""Trade-offs: accuracy against what it costs, the Pareto front, and the best row under a limit of time and size."""

from __future__ import annotations

from html import escape
from typing import Any

import pandas as pd
import streamlit as st

from dashboard.common import heading, problems, scope
from dashboard.figures.trade_offs import COSTS, Cost, contenders, on_front, trade_off
from dashboard.filters import amount, choice, choices
from dashboard.load import snapshot
from dashboard.tables import Column, Html, html_table
from dashboard.text import counted, interval, number, rounded, row_name, seconds, size

SHOWN = 200
"""Rows of the table; more would make the page slow, and nobody reads them."""
LABELS = {cost.column: cost.label for cost in COSTS}
COLUMNS = (
    Column("source", help="where the images come from"),
    Column("compressor"),
    Column("bits"),
    Column("top-1 %", True, "mean over seeds, rounded to its uncertainty"),
    Column("95 % interval", True),
    Column("size", True, "of the compressed network"),
    Column("GBitOPs", True),
    Column("synthesis", True, "wall time of the image set, charged in full"),
    Column("compression", True, "wall time"),
    Column("passes", True, "forward-equivalents of synthesis and compression"),
    Column("peak", True, "memory, MiB"),
)


def show() -> None:
    """Draw the page."""
    heading(
        "Trade-offs",
        "What accuracy costs: bit operations, bytes, time. The dotted line joins rows that no other beats in both.",
    )
    problems()
    found = scope(snapshot().table["compressor"] != "")
    if found is None:
        return
    rows, cost = _filtered(found.table)
    if rows.empty:
        st.info("No row has all of these; take a filter off.")
        return
    measured = rows[rows["top1_mean"].notna()]
    if measured.empty:
        st.info("None of these rows has a mean yet: every one still lacks a seed.")
        _unmeasured(rows)
        return
    for digest, part in measured.groupby("test_digest", sort=False, dropna=False):
        _plot(part, cost, f"{found.suite}-{digest}")
    _unmeasured(rows)
    st.subheader("Best under a limit")
    _best(measured)
    st.subheader("The rows")
    shown = measured.head(SHOWN)
    st.html(html_table(COLUMNS, [_row(r) for r in shown.itertuples()], _classes(shown)))
    if len(measured) > SHOWN:
        st.caption(f"The first {SHOWN} of {len(measured):,}; the download holds all.")
    st.download_button(
        "Download these rows (CSV)", rows.to_csv(index=False), f"{found.suite}-costs.csv", "text/csv", key="csv"
    )


def _filtered(table: pd.DataFrame) -> tuple[pd.DataFrame, Cost]:
    first, second, third, fourth = st.columns([2, 2, 2, 2])
    with first:
        target = choice("Target", "target", list(dict.fromkeys(table["target"])))
    with second:
        table = table[table["target"] == target]
        telling = [column for column in LABELS if table[column].nunique() > 1]
        column = choice("Cost", "cost", list(LABELS), next(iter(telling), None), shown=LABELS.__getitem__)
    with third:
        compressors = choices("Compressor", "compressor", list(dict.fromkeys(table["compressor"])))
    with fourth:
        bits = choices("Bits", "bits", list(dict.fromkeys(table["bits"])))
    cost = next(cost for cost in COSTS if cost.column == column)
    return table[table["compressor"].isin(compressors) & table["bits"].isin(bits)], cost


def _plot(part: pd.DataFrame, cost: Cost, key: str) -> None:
    known = part[part[cost.column].notna()]
    if known.empty:
        st.info(f"{cost.label.capitalize()}: not measured for these rows.")
        return
    st.plotly_chart(trade_off(known, cost), width="stretch", key=f"trade-off-{key}-{cost.column}")
    best = on_front(known, cost)
    left_out = len(part) - len(known)
    says = [
        f"{counted(len(known), 'row')}, {len(best)} on the front",
        f"{int(known['test_count'].max()):,} test images" if known["test_count"].notna().any() else "",
        "the front is of methods: real images and noise stand beside it",
        f"{counted(left_out, 'row')} without this cost left out" if left_out else "",
    ]
    st.caption(" · ".join(filter(None, says)))
    if len(best):
        with st.expander("The rows on the front"):
            st.html(html_table(COLUMNS, [_row(r) for r in best.itertuples()]))


def _unmeasured(rows: pd.DataFrame) -> None:
    missing = rows[rows["top1_mean"].isna()]
    if missing.empty:
        return
    with st.expander(f"{counted(len(missing), 'row')} without a mean, not drawn"):
        for r in missing.itertuples():
            name = f"{row_name(str(r.source), str(r.model))} · {r.compressor} · {r.bits}"
            st.text(f"{name}: {r.status}, seeds {r.seeds}" + (f" ({r.reason!s})" if r.reason else ""))


def _best(measured: pd.DataFrame) -> None:
    """The best method within the limits, as a sentence and a table of those that fit."""
    left, right = st.columns(2)
    with left:
        minutes = amount("At most this many minutes, synthesis and compression", "minutes")
    with right:
        kilobytes = amount("At most this many kB", "kb")
    fits = within(measured, minutes, kilobytes)
    limits = [
        f"{minutes:g} minute{'' if minutes == 1 else 's'}" if minutes else "",
        f"{kilobytes:g} kB" if kilobytes else "",
    ]
    under = " and ".join(filter(None, limits))
    if fits.empty:
        st.info(f"No method fits under {under}." if under else "No method here has both its time and its size.")
        return
    best: Any = next(fits.itertuples())
    overlap = [r for r in fits.itertuples() if r.Index != best.Index and r.top1_high >= best.top1_low]
    shared = f" Of {len(fits) - 1} others that fit, {len(overlap)} reach into its interval." if overlap else ""
    accuracy = f"{rounded(best.top1_mean, best.top1_low, best.top1_high)} %"
    name = f"{row_name(best.source, best.model)} with {best.compressor} at {best.bits}"
    st.html(
        f"<p><b>{escape(f'Best under {under}' if under else 'Best without a limit')}:</b> {escape(name)}, top-1 "
        f"{accuracy} {interval(best.top1_low, best.top1_high)}, {seconds(best.synthesis_s + best.compress_s)}, "
        f"{size(best.size_bytes)}.{shared}</p>"
    )
    st.html(html_table(COLUMNS, [_row(r) for r in fits.head(5).itertuples()], ["best"] + [""] * min(4, len(fits) - 1)))


def within(rows: pd.DataFrame, minutes: float | None, kilobytes: float | None) -> pd.DataFrame:
    """The methods whose synthesis and compression take at most ``minutes`` and whose network is at most ``kilobytes``
    (1000 bytes) large, best mean top-1 first; None is no limit. A row that lacks a limited cost does not fit."""
    part = contenders(rows)
    time = part["synthesis_s"] + part["compress_s"]
    fits = time.notna() & part["size_bytes"].notna()
    if minutes:
        fits &= (time <= 60 * minutes).fillna(False)
    if kilobytes:
        fits &= (part["size_bytes"] <= 1e3 * kilobytes).fillna(False)
    return part[fits].sort_values("top1_mean", ascending=False, kind="stable")


def _row(r: Any) -> list[str | Html]:
    return [
        row_name(r.source, r.model) + (" †" if r.stale else ""),
        r.compressor,
        r.bits,
        rounded(r.top1_mean, r.top1_low, r.top1_high),
        interval(r.top1_low, r.top1_high),
        size(r.size_bytes),
        number(r.bitops_g, 3),
        seconds(r.synthesis_s),
        seconds(r.compress_s),
        number(r.forward_equivalents, 0),
        number(r.peak_memory_mib, 0),
    ]


def _classes(part: pd.DataFrame) -> list[str]:
    return ["control" if r.control != "none" else "" for r in part.itertuples()]
