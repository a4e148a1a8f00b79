"""The kinds of figures for papers, and the files that go with one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bench.board.tables.report import tex_text, to_latex
from bench.errors import BenchError, nearest
from dashboard.paper import ablation, claims, cross_map, front, ranks
from dashboard.paper.material import Drawing, Material
from dashboard.paper.style import in_style

KINDS: Mapping[str, Callable[[Material, float], Drawing]] = {
    "ranks": ranks.draw,
    "map": cross_map.draw,
    "ablation": ablation.draw,
    "front": front.draw,
    "claims": claims.draw,
}


def drawn(kind: str, found: Material, width: float) -> Drawing:
    """A figure of one of :data:`KINDS`, ``width`` inches wide.

    Raises:
        BenchError: no such kind, or nothing to draw.
    """
    if kind not in KINDS:
        raise BenchError("no such figure", where="--kind", got=kind, expected=KINDS, nearest=nearest(kind, KINDS))
    with in_style():
        found_drawing = KINDS[kind](found, width)
        found_drawing.figure.draw_without_rendering()  # the layout follows the settings that hold here
    return found_drawing


def table_text(drawing: Drawing) -> str:
    """The rows of the figure as LaTeX tables, its caption above them as a remark."""
    remark = caption_text(drawing).replace("\n", " ")
    return f"% Caption of the figure: {remark}\n\n{to_latex(drawing.grids)}"


def caption_text(drawing: Drawing) -> str:
    """The caption, ready for ``\\caption``."""
    return tex_text(" ".join(drawing.caption))
