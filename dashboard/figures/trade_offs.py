"""Accuracy against a cost, with the Pareto front as a labelled step line and its band of intervals.

The axes reach as far as the methods do.  A control is a grey diamond; one that lies outside stands at the edge, with an
arrow and its value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from bench.board.tables.grids import line_dicts
from bench.board.tables.signs import DOUBTS, marks
from dashboard.figures.costs import WORK, Cost
from dashboard.figures.front_line import front_line
from dashboard.figures.markers import compressor_symbols, methods_of, source_colours, source_fills
from dashboard.figures.scales import log_axis
from dashboard.figures.trade_off_edges import outside, reference
from dashboard.text import BLANK, figure_text, interval, missing, number, rounded, row_name, seconds, size
from dashboard.theme import GREY, styled

CONTROL_SYMBOLS = {"upper": "diamond", "lower": "diamond-open"}
"""Diamonds are of controls alone."""
ROOM = 0.08
"""Part of the methods' span that an axis is longer at either end."""
DECADE = 10.0
"""A cost that spans this factor is drawn on a logarithmic axis."""


def trade_off(rows: pd.DataFrame, cost: Cost) -> go.Figure:
    """Top-1 with its 95 % interval against ``cost``: colour = source method, marker = compressor, line = front, band =
    the intervals along it; grey diamonds = controls.  The front's points bear names.  Points whose images do not invert
    their network bear ‡.

    The axes span the methods (all rows where there is none).  The axis is logarithmic where their cost spans a decade
    or more; what costs nothing then stands at its left edge.

    Args:
        rows: rows of the board of one target and test set; those without mean or cost are left out.
    """
    known = rows[rows["top1_mean"].notna() & rows[cost.column].notna()]
    x = _floats(known[cost.column]) / cost.scale
    spanning = (known["control"] == "none").to_numpy(bool)
    spanning = spanning if spanning.any() else np.ones(len(known), dtype=bool)
    log, edge = _axis(x[spanning])
    across, up = _across(x[spanning], log, edge), _up(known[spanning])
    known = _placed(known.assign(_x=np.where(x > 0, x, edge) if log else x), across, up, log)
    figure = go.Figure()
    crowded = front_line(figure, known, cost, (across, up), log)
    colours, fills, symbols = source_colours(known), source_fills(known), compressor_symbols(known)
    for (method, control), part in known.groupby([methods_of(known), known["control"]], sort=False):
        pair = (str(method), str(control))
        diamond = CONTROL_SYMBOLS.get(pair[1])
        drawn = {name: diamond or symbol + fills[pair] for name, symbol in symbols.items()}
        figure.add_trace(_points(part, str(method), colours[pair], drawn, cost))
        _signs(figure, part, str(method))
    for (method, control), colour in colours.items():
        symbol = CONTROL_SYMBOLS.get(control, "circle" + fills[method, control])
        name = method if control == "none" else f"{method} (control)"
        figure.add_trace(_key(name, {"size": 11, "color": colour, "symbol": symbol}, method))
    _symbol_legend(figure, symbols if spanning.any() else {})
    outside(figure, known, cost, across, up, log)
    reference(figure, known, up)
    if crowded is not None:
        figure.add_trace(crowded)
    ends = [float(np.log10(end)) for end in across] if log else list(across)
    figure.update_xaxes(title=cost.axis, range=ends, **_ticks(x[spanning], log, edge))
    figure.update_yaxes(title="top-1 accuracy, %", range=list(up))
    return styled(figure, 520)


def _across(x: np.ndarray, log: bool, edge: float) -> tuple[float, float]:
    """The ends of the cost axis, as costs."""
    if not len(x):
        return 0.0, 1.0
    if log:
        low, high = np.log10(edge if (x <= 0).any() else x[x > 0].min()), np.log10(x.max())
        room = ROOM * float(high - low)
        return float(10 ** (low - room)), float(10 ** (high + room))
    low, high = float(x.min()), float(x.max())
    room = ROOM * (high - low) or abs(high) / 2 or 1.0
    return low - room, high + room


def _up(rows: pd.DataFrame) -> tuple[float, float]:
    """The ends of the accuracy axis: all intervals, and room for a name above the best."""
    if rows.empty:
        return 0.0, 100.0
    ends = np.concatenate([_floats(rows[name]) for name in ("top1_mean", "top1_low", "top1_high")])
    low, high = float(np.nanmin(ends)), float(np.nanmax(ends))
    room = ROOM * (high - low) or 1.0
    return low - room, high + room


def _placed(known: pd.DataFrame, across: tuple[float, float], up: tuple[float, float], log: bool) -> pd.DataFrame:
    """The rows with the place of their marker: their own, or at the edge of the axes beyond which they lie."""
    place = _inwards(across, log)
    x, y = known["_x"].to_numpy(float), _floats(known["top1_mean"])
    return known.assign(
        _y=np.clip(y, *_inwards(up)),
        _left=x < across[0],
        _right=x > across[1],
        _below=y < up[0],
        _above=y > up[1],
        _x=np.clip(x, *place),
        _out=(x < across[0]) | (x > across[1]) | (y < up[0]) | (y > up[1]),
    )


