"""Ablations: what changes when one thing of a method changes, one plot per target, and the suite's claims beneath."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from bench.board.claims.judging import DECIDED, SEEDS_TO_JUDGE, SIGN, Verdict
from bench.board.index.rows import Row, make_rows
from bench.board.tables.settings import setting_name
from dashboard.common import Scope, chart, heading, problems, scope
from dashboard.figures import ablation_axes as axes_of
from dashboard.figures import ablations as figures
from dashboard.figures.ablation_findings import Findings, findings
from dashboard.figures.ablation_words import Table, difference_table, not_judged, sentence, value_table
from dashboard.filters import choice, choices
from dashboard.load import index, records_of, snapshot, verdicts
from dashboard.paper_view import paper_figure
from dashboard.tables import Column, Html, html_table
from dashboard.text import BLANK, counted, html_text, interval, missing, number, plain, rounded, row_name

TOP1 = "top1_mean"
AUTOMATIC = "automatic"
CLAIMS = (
    Column("claim", help="as the suite's file says it"),
    Column("verdict", help="whether the interval lies above or below the margin; none on fewer than three seeds"),
    Column("difference", True, "better minus worse, points of top-1"),
    Column("interval", True, "at the confidence that Holm's correction over the suite's claims asks for"),
    Column("confidence", True),
    Column("margin", True, "points the difference must exceed"),
)
PANELS = 6
"""Plots drawn at once; more would make the page slow."""


def show() -> None:
    """Draw the page."""
    heading(
        "Ablations",
        "What changes when one thing of a method changes: a parameter, its zoo, its number of images.",
    )
    problems()
    table = snapshot().table
    suites = _suites(snapshot().stamp)
    told = "No suite here varies a method's parameters, zoo, image count, bits or compressor. "
    found = scope(
        table["suite"].isin(list(suites)),
        f"{told}`bench run suites/ablation_mixing.yaml` makes records that do.",
        _first,
    )
    if found is None:
        return
    rows = axes_of.with_axes(found.table, _params(found))
    plan, measure = _choices(rows)
    rows = _filtered(rows)
    if rows.empty:
        st.info("No row has all of these; take a filter off.")
        return
    measured = _measured(rows, found.suite, found.preset) if measure == TOP1 else {}
    _plots(axes_of.slim(rows, measure), plan, measure, found.suite, measured)
    _missing(rows, measure)
    _claims(found)


def _first(suites: Sequence[str]) -> str:
    """A suite that varies a method's own parameters or zoo is an ablation in the narrow sense; of several the first
    that can be judged: up to date, on three seeds."""
    known = _suites(snapshot().stamp)
    return max(suites, key=lambda suite: known.get(suite, (False, False)))


@st.cache_data(max_entries=4)
def _suites(stamp: str) -> dict[str, tuple[bool, bool]]:
    """The suites that are ablations: whether in the narrow sense, and whether they can be judged; ``stamp`` is the
    key."""
    out = {}
    for suite, rows in snapshot().table.groupby("suite", sort=False):
        if axes_of.is_ablation(rows):
            fresh = not rows["stale"].fillna(False).astype(bool).any()
            seeds = rows["seeds"].str.partition(" ")[0].astype(int).min()
            out[str(suite)] = axes_of.varies_source(rows), bool(fresh and seeds >= SEEDS_TO_JUDGE)
    return out


def _filtered(rows: pd.DataFrame) -> pd.DataFrame:
    filters = (("Target", "target"), ("Compressor", "compressor"), (setting_name(rows), "setting_label"))
    for place, (label, key) in zip(st.columns(len(filters)), filters, strict=True):
        with place:
            rows = rows[rows[key].isin(choices(label, key, list(dict.fromkeys(rows[key]))))]
    return rows


def _params(found: Scope) -> dict[str, Mapping[str, Any]]:
    """Label of a source or compressor → its resolved parameters, from one record of each."""
    cells = snapshot().cells
    mine = cells[(cells["suite"] == found.suite) & (cells["preset"] == found.preset)]
    picked = pd.concat([mine.drop_duplicates("source"), mine.drop_duplicates("compressor")]).drop_duplicates("place")
    out: dict[str, Mapping[str, Any]] = {}
    for record in records_of(picked):
        out |= {record.source: record.source_params, record.compressor: record.compressor_params}
    return out


def _choices(rows: pd.DataFrame) -> tuple[axes_of.Layout, str]:
    """What is drawn along which axis, and which measure."""
    axes = axes_of.varied_axes(rows)
    measures = [TOP1] if rows[TOP1].notna().any() or (rows["compressor"] != "").any() else []
    measures += axes_of.metrics(rows)
    left, right = st.columns(2)
    with left:
        offered = [AUTOMATIC, *axes, axes_of.SETTING]
        along = choice("Along", "along", list(dict.fromkeys(offered)), shown=axes_of.axis_name)
    with right:
        measure = choice("Measure", "measure", measures or [TOP1], shown=measure_name)
    return axes_of.layout(rows, None if along == AUTOMATIC else along), measure


def measure_name(column: str) -> str:
    """A metric's column in words."""
    return "top-1 accuracy, %" if column == TOP1 else column.replace("_", " ")


