"""What changes as one thing of a method changes: paired differences of its levels, with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.lines import Line2D

from bench.board.tables.grids import Cell, Grid
from bench.board.tables.level_differences import Axis, LevelDifference, level_differences
from bench.board.tables.signs import STALE
from bench.board.tables.words import BLANK
from bench.errors import BenchError
from dashboard.paper.material import Drawing, Material
from dashboard.paper.style import (
    MARKERS,
    PAPER,
    SMALL,
    colour,
    names_width,
    reach,
    room_of,
    rows_axis,
    sheet,
    ticks,
    title,
    wrapped,
)
from dashboard.paper.words import listed, measured_on, signs_used
from dashboard.theme import GREY

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DARK = "#5F646C"
_CONTROLS = {"upper": _DARK, "lower": GREY}
Series = tuple[str, str, str]
"""Source's method, its control, setting."""


def draw(found: Material, width: float) -> Drawing:
    """A panel for each thing that varies: a line per level, each source and setting a mark on it.

    Raises:
        BenchError: nothing varies but sources, networks and bits.
    """
    rows = [row for row in found.rows if found.shown(row)]
    lines = level_differences(rows)
    if not lines:
        hint = "Choose --kind ranks, which compares sources."
        problem = "no two rows differ in one parameter, compressor or number of images alone"
        raise BenchError(problem, where=found.suite, hint=hint)
    panels: dict[Axis, list[LevelDifference]] = {}
    for line in lines:
        panels.setdefault(line.axis, []).append(line)
    columns = 1 if width < 5 or len(panels) == 1 else 2
    heights = [_height(own) for own in panels.values()]
    tall = [max(heights[i : i + columns]) for i in range(0, len(heights), columns)]
    series = list(dict.fromkeys((line.method, line.control, line.setting) for line in lines))
    series.sort(key=lambda one: ({"none": 0, "upper": 1}.get(one[1], 2), one[0], one[2]))
    figure = sheet(width, sum(tall) + 0.2 + 0.16 * -(-len(series) // max(1, round(width / 1.7))))
    grid = figure.add_gridspec(len(tall), columns, height_ratios=tall)
    for i, (axis, own) in enumerate(panels.items()):
        axes = figure.add_subplot(grid[i // columns, i % columns])
        names = [wrapped(level, names_width(width / columns)) for level in _levels(own)]
        free = width / columns - room_of([names])
        title(axes, f"{axis}, against {own[0].reference}", free)
        _panel(axes, own, series, names)
        ticks(axes, free)
    if len(series) > 1:
        keys = [_key(one, series) for one in series]
        figure.legend(handles=keys, loc="outside lower center", ncols=max(1, round(width / 1.7)))
    grids = tuple(_grid(axis, own) for axis, own in panels.items())
    return Drawing(figure, grids, _caption(found, lines))


def _levels(lines: Sequence[LevelDifference]) -> list[str]:
    return list(dict.fromkeys(line.level for line in lines))


def _most(lines: Sequence[LevelDifference]) -> int:
    """Marks on one line at most."""
    levels = [line.level for line in lines]
    return max(levels.count(level) for level in levels)


def _height(lines: Sequence[LevelDifference]) -> float:
    return 0.72 + len(_levels(lines)) * max(0.2, 0.1 * _most(lines))


def _look(series: Series, known: Sequence[Series]) -> dict[str, Any]:
    """Colour by source, marker by setting; one source has a colour for each setting."""
    method, control, setting = series
    methods = list(dict.fromkeys(one[0] for one in known if one[1] == "none"))
    settings = list(dict.fromkeys(one[2] for one in known))
    marker = MARKERS[settings.index(setting) % len(MARKERS)]
    if control != "none":
        return {"marker": "D" if len(settings) == 1 else marker, "color": _CONTROLS.get(control, GREY)}
    return {"marker": marker, "color": colour(methods.index(method) if len(methods) > 1 else settings.index(setting))}


def _name(series: Series, known: Sequence[Series]) -> str:
    method, control, setting = series
    words = [method if len({one[0] for one in known}) > 1 else "", setting if len({o[2] for o in known}) > 1 else ""]
    told = " · ".join(filter(None, words)) or method
    return told if control == "none" else f"{told} ({control} control)"


def _key(series: Series, known: Sequence[Series]) -> Line2D:
    return Line2D([], [], linewidth=0, markersize=4.5, label=_name(series, known), **_look(series, known))


def _panel(axes: Axes, lines: Sequence[LevelDifference], series: Sequence[Series], names: Sequence[str]) -> None:
    levels = _levels(lines)
    at = rows_axis(axes, names)
    methods = [end for line in lines if line.control == "none" for end in _ends(line)]
    low, high = reach([*methods, 0.0], [_ends(line) for line in lines if line.control != "none"])
    for level, y in zip(levels, at, strict=True):
        members = [line for line in lines if line.level == level]
        for place, line in enumerate(members):
            shift = (place - (len(members) - 1) / 2) * min(0.28, 0.8 / len(members))
            _mark(axes, line, y + shift, (low, high), _look((line.method, line.control, line.setting), series))
    axes.axvline(0, color=GREY, linewidth=0.8, zorder=0)
    for line_at in at[:-1]:
        axes.axhline(line_at + 0.5, color="#EEEEEE", linewidth=0.5, zorder=0)
    axes.set_xlim(low, high)
    axes.set_xlabel("difference in top-1, points")


def _ends(line: LevelDifference) -> list[float]:
    return [v for v in (line.difference, line.low, line.high) if v is not None]


def _mark(axes: Axes, line: LevelDifference, y: float, ends: tuple[float, float], look: dict[str, Any]) -> None:
    if line.difference is None or line.low is None or line.high is None:
        axes.text(ends[0], y, f" {line.why}", va="center", fontsize=SMALL, color=_DARK)
        return
    if not ends[0] <= line.difference <= ends[1]:
        below = line.difference < ends[0]
        text = f"◂ {line.difference:+.1f}" if below else f"{line.difference:+.1f} ▸"
        place, side = (ends[0], "left") if below else (ends[1], "right")
        axes.text(place, y, text, ha=side, va="center", fontsize=SMALL - 1, color=_DARK)
        return
    error = [[line.difference - line.low], [line.high - line.difference]]
    face = look["color"] if line.told_apart else PAPER
    axes.errorbar(
        [line.difference],
        [y],
        xerr=error,
        markersize=4,
        linewidth=0,
        elinewidth=0.9,
        capsize=1.4,
        markerfacecolor=face,
        **look,
    )


def _grid(axis: Axis, lines: Sequence[LevelDifference]) -> Grid:
    rows = []
    for line in lines:
        ends = BLANK if line.low is None else f"[{line.low:.2f}, {line.high:.2f}]"
        mean = line.why or BLANK if line.difference is None else f"{line.difference:+.2f}"
        control = "" if line.control == "none" else f" ({line.control})"
        texts = (line.level + (STALE.text if line.stale else ""), f"{line.method}{control}", line.setting, mean, ends)
        counts = (str(line.pairs), str(line.seeds))
        rows.append(tuple(Cell(text, line.told_apart and i == 3) for i, text in enumerate((*texts, *counts))))
    headers = ("level", "source", "setting", "difference, points", "95 % interval", "pairs", "seeds")
    title = f"{axis}, against {lines[0].reference}"
    return Grid(title, headers, frozenset({0, 1, 2}), tuple(rows), ("bold: the interval leaves out no difference",))


def _caption(found: Material, lines: Sequence[LevelDifference]) -> tuple[str, ...]:
    pairs = sorted({line.pairs for line in lines})
    said = [
        "Level minus reference in top-1, paired by seed and test image between rows that are alike in everything else, "
        f"mean over {listed(pairs)} pairs; bars are 95 % intervals over seeds and test images, each for itself.",
        "A filled mark: the interval leaves out no difference.",
        "Grey: controls." if any(line.control != "none" for line in lines) else "",
        measured_on(found),
        *(signs_used(STALE.text) if any(line.stale for line in lines) else ()),
    ]
    if any(line.seeds == 1 for line in lines):
        said.append("On one seed an interval rests on how rows beside vary between seeds; it is no verdict.")
    return tuple(filter(None, said))
