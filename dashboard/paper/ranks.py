"""Ranks as a critical-difference diagram shows them: accuracy with its interval, and the ranks not ruled out.

After the diagrams of Demšar 2006 (JMLR 7, figure 1), upright so that long names stay readable; in place of one critical
difference each row has its own rank interval (:func:`bench.board.stats.standings.rank_intervals`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.ticker import MaxNLocator

from bench.board.tables.answers import Line, SourceTable
from bench.board.tables.grids import Cell, Grid
from bench.board.tables.words import BLANK, TIED
from bench.errors import BenchError
from dashboard.paper.material import Drawing, Material
from dashboard.paper.style import (
    CONTROL,
    PALE,
    PAPER,
    SMALL,
    colour,
    lines_height,
    names_width,
    reach,
    room_of,
    rows_axis,
    sheet,
    ticks,
    title,
    title_height,
    wrapped,
)
from dashboard.paper.words import controls_named, mean_and_interval, measured_on, part_title, signs_used
from dashboard.theme import GREY

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(found: Material, width: float) -> Drawing:
    """A block for each table of the board: lines by rank, controls below.

    Raises:
        BenchError: no row shown has a mean.
    """
    tables = [(table, lines) for table in found.tables if (lines := shown_lines(table))]
    if not tables:
        raise BenchError("nothing to rank: no row shown has a mean", where=found.suite)
    ranked = any(line.ranks for _, lines in tables for line in lines)
    names = [[wrapped(line.name + line.marks, names_width(width)) for line in lines] for _, lines in tables]
    free = width - room_of(names)
    heights = [
        0.48 + title_height(part_title(table), free) + lines_height(own)
        for (table, _), own in zip(tables, names, strict=True)
    ]
    figure = sheet(width, sum(heights) + 0.05)
    grid = figure.add_gridspec(len(tables), 2 if ranked else 1, height_ratios=heights)
    for i, ((table, lines), own) in enumerate(zip(tables, names, strict=True)):
        axes = figure.add_subplot(grid[i, 0])
        title(axes, part_title(table), free)
        at = rows_axis(axes, own)
        _accuracy(axes, lines, at)
        ticks(axes, free / (2 if ranked else 1))
        axes.set_xlabel("top-1 accuracy, %" if free > 3 or not ranked else "top-1, %")
        if ranked:
            beside = figure.add_subplot(grid[i, 1], sharey=axes)
            _ranks(beside, lines, at, len(table.ranked))
            beside.set_xlabel("rank (1 is best)" if free > 3 else "rank")
    grids = tuple(_grid(table, lines) for table, lines in tables)
    return Drawing(figure, grids, _caption(found, tables, ranked))


def shown_lines(table: SourceTable) -> list[Line]:
    """The selected lines that have a mean."""
    return [line for line in table.lines if line.shown and line.mean is not None]


def look(line: Line) -> dict[str, Any]:
    """Marker of a line: a grey diamond for a control, filled for the upper one; a dot, filled where no line is shown to
    be better; pale without a rank."""
    if line.control != "none":
        return {**CONTROL, "markerfacecolor": GREY if line.control == "upper" else PAPER}
    best = line.ranks is not None and line.ranks[0] == 1
    return {
        "marker": "o",
        "color": colour(0),
        "markerfacecolor": colour(0) if best or line.ranks is None else PAPER,
        "alpha": 1.0 if line.ranks else PALE,
    }


def _accuracy(axes: Axes, lines: Sequence[Line], at: Sequence[float]) -> None:
    methods = [end for line in lines if line.control == "none" for end in ends_of(line)]
    low, high = reach(methods, [ends_of(line) for line in lines if line.control != "none"])
    for line, y in zip(lines, at, strict=True):
        mean = line.mean if line.mean is not None else low
        if not low <= mean <= high:
            at_edge(axes, mean, y, (low, high))
            continue
        ends = line.interval
        error = None if ends is None else [[mean - ends.low], [ends.high - mean]]
        axes.errorbar([mean], [y], xerr=error, markersize=4, linewidth=0, elinewidth=1, capsize=1.5, **look(line))
    axes.set_xlim(low, high)


def ends_of(line: Line) -> list[float]:
    """Mean of a line and the ends of its interval, where it has them."""
    mean = [] if line.mean is None else [line.mean]
    return [*mean, *(map(float, line.interval) if line.interval else ())]


def at_edge(axes: Axes, value: float, y: float, ends: tuple[float, float]) -> None:
    """A control that lies beyond the axis: at its edge, with an arrow and its value."""
    below = value < ends[0]
    text = f"◂ {value:.1f}" if below else f"{value:.1f} ▸"
    place = ends[0] if below else ends[1]
    axes.text(place, y, text, ha="left" if below else "right", va="center", fontsize=SMALL, color="#5F646C")


def _ranks(axes: Axes, lines: Sequence[Line], at: Sequence[float], count: int) -> None:
    for line, y in zip(lines, at, strict=True):
        if line.ranks is None or line.rank is None:
            continue
        axes.plot(line.ranks, [y, y], color=colour(0), linewidth=2.2, alpha=0.35, solid_capstyle="round")
        axes.plot([line.rank], [y], markersize=4, **look(line))
    axes.set_xlim(0.5, max(count, 1) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0, labelleft=False)


def _grid(table: SourceTable, lines: Sequence[Line]) -> Grid:
    rows = []
    for line in lines:
        rank = "" if line.rank is None else f"{line.rank}{TIED if line.tied else ''}"
        span = f"{line.ranks[0]}–{line.ranks[1]}" if line.ranks else ""
        behind = "{:+.2f} [{:.2f}, {:.2f}]".format(*line.behind) if line.behind else ""
        minutes = BLANK if line.minutes is None else f"{line.minutes:.1f}"
        texts = (rank or (line.control if line.control != "none" else ""), span, line.name + line.marks)
        rows.append(tuple(map(Cell, (*texts, mean_and_interval(line), behind, minutes))))
    headers = ("rank", "ranks", "source", "top-1 % [95 % interval]", "to the first, points", "CPU min")
    notes = [f"{TIED} no difference to the first of that rank was shown (paired by image and seed, Holm)"]
    notes = notes if any(line.tied for line in lines) else []
    return Grid(part_title(table), headers, frozenset({2}), tuple(rows), tuple(notes))


def _caption(found: Material, tables: Sequence[tuple[SourceTable, Sequence[Line]]], ranked: bool) -> tuple[str, ...]:
    lines = [line for _, own in tables for line in own]
    said = ["Accuracy of compressed networks by the source of their images."]
    said.append("Left: top-1" if ranked else "Top-1")
    said[-1] += " with its 95 % interval over seeds and test images."
    if ranked:
        said.append(
            "Right: rank (dot) and the ranks not ruled out at 95 % (bar; paired by image and seed, Holm); rows of "
            "equal rank are tied, and a filled dot is not told apart from the best."
        )
    if any(line.ranks is None and line.control == "none" for line in lines):
        said.append("Pale rows have no rank: one seed, or measured with an older version.")
    said += [controls_named(lines), measured_on(found), *signs_used("".join(line.marks for line in lines))]
    return tuple(filter(None, said))