@st.cache_resource(max_entries=4, show_spinner="Reading records …")
def _rows(suite: str, preset: str, stamp: str) -> dict[tuple[str, ...], Row]:
    """The measured rows of a suite and preset by what a line of the board is found by; ``stamp`` is part of the key."""
    cells = snapshot().cells
    records = records_of(cells[(cells["suite"] == suite) & (cells["preset"] == preset) & (cells["compressor"] != "")])
    found = make_rows(records, versions=index().versions())
    return {
        (str(row.head.suite_version), row.head.row_id or "", row.head.protocol_id or ""): row
        for row in found
        if row.measured
    }


def _measured(rows: pd.DataFrame, suite: str, preset: str) -> dict[object, Row]:
    """Index of the board's rows → the row with its answers per test image."""
    known = _rows(suite, preset, snapshot().stamp)
    keys = zip(rows["suite_version"], rows["row_id"], rows["protocol_id"], strict=True)
    texts = [tuple("" if missing(part) else str(part) for part in key) for key in keys]
    return {i: known[text] for i, text in zip(rows.index, texts, strict=True) if text in known}


@st.cache_data(max_entries=64, show_spinner="Comparing rows …")
def _judged(
    _drawn: pd.DataFrame, _measured: Mapping[object, Row], plan: axes_of.Layout, key: tuple[object, ...]
) -> Findings | None:
    return findings(_drawn, plan, _measured)


def _findings(drawn: pd.DataFrame, plan: axes_of.Layout, measured: Mapping[object, Row]) -> Findings | None:
    """:func:`dashboard.figures.ablation_findings.findings`, kept until a record changes."""
    return _judged(drawn, measured, plan, (*drawn.index, snapshot().stamp)) if measured else None


def _plots(rows: pd.DataFrame, plan: axes_of.Layout, measure: str, suite: str, measured: Mapping[object, Row]) -> None:
    if rows[measure].notna().sum() == 0:
        st.info(plain(f"{measure_name(measure)}: not measured in these rows yet."))
        return
    every = [p for p in axes_of.panels(rows, plan) if p.rows[measure].notna().any()]
    if len(every) > 1 and measure == TOP1:
        whole = _findings(rows, plan, measured)
        if whole is not None:
            st.html(said_html("All plots together", sentence(whole)))
            _table("All plots together: the differences", difference_table(whole))
    colours = figures.colour_map(rows, plan)
    if len(colours) > 1:
        st.html(legend(colours))
    found = every[:PANELS]
    wide = 2 if len(found) > 1 else 1
    for start in range(0, len(found), wide):
        places = st.columns(wide, vertical_alignment="bottom")
        for i, (place, panel) in enumerate(zip(places, found[start : start + wide], strict=False)):
            with place:
                key = f"{suite}-{measure}-{plan.x}-{start + i}"
                _panel(panel, plan, measure, colours, key, _findings(panel.rows, plan, measured))
    if len(every) > PANELS:
        st.caption(plain(f"The first {PANELS} of {len(every)} plots; the filters above choose others."))
    _notes(rows, measure, any(len(p.controls) for p in found))


def _panel(
    panel: axes_of.Panel,
    plan: axes_of.Layout,
    measure: str,
    colours: Mapping[str, str],
    key: str,
    judged: Findings | None,
) -> None:
    """Its title, what it shows in a sentence, the plot and, folded, the same as tables."""
    words = sentence(judged) if judged is not None else ""
    if measure != TOP1:
        words = not_judged(panel.rows, plan, measure)
    st.html(said_html(panel.title, words))
    figure = figures.panel_figure(panel, plan, measure, colours, measure_name(measure))
    chart(figure, key)
    tables = [value_table(panel, plan, measure, measure_name(measure))]
    _table(
        f"Table: {panel.title}" if panel.title else "Table", *tables, *([difference_table(judged)] if judged else [])
    )


