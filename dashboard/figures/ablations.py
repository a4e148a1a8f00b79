"""Ablations: what a suite varies, read off its rows, and a plot per group of settings that differ in one thing."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard.text import digits_for, interval, missing, number
from dashboard.theme import CONTROLS, GREY, PALETTE, styled

ITSELF = "the target itself"
ZOO = "zoo:"
SETTING = "setting"
SHARED = ("compressor", "bits", "n")
"""Axes along which controls (real images, noise) vary too; a parameter of a source only changes that source."""
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
MANY = 3
"""How many values make a line worth drawing along a numeric axis."""

NAMES = {"method": "source", "model": "images from", "n": "images", SETTING: "setting"}
_BITS = re.compile(r"W(\d+)A(\d+)")


@dataclass(frozen=True)
class Layout:
    """How rows are drawn: along ``x`` (numeric if so), one colour per value of ``colour``, one panel per values of
    ``panels``; ``axes`` are all that vary, target aside."""

    x: str
    numeric: bool
    colour: tuple[str, ...]
    panels: tuple[str, ...]
    axes: tuple[str, ...]


@dataclass(frozen=True)
class Panel:
    """One plot: its title, the rows of the settings and those of the controls drawn as lines beside them."""

    title: str
    rows: pd.DataFrame
    controls: pd.DataFrame


def is_ablation(rows: pd.DataFrame) -> bool:
    """Whether some method occurs with several parameters, zoos, image counts, bits or compressors."""
    own = rows[rows["control"] == "none"]
    return varies_source(rows) or any(own[axis].nunique() > 1 for axis in SHARED)


def varies_source(rows: pd.DataFrame) -> bool:
    """Whether some method occurs with several parameters or zoos."""
    own = rows[rows["control"] == "none"]
    names = own.assign(_method=_method(own["source"]), _zoo=own["model"].where(own["model"].str.startswith(ZOO), ""))
    return bool((names.drop_duplicates(["_method", "source", "_zoo"]).groupby("_method").size() > 1).any())


def with_axes(rows: pd.DataFrame, params: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The rows with a column per varied axis beside the board's: ``method``; ``param:NAME`` (``option:NAME``) for each
    parameter that differs between a source's (a compressor's) rows.  ``model`` says :data:`ITSELF` for the target.

    Args:
        params: label of a source or compressor → its resolved parameters (defaults included).
    """
    found = rows.assign(method=_method(rows["source"]))
    found["model"] = np.where((rows["model"] == rows["target"]) & (rows["model"] != ""), ITSELF, rows["model"])
    for column, prefix in (("source", "param:"), ("compressor", "option:")):
        for name in _varied(found[column], params):
            values = found[column].map({label: params.get(label, {}).get(name) for label in set(found[column])})
            found[f"{prefix}{name}"] = pd.Series(values, index=found.index, dtype=object)
    return found


def layout(found: pd.DataFrame, along: str | None = None) -> Layout:
    """What to draw along what.

    The x axis is the numeric one that varies with everything else fixed, if exactly one does with three values or
    more; else the axis of most values among setting of the source, compressor, bits and images.  ``along`` overrides.
    """
    axes = varied_axes(found)
    own = found[found["control"] == "none"]
    own = own if len(own) else found
    lines = [axis for axis in axes if _is_line(own, axis, axes)]
    x = along if along in (*axes, SETTING) else lines[0] if len(lines) == 1 else _broadest(own, axes)
    source = tuple(axis for axis in axes if axis not in SHARED)
    numeric = x in axes and _is_line(own, x, axes)
    if x == SETTING:
        return Layout(x, False, ("target",), tuple(a for a in axes if a in SHARED), axes)
    rest = tuple(axis for axis in source if axis != x) or ("method",)
    shared = tuple(axis for axis in axes if axis in SHARED and axis != x)
    if numeric:
        return Layout(x, True, rest, ("target", *shared), axes)
    return Layout(x, False, ("target",), (*rest, *shared), axes)


def varied_axes(found: pd.DataFrame) -> tuple[str, ...]:
    """The axes of :func:`with_axes` along which methods differ: source's first, then those all sources share."""
    own = found[found["control"] == "none"]
    own = own if len(own) else found
    names = ["method", *(c for c in found if str(c).startswith(("param:", "option:"))), "model", *SHARED]
    options = [c for c in names if str(c).startswith("option:")]
    ordered = [c for c in names if c not in options]
    return tuple(str(name) for name in ordered if _values(own, str(name)) > 1)


