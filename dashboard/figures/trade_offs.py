"""Accuracy against a cost, with the Pareto front drawn as a step line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from bench.board.tables.costs import pareto_front
from bench.board.tables.grids import line_dicts
from bench.board.tables.signs import DOUBTS, marks
from dashboard.figures.scales import log_axis
from dashboard.text import BLANK, figure_text, interval, missing, number, rounded, row_name, seconds, size
from dashboard.theme import CONTROLS, GREY, PALETTE, styled

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "pentagon")
DECADE = 10.0
"""A cost that spans this factor is drawn on a logarithmic axis."""


@dataclass(frozen=True)
class Cost:
    """A column of the board that costs something: its name in words, the axis's title, and ``scale`` = what the
    column is divided by to be in the axis's unit."""

    column: str
    label: str
    axis: str
    scale: float = 1.0


COSTS = (
    Cost("bitops_g", "bit operations", "bit operations of one image, GBitOPs"),
    Cost(
        "macs_effective",
        "effective MACs, zeroed weights not counted",
        "multiply-accumulates of one image, zeroed weights not counted, M",
        1e6,
    ),
    Cost("size_bytes", "bytes", "size of the compressed network, kB", 1e3),
    Cost("synthesis_s", "synthesis time", "wall time of the image set, s"),
    Cost("compress_s", "compression time", "wall time of the compression, s"),
    Cost("forward_equivalents", "forward-equivalents", "one image through one network, synthesis and compression"),
    Cost("peak_memory_mib", "peak memory", "highest of all stages, MiB"),
)


def offered_costs(rows: pd.DataFrame) -> list[Cost]:
    """The costs a reader may choose; effective MACs where they tell more than MACs: where weights were zeroed."""
    zeroed = bool((rows["macs_effective"] != rows["macs"]).fillna(False).any())
    return [cost for cost in COSTS if zeroed or cost.column != "macs_effective"]


def varying(rows: pd.DataFrame) -> list[str]:
    """Which of bits and images differ between rows; neither has a colour or a marker of its own."""
    return [name for name in ("setting_label", "n") if rows[name].nunique() > 1]