def _table(label: str, *tables: Table) -> None:
    with st.expander(plain(label)):
        for columns, lines, classes in tables:
            st.html(html_table(columns, lines, classes))


def said_html(title: str, words: str) -> str:
    """A title in bold and a sentence below it."""
    head = f"<b>{html_text(title)}</b>" if title else ""
    return f'<div style="line-height:1.45">{head}<div style="font-size:.92rem">{html_text(words)}</div></div>'


def _notes(rows: pd.DataFrame, measure: str, controls: bool) -> None:
    """What the bars, lines and marks mean."""
    seeds = sorted(set(rows.loc[rows[measure].notna(), "seeds"]))
    ends = "bars: 95 % intervals" if f"{measure.removesuffix('_mean')}_low" in rows else "no intervals are recorded"
    one = "; one seed: they have what such rows vary by between seeds" if seeds == ["1 of 1"] and "bars" in ends else ""
    beside = " · dashed: real images and noise" if controls else ""
    st.caption(plain(f"{ends}{one} · seeds {', '.join(seeds)}{beside}"))
    if measure == TOP1:
        marks = ", ".join(f"{SIGN[word]} {word}" for word in DECIDED) + f", {SIGN['open']} open"
        st.caption(
            plain(
                f"sentences: {marks}, as the board judges claims: paired by seed and test image, the intervals of one "
                "sentence corrected together (Holm); the claims below have a correction of their own"
            )
        )


def legend(colours: Mapping[str, str]) -> str:
    """One marker and name per colour, on as many lines as the width asks for."""
    items = []
    for i, (name, colour) in enumerate(colours.items()):
        sign = f'<span style="color:{colour}">{figures.marker(i)[1]}</span>'
        items.append(f'<span style="margin-right:1.1rem;white-space:nowrap">{sign} {html_text(name)}</span>')
    return f'<div style="font-size:.88rem;line-height:1.7">{" ".join(items)}</div>'


def _missing(rows: pd.DataFrame, measure: str) -> None:
    blank = rows[rows[measure].isna() & (rows["status"] != "ok")]
    if blank.empty:
        return
    with st.expander(plain(f"{counted(len(blank), 'row')} not drawn")):
        for r in blank.itertuples():
            words = (row_name(str(r.source), str(r.model), str(r.policy)), str(r.compressor), str(r.setting_label))
            name = " · ".join(filter(None, words))
            st.text(f"{name} on {r.target}: {r.status}, seeds {r.seeds}" + (f" ({r.reason!s})" if r.reason else ""))


def _claims(found: Scope) -> None:
    paper_figure("ablation", found.suite, found.preset)
    st.header("Claims of this suite")
    judged = verdicts(found.suite, found.preset)
    if not judged:
        st.info("This suite's file makes no claim that could be judged, or did not come with this package.")
        return
    st.html(html_table(CLAIMS, [_claim(v) for v in judged]))
    for verdict in judged:
        if verdict.parts or verdict.remarks:
            with st.expander(plain(f"{SIGN[verdict.verdict]} {verdict.says}")):
                _parts(verdict)


def _claim(v: Verdict) -> list[str | Html]:
    return [
        Html(f'<div style="white-space:normal;min-width:12rem">{html_text(v.says)}</div>'),
        f"{SIGN[v.verdict]} {v.text}",
        rounded(v.difference, v.low, v.high),
        interval(v.low, v.high),
        f"{100 * v.level:.4g} %" if v.difference is not None else BLANK,
        number(v.margin, 1),
    ]


def _parts(v: Verdict) -> None:
    columns = (Column("by"), Column(""), Column("difference", True), Column("95 % interval", True), Column("n", True))
    rows: list[list[str | Html]] = [
        [p.axis, p.value, rounded(p.difference, p.low, p.high), interval(p.low, p.high), str(p.pairs)]
        for p in v.parts
        if not missing(p.difference)
    ]
    if rows:
        st.html(html_table(columns, rows))
    if v.pairs:
        one = "; no verdict on fewer than three seeds" if v.seeds < SEEDS_TO_JUDGE else ""
        st.caption(plain(f"{v.pairs} paired settings, {v.seeds} seeds, {v.images:,} test images{one}"))
    for remark in v.remarks:
        st.text(remark)
