"""Searches of bits per layer: complexity against accuracy, and cost against gain.

Frames are those of :func:`bench.board.tables.searches.search_table`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from bench.board.tables.costs import pareto_front
from bench.board.tables.searches import INTERVAL_FROM, PASSES, epochs
from dashboard.figures.markers import SYMBOLS
from dashboard.figures.scales import log_axis
from dashboard.text import counted, figure_text, interval, missing, number, rounded, seconds
from dashboard.theme import GREY, PALETTE, styled

SAME = 1.01
"""BitOPs over those of equal bits up to which a gain is one at equal cost."""


def search_colours(table: pd.DataFrame) -> dict[str, str]:
    """Policy → colour: searches the palette in alphabetical order, controls grey."""
    found = sorted({str(p) for p in table[~table["control"]]["policy"]})
    colours = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(found)}
    return {str(p): colours.get(str(p), GREY) for p in table["policy"]}


def search_dashes(table: pd.DataFrame) -> dict[str, str]:
    """Policy → how its line is drawn: each time the palette begins again in another way."""
    found = sorted({str(p) for p in table[~table["control"]]["policy"]})
    styles = ("solid", "dash", "dot")
    return {name: styles[i // len(PALETTE) % len(styles)] for i, name in enumerate(found)}


def contenders(table: pd.DataFrame) -> pd.DataFrame:
    """The searches that may stand on the front: measured, no controls, not stale."""
    return table[~table["control"] & ~table["stale"] & table["top1_mean"].notna() & table["bitops_g"].notna()]


def complexity(table: pd.DataFrame) -> go.Figure:
    """Top-1 with its 95 % interval against BitOPs, a line per search through its settings (SEAM, Figure 3).

    Controls are grey and hollow: equal bits with a line of their own, drawn ones as points under one name.  The dotted
    step line is the Pareto front of the searches.

    Args:
        table: of one group of rows; those without accuracy or BitOPs are left out.
    """
    known = table[table["top1_mean"].notna() & table["bitops_g"].notna()]
    figure = go.Figure()
    _front(figure, known)
    colours, dashes = search_colours(known), search_dashes(known)
    known = known.assign(_name=_names(known))
    for name, part in known[known["control"]].groupby("_name", sort=False):
        equal = bool(part["equal"].all())
        marker = {"symbol": "square-open" if equal else "diamond-open", "color": GREY, "size": 10 if equal else 8}
        figure.add_trace(_measured(part, str(name), "lines+markers" if equal else "markers", marker, "dash"))
    for name, dash in dashes.items():
        part = known[~known["control"] & (known["policy"] == name)]
        marker = {"symbol": "circle", "color": colours[name], "size": 10}
        figure.add_trace(_measured(part, name, "lines+markers", marker, dash))
    for setting, part in known.groupby("setting_label", sort=False) if known["setting_label"].nunique() > 1 else ():
        middle = float(np.mean(_floats(part["bitops_g"])))
        figure.add_annotation(x=middle, y=1, yref="paper", yanchor="top", text=figure_text(setting), showarrow=False)
    figure.update_xaxes(title="bit operations of one image, GBitOPs")
    figure.update_yaxes(title="top-1 accuracy, %")
    return styled(figure, 480)


def _measured(part: pd.DataFrame, name: str, mode: str, marker: Mapping[str, Any], dash: str) -> go.Scatter:
    part = part.sort_values(["bitops_g", "top1_mean"], kind="stable")
    mean, low, high = (_floats(part[c]) for c in ("top1_mean", "top1_low", "top1_high"))
    return go.Scatter(
        x=_floats(part["bitops_g"]),
        y=mean,
        error_y=_bar(mean, low, high),
        mode=mode,
        marker=dict(marker),
        line={"color": marker["color"], "width": 1.5, "dash": dash},
        name=figure_text(name),
        text=[_said(row) for row in part.itertuples()],
        hovertemplate="%{text}<extra></extra>",
    )


def _bar(mean: np.ndarray, low: np.ndarray, high: np.ndarray) -> dict[str, Any]:
    """An interval as an error bar; none where it is missing."""
    up, down = np.nan_to_num(high - mean), np.nan_to_num(mean - low)
    return {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "thickness": 1.2, "width": 3}


def on_front(table: pd.DataFrame) -> pd.DataFrame:
    """The searches that no other beats in both BitOPs and top-1, cheapest first."""
    return pareto_front(contenders(table), "bitops_g").rows.sort_values(["bitops_g", "top1_mean"], kind="stable")


def _front(figure: go.Figure, known: pd.DataFrame) -> None:
    best = on_front(known)
    if best.empty:
        return
    xs, ys = _floats(best["bitops_g"]), _floats(best["top1_mean"])
    right = max(float(_floats(known["bitops_g"]).max()), float(xs[-1]))
    figure.add_trace(
        go.Scatter(
            x=[*xs, right],
            y=[*ys, ys[-1]],
            mode="lines",
            line={"shape": "hv", "color": GREY, "width": 2, "dash": "dot"},
            name="Pareto front of the searches",
            hoverinfo="skip",
        )
    )


def cost_gain(table: pd.DataFrame, images: int) -> go.Figure:
    """Points gained over equal bits against what the search cost: in epochs of training, and in CPU seconds.

    Colour says the search, marker the setting; hollow: it takes more BitOPs than the equal bits.  Controls are grey.
    An error bar is the 95 % interval of the paired difference, where there is one.

    Args:
        table: of one group of rows; those without a gain are left out, and equal bits are the line at 0.
        images: of the epoch (:func:`bench.board.tables.searches.epoch_of`).
    """
    known = table[table["gain"].notna() & ~table["equal"]]
    known = known.assign(_epochs=epochs(known["search_forwards"], images), _name=_names(known))
    colours = search_colours(known) | dict.fromkeys(known[known["control"]]["_name"], GREY)
    settings = dict.fromkeys(known["setting_label"])
    shapes = {str(setting): SYMBOLS[i % len(SYMBOLS)] for i, setting in enumerate(settings)}
    figure = go.Figure()
    scales = {}
    for axis, (column, unit) in zip(("x", "x2"), _costs(images), strict=True):
        values = _floats(known[column])
        edge = _edge(values)
        scales[axis] = {"title": unit, **_scale(values, edge)}
        for name, part in known[known[column].notna()].groupby("_name", sort=True):
            x = np.maximum(_floats(part[column]), edge)
            figure.add_trace(_gains(part, x, axis, colours[str(name)], shapes, str(name)))
    for name in sorted(set(known["_name"])):
        figure.add_trace(_key(name, {"size": 11, "color": colours[name], "symbol": "circle"}))
    for setting, shape in shapes.items() if len(shapes) > 1 else ():
        figure.add_trace(_key(setting, {"size": 10, "color": "rgba(0,0,0,0)", "symbol": shape, "line": _INK}, False))
    figure.add_shape(
        type="line", xref="paper", x0=0, x1=1, y0=0, y1=0, line={"dash": "dash", "color": GREY, "width": 1}
    )
    figure.update_layout(
        xaxis={"domain": [0.0, 0.48], "anchor": "y", **scales["x"]},
        xaxis2={"domain": [0.52, 1.0], "anchor": "y", **scales["x2"]},
        yaxis={"title": "gain over equal bits, points"},
    )
    return styled(figure, 440)


def cost_notes(table: pd.DataFrame, images: int) -> list[str]:
    """What a reader of :func:`cost_gain` must know, sentences."""
    drawn = table[table["gain"].notna() & ~table["equal"]]
    dearer = int((drawn["bitops_ratio"] > SAME).fillna(False).sum())
    says = [
        "gain: top-1 less that of equal bits at the same setting, paired by seed and test image, mean over seeds",
        f"an epoch: training in floating point on {images:,} images, the most a search got, with {PASSES} passes each, "
        "forward and backward; a mixture's passes take longer, so CPU seconds stand beside",
        f"hollow: {counted(dearer, 'row')} of more than {SAME:.2f} times the BitOPs of equal bits" if dearer else "",
        "" if drawn["gain_low"].notna().any() else f"no intervals: they take {INTERVAL_FROM} seeds",
    ]
    return [said for said in says if said]


def _costs(images: int) -> tuple[tuple[str, str], ...]:
    """Columns of what a search cost, and their units."""
    return ("_epochs", f"epochs of {images:,} images"), ("search_cpu_s", "CPU seconds")


def _names(table: pd.DataFrame) -> list[str]:
    """What the legend says: a search's label; of controls, whose draws are many, the method's name."""
    return [str(row.method if row.control and not row.equal else row.policy) for row in table.itertuples()]


_INK = {"width": 1.5, "color": GREY}


def _gains(
    part: pd.DataFrame, x: np.ndarray, axis: str, colour: str, shapes: Mapping[str, str], name: str
) -> go.Scatter:
    mean, low, high = (_floats(part[c]) for c in ("gain", "gain_low", "gain_high"))
    dearer = (part["bitops_ratio"] > SAME).fillna(False)
    return go.Scatter(
        x=x,
        y=mean,
        xaxis=axis,
        error_y=_bar(mean, low, high),
        mode="markers",
        marker={
            "size": 10,
            "color": colour,
            "symbol": [shapes[s] + ("-open" if d else "") for s, d in zip(part["setting_label"], dearer, strict=True)],
        },
        name=figure_text(name),
        legendgroup=figure_text(name),
        showlegend=False,
        text=[_said(row) for row in part.itertuples()],
        hovertemplate="%{text}<extra></extra>",
    )


def _key(name: str, marker: Mapping[str, Any], grouped: bool = True) -> go.Scatter:
    """An entry of the legend without points of its own; a click on a search's hides its points."""
    group = {"legendgroup": figure_text(name)} if grouped else {}
    return go.Scatter(x=[None], y=[None], mode="markers", marker=dict(marker), name=figure_text(name), **group)


