"""Leaderboard: the ranked rows of one target with intervals, ties, coverage and costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from dashboard.common import Scope, problems, scope
from dashboard.figures.leaderboard import leaderboard_bars
from dashboard.filters import choice, choices
from dashboard.load import snapshot
from dashboard.tables import Column, Html, html_table, interval_bar
from dashboard.text import BLANK, interval, missing, number, rounded, row_name, seconds, size

COLUMNS = (
    Column("rank", True, "within this target and protocol; = where no difference to the first of the rank was shown"),
    Column("source", help="where the images come from"),
    Column("compressor"),
    Column("top-1 %", True, "mean over seeds, rounded to its uncertainty"),
    Column("", help="the mean and its 95 % interval"),
    Column("95 % interval", True),
    Column("drop", True, "points below the uncompressed network"),
    Column("seeds", True, "measured of asked for; a mean is blank while one is missing"),
    Column("images", True),
    Column("target in source", help="is the target, or its architecture, among the networks the images come from"),
    Column("access", help="what the source may look at: T0 nothing … T6 the training set"),
    Column("synthesis", True, "wall time of the image set, charged in full"),
    Column("compression", True, "wall time"),
    Column("passes", True, "forward-equivalents of synthesis and compression: the optimiser budget"),
    Column("peak", True, "memory, MiB"),
    Column("size", True, "of the compressed network"),
    Column("GBitOPs", True),
)
ALL_TARGETS = "all targets"


def show() -> None:
    """Draw the page."""
    st.title("Leaderboard")
    problems()
    found = scope(snapshot().table["compressor"] != "")
    if found is None:
        return
    table = _filtered(found)
    if table.empty:
        st.info("No row has all of these; take a filter off.")
        return
    st.caption(f"{len(table)} rows, {len(table[table['status'] == 'ok'])} complete")
    for (target, bits, protocol), part in table.groupby(["target", "bits", "protocol_id"], sort=False, dropna=False):
        _target(found.suite, str(target), str(bits), protocol, part)
    st.download_button(
        "Download these rows (CSV)", table.to_csv(index=False), f"{found.suite}.csv", "text/csv", key="csv"
    )


def _filtered(found: Scope) -> pd.DataFrame:
    table = found.table
    columns = st.columns(3)
    with columns[0]:
        target = choice("Target", "target", [*dict.fromkeys(table["target"]), ALL_TARGETS])
    table = table if target == ALL_TARGETS else table[table["target"] == target]
    with columns[1]:
        compressors = choices("Compressor", "compressor", list(dict.fromkeys(table["compressor"])))
    with columns[2]:
        bits = choices("Bits", "bits", list(dict.fromkeys(table["bits"])))
    return table[table["compressor"].isin(compressors) & table["bits"].isin(bits)]


def _target(suite: str, target: str, bits: str, protocol: object, part: pd.DataFrame) -> None:
    fp = part["fp_top1"].dropna()
    reference = f", uncompressed {float(fp.iloc[0]):.2f} %" if len(fp) else ""
    st.subheader(f"{target} · {bits}{reference}")
    measured = part[part["top1_mean"].notna()]
    if len(measured):
        st.plotly_chart(leaderboard_bars(measured), width="stretch", key=f"bars-{suite}-{target}-{bits}-{protocol}")
    st.html(html_table(COLUMNS, rows(part), classes(part)))
    if not missing(protocol):
        st.caption(f"protocol {protocol}, {part['test_count'].max():,} test images")


def rows(part: pd.DataFrame) -> list[Sequence[str | Html]]:
    """The rows of one target as cells of :data:`COLUMNS`."""
    low, high = part["top1_low"].min(), part["top1_high"].max()
    ends = (0.0, 100.0) if missing(low) or missing(high) else (float(low), float(high))
    return [_row(row, ends) for row in part.itertuples()]


def _row(row: Any, ends: tuple[float, float]) -> Sequence[str | Html]:
    r = row
    rank = BLANK if missing(r.rank) else f"{r.rank}{'=' if r.tied else ''}"
    name = row_name(r.source, r.model) + (" †" if r.stale else "")
    if r.status not in ("ok", "incomplete"):
        name += f" — {r.status}: {r.reason}"
    return (
        rank,
        name,
        r.compressor,
        rounded(r.top1_mean, r.top1_low, r.top1_high),
        interval_bar(r.top1_mean, r.top1_low, r.top1_high, ends, r.control),
        interval(r.top1_low, r.top1_high),
        number(r.drop),
        r.seeds,
        number(r.n, 0),
        r.membership,
        r.access,
        seconds(r.synthesis_s),
        seconds(r.compress_s),
        number(r.forward_equivalents, 0),
        number(r.peak_memory_mib, 0),
        size(r.size_bytes),
        number(r.bitops_g, 3),
    )


def classes(part: pd.DataFrame) -> list[str]:
    """How each row stands out: the best of its group, or a control beside it."""
    return [
        "best" if r.best is True or r.best == 1 else "control" if r.control != "none" else "" for r in part.itertuples()
    ]