def panels(found: pd.DataFrame, plan: Layout) -> list[Panel]:
    """The rows by panel.  Controls that do not vary along x are set apart, to be drawn as lines across the panel."""
    out = []
    aside = _aside(found, plan)
    shared = [axis for axis in plan.panels if axis in SHARED or axis == "target"]
    for key, rows in found[~aside].groupby(list(plan.panels) or ["suite"], sort=False, dropna=False):
        values = dict(zip(plan.panels, key if isinstance(key, tuple) else (key,), strict=False))
        beside = found[aside]
        for axis in shared:
            beside = beside[beside[axis] == values[axis]]
        out.append(Panel(" · ".join(_said(axis, value) for axis, value in values.items()), rows, beside))
    return out


def _aside(found: pd.DataFrame, plan: Layout) -> pd.Series:
    """Which rows are controls that do not vary along x."""
    across = plan.numeric and plan.x not in SHARED
    return (found["control"] != "none") & across


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
    for row in panel.controls[panel.controls[measure].notna()].itertuples():
        _line(figure, row, measure)
    if plan.numeric:
        return _upright(figure, rows, plan, unit)
    return _lying(figure, categories, len(shown), unit)


def marker(i: int) -> tuple[str, str]:
    """The ``i``-th of :data:`MARKERS`, from the start again after the last."""
    return MARKERS[i % len(MARKERS)]


def colour_map(found: pd.DataFrame, plan: Layout) -> dict[str, str]:
    """Value of the colour axes → colour, in the order of the values; controls keep their own colours, and have none
    where they are lines across the panels."""
    found = found[~_aside(found, plan)]
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
    return _joined(rows, plan.colour)


def axis_name(axis: str) -> str:
    """An axis in words."""
    return NAMES.get(axis, axis.partition(":")[2] or axis)


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


# --- reading the axes ---


def _method(labels: pd.Series) -> pd.Series:
    return labels.astype(str).str.partition("(")[0]


def _varied(labels: pd.Series, params: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Parameters that differ between labels of one method, in the order of their names."""
    by_method: dict[str, list[Mapping[str, Any]]] = {}
    for label in sorted(set(labels)):
        by_method.setdefault(label.partition("(")[0], []).append(params.get(label, {}))
    found = set()
    for group in by_method.values():
        for name in {name for one in group for name in one}:
            if len({repr(one.get(name)) for one in group}) > 1:
                found.add(name)
    return sorted(found)


def _values(rows: pd.DataFrame, axis: str) -> int:
    return len({_said(axis, v) for v in rows[axis] if not missing(v)}) if axis in rows else 0


def _is_line(rows: pd.DataFrame, axis: str, axes: Sequence[str]) -> bool:
    """Whether ``axis`` is numeric and takes three values or more while all other axes stay as they are."""
    known = rows[rows[axis].map(lambda v: not missing(v))]
    if known.empty or any(_number(axis, v) is None for v in known[axis]):
        return False
    others = _joined(known, ("target", *(a for a in axes if a != axis)))
    counts = known.assign(_key=others).drop_duplicates(["_key", axis]).groupby("_key").size()
    distinct = known[axis].map(lambda v: _number(axis, v))
    return bool(counts.max() >= MANY) and distinct.nunique() == known[axis].map(repr).nunique()


def _broadest(rows: pd.DataFrame, axes: Sequence[str]) -> str:
    """The axis of most values; the source's axes count together, as its setting."""
    settings = _joined(rows, [a for a in axes if a not in SHARED]).nunique()
    shared = [(_values(rows, axis), axis) for axis in axes if axis in SHARED]
    count, axis = max(shared, default=(0, SETTING))
    return axis if count > max(settings, 1) else SETTING


def _number(axis: str, value: Any) -> float | None:
    """A value as a number: bits by those of the weights; None for what is none."""
    if axis == "bits":
        found = _BITS.fullmatch(str(value))
        return float(found.group(1)) if found else None
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
        return None
    return float(value) if math.isfinite(float(value)) else None


def _said(axis: str, value: Any) -> str:
    """A value as a reader would say it beside others."""
    if missing(value) or value == "":
        return ""
    if axis in ("target", "bits", "method", "compressor", SETTING):
        return str(value)
    if isinstance(value, bool | np.bool_):
        value = "yes" if value else "no"
    return f"from {value}" if axis == "model" else f"{axis_name(axis)} {value}"


def _joined(rows: pd.DataFrame, axes: Sequence[str]) -> pd.Series:
    if rows.empty:
        return pd.Series([], dtype=str, index=rows.index)
    words = [[_said(axis, value) for axis, value in zip(axes, row, strict=True)] for row in rows[list(axes)].to_numpy()]
    return pd.Series([" · ".join(filter(None, w)) for w in words], index=rows.index)


# --- drawing ---


def _setting(rows: pd.DataFrame, plan: Layout) -> pd.Series:
    """The name of each row's place on a categorical axis; a control's is its source."""
    if plan.x != SETTING:
        return rows[plan.x].map(lambda v: _said(plan.x, v))
    axes = [a for a in plan.axes if a not in SHARED]
    several = rows.loc[rows["control"] == "none", "method"].nunique() > 1
    named = axes if several or "method" not in axes else [a for a in axes if a != "method"]
    words = _joined(rows, named)
    return words.where((rows["control"] == "none") & (words != ""), rows["source"])


def _categories(rows: pd.DataFrame, plan: Layout) -> list[str]:
    """Names on a categorical axis from top to bottom: methods in order of their name, then controls."""
    names = pd.DataFrame({"name": _setting(rows, plan), "last": rows["control"] != "none"})
    numbers = rows[plan.x].map(lambda v: _number(plan.x, v) or 0.0) if plan.x != SETTING else 0.0
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
        part = part.assign(_at=part[plan.x].map(lambda v: _number(plan.x, v))).sort_values("_at")
        values, at = part[measure].astype(float).to_numpy(), part["_at"].astype(float).to_numpy()
    else:
        at = np.array([categories.index(str(name)) for name in _setting(part, plan)], dtype=float) + shift
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
        name=key,
        showlegend=False,
        text=[hover(row, measure) for row in part.itertuples()],
        hovertemplate="%{text}<extra></extra>",
    )


