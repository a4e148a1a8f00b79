"""Sources by targets as a heat map: accuracy with the half width of its interval, colour the points lost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.patches import Rectangle

from bench.board.index.frame import frame_of_rows
from bench.board.tables.grids import Cell, Grid, missing
from bench.board.tables.means import setting_groups
from bench.board.tables.signs import DOUBTS, SIGNS, marks
from bench.board.tables.words import BLANK
from bench.errors import BenchError
from dashboard.crosstable import CrossTable, Square, cross_table
from dashboard.paper.material import Drawing, Material
from dashboard.paper.style import MM, colour, names_width, room_of, sheet, title, wrapped
from dashboard.paper.words import measured_on, signs_used

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OWN = "same checkpoint"
"""``membership`` where the images come from the compressed network itself."""

_HEAT = "cividis_r"
_CELL = 0.24
"""Inches of a square's height."""

_LEAST = 4.8
"""Points below which a square's text cannot be read."""


class Part(NamedTuple):
    """One map: its title and squares."""

    title: str
    table: CrossTable


def draw(found: Material, width: float) -> Drawing:
    """A map for each compressor, setting and number of images.

    Raises:
        BenchError: no row shown has a compressor.
    """
    parts = _parts(found)
    if not parts:
        raise BenchError("no compressed network is shown", where=found.suite)
    room = names_width(width)
    names = [[wrapped(name, room) for name in _names(part.table)] for part in parts]
    heads = max(len(_short(head)) for part in parts for head in part.table.headers)
    widest = max(len(part.table.columns) for part in parts)
    free = width - room_of(names) - 0.3
    size, folded = _fitted(free / widest)
    if folded:  # upright heads reach less far to the right
        free += 0.25
        size, folded = _fitted(free / widest)[0], True
    if size < _LEAST:
        needed = _LEAST / size * free + width - free
        hint = f"Choose --width page, or fewer networks with --only; these ask for {needed * MM:.0f} mm."
        raise BenchError("too many networks for this width", where=found.suite, got=widest, hint=hint)
    turned = "flat" if free / widest > 0.06 * heads else "upright" if folded else "slanted"
    tall = _CELL * (1.25 if folded else 1.0)
    above = {"flat": 0.15, "slanted": 0.042 * heads, "upright": 0.06 * heads}[turned]
    heights = [
        0.25 + above + tall * (1 + len(own)) + 0.1 * sum(max(0, name.count("\n") - folded) for name in own)
        for own in names
    ]
    figure = sheet(width, sum(heights) + 0.3)
    grid = figure.add_gridspec(len(parts), 1, height_ratios=heights)
    most = _most([part.table for part in parts])
    axes: list[Axes] = []
    for i, (part, own) in enumerate(zip(parts, names, strict=True)):
        axes.append(figure.add_subplot(grid[i, 0]))
        image = _map(axes[-1], part, own, most, (size, folded, turned))
        title(axes[-1], part.title, free)
    bar = figure.colorbar(image, ax=axes, orientation="horizontal", shrink=0.6, aspect=40, pad=0.01)
    bar.set_label("points below uncompressed")
    bar.outline.set_visible(False)  # type: ignore[operator]
    squares = [s for part in parts for line in part.table.squares for s in line if s is not None]
    return Drawing(figure, tuple(_grid(part) for part in parts), _caption(found, squares))


def _parts(found: Material) -> list[Part]:
    on = [row for row in found.rows if row.head.row_id in found.selected.measured_on]
    table = frame_of_rows(on, ranked={found.suite: found.within}, remade=found.remade)
    table = table[(table["compressor"] != "") & table["row_id"].isin(found.selected.shown)]
    keys = ["dataset", "preset", "compressor", "n"]
    several = [name for name in keys if table[name].nunique() > 1]
    parts = []
    for key, part in table.groupby(keys, sort=True):
        values = dict(zip(keys, key, strict=True))
        for setting, labels in setting_groups(part).items():
            words = [f"{values[name]} images" if name == "n" else str(values[name]) for name in several]
            told = words if "compressor" in several else [str(values["compressor"]), *words]
            own = cross_table(part[part["setting_label"].isin(labels)])
            parts.append(Part(" · ".join([*told, setting]), own))
    return parts


def _short(head: str) -> str:
    return head.replace("\n", " ")


def _most(tables: Sequence[CrossTable]) -> float:
    """Where the colours end: the largest drop of what is no lower control, which would leave the rest one colour."""
    drops = [
        float(square["drop"])
        for table in tables
        for line in table.squares
        for square in line
        if square is not None and not missing(square["drop"]) and square["control"] != "lower"
    ]
    return max([1.0, *drops])


