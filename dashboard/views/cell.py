"""Cell: one record with everything it holds, and the command that makes it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from bench.board.index.cells import repro_command
from bench.board.stats.intervals import accuracy_interval
from bench.board.tables.settings import setting_name
from bench.board.tables.signs import FLAGGED
from bench.store.bitmaps import unpack_bits
from bench.store.records import ResultRecord
from dashboard.common import chart, heading, problems
from dashboard.facts import facts, is_listing, listing
from dashboard.figures.cell import FEW, curve_groups, curves_figure
from dashboard.filters import choice
from dashboard.links import ROW, cell_link
from dashboard.load import index, record, snapshot
from dashboard.origins import show_access, show_mlflow, show_parameters, show_provenance
from dashboard.tables import Column, html_table
from dashboard.text import interval, number, plain, row_name, seconds, size

AXES = {
    "row": "Source",
    "target": "Target",
    "compressor": "Compressor",
    "setting_label": "Setting",
    "n": "Images",
    "preset": "Preset",
    "dataset": "Data set",
    "suite_version": "Suite version",
    "seed": "Seed",
}
STATUS = {"ok": "✓ measured", "failed": "✗ failed", "skipped": "– skipped", "not_applicable": "– not applicable"}


def show() -> None:
    """Draw the page."""
    heading("Cell", "One measurement in full: what was measured, what it cost, and the command that repeats it.")
    problems()
    cells = snapshot().cells
    if cells.empty:
        st.info("No records yet. `bench run suites/quickstart.yaml --seeds 1` makes the first ones in four minutes.")
        return
    chosen = _chosen(cells)
    found = record(str(chosen["cell_id"]), str(chosen["suite"]))
    if found is None:
        st.warning("This record is gone since the page was opened; choose another one.")
        return
    _head(found)
    _outcome(found)
    _repeat(found)
    left, right = st.columns(2, gap="large")
    with left:
        _costs(found)
        _seeds(cells, chosen)
        show_access(found)
    with right:
        _protocol(found)
    _curves(found)
    _report(found)
    left, right = st.columns(2, gap="large")
    with left:
        show_provenance(found)
    with right:
        show_mlflow(found)
        show_parameters(found)


# --- which record ---


def _chosen(cells: pd.DataFrame) -> pd.Series:
    """The record the address or the boxes name; the first measured one of a suite where neither does."""
    asked = st.query_params.get("cell")
    suites = list(dict.fromkeys(cells["suite"]))
    home = cells.loc[cells["cell_id"] == asked, "suite"] if asked else cells["suite"].iloc[:0]
    suite = choice("Suite", "suite", suites, default=str(home.iloc[0]) if len(home) else None)
    own = cells[cells["suite"] == suite]
    own = own.assign(row=[row_name(*names) for names in zip(own["source"], own["model"], own["policy"], strict=True)])
    match = own[own["cell_id"] == asked]
    if asked and match.empty and asked != st.session_state.get("cell_shown"):
        st.info("There is no cell of this id in this suite; this shows another one.")
    if match.empty:
        match = own[own["status"] == "ok"] if (own["status"] == "ok").any() else own
    current = match.iloc[-1] if asked in set(match["cell_id"]) else match.iloc[0]
    names = AXES | {"setting_label": setting_name(own)}
    offered = [axis for axis in AXES if own[axis].nunique() > 1]
    # three to a line, so that the order stays on a narrow screen, where columns stack
    columns = [column for _ in range(0, len(offered), 3) for column in st.columns(3)]
    for i, axis in enumerate(offered):
        st.session_state[f"cell_{axis}"] = current[axis]
        options = sorted(own[axis].unique())
        before = dict(current[list(AXES)])
        with columns[i]:
            st.selectbox(plain(names[axis]), options, key=f"cell_{axis}", on_change=_moved, args=(axis, suite, before))
    st.session_state["cell_shown"] = current["cell_id"]
    if asked != current["cell_id"]:
        st.query_params["cell"] = str(current["cell_id"])
    return current


def _moved(axis: str, suite: str, before: Mapping[str, Any]) -> None:
    """A box was changed: the cell with that value that keeps most of the other choices."""
    cells = snapshot().cells
    own = cells[cells["suite"] == suite]
    own = own.assign(row=[row_name(*names) for names in zip(own["source"], own["model"], own["policy"], strict=True)])
    own = own[own[axis] == st.session_state[f"cell_{axis}"]]
    if len(own):
        kept = sum((own[other] == value).astype(int) for other, value in before.items() if other != axis)
        st.query_params["cell"] = str(own.loc[kept.idxmax(), "cell_id"])


# --- its parts ---


def _head(found: ResultRecord) -> None:
    parts = [found.compressor, found.setting_label, f"{found.n:,} images", f"seed {found.seed}"]
    st.header(plain(f"{row_name(found.source, found.model, found.policy)} → {found.target}"))
    st.text(" · ".join(part for part in parts if part))
    st.text(
        f"{STATUS[found.status]} · {found.suite}@{found.suite_version} · {found.dataset} · preset {found.preset} · "
        f"cell {found.cell_id}"
    )


def _outcome(found: ResultRecord) -> None:
    """The metrics as tiles, or why there is none with the traceback."""
    if found.status != "ok":
        say = st.error if found.status == "failed" else st.info
        say("This cell failed." if found.status == "failed" else "This cell was not measured.")
        st.text(found.reason or "No reason was recorded.")
    gate = found.image_gate
    if gate is not None and gate.flagged:
        top1 = "" if gate.top1 is None else f"own top-1 {number(gate.top1, 1)} %"
        share = "" if gate.bn_share is None else f"own BN loss {number(gate.bn_share)} of that of noise"
        here = ", ".join(filter(None, (top1, share)))
        st.warning(plain(f"Read on {gate.n:,} images, {FLAGGED.meaning}. Here: {here}."))
    if found.traceback:
        st.code(found.traceback, language=None, wrap_lines=True)
    tiles = _tiles(found)
    if tiles:
        for column, (label, value, note) in zip(st.columns(len(tiles)), tiles, strict=True):
            column.metric(plain(label), value, delta=note or None, delta_color="off", delta_arrow="off")
    others = {k: v for k, v in found.metrics.items() if k not in _TILED}
    if others:
        st.header("Measures")
        facts(others)


_TILED = ("top1", "fp_top1", "bitops_g", "size_bytes", "size_ratio", "macs")


def _tiles(found: ResultRecord) -> list[tuple[str, str, str]]:
    """(label, value, note) of the measures that every compressed cell has."""
    metric = found.metrics.get
    tiles = []
    if metric("top1") is not None:
        ends = ""
        if found.correct is not None and found.test_count:
            _, around = accuracy_interval(np.stack([unpack_bits(found.correct, found.test_count)]))
            ends = interval(around.low, around.high)
        tiles.append(("top-1, % [95 % interval]", number(metric("top1")), ends))
    if metric("fp_top1") is not None:
        drop = f"{number(_minus(metric('fp_top1'), metric('top1')))} points lost" if metric("top1") is not None else ""
        tiles.append(("uncompressed, %", number(metric("fp_top1")), drop))
    if metric("size_bytes") is not None:
        ratio = f"{100 * float(metric('size_ratio') or 0):.1f} % of 32-bit" if metric("size_ratio") else ""
        tiles.append(("size", size(metric("size_bytes")), ratio))
    if metric("bitops_g") is not None:
        macs = f"{float(metric('macs') or 0) / 1e6:,.2f} M MACs" if metric("macs") else ""
        tiles.append(("GBitOPs per image", number(metric("bitops_g"), 3), macs))
    return tiles


def _minus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _repeat(found: ResultRecord) -> None:
    st.markdown("**The command that measures it again**")
    st.code(repro_command(found, index().store), language="bash", wrap_lines=True)


def _costs(found: ResultRecord) -> None:
    st.header("Cost by stage")
    if not found.costs:
        st.caption("No cost was recorded.")
        return
    columns = (
        Column("stage"),
        Column("wall", True),
        Column("CPU", True),
        Column("passes", True, "forward-equivalents: one image through one network (synthesis: the inverted one)"),
        Column("GMACs", True, "multiply-accumulates of the synthesis, every network and generator its own"),
        Column("peak", True, "resident memory, MiB"),
    )
    rows = [
        [
            name,
            seconds(c.seconds),
            seconds(c.cpu_seconds),
            number(c.forward_equivalents, 0),
            number(None if c.macs is None else c.macs / 1e9, 1),
            number(c.peak_memory_mib, 0),
        ]
        for name, c in found.costs.items()
    ]
    st.html(html_table(columns, rows))


def _seeds(cells: pd.DataFrame, chosen: pd.Series) -> None:
    """The same row's other seeds beside this one."""
    same = cells[(cells[[*ROW, "suite_version"]] == chosen[[*ROW, "suite_version"]]).all(axis=1)]
    st.header("Seeds of this row")
    if len(same) == 1:
        st.caption("This is the only seed measured; without a second one nothing is known of the spread over seeds.")
    columns = (Column("seed", True), Column("top-1 %", True), Column("status"), Column("cell"))
    rows, classes = [], []
    for other in same.sort_values(["seed", "cell_id"]).itertuples():
        here = other.cell_id == chosen["cell_id"]
        name = "this one" if here else cell_link(str(other.cell_id), other.suite, other.cell_id)
        rows.append([str(other.seed), number(other.top1), STATUS.get(str(other.status), str(other.status)), name])
        classes.append("best" if here else "")
    st.html(html_table(columns, rows, classes))


