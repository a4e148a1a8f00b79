"""What the pages read: tables of the store and of the package's measured records, cached until a record changes."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import streamlit as st

from bench.board.choose.answer import Answer, choose
from bench.board.choose.asked import Question
from bench.board.claims.judging import Verdict
from bench.board.claims.verdicts import ClaimRow, claim_rows, suite_of, suite_verdicts
from bench.board.index.board_index import STORE_VARIABLE, BoardIndex, LiveState, Snapshot
from bench.board.tables.dynamic import dynamic_table, equal_table
from bench.board.tables.means import RowsByKey, rows_by_key
from bench.board.tables.searches import search_table
from bench.board.tables.widths import line_table, point_table, width_lines
from bench.store.records import ResultRecord


@st.cache_resource
def _index(store: str) -> BoardIndex:
    return BoardIndex(Path(store) if store else None)


def index() -> BoardIndex:
    """The index of the store that `bench dashboard` was started with; no page and no address can name another."""
    return _index(os.environ.get(STORE_VARIABLE, ""))


def snapshot() -> Snapshot:
    """The tables as the records are now; treat them as read-only.

    Raises:
        StoreError: the store is of a newer version.
    """
    found = index()
    return _snapshot(str(found.store), found.stamp())


@st.cache_resource(max_entries=2, show_spinner="Reading records …")
def _snapshot(store: str, stamp: str) -> Snapshot:
    # Both arguments are the key; the index holds what they stand for.
    return index().snapshot()


def answer_to(question: Question) -> Answer:
    """:func:`bench.board.choose.answer.choose` over the records as they are now."""
    return _answer(question, snapshot().stamp)


@st.cache_resource(max_entries=64, show_spinner="Comparing rows …")
def _answer(question: Question, stamp: str) -> Answer:
    found = snapshot()
    return choose(question, found.table, found.cells, _opened)


def _opened(cells: pd.DataFrame) -> list[ResultRecord]:
    return _records(tuple(cells["place"]), snapshot().stamp)


def live() -> LiveState | None:
    """What the store's latest run says of itself; None when none did.

    Raises:
        StoreError: its file is damaged, or a newer version wrote it.
    """
    return index().live()


def record(cell_id: str, suite: str) -> ResultRecord | None:
    """One record by the ids in ``snapshot().cells``; None when there is no such cell."""
    cells = snapshot().cells
    found = cells[(cells["cell_id"] == cell_id) & (cells["suite"] == suite)]
    return index().records(found.tail(1))[0] if len(found) else None


def records_of(cells: pd.DataFrame) -> list[ResultRecord]:
    """The records behind rows of ``snapshot().cells``, kept until a record changes."""
    return _records(tuple(cells["place"]), snapshot().stamp)


@st.cache_resource(max_entries=8, show_spinner="Reading records …")
def _records(places: tuple[str, ...], stamp: str) -> list[ResultRecord]:
    return index().records(pd.DataFrame({"place": places}))


def rows_of(cells: pd.DataFrame) -> RowsByKey:
    """The measured rows behind rows of ``snapshot().cells``, with their correctness per test image."""
    return _rows(tuple(cells["place"]), snapshot().stamp)


@st.cache_resource(max_entries=2, show_spinner="Reading records …")
def _rows(places: tuple[str, ...], stamp: str) -> RowsByKey:
    return rows_by_key(index().records(pd.DataFrame({"place": places})))


def searches_of(cells: pd.DataFrame) -> pd.DataFrame:
    """:func:`bench.board.tables.searches.search_table` of the records behind rows of ``snapshot().cells``."""
    return _searches(tuple(cells["place"]), snapshot().stamp)


@st.cache_resource(max_entries=4, show_spinner="Comparing searches …")
def _searches(places: tuple[str, ...], stamp: str) -> pd.DataFrame:
    records = index().records(pd.DataFrame({"place": places}))
    return search_table(records, versions=index().versions(), seeds=_asked())


def dynamic_of(cells: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """:func:`tables.dynamic.dynamic_table` and :func:`tables.dynamic.equal_table` of the records behind rows
    of ``snapshot().cells``."""
    return _dynamic(tuple(cells["place"]), snapshot().stamp)


@st.cache_resource(max_entries=4, show_spinner="Comparing rows …")
def _dynamic(places: tuple[str, ...], stamp: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    records = index().records(pd.DataFrame({"place": places}))
    known, asked = index().versions(), _asked()
    return dynamic_table(records, versions=known, seeds=asked), equal_table(records, versions=known, seeds=asked)


def widths_of(cells: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """:func:`tables.widths.line_table` and :func:`tables.widths.point_table` of the records behind rows of
    ``snapshot().cells``."""
    return _widths(tuple(cells["place"]), snapshot().stamp)


@st.cache_resource(max_entries=4, show_spinner="Comparing bit-widths …")
def _widths(places: tuple[str, ...], stamp: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    records = index().records(pd.DataFrame({"place": places}))
    lines = width_lines(records, versions=index().versions(), seeds=_asked())
    return line_table(lines), point_table(lines)


def _asked() -> dict[tuple[str, int, str], list[int]]:
    """(suite, version, preset) → the seeds there are cells of."""
    return {
        (str(suite), int(str(version)), str(preset)): sorted({int(seed) for seed in part["seed"]})
        for (suite, version, preset), part in snapshot().cells.groupby(["suite", "suite_version", "preset"])
    }


def verdicts(suite: str, preset: str) -> list[Verdict]:
    """The claims of a suite, judged by its measured records of one preset; empty when its file is not at hand."""
    return _verdicts(suite, preset, snapshot().stamp)


@st.cache_data(max_entries=64, show_spinner="Judging claims …")
def _verdicts(suite: str, preset: str, stamp: str) -> list[Verdict]:
    asked = suite_of(suite)
    if asked is None or not asked.claims:
        return []  # before any record is read
    cells = snapshot().cells
    chosen = cells[(cells["suite"] == suite) & (cells["preset"] == preset)]
    return suite_verdicts(suite, index().records(chosen), index().versions())


def rows_of_claims(suite: str, preset: str) -> list[tuple[ClaimRow, ...]]:
    """Per claim of a suite, in order, the rows it speaks of."""
    return _rows_of_claims(suite, preset, snapshot().stamp)


@st.cache_data(max_entries=64, show_spinner="Reading records …")
def _rows_of_claims(suite: str, preset: str, stamp: str) -> list[tuple[ClaimRow, ...]]:
    cells = snapshot().cells
    chosen = cells[(cells["suite"] == suite) & (cells["preset"] == preset)]
    return claim_rows(suite, index().records(chosen), index().versions())
