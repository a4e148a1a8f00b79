"""What changed on a suite's board, as a part of a page."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from bench.board.claims.verdicts import suite_of
from bench.board.tables.history import History, history
from bench.board.tables.history_lines import LOST, value_text, verdict_text
from dashboard.filters import choice
from dashboard.load import index, records_of, snapshot
from dashboard.tables import Column, Html, html_table
from dashboard.text import BLANK, number, plain

MOST = 60
"""Rows of a table of changed values; the largest changes come first."""

DAYS = (
    Column("day", help="UTC"),
    Column("records", True),
    Column("seeds"),
    Column("rows added", True),
    Column("on more seeds", True),
    Column("measured again", True),
    Column("software"),
    Column("machines"),
)
CLAIMS = (Column("day"), Column("claim"), Column("was"), Column("is"))
VALUES = (
    Column("day"),
    Column("row"),
    Column("was, top-1 %", True),
    Column("is, top-1 %", True),
    Column("points", True),
    Column("why"),
)


def show_history() -> None:
    """Days of a suite's measuring, the newest first; verdicts and values that moved.  No record is read until the
    reader asks for it."""
    st.header("What changed on a board")
    if not st.toggle("Show it day by day", key="history"):
        return
    cells = snapshot().cells
    if cells.empty:
        st.caption("Nothing is measured yet.")
        return
    newest = cells.groupby("suite")["finished"].max().fillna(0.0)
    suites = [str(name) for name in newest.sort_values(ascending=False, kind="stable").index]
    found = _history(choice("Suite", "suite", suites), snapshot().stamp)
    st.html(html_table(DAYS, _days(found)))
    claims = _claims(found)
    if claims:
        st.caption("Claims whose verdict moved; the last lines are judged by the methods and weights at hand today.")
        st.html(html_table(CLAIMS, claims))
    values = _values(found)
    if values:
        st.caption(plain(f"Values that moved, mean with 95 % interval and number of seeds; {len(values)} rows."))
        st.html(html_table(VALUES, values[:MOST]))
    st.caption(plain(" ".join([f"{found.stale} of {found.rows} rows are older than what is at hand.", LOST])))


@st.cache_data(max_entries=16, show_spinner="Reading records …")
def _history(suite: str, stamp: str) -> History:
    cells = snapshot().cells
    spec = suite_of(suite)
    claims = spec.claims if spec is not None else ()
    return history(suite, records_of(cells[cells["suite"] == suite]), claims, index().versions())


def _days(found: History) -> list[Sequence[str | Html]]:
    return [
        (
            day.day,
            f"{day.records:,}",
            ", ".join(map(str, day.seeds)),
            *(str(len(changes) or "") for changes in (day.added, day.more_seeds, day.again)),
            ", ".join(day.software),
            ", ".join(day.machines),
        )
        for day in reversed(found.days)
    ]


def _claims(found: History) -> list[Sequence[str | Html]]:
    moved = [(day.day, change) for day in reversed(found.days) for change in day.claims]
    moved += [("today", change) for change in found.aged]
    return [
        (
            day,
            change.says,
            verdict_text(change.old, change.old_difference) if change.old else BLANK,
            verdict_text(change.new, change.new_difference),
        )
        for day, change in moved
    ]


def _values(found: History) -> list[Sequence[str | Html]]:
    rows: list[Sequence[str | Html]] = []
    for day in reversed(found.days):
        for change in (*day.again, *day.more_seeds):
            name = f"{change.source} → {change.target} {change.compressor} {change.setting}".rstrip()
            texts = (value_text(change.old), value_text(change.new), number(change.moved))
            rows.append((day.day, name, *texts, change.why or "more seeds"))
    return rows