def _edge(values: np.ndarray) -> float:
    """Where what costs nothing stands on a logarithmic axis."""
    positive = values[values > 0]
    return float(positive.min()) / 3 if len(positive) else 0.0


def _scale(values: np.ndarray, edge: float) -> dict[str, Any]:
    positive = values[values > 0]
    if not len(positive):
        return {}
    return log_axis(positive.tolist(), edge if (values <= 0).any() else None)


def _said(row: Any) -> str:
    """All of a row that matters here, as lines."""
    found = [
        f"<b>{figure_text(row.policy)}</b> · {figure_text(row.setting_label)}",
        f"top-1 {rounded(row.top1_mean, row.top1_low, row.top1_high)} % {interval(row.top1_low, row.top1_high)}",
        f"{number(row.bitops_g, 3)} GBitOPs",
        f"seeds {row.seeds}",
    ]
    if not missing(row.gain) and not row.equal:
        ends = "" if missing(row.gain_low) else f" {interval(row.gain_low, row.gain_high)}"
        ratio = "" if missing(row.bitops_ratio) else f" at {row.bitops_ratio:.3f} times their BitOPs"
        found.append(f"{float(row.gain):+.2f} points{ends} over equal bits{ratio}")
    if not missing(row.search_forwards):
        found.append(f"search: {number(row.search_forwards, 0)} forward-equivalents, CPU {seconds(row.search_cpu_s)}")
    return "<br>".join(found)


def _floats(column: pd.Series) -> np.ndarray:
    return column.astype("Float64").to_numpy(float, na_value=np.nan)