def _map(axes: Axes, part: Part, names: Sequence[str], most: float, look: tuple[float, bool, str]) -> Any:
    table = part.table
    drops = np.array([[_number(square, "drop") for square in line] for line in table.squares])
    image = axes.imshow(drops, cmap=_HEAT, vmin=0.0, vmax=most, aspect="auto", interpolation="nearest")
    image.set_rasterized(False)
    size, folded, heads = look
    for i, line in enumerate(table.squares):
        for j, square in enumerate(line):
            if square is None:
                continue
            ink = "white" if not math.isnan(drops[i, j]) and drops[i, j] > 0.55 * most else "#111111"
            axes.text(
                j, i, _said(square, "\n" if folded else " "), ha="center", va="center", color=ink, **type_of(size)
            )
            if square["membership"] == OWN and not math.isnan(drops[i, j]):
                frame = Rectangle((j - 0.46, i - 0.44), 0.92, 0.88, fill=False, edgecolor=colour(5), linewidth=1.2)
                axes.add_patch(frame)
    for j, fp in enumerate(table.fp):
        axes.text(j, -1, "" if fp is None else f"{fp:.2f}", ha="center", va="center", **type_of(size))
    axes.set_ylim(len(names) - 0.5, -1.5)
    axes.set_yticks([-1, *range(len(names))], labels=["uncompressed", *names])
    axes.set_xticks(range(len(table.columns)), labels=[_short(head) for head in table.headers])
    axes.xaxis.tick_top()
    turned, side = {"flat": (0, "center"), "slanted": (40, "left"), "upright": (90, "center")}[heads]
    for label in axes.get_xticklabels():
        label.set(rotation=turned, ha=side)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return image


def type_of(size: float) -> dict[str, Any]:
    """Type of a square's text in points."""
    return {"fontsize": size, "linespacing": 0.95}


def _fitted(inches: float) -> tuple[float, bool]:
    """Points of a square's text where it is so wide, and whether mean and interval stand below each other."""
    beside = min(7.0, 72 * inches / (0.63 * 12))
    return (beside, False) if beside >= 5.5 else (min(7.0, 72 * inches / (0.63 * 6)), True)


def _names(table: CrossTable) -> list[str]:
    """The lines' names, with what a control is."""
    found = []
    for name, line in zip(table.lines, table.squares, strict=True):
        kinds = {str(square["control"]) for square in line if square is not None}
        found.append(f"{name} ({kinds.pop()} control)" if len(kinds) == 1 and "none" not in kinds else name)
    return found


def _number(square: Square | None, name: str) -> float:
    return math.nan if square is None or missing(square[name]) else float(square[name])


def _said(square: Square, between: str = " ") -> str:
    """``90.02 ±0.41`` with the signs of what may be doubted; why there is no value where there is none."""
    if missing(square["top1_mean"]):
        return str(square["seeds"] if square["status"] in ("ok", "incomplete") else square["status"].replace("_", " "))
    half = "" if missing(square["top1_low"]) else f"{between}±{_half(square):.2f}"
    return f"{float(square['top1_mean']):.2f}{half}{marks(square, DOUBTS)}"


def _half(square: Square) -> float:
    return (float(square["top1_high"]) - float(square["top1_low"])) / 2


def _grid(part: Part) -> Grid:
    headers = ("source", *(_short(head) for head in part.table.headers))
    rows = [tuple(map(Cell, ("uncompressed", *(BLANK if v is None else f"{v:.2f}" for v in part.table.fp))))]
    for name, line in zip(part.table.lines, part.table.squares, strict=True):
        cells = [Cell("") if square is None else _cell(square) for square in line]
        rows.append((Cell(name), *cells))
    return Grid(part.title, headers, frozenset({0}), tuple(rows), ("bold: highest mean of the methods in its column",))


def _cell(square: Square) -> Cell:
    best = square["best"]
    if missing(square["top1_mean"]):
        return Cell(_said(square))
    half = "" if missing(square["top1_low"]) else f"{_half(square):.2f}"
    text = f"{float(square['top1_mean']):.2f}{marks(square, SIGNS)}"
    return Cell(text, not missing(best) and bool(best), half)


def _caption(found: Material, squares: Sequence[Square]) -> tuple[str, ...]:
    framed = any(square["membership"] == OWN for square in squares)
    controls = {str(square["control"]): str(square["source"]) for square in squares if square["control"] != "none"}
    kinds = [f"{controls[kind]} ({kind})" for kind in ("upper", "lower") if kind in controls]
    stale = pd.Series([bool(square["stale"]) for square in squares]).any()
    said = [
        "Top-1 in percent of networks (columns) compressed with the images of a source (rows); ± is half of the 95 % "
        "interval over seeds and test images. Colour: points below the uncompressed network, up to the largest drop of "
        "what is no lower control.",
        "Framed: images made from the compressed network itself." if framed else "",
        f"Controls: {', '.join(kinds)}." if kinds else "",
        "Some rows were measured with an older version of their method." if stale else "",
        measured_on(found),
        *signs_used("".join(marks(square, DOUBTS) for square in squares)),
    ]
    return tuple(filter(None, said))
