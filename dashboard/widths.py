"""A page's part on networks of several bit-widths: accuracy over bit-width, Delta_B, and what the training cost."""

from __future__ import annotations

from typing import Any

import streamlit as st

from bench.board.tables.width_grids import group_name, notes
from bench.board.tables.widths import GROUP
from dashboard.common import Scope, chart
from dashboard.figures.widths import accuracy_over_widths
from dashboard.filters import choice
from dashboard.load import snapshot, widths_of
from dashboard.tables import Column, Html, html_table
from dashboard.text import BLANK, interval, missing, number, plain, rounded, seconds

DELTAS = (
    Column("one network"),
    Column("trained at"),
    Column("against", help="the networks trained at one bit-width each"),
    Column("Delta_B %", True, "rounded to its uncertainty"),
    Column("95 % interval", True),
    Column("seeds", True, "k of n"),
    Column("passes", True, "forward-equivalents of its training, once for all of its networks"),
    Column("of networks alone", True, "passes of those trained at the same bit-widths"),
    Column("ratio", True, "of the two"),
    Column("CPU", True, "of its training"),
    Column("of networks alone", True, "CPU time"),
    Column("remarks"),
)


def accuracy_over_bits(found: Scope, target: str) -> None:
    """Draw the part for a target; nothing where no training there gave several networks."""
    cells = snapshot().cells
    mask = (cells["suite"] == found.suite) & (cells["preset"] == found.preset) & (cells["dataset"] == found.dataset)
    mine = cells[mask & (cells["target"] == target) & (cells["compressor"] != "") & (cells["status"] == "ok")]
    mine = mine[mine["suite_version"] == mine["suite_version"].max()]
    if not (mine["variant"] != "").any():
        return  # before any record is read
    lines, points = widths_of(mine)
    groups = {
        group_name(key): part
        for key, part in points.groupby(list(GROUP), sort=False)
        if not part["alone"].all() and part["bits"].nunique() > 1
    }
    if not groups:
        return
    st.header("Accuracy over bit-width")
    name = choice("Rows", "widths", list(groups)) if len(groups) > 1 else next(iter(groups))
    group = groups[name]
    if group["top1_mean"].isna().all():
        st.info("None of these networks has a mean yet: every one still lacks a seed.")
        return
    chart(accuracy_over_widths(group), f"widths-{name}")
    same = (lines[list(GROUP)] == group[list(GROUP)].iloc[0]).all(axis=1)
    own = lines[same & ~lines["alone"]]
    st.html(html_table(DELTAS, [_row(r) for r in own.itertuples()]))
    st.caption(plain(" · ".join(notes(own))))


def _row(r: Any) -> list[str | Html]:
    known = not missing(r.passes) and not missing(r.reference_passes) and r.reference_passes > 0
    return [
        r.compressor,
        r.widths,
        BLANK if missing(r.reference) else r.reference,
        rounded(r.delta_b, r.delta_low, r.delta_high),
        interval(r.delta_low, r.delta_high),
        BLANK if missing(r.seeds) else r.seeds,
        number(r.passes, 0),
        number(r.reference_passes, 0),
        number(r.passes / r.reference_passes if known else None),
        seconds(r.cpu_s),
        seconds(r.reference_cpu_s),
        "" if missing(r.reason) else r.reason,
    ]
