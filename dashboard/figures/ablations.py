"""Ablations as dots with intervals: what a method reaches as one thing of it changes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from bench.board.tables.settings import Level
from dashboard.figures.ablation_axes import (
    PARAM,
    SETTING,
    Layout,
    Panel,
    aside,
    axis_name,
    is_shared,
    joined,
    number_of,
)
from dashboard.text import digits_for, figure_text, interval, missing, number
from dashboard.theme import CONTROLS, GREY, PALETTE, styled

MARKERS = (
    ("circle", "●"),
    ("square", "■"),
    ("diamond", "◆"),
    ("triangle-up", "▲"),
    ("cross", "✚"),
    ("x", "✖"),
    ("star", "★"),
)
"""Markers by plotly's name and as a character for the legend, which stands above all panels."""


def panel_figure(panel: Panel, plan: Layout, measure: str, colours: Mapping[str, str], unit: str) -> go.Figure:
    """Dots with 95 % intervals: upright along a numeric axis, lying down beside the names of settings otherwise.

    Args:
        measure: ``top1_mean`` or a metric's column; ``NAME_low`` and ``NAME_high`` are its interval where there.
        colours: value of the colour axes (:func:`colour_key`) → colour.
    """
    figure = go.Figure()
    rows = panel.rows[panel.rows[measure].notna()]
    keys = colour_key(rows, plan)
    categories = [] if plan.numeric else _categories(panel.rows, plan)
    shown = [key for key in colours if (keys == key).any()]
    for i, key in enumerate(shown):
        part = rows[keys == key]
        symbol = marker(list(colours).index(key))[0]
        shift = 0.0 if plan.numeric else _shift(i, len(shown))
        figure.add_trace(_dots(part, plan, measure, key, (colours[key], symbol), (categories, shift)))
    low, high = _reach(rows, measure)
    for row in panel.controls[panel.controls[measure].notna()].itertuples():
        far = FAR * (high - low)
        if low - far <= float(getattr(row, measure)) <= high + far:
            _line(figure, row, measure)
        else:
            _beyond(figure, row, measure, below=float(getattr(row, measure)) < low)
    if plan.numeric:
        return _upright(figure, rows, plan, unit)
    return _lying(figure, categories, len(shown), unit)


FAR = 5.0
"""How many times the rows' own reach a control may lie beyond them and still have its line: farther off, it would press
what the plot is about into one line."""


def _reach(rows: pd.DataFrame, measure: str) -> tuple[float, float]:
    """Least and greatest end of the rows' intervals."""
    ends = [
        float(v) for row in rows.itertuples() for v in (*bounds(row, measure), getattr(row, measure)) if not missing(v)
    ]
    return (min(ends), max(ends)) if ends else (0.0, 0.0)


def marker(i: int) -> tuple[str, str]:
    """The ``i``-th of :data:`MARKERS`, from the start again after the last."""
    return MARKERS[i % len(MARKERS)]


def colour_map(found: pd.DataFrame, plan: Layout) -> dict[str, str]:
    """Value of the colour axes → colour, in the order of the values; controls keep their own colours, and have none
    where they are lines across the panels."""
    found = found[~aside(found, plan)]
    keys = colour_key(found, plan)
    control = dict(zip(keys, found["control"], strict=True)) if "method" in plan.colour else {}
    out: dict[str, str] = {}
    taken = 0
    for key in sorted(set(keys), key=lambda k: (control.get(k, "none") != "none", k)):
        if control.get(key, "none") != "none":
            out[key] = CONTROLS[control[key]]
        else:
            out[key] = PALETTE[taken % len(PALETTE)]
            taken += 1
    return out


def colour_key(rows: pd.DataFrame, plan: Layout) -> pd.Series:
    """What distinguishes the colours, in words: ``data_mixing true``, a target, a source."""
    return joined(rows, plan.colour)


def bounds(row: Any, measure: str) -> tuple[Any, Any]:
    """Both ends of a value's interval; missing where none is recorded."""
    stem = measure.removesuffix("_mean")
    return getattr(row, f"{stem}_low", None), getattr(row, f"{stem}_high", None)


def value_text(row: Any, measure: str) -> str:
    """A value with its interval, rounded to it."""
    low, high = bounds(row, measure)
    known = not missing(low) and not missing(high)
    digits = digits_for((float(high) - float(low)) / 2) if known else 2
    return f"{number(getattr(row, measure), digits)} {interval(low, high) if known else '(no interval recorded)'}"


def setting_names(rows: pd.DataFrame, plan: Layout) -> pd.Series:
    """The name of each row's place on a categorical axis: its label where there are several methods, whose parameters
    are not the same, else the parameters that vary; a control's is its source."""
    if plan.x != SETTING:
        return joined(rows, (plan.x, *plan.beside))
    axes = [a for a in plan.axes if not is_shared(a) and a != "method"]
    if rows.loc[rows["control"] == "none", "method"].nunique() > 1:
        words = joined(rows, ["source", *(a for a in axes if not a.startswith(PARAM))])
    else:
        words = joined(rows, axes)
    return words.where((rows["control"] == "none") & (words != ""), rows["source"])


