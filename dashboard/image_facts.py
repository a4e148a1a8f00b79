"""What image sets are, side by side: origin, cost, measures, and the rows that they fed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from dashboard.common import Scope
from dashboard.image_measures import Side, compared
from dashboard.links import cell_link
from dashboard.load import snapshot
from dashboard.tables import Column, Html, html_table
from dashboard.text import BLANK, counted, html_text, missing, number, plain, seconds

USED = 60
"""Rows listed of those that a set fed."""
ROWS = (Column("network"), Column("compressor"), Column("setting"), Column("seed", True), Column("top-1, %", True))


def facts(found: Scope, sides: Sequence[Side]) -> None:
    """One table, a column for each set: what its source was allowed to see, what it took, how networks measure it."""
    rows = [_table_row(found, side) for side in sides]
    lines: list[tuple[str, list[str]]] = [
        ("source", [str(side.cells["source"].iloc[0]) for side in sides]),
        ("images of network", [str(side.cells["model"].iloc[0]) or BLANK for side in sides]),
        ("may look at (access tier)", [BLANK if row is None else str(row.access) for row in rows]),
        ("images used", [BLANK if row is None else number(row.n, 0) for row in rows]),
        ("wall time of the synthesis", [BLANK if row is None else seconds(row.synthesis_s) for row in rows]),
        ("CPU time", [BLANK if row is None else seconds(row.synthesis_cpu_s) for row in rows]),
        *compared(sides),
        ("labels", [_labels(side) for side in sides]),
        ("image set", [side.synth_id for side in sides]),
    ]
    columns = [Column(""), *(Column(side.letter, True) for side in sides)]
    cells: list[list[str | Html]] = [
        [
            _wrapping(name, "max-width:min(24rem,25vw)"),
            *(_wrapping(value, "max-width:min(10rem,15.5vw)") for value in values),
        ]
        for name, values in lines
    ]
    st.html(html_table(columns, cells))


def _wrapping(text: str, width: str) -> Html:
    """Text that is broken where a phone has no room for three columns."""
    style = f"white-space:normal;overflow-wrap:break-word;display:inline-block;{width}"
    return Html(f'<span style="{style}">{html_text(text)}</span>')


def _labels(side: Side) -> str:
    if side.stored is None:
        return "not in this store"
    return "none" if side.stored.labels is None else "yes"


def used(side: Side, suite_shown: str) -> None:
    """The rows that these images fed, by the digest of their content: what the numbers of those rows are of."""
    own = side.cells[side.cells["suite"] == suite_shown]
    digests = [str(digest) for digest in dict.fromkeys(own["image_digest"].dropna()) if digest]
    everywhere = snapshot().cells
    fed = everywhere[everywhere["image_digest"].isin(digests)] if digests else side.cells
    rows = fed[fed["compressor"] != ""].sort_values(["suite", "target", "compressor", "setting_label", "seed"])
    digest = "digest not recorded, matched by the set's name" if not digests else f"digest {digests[0][:12]}"
    if len(digests) > 1:
        digest = f"{len(digests)} digests, since the set was made as often: {', '.join(one[:12] for one in digests)}"
    measuring = len(fed) - len(rows)
    looked = f" · {counted(measuring, 'measure')} of the images alone" if measuring else ""
    st.caption(plain(f"{side.letter}: {digest} · {counted(len(rows), 'compressed cell')} used it{looked}"))
    if rows.empty:
        return
    with st.expander(plain(f"Cells that used {side.letter}")):
        for suite, part in rows.head(USED).groupby("suite", sort=False):
            cells: list[list[str | Html]] = [
                [
                    cell_link(str(r.target), r.suite, r.cell_id),
                    str(r.compressor),
                    str(r.setting_label),
                    str(r.seed),
                    number(None if missing(r.top1) else r.top1, 2),
                ]
                for r in part.itertuples()
            ]
            st.caption(plain(f"suite {suite}"))
            st.html(html_table(ROWS, cells))
        if len(rows) > USED:
            st.caption(plain(f"the first {USED} of {len(rows):,}"))


def _table_row(found: Scope, side: Side) -> Any:
    """The set's row of the board; None where the suite has none."""
    mine = side.cells[side.cells["suite"] == found.suite].head(1)
    if mine.empty:
        return None
    table, cell = found.table, mine.iloc[0]
    rows = table[(table["source"] == cell["source"]) & (table["model"] == cell["model"])]
    return next(rows.itertuples(), None)
