"""Accuracy against cost: the lines of the board by their CPU minutes, with the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from bench.board.tables.answers import Line, SourceTable
from bench.board.tables.costs import pareto_front
from bench.board.tables.grids import Cell, Grid
from bench.errors import BenchError
from dashboard.figures.scales import log_axis
from dashboard.paper.material import Drawing, Material
from dashboard.paper.ranks import ends_of, shown_lines
from dashboard.paper.style import CONTROL, MARKERS, PAPER, SMALL, colour, reach, sheet, title, wrapped
from dashboard.paper.words import controls_named, mean_and_interval, measured_on, signs_used
from dashboard.theme import GREY

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DARK = "#5F646C"


class Point(NamedTuple):
    """A line of the board and its compressor; ``minutes`` for one network."""

    compressor: str
    line: Line
    minutes: float
    mean: float


def draw(found: Material, width: float) -> Drawing:
    """A panel for each setting and set of networks: colour and marker say the compressor, labels what is on the front.

    Raises:
        BenchError: no row shown has a mean and a cost.
    """
    panels = _panels(found.tables)
    if not panels:
        raise BenchError("no row shown has a mean and a cost", where=found.suite)
    columns = 1 if width < 5 or len(panels) == 1 else 2
    lines = -(-len(panels) // columns)
    known = list(panels.values())
    tall = [
        2.5 + 0.13 * max(len(front_of(points)) for points in known[i : i + columns])
        for i in range(0, len(known), columns)
    ]
    figure = sheet(width, sum(tall) + 0.3)
    grid = figure.add_gridspec(lines, columns, height_ratios=tall)
    compressors = list(dict.fromkeys(point.compressor for points in panels.values() for point in points))
    for i, (name, points) in enumerate(panels.items()):
        axes = figure.add_subplot(grid[i // columns, i % columns])
        title(axes, name, width / columns - 0.6)
        _panel(axes, points, compressors, round(width / columns / 0.06))
    keys = [_key(name, compressors) for name in compressors]
    keys.append(Line2D([], [], color=GREY, linestyle=":", linewidth=1.2, label="Pareto front"))
    figure.legend(handles=keys, loc="outside lower center", ncols=max(1, round(width / 1.6)))
    grids = tuple(_grid(name, points) for name, points in panels.items())
    return Drawing(figure, grids, _caption(found, panels))


def _panels(tables: Sequence[SourceTable]) -> dict[str, list[Point]]:
    panels: dict[str, list[Point]] = {}
    several = len({(table.dataset, table.preset) for table in tables}) > 1
    for table in tables:
        over = table.targets[0] if len(table.targets) == 1 else f"mean over {len(table.targets)} networks"
        words = [f"{table.dataset} {table.preset}" if several else "", table.setting, over]
        for line in shown_lines(table):
            if line.minutes is not None and line.mean is not None:
                point = Point(table.compressor or "compressors compared", line, line.minutes, line.mean)
                panels.setdefault(" · ".join(filter(None, words)), []).append(point)
    return panels


def front_of(points: Sequence[Point]) -> list[Point]:
    """The points of methods that no other beats in both minutes and mean, cheapest first."""
    methods = [point for point in points if point.line.control == "none"]
    table = pd.DataFrame({"minutes": [p.minutes for p in methods], "top1_mean": [p.mean for p in methods]})
    kept = pareto_front(table, "minutes").rows.sort_values(["minutes", "top1_mean"], kind="stable")
    return [methods[int(str(i))] for i in kept.index]


def _look(point: Point, compressors: Sequence[str]) -> dict[str, Any]:
    if point.line.control != "none":
        return {**CONTROL, "markerfacecolor": GREY if point.line.control == "upper" else PAPER}
    place = compressors.index(point.compressor)
    return {"marker": MARKERS[place % len(MARKERS)], "color": colour(place)}


def _key(name: str, compressors: Sequence[str]) -> Line2D:
    place = compressors.index(name)
    marker = MARKERS[place % len(MARKERS)]
    return Line2D([], [], marker=marker, color=colour(place), linewidth=0, markersize=4.5, label=name)


def _panel(axes: Axes, points: Sequence[Point], compressors: Sequence[str], room: int) -> None:
    methods = [point for point in points if point.line.control == "none"]
    controls = [ends_of(point.line) for point in points if point.line.control != "none"]
    ends = reach([end for point in methods for end in ends_of(point.line)], controls)
    positive = [point.minutes for point in points if point.minutes > 0]
    least = min(positive, default=1.0) / 2
    for point in points:
        x = point.minutes if point.minutes > 0 else least
        if not ends[0] <= point.mean <= ends[1]:
            below = point.mean < ends[0]
            text = f"{point.line.name} {point.mean:.1f} {'▾' if below else '▴'}"
            axes.text(x, ends[0 if below else 1], text, ha="left", va="bottom" if below else "top", **_SAID)
            continue
        interval = point.line.interval
        error = None if interval is None else [[point.mean - interval.low], [interval.high - point.mean]]
        look = _look(point, compressors)
        axes.errorbar([x], [point.mean], yerr=error, markersize=4.5, linewidth=0, elinewidth=0.8, capsize=1.5, **look)
    axes.set_ylim(*ends)
    axes.set_xscale("log")
    ticks = log_axis(positive or [1.0], least if any(point.minutes <= 0 for point in points) else None)
    axes.set_xticks(ticks["tickvals"], labels=ticks["ticktext"])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(least / 1.2, max(positive, default=1.0) * 1.6)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.grid(color="#E4E4E4", linewidth=0.5)
    axes.set_axisbelow(True)
    front = front_of(points)
    several = len(compressors) > 1
    names = [point.line.name + point.line.marks + f" · {point.compressor}" * several for point in front]
    keys = [wrapped(f"{i}  {name}", room) for i, name in enumerate(names, 1)]
    axes.set_xlabel("\n".join(["CPU minutes for one network", *keys]), multialignment="left")
    axes.set_ylabel("top-1 accuracy, %")
    _front(axes, front, least)


_SAID: dict[str, Any] = {"fontsize": SMALL, "color": _DARK}


def _front(axes: Axes, front: Sequence[Point], least: float) -> None:
    if not front:
        return
    x = [point.minutes or least for point in front]
    y = [point.mean for point in front]
    axes.step([*x, axes.get_xlim()[1]], [*y, y[-1]], where="post", color=GREY, linestyle=":", linewidth=1.2, zorder=1)
    for i, (point, at) in enumerate(zip(front, x, strict=True), 1):
        place: dict[str, Any] = {"xytext": (-4, 3), "textcoords": "offset points", "ha": "right", "va": "bottom"}
        axes.annotate(str(i), (at, point.mean), fontsize=SMALL, fontweight="bold", **place)


def _grid(name: str, points: Sequence[Point]) -> Grid:
    best = {id(point.line) for point in front_of(points)}
    ordered = sorted(points, key=lambda point: (point.minutes, -point.mean))
    rows = tuple(
        tuple(
            Cell(text, id(point.line) in best and i == 1)
            for i, text in enumerate(
                (
                    point.compressor,
                    point.line.name + point.line.marks,
                    f"{point.minutes:.1f}",
                    mean_and_interval(point.line),
                    "" if point.line.control == "none" else point.line.control,
                )
            )
        )
        for point in ordered
    )
    headers = ("compressor", "source", "CPU min", "top-1 % [95 % interval]", "control")
    return Grid(name, headers, frozenset({0, 1, 4}), rows, ("bold: on the Pareto front of methods",))


def _caption(found: Material, panels: dict[str, list[Point]]) -> tuple[str, ...]:
    lines = [point.line for points in panels.values() for point in points]
    said = [
        "Accuracy against cost: top-1 with its 95 % interval over seeds and test images, against the CPU minutes of "
        "making the images and compressing one network.",
        "Dotted: the Pareto front of the methods; the names of its points stand below. Where intervals overlap "
        "the front is not told apart from what lies below it.",
        controls_named(lines),
        measured_on(found),
        *signs_used("".join(line.marks for line in lines)),
    ]
    return tuple(filter(None, said))