def _protocol(found: ResultRecord) -> None:
    st.header("Protocol")
    if not found.protocol:
        st.caption("No compressed network was measured, so there is no protocol.")
        return
    st.caption(plain(f"fingerprint {found.protocol_id}: ranks are formed among rows that share it"))
    facts(found.protocol)


def _curves(found: ResultRecord) -> None:
    groups = curve_groups(found.curves)
    if not groups:
        return
    st.header("Curves")
    columns = st.columns(2, gap="large")
    for i, (title, curves) in enumerate(groups.items()):
        with columns[i % 2]:
            chart(curves_figure(title, curves), f"curve-{found.cell_id}-{title}")
            if len(curves) > FEW:
                names = list(curves)
                st.caption(plain(f"One line per unit: dark is {names[0]}, bright {names[-1]}."))


def _report(found: ResultRecord) -> None:
    """What the compressor or the image measures report: plain facts, and a table for every list or mapping of facts."""
    if not found.report:
        return
    st.header("What the compressor reports" if found.compressor else "What the measures report")
    single = {k: v for k, v in found.report.items() if not isinstance(v, dict) and not is_listing(v)}
    if single:
        facts(single)
    for name, value in found.report.items():
        if is_listing(value):
            with st.expander(plain(f"{name}: {len(value)}"), expanded=len(value) <= 40):
                st.html(listing(value))
        elif isinstance(value, dict):
            with st.expander(plain(f"{name.replace('_', ' ')}: {len(value)}"), expanded=len(value) <= 12):
                facts(value)
