"""Cross-validation: every source's images on every target, measured beside what the paper prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from bench.board.claims.verdicts import suite_of
from bench.board.tables.means import setting_groups
from bench.board.tables.published import join
from bench.board.tables.settings import setting_name
from bench.board.tables.signs import DOUBTS, legend
from bench.errors import DataError
from dashboard.common import chart, download, heading, problems, scope
from dashboard.crosstable import CrossTable, cross_table, one_seed, value_text
from dashboard.figures.cross_validation import FP, OWN, TITLES, cross_map, names_of, published_map
from dashboard.filters import choice
from dashboard.links import cell_link, open_cell, with_cells
from dashboard.load import snapshot
from dashboard.paper_view import paper_figure
from dashboard.tables import Column, Html, html_table
from dashboard.text import number, plain

COLOURS = {"accuracy": "top1_mean", "drop": "drop"}


def show() -> None:
    """Draw the page."""
    heading(
        "Cross-validation",
        "Which source's images compress which network best: rows are sources of images, columns are targets.",
    )
    problems()
    found = scope(
        snapshot().table["compressor"] != "",
        "No compressed network is measured yet. `bench run suites/quickstart.yaml --seeds 1` makes the first ones.",
    )
    if found is None:
        return
    part, what = _filtered(found.table)
    suite = suite_of(found.suite)
    part = with_cells(part, snapshot().cells)
    reference = suite.reproduces if suite is not None else None
    joined = _published(part, reference)
    table = cross_table(part if joined is None else joined, suite.grid.target if suite is not None else ())
    if joined is None:
        _measured(table, what, found.suite)
        if reference:
            st.caption(
                plain(f"{_paper(reference)}, which this suite follows, prints no value that corresponds to these rows.")
            )
    else:
        left, right = st.columns(2, gap="medium")
        with left:
            st.header("Measured")
            _measured(table, what, found.suite)
        with right:
            st.header(plain(f"Published: {_paper(reference or '')}"))
            _beside(table, joined, what)
        st.caption(plain(_scale(table, joined, found.dataset)))
        if what == "drop":
            st.caption("The published drop is blank where the paper prints no accuracy of the uncompressed network.")
    _explained(table, part)
    paper_figure("map", found.suite, found.preset, set(part["row_id"]))
    with st.expander("The same as a table, with a link to each cell"):
        st.html(_as_table(table, what))
    download("Download these rows (CSV)", part.to_csv(index=False), f"{found.suite}.csv", "text/csv")


def _filtered(table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The rows of one compressor, setting and image count, and what the colour shows."""
    columns = st.columns([2, 2, 1, 2])
    with columns[0]:
        compressors = list(dict.fromkeys(table["compressor"]))
        counts = table["compressor"].value_counts()
        most = max(
            compressors, key=lambda name: (counts[name], table.loc[table["compressor"] == name, "drop"].lt(20).sum())
        )
        compressor = choice("Compressor", "compressor", compressors, default=most)
    table = table[table["compressor"] == compressor]
    groups = setting_groups(table)
    with columns[1]:
        setting = choice(setting_name(table), "setting", list(groups))
    table = table[table["setting_label"].isin(groups[setting])]
    with columns[2]:
        count = choice("Images", "images", [str(n) for n in sorted(table["n"].unique(), reverse=True)])
    with columns[3]:
        what = choice("Colour shows", "colour", list(COLOURS), shown=lambda name: TITLES[COLOURS[name]])
    return table[table["n"].astype(str) == count], COLOURS[what]


def _measured(table: CrossTable, what: str, suite: str) -> None:
    """The heat map; a click on a square opens its cell."""
    key = f"map-{suite}-{what}-{hash((table.lines, table.columns))}"
    event: Any = chart(cross_map(table, what), key, f"{suite}-map", on_select="rerun", selection_mode="points")
    points = event["selection"]["points"] if event else []
    chosen = points[0].get("customdata") if points else None
    if chosen and chosen[1]:
        open_cell(str(chosen[0]), str(chosen[1]))


def _beside(table: CrossTable, joined: pd.DataFrame, what: str) -> None:
    """The paper's values in the same places; their drop only where the paper prints the uncompressed accuracy."""
    known = joined["published_mean"].notna()
    if what == "drop" and not ("published_fp" in joined and joined.loc[known, "published_fp"].notna().any()):
        what = "top1_mean"
    figure = published_map(table, what)
    chart(figure, f"published-{what}")


def _scale(table: CrossTable, joined: pd.DataFrame, dataset: str) -> str:
    """How the two maps differ, in words."""
    known = joined[joined["published_mean"].notna()]
    order = {target: i for i, (target, _) in enumerate(table.columns)}
    known = known.sort_values("target", key=lambda names: names.map(order), kind="stable")
    theirs, ours, where = (
        names_of([str(name) for name in known[column]])
        for column in ("published_target", "target", "published_dataset")
    )
    return (
        f"Published and measured values are not on one scale: the paper compressed {theirs} and tested on {where}; "
        f"here they are the small networks {ours}, tested on {dataset}. "
        "Compare the order of the rows within a column, never the numbers across the two maps."
    )


def _published(part: pd.DataFrame, reference: str | None) -> pd.DataFrame | None:
    """``part`` with the paper's values, or None when it has none of them."""
    if not reference or part.empty:
        return None
    try:
        joined = join(part, reference)
    except DataError:
        return None
    return joined if joined["published_mean"].notna().any() else None


def _paper(reference: str) -> str:
    """ "mixmix/T6" in words."""
    paper, _, place = reference.partition("/")
    return f"{paper} {place}" if place else paper


def _explained(table: CrossTable, part: pd.DataFrame) -> None:
    """What frames, blanks and bold numbers mean, as far as the map has them."""
    squares = [square for line in table.squares for square in line if square is not None]
    notes = ["Click a square to open its cell.", f"{FP}: the network before compression."]
    if any(square["membership"] == OWN for square in squares):
        notes.append("Framed: the images were inverted from the target itself (same checkpoint).")
    if any(square["best"] is True or square["best"] == 1 for square in squares):
        notes.append("Bold: highest mean of the methods in its column.")
    measured = sum(not pd.isna(square["top1_mean"]) for square in squares)
    if measured < len(table.lines) * len(table.columns):
        notes.append(f"{measured} of {len(table.lines) * len(table.columns)} squares measured; “k of n” counts seeds.")
    if one_seed(part):
        notes.append("One seed: intervals cover the test images only.")
    if part["stale"].any():
        notes.append("Some rows were measured with an older version of their method.")
    notes += [f"{note}." for note in legend(part, DOUBTS)]
    st.caption(plain(" ".join(notes)))


def _as_table(table: CrossTable, what: str) -> str:
    columns = [Column("source"), *(Column(header, True) for header in table.headers)]
    rows: list[Sequence[str | Html]] = [[FP, *(number(v) for v in table.fp)]]
    for name, line in zip(table.lines, table.squares, strict=True):
        rows.append(
            [name, *("" if s is None else cell_link(value_text(s, what), s["suite"], s["cell_id"]) for s in line)]
        )
    return html_table(columns, rows)