def hover(row: Any, measure: str) -> str:
    """A setting with its value and interval, as lines."""
    model = f" [{row.model}]" if row.model else ""
    cell = " · ".join(filter(None, (row.compressor, row.bits, f"{row.n} images", f"seeds {row.seeds}")))
    return f"<b>{row.source}</b>{model}<br>on {row.target}: {value_text(row, measure)}<br>{cell}"


def _line(figure: go.Figure, row: Any, measure: str) -> None:
    colour = CONTROLS.get(str(row.control), GREY)
    figure.add_hline(
        float(getattr(row, measure)),
        line_dash="dash",
        line_width=1.5,
        line_color=colour,
        annotation_text=str(row.source),
        annotation_position="bottom right",
        annotation_font_size=11,
    )


def _upright(figure: go.Figure, rows: pd.DataFrame, plan: Layout, unit: str) -> go.Figure:
    at = {_number(plan.x, v): (str(v) if plan.x == "bits" else f"{v:g}") for v in rows[plan.x] if not missing(v)}
    places = sorted(k for k in at if k is not None)
    wide = bool(places) and places[0] > 0 and places[-1] >= 10 * places[0]
    ticks = {"tickvals": places, "ticktext": [at[p] for p in places]}
    figure.update_xaxes(title=axis_name(plan.x), type="log" if wide else "linear", **ticks)
    figure.update_yaxes(title=unit)
    return _tight(figure, 280)


def _lying(figure: go.Figure, categories: Sequence[str], colours: int, unit: str) -> go.Figure:
    ticks = {"tickvals": list(range(len(categories))), "ticktext": [_wrapped(name) for name in categories]}
    figure.update_yaxes(range=[len(categories) - 0.4, -0.6], **ticks)
    figure.update_xaxes(title=unit)
    lines = max((name.count("<br>") + 1 for name in ticks["ticktext"]), default=1)
    return _tight(figure, 60 + len(categories) * max(14 + 12 * min(colours, 6), 10 + 15 * lines))


def _tight(figure: go.Figure, height: int) -> go.Figure:
    """The common look without room for a legend, which stands above all panels."""
    return styled(figure, height).update_layout(margin_t=8)


def _wrapped(name: str, width: int = 24) -> str:
    """The name on several lines, broken between its parts, so that narrow screens keep room for the dots."""
    lines = [""]
    for part in name.split(" · "):
        joined = f"{lines[-1]} · {part}" if lines[-1] else part
        if lines[-1] and len(joined) > width:
            lines.append(part)
        else:
            lines[-1] = joined
    return "<br>".join(lines)


def _shift(i: int, count: int) -> float:
    """Side by side within one category: evenly over the middle 70 % of its height."""
    return 0.0 if count < 2 else 0.7 * (i / (count - 1) - 0.5)