def _categories(rows: pd.DataFrame, plan: Layout) -> list[str]:
    """Names on a categorical axis from top to bottom: methods in order of their name, then controls."""
    names = pd.DataFrame({"name": setting_names(rows, plan), "last": rows["control"] != "none"})
    numbers = rows[plan.x].map(lambda v: number_of(plan.x, v) or 0.0) if plan.x != SETTING else 0.0
    ordered = names.assign(number=numbers).drop_duplicates("name").sort_values(["last", "number", "name"])
    return [str(name) for name in ordered["name"]]


def _dots(
    part: pd.DataFrame,
    plan: Layout,
    measure: str,
    key: str,
    look: tuple[str, str],
    place: tuple[Sequence[str], float],
) -> go.Scatter:
    categories, shift = place
    values = part[measure].astype(float).to_numpy()
    if plan.numeric:
        part = part.assign(_at=part[plan.x].map(lambda v: number_of(plan.x, v))).sort_values("_at")
        values, at = part[measure].astype(float).to_numpy(), part["_at"].astype(float).to_numpy()
    else:
        at = np.array([categories.index(str(name)) for name in setting_names(part, plan)], dtype=float) + shift
    ends = [bounds(row, measure) for row in part.itertuples()]
    plus = [0.0 if missing(h) else float(h) - v for (_, h), v in zip(ends, values, strict=True)]
    minus = [0.0 if missing(low) else v - float(low) for (low, _), v in zip(ends, values, strict=True)]
    error = {"type": "data", "symmetric": False, "array": plus, "arrayminus": minus, "thickness": 1.5, "width": 3}
    colour, symbol = look
    return go.Scatter(
        x=at if plan.numeric else values,
        y=values if plan.numeric else at,
        **{"error_y" if plan.numeric else "error_x": error},
        mode="lines+markers" if plan.numeric else "markers",
        line={"color": colour, "width": 1.5},
        marker={"size": 9, "color": colour, "symbol": symbol},
        name=figure_text(key),
        showlegend=False,
        text=[hover(row, measure) for row in part.itertuples()],
        hovertemplate="%{text}<extra></extra>",
    )


def hover(row: Any, measure: str) -> str:
    """A setting with its value and interval, as lines."""
    model = f" [{row.model}]" if row.model else ""
    cell = " · ".join(filter(None, (row.compressor, row.setting_label, f"{row.n} images", f"seeds {row.seeds}")))
    what = f"<b>{figure_text(str(row.source))}</b>{figure_text(model)}<br>on {figure_text(str(row.target))}"
    return f"{what}: {value_text(row, measure)}<br>{figure_text(cell)}"


def _line(figure: go.Figure, row: Any, measure: str) -> None:
    colour = CONTROLS.get(str(row.control), GREY)
    figure.add_hline(
        float(getattr(row, measure)),
        line_dash="dash",
        line_width=1.5,
        line_color=colour,
        annotation_text=figure_text(row.source),
        annotation_position="bottom right",
        annotation_font_size=11,
    )


def _beyond(figure: go.Figure, row: Any, measure: str, *, below: bool) -> None:
    """A control that lies too far off, in words at the edge it lies beyond."""
    text = f"{figure_text(row.source)} {number(getattr(row, measure), 1)} {'↓' if below else '↑'}"
    place = {"xref": "paper", "yref": "paper", "x": 1, "y": 0.01 if below else 0.99, "xanchor": "right"}
    figure.add_annotation(text=text, showarrow=False, font={"size": 11}, **place)


def _upright(figure: go.Figure, rows: pd.DataFrame, plan: Layout, unit: str) -> go.Figure:
    at = {
        number_of(plan.x, v): (figure_text(v) if isinstance(v, Level) else f"{v:g}")
        for v in rows[plan.x]
        if not missing(v)
    }
    places = sorted(k for k in at if k is not None)
    wide = bool(places) and places[0] > 0 and places[-1] >= 10 * places[0]
    ticks = {"tickvals": places, "ticktext": [at[p] for p in places]}
    figure.update_xaxes(title=figure_text(axis_name(plan.x)), type="log" if wide else "linear", **ticks)
    figure.update_yaxes(title=figure_text(unit))
    return _tight(figure, 280)


def _lying(figure: go.Figure, categories: Sequence[str], colours: int, unit: str) -> go.Figure:
    names = [_wrapped(name) for name in categories]
    figure.update_yaxes(range=[len(names) - 0.4, -0.6], tickvals=list(range(len(names))), ticktext=names)
    figure.update_xaxes(title=figure_text(unit))
    lines = max((name.count("<br>") + 1 for name in names), default=1)
    return _tight(figure, 60 + len(categories) * max(14 + 12 * min(colours, 6), 10 + 15 * lines))


def _tight(figure: go.Figure, height: int) -> go.Figure:
    """The common look without room for a legend, which stands above all panels."""
    return styled(figure, height).update_layout(margin_t=8)


_PIECE = re.compile(r".+?(?: · |, |\+|$)")


def _wrapped(name: str, width: int = 24) -> str:
    """The name on several lines, broken between its parts, parameters or networks, so that the dots keep room."""
    lines = [""]
    for piece in _PIECE.findall(name):
        if lines[-1] and len((lines[-1] + piece).rstrip(" ·")) > width:
            lines.append(piece)
        else:
            lines[-1] += piece
    return "<br>".join(figure_text(line.rstrip(" ·")) for line in lines)


def _shift(i: int, count: int) -> float:
    """Side by side within one category: evenly over the middle 70 % of its height."""
    return 0.0 if count < 2 else 0.7 * (i / (count - 1) - 0.5)
