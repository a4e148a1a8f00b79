"""Which row beats which: the pairwise map of one target, and critical differences over targets."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from bench.board.claims.pairing import short
from bench.board.index.rows import BESIDE, Row, make_rows
from bench.board.stats.demsar import critical_difference
from bench.board.stats.ranks import RANKED_FROM, pair_table, win_matrix
from bench.board.tables.scores import target_scores
from bench.store.records import ResultRecord
from dashboard.common import chart
from dashboard.figures.ranks import critical_difference_plot, win_map
from dashboard.filters import switch
from dashboard.load import records_of, snapshot
from dashboard.tables import Column, html_table
from dashboard.text import interval, number, plain

MOST_ROWS = 40
"""More rows than this make no readable map."""


def pairwise(part: pd.DataFrame, name: str) -> None:
    """The win matrix of one target, bits and protocol behind a switch, since it reads the records.

    Args:
        part: rows of the board of one rank group.
        name: what sets this group apart from the page's others, in the address too.
    """
    if not 2 <= len(part) <= MOST_ROWS or not switch("Compare every two rows", "compare", name):
        return
    keys = [*BESIDE, "preset"]
    cells = snapshot().cells.merge(part[keys].drop_duplicates(), on=keys)
    pairs = matrix(records_of(cells), str(part["protocol_id"].iloc[0]), set(part["row_id"]))
    if pairs.empty:
        st.info("No two of these rows share test images and two seeds.")
        return
    chart(win_map(pairs), f"map-{name}")
    st.caption(
        "Row minus column in points. ▲ better, ▼ worse, = nothing shown: paired by seed and test image, Holm-corrected "
        "within each row's comparisons, and both rows must agree. Intervals in the table are of one comparison alone."
    )
    with st.expander("The same as a table"):
        st.html(pair_rows(pairs))


def matrix(records: Sequence[ResultRecord], protocol: str, shown: Collection[str]) -> pd.DataFrame:
    """:func:`stats.ranks.win_matrix` of the complete rows of several seeds among ``records`` that follow one
    protocol and whose ``row_id`` is in ``shown``; the others are there for the variance between seeds."""
    rows = [r for r in make_rows(records) if r.bitmaps and str(r.head.protocol_id) == protocol]
    rows = [r for r in rows if r.head.row_id in shown and len(r.measured) >= RANKED_FROM]
    if len(rows) < 2:
        return pd.DataFrame()
    return win_matrix(pair_table([row.bitmaps for row in rows], between=[row.between for row in rows]), _names(rows))


def _names(rows: Sequence[Row]) -> list[str]:
    """Short names, each once: the image count where one setting was measured with several."""
    names = [f"{short(row)} · {row.head.compressor}" for row in rows]
    return [
        name if names.count(name) == 1 else f"{name} · {row.head.n} images · {i}"
        for i, (name, row) in enumerate(zip(names, rows, strict=True))
    ]


def pair_rows(pairs: pd.DataFrame) -> str:
    """Each pair once, the better row first."""
    columns = [Column("row"), Column("against"), Column("difference", True), Column("95 % interval", True)]
    columns += [Column("p", True), Column("corrected p", True), Column("verdict"), Column("detectable", True)]
    once = pairs[pairs["difference"] >= 0].drop_duplicates(["row", "column"])
    return html_table(columns, [_pair_row(pair) for pair in once.itertuples()])


def _pair_row(pair: Any) -> Sequence[str]:
    chances = f"{pair.p:.2g}", f"{pair.p_holm:.2g}"
    difference = number(pair.difference), interval(pair.low, pair.high)
    return pair.row, pair.column, *difference, *chances, pair.outcome, number(pair.detectable)


def critical_differences(table: pd.DataFrame) -> None:
    """Average ranks over the targets of one suite, a plot for each compressor and image count."""
    for key, scores in target_scores(table).items():
        try:
            found = critical_difference(scores)
        except ValueError:
            continue
        *_, compressor, count, bits = key
        st.markdown(f"**Average ranks · {plain(compressor)} · {plain(bits)} · {plain(count)} images**")
        chart(critical_difference_plot(found), f"cd-{key}")
        notes = [f"grey bars span methods that Nemenyi's test does not tell apart (critical difference {found.cd:.2f})"]
        if found.p_friedman is not None:
            notes.append(f"Friedman's test of no difference at all: p = {found.p_friedman:.2g}")
        if found.left_out:
            notes.append("left out: " + ", ".join(f"{name} ({n} targets)" for name, n in found.left_out.items()))
        st.caption(plain(". ".join([*notes, found.note]) + "."))