def _inwards(ends: tuple[float, float], log: bool = False) -> tuple[float, float]:
    """The ends, a marker's half further in."""
    low, high = np.log10(ends) if log else ends
    step = 0.02 * (high - low)
    return (float(10 ** (low + step)), float(10 ** (high - step))) if log else (low + step, high - step)


def _points(part: pd.DataFrame, name: str, colour: str, symbols: Mapping[str, str], cost: Cost) -> go.Scatter:
    mean, low, high = (_floats(part[c]) for c in ("top1_mean", "top1_low", "top1_high"))
    bare = (part["_below"] | part["_above"]).to_numpy(bool)  # its interval is not where its marker stands
    error = {"type": "data", "symmetric": False}
    error |= {"array": np.where(bare, np.nan, high - mean), "arrayminus": np.where(bare, np.nan, mean - low)}
    return go.Scatter(
        x=part["_x"].to_numpy(float),
        y=part["_y"].to_numpy(float),
        error_y={**error, "thickness": 1.2, "width": 3},
        mode="markers",
        marker={"size": 10, "color": colour, "symbol": [symbols[c] for c in part["compressor"]]},
        name=figure_text(name),
        legendgroup=figure_text(name),
        showlegend=False,
        text=[hover(row, cost) for row in part.itertuples()],
        hovertemplate="%{text}<extra></extra>",
    )


def _signs(figure: go.Figure, part: pd.DataFrame, name: str) -> None:
    """The signs beside each point of which something may be doubted; hidden with its source's points."""
    signs = pd.Series([marks(row, DOUBTS) for row in line_dicts(part)], index=part.index, dtype=object)
    wrong, signs = part[signs != ""], signs[signs != ""]
    if wrong.empty:
        return
    figure.add_trace(
        go.Scatter(
            x=wrong["_x"].to_numpy(float),
            y=wrong["_y"].to_numpy(float),
            mode="text",
            text=signs.tolist(),
            textposition="bottom right",  # the front's labels stand top left
            name="signs",
            legendgroup=figure_text(name),
            showlegend=False,
            hoverinfo="skip",
        )
    )


def _symbol_legend(figure: go.Figure, symbols: Mapping[str, str]) -> None:
    """Grey entries that say which marker is which compressor; one compressor needs none."""
    for name, symbol in symbols.items() if len(symbols) > 1 else ():
        marker = {"size": 9, "color": "rgba(0,0,0,0)", "symbol": symbol, "line": {"width": 1.5, "color": GREY}}
        figure.add_trace(_key(name, marker))


def _key(name: str, marker: Mapping[str, Any], group: str | None = None) -> go.Scatter:
    """An entry of the legend without points of its own; a click on a source's hides its points."""
    group = figure_text(name if group is None else group)
    return go.Scatter(
        x=[None], y=[None], mode="markers", marker=dict(marker), name=figure_text(name), legendgroup=group
    )


def hover(row: Any, cost: Cost) -> str:
    """All of a row that matters for a trade-off, as lines."""
    paid = getattr(row, cost.column)
    cpu = seconds(getattr(row, WORK, None))
    what = f"{row.compressor} · {row.setting_label}"
    lines = [
        f"<b>{figure_text(row_name(row.source, row.model, row.policy))}</b> · {figure_text(what)}",
        f"top-1 {rounded(row.top1_mean, row.top1_low, row.top1_high)} % {interval(row.top1_low, row.top1_high)}",
        f"{cost.label}: {number(None if missing(paid) else paid / cost.scale, 3)} {cost.unit}",
        f"{number(row.bitops_g, 3)} GBitOPs · {size(row.size_bytes)}",
        f"wall time: synthesis {seconds(row.synthesis_s)}, compression {seconds(row.compress_s)}",
        f"CPU time: {cpu}",
        f"{number(row.forward_equivalents, 0)} forward-equivalents",
        f"{row.n} images, seeds {row.seeds}",
    ]
    lines += [sign.line for sign in DOUBTS if sign.on(row._asdict())]
    return "<br>".join(line for line in lines if BLANK not in line.split(" "))


def _axis(x: np.ndarray) -> tuple[bool, float]:
    """Whether the axis is logarithmic, and where a cost of nothing stands on it."""
    positive = x[x > 0]
    if len(positive) == 0 or positive.max() < DECADE * positive.min():
        return False, 0.0
    return True, float(positive.min()) / 2


def _ticks(x: np.ndarray, log: bool, edge: float) -> dict[str, Any]:
    """The axis's kind; on a logarithmic one the left edge bears a zero where something costs nothing."""
    return log_axis(x[x > 0].tolist(), edge if (x <= 0).any() else None) if log else {}


def _floats(column: pd.Series) -> np.ndarray:
    return column.astype("Float64").to_numpy(float, na_value=np.nan)
