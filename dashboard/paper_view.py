"""A page's figure as a paper needs it: drawn by the functions of ``bench figure``, to be downloaded with its table."""

from __future__ import annotations

from collections.abc import Collection

import streamlit as st

from bench.board.claims.verdicts import suite_of
from bench.board.index.frame import rank_within
from bench.board.index.selected import Selected
from bench.errors import BenchError
from bench.store.records import ResultRecord
from dashboard.common import download
from dashboard.load import index, records_of, snapshot, verdicts
from dashboard.paper.style import WIDTHS, to_bytes
from dashboard.text import plain

_TYPES = {
    "pdf": "application/pdf",
    "svg": "image/svg+xml",
    "tex": "application/x-tex",
    "bib": "application/octet-stream",
}


def paper_figure(kind: str, suite: str, preset: str, shown: Collection[str] | None = None) -> None:
    """A folded part of the page: the figure of ``kind`` with downloads (PDF, SVG, LaTeX table, BibTeX) and its caption.
    Nothing is drawn until the reader asks for it.

    Args:
        shown: ``row_id`` of the rows the page shows; all of the suite unless given.
    """
    with st.expander("Figure for a paper"):
        left, right = st.columns(2)
        with left:
            width = st.radio("Width", list(WIDTHS), key=f"paper-width-{kind}-{suite}", horizontal=True, index=1)
        with right:
            wanted = st.toggle("Draw it", key=f"paper-{kind}-{suite}")
        if not wanted:
            return
        try:
            files = _files(
                kind, suite, preset, width, None if shown is None else tuple(sorted(shown)), snapshot().stamp
            )
        except BenchError as error:
            st.info(plain(error))
            return
        caption = files["caption"].decode()
        st.image(files["png"], caption=plain(f"{kind} of {suite}"))
        for column, form in zip(st.columns(len(_TYPES)), _TYPES, strict=True):
            with column:
                name = f"{suite}-{kind}.{form}"
                download(form.upper(), files[form], name, _TYPES[form], key=f"paper-{kind}-{suite}-{form}")
        st.code(caption, language="latex", wrap_lines=True)


@st.cache_data(max_entries=8, show_spinner="Drawing …")
def _files(
    kind: str, suite: str, preset: str, width: str, shown: tuple[str, ...] | None, stamp: str
) -> dict[str, bytes]:
    """Ending → content, and the caption; BenchError where there is nothing to draw."""
    from dashboard.paper.cited import bibtex  # what draws takes long to load, and few readers ask for it
    from dashboard.paper.kinds import caption_text, drawn, table_text
    from dashboard.paper.material import material

    cells = snapshot().cells
    records = records_of(cells[(cells["suite"] == suite) & (cells["preset"] == preset)])
    newest = max((record.suite_version for record in records), default=0)
    records = [record for record in records if record.suite_version == newest]
    spec = suite_of(suite)
    found = material(
        suite,
        newest,
        (spec.title or "") if spec is not None else "",
        rank_within(suite, {}),
        _selected(records, shown),
        index().versions(),
        {suite: sorted({record.seed for record in records})},
        verdicts(suite, preset),
    )
    drawing = drawn(kind, found, WIDTHS[width])
    files = {form: to_bytes(drawing.figure, form) for form in ("pdf", "svg", "png")}
    return files | {
        "tex": table_text(drawing).encode(),
        "bib": bibtex(found).encode(),
        "caption": caption_text(drawing).encode(),
    }


def _selected(records: list[ResultRecord], shown: tuple[str, ...] | None) -> Selected:
    """The rows shown, and beside them all that they are ranked with: rows on the same networks and settings."""
    if shown is None:
        every = frozenset(record.row_id for record in records)
        return Selected(tuple(records), every, every)
    own = frozenset(shown)
    places = {(record.target, record.setting_label) for record in records if record.row_id in own}
    on = frozenset(r.row_id for r in records if (r.target, r.setting_label) in places)
    return Selected(tuple(records), own, on)