def contenders(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that may stand on the front: methods with a mean, neither controls nor stale."""
    stale = rows["stale"].fillna(False).astype(bool)
    return rows[(rows["control"] == "none") & ~stale & rows["top1_mean"].notna()]


def on_front(rows: pd.DataFrame, cost: Cost) -> pd.DataFrame:
    """The rows on the Pareto front of ``cost`` (low) and mean top-1 (high), cheapest first."""
    found = pareto_front(contenders(rows), cost.column).rows
    return found.sort_values([cost.column, "top1_mean"], kind="stable")


def trade_off(rows: pd.DataFrame, cost: Cost) -> go.Figure:
    """Top-1 with its 95 % interval against ``cost``: colour = source method, marker = compressor, line = front; where
    bits or images differ, the points on the front say theirs.  Points whose images do not invert their network bear ‡.

    The axis is logarithmic where the cost spans a decade or more; what costs nothing then stands at its left edge.

    Args:
        rows: rows of the board of one target and test set; those without mean or cost are left out.
    """
    known = rows[rows["top1_mean"].notna() & rows[cost.column].notna()]
    x = _floats(known[cost.column]) / cost.scale
    log, edge = _axis(x)
    known = known.assign(_x=np.where(x > 0, x, edge) if log else x)
    figure = go.Figure()
    _front_line(figure, known, cost)
    colours, fills, symbols = source_colours(known), source_fills(known), compressor_symbols(known)
    for (method, control), part in known.groupby([_methods(known), known["control"]], sort=False):
        pair = (str(method), str(control))
        drawn = {name: symbol + fills[pair] for name, symbol in symbols.items()}
        figure.add_trace(_points(part, str(method), colours[pair], drawn, cost))
        _signs(figure, part, str(method))
    for (method, control), colour in colours.items():
        figure.add_trace(_key(method, {"size": 11, "color": colour, "symbol": "circle" + fills[method, control]}))
    _symbol_legend(figure, symbols)
    _reference(figure, known)
    figure.update_xaxes(title=cost.axis, **_ticks(x, log, edge))
    figure.update_yaxes(title="top-1 accuracy, %")
    return styled(figure, 520)


def _points(part: pd.DataFrame, name: str, colour: str, symbols: Mapping[str, str], cost: Cost) -> go.Scatter:
    mean, low, high = (_floats(part[c]) for c in ("top1_mean", "top1_low", "top1_high"))
    error = {"type": "data", "symmetric": False, "array": high - mean, "arrayminus": mean - low}
    return go.Scatter(
        x=part["_x"].to_numpy(float),
        y=mean,
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
            y=_floats(wrong["top1_mean"]),
            mode="text",
            text=signs.tolist(),
            textposition="bottom right",  # the front's labels stand top left
            name="signs",
            legendgroup=figure_text(name),
            showlegend=False,
            hoverinfo="skip",
        )
    )


def _front_line(figure: go.Figure, known: pd.DataFrame, cost: Cost) -> None:
    """The step line: the best accuracy to be had for at most this cost."""
    best = on_front(known, cost)
    if best.empty:
        return
    xs, ys = best["_x"].to_numpy(float), _floats(best["top1_mean"])
    right = max(float(known["_x"].max()), float(xs[-1]))
    names = varying(known)
    labels = [figure_text(" · ".join(said(name, getattr(row, name)) for name in names)) for row in best.itertuples()]
    figure.add_trace(
        go.Scatter(
            x=[*xs, right],
            y=[*ys, ys[-1]],
            mode="lines+text" if names else "lines",
            text=[*(f"{label}\u00a0\u00a0" for label in labels), ""] if names else None,  # clear of the marker
            textposition="top left",  # where no method is: it would beat the point
            textfont={"size": 11},
            cliponaxis=False,
            line={"shape": "hv", "color": GREY, "width": 2, "dash": "dot"},
            name="Pareto front",
            hoverinfo="skip",
        )
    )


def said(name: str, value: Any) -> str:
    """A value of :func:`varying` in words."""
    return f"{value} images" if name == "n" else str(value)


def _symbol_legend(figure: go.Figure, symbols: Mapping[str, str]) -> None:
    """Grey entries that say which marker is which compressor; one compressor needs none."""
    for name, symbol in symbols.items() if len(symbols) > 1 else ():
        marker = {"size": 9, "color": "rgba(0,0,0,0)", "symbol": symbol, "line": {"width": 1.5, "color": GREY}}
        figure.add_trace(_key(name, marker))


def _key(name: str, marker: Mapping[str, Any]) -> go.Scatter:
    """An entry of the legend without points of its own; a click on a source's hides its points."""
    return go.Scatter(
        x=[None], y=[None], mode="markers", marker=dict(marker), name=figure_text(name), legendgroup=figure_text(name)
    )


def _reference(figure: go.Figure, known: pd.DataFrame) -> None:
    reference = known["fp_top1"].dropna()
    if len(reference):
        figure.add_hline(
            float(reference.iloc[0]),
            line_dash="dash",
            line_color=GREY,
            line_width=1,
            annotation_text="uncompressed",
            annotation_position="top left",
        )


def hover(row: Any, cost: Cost) -> str:
    """All of a row that matters for a trade-off, as lines."""
    paid = getattr(row, cost.column)
    what = f"{row.compressor} · {row.setting_label}"
    lines = [
        f"<b>{figure_text(row_name(row.source, row.model, row.policy))}</b> · {figure_text(what)}",
        f"top-1 {rounded(row.top1_mean, row.top1_low, row.top1_high)} % {interval(row.top1_low, row.top1_high)}",
        f"{cost.label}: {number(None if missing(paid) else paid / cost.scale, 3)}",
        f"{number(row.bitops_g, 3)} GBitOPs · {size(row.size_bytes)}",
        f"synthesis {seconds(row.synthesis_s)}, compression {seconds(row.compress_s)}",
        f"{number(row.forward_equivalents, 0)} forward-equivalents",
        f"{row.n} images, seeds {row.seeds}",
    ]
    lines += [sign.line for sign in DOUBTS if sign.on(row._asdict())]
    return "<br>".join(line for line in lines if BLANK not in line.split(" "))


FILLS = ("", "-open", "-dot", "-open-dot")
"""How markers differ where there are more sources than colours."""


def source_colours(rows: pd.DataFrame) -> dict[tuple[str, str], str]:
    """(source method, control) → colour: controls have their own, methods the palette in alphabetical order."""
    colours = {pair: PALETTE[i % len(PALETTE)] for i, pair in enumerate(_pairs(rows, "none"))}
    return {pair: colours.get(pair, CONTROLS.get(pair[1], GREY)) for pair in _pairs(rows)}


def source_fills(rows: pd.DataFrame) -> dict[tuple[str, str], str]:
    """(source method, control) → ending of the marker's name; each time the palette begins again another one."""
    fills = {pair: FILLS[i // len(PALETTE) % len(FILLS)] for i, pair in enumerate(_pairs(rows, "none"))}
    return {pair: fills.get(pair, "") for pair in _pairs(rows)}


def _pairs(rows: pd.DataFrame, control: str | None = None) -> list[tuple[str, str]]:
    """Source methods and their control, sorted; those of one control only where it is given."""
    pairs = {(str(m), str(c)) for m, c in zip(_methods(rows), rows["control"], strict=True)}
    return sorted(pair for pair in pairs if control in (None, pair[1]))


def compressor_symbols(rows: pd.DataFrame) -> dict[str, str]:
    """Compressor → marker, in alphabetical order."""
    return {str(name): SYMBOLS[i % len(SYMBOLS)] for i, name in enumerate(sorted(set(rows["compressor"])))}


def _methods(rows: pd.DataFrame) -> pd.Series:
    return rows["source_method"].astype(str).rename("method")


def _axis(x: np.ndarray) -> tuple[bool, float]:
    """Whether the axis is logarithmic, and where a cost of nothing stands on it."""
    positive = x[x > 0]
    if len(positive) == 0 or positive.max() < DECADE * positive.min():
        return False, 0.0
    return True, float(positive.min()) / 2


def _ticks(x: np.ndarray, log: bool, edge: float) -> dict[str, Any]:
    """The axis's kind; on a logarithmic one the left edge bears a zero where something costs nothing."""
    if log:
        return log_axis(x[x > 0].tolist(), edge if (x <= 0).any() else None)
    return {"rangemode": "tozero"} if len(x) and (x <= 0).any() else {}


def _floats(column: pd.Series) -> np.ndarray:
    return column.astype("Float64").to_numpy(float, na_value=np.nan)
