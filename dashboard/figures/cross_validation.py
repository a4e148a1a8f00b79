"""Heat maps of sources by targets, the shape of MixMix's Table 6."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from bench.board.tables.signs import DOUBTS
from dashboard.crosstable import CrossTable, Square, value_text
from dashboard.text import figure_text, interval, missing, number, rounded, seconds
from dashboard.theme import HEAT, PALETTE, styled

OWN = "same checkpoint"
"""Value of the column ``membership`` where the images come from the compressed network itself."""

MARK = PALETTE[5]
FP = "uncompressed, %"
TITLES = {"top1_mean": "top-1 accuracy, %", "drop": "drop from uncompressed, points"}


def cross_map(table: CrossTable, what: str = "top1_mean") -> go.Figure:
    """Measured values as a heat map with the uncompressed network on top and the target's own images framed.

    The trace named "squares" bears, per square, the hover text and ``customdata`` (suite, cell id), for clicks.

    Args:
        what: ``top1_mean`` or ``drop``.
    """
    values = [[_value(square, what) for square in line] for line in table.squares]
    texts = [[_bold(square, value_text(square, what)) for square in line] for line in table.squares]
    figure = _map(table, values, texts, what)
    places = [
        (i, j, square) for i, line in enumerate(table.squares, 1) for j, square in enumerate(line) if square is not None
    ]
    figure.add_trace(
        go.Scatter(
            x=[j for _, j, _ in places],
            y=[i for i, _, _ in places],
            mode="markers",
            marker={"symbol": "square", "size": 28, "opacity": 0},
            selected={"marker": {"opacity": 0}},
            unselected={"marker": {"opacity": 0}},
            customdata=[[square["suite"], square.get("cell_id")] for _, _, square in places],
            text=[_hover(table.lines[i - 1], table.headers[j].replace("\n", " "), square) for i, j, square in places],
            hovertemplate="%{text}<extra></extra>",
            name="squares",
            showlegend=False,
        )
    )
    return figure


def published_map(table: CrossTable, what: str = "top1_mean") -> go.Figure:
    """The paper's printed values in the same places: of squares with ``published_mean`` (and, to show the drop,
    ``published_fp``); blank where the paper has none."""
    values = [[_claimed(square, what) for square in line] for line in table.squares]
    texts = [["" if math.isnan(v) else number(v) for v in line] for line in values]
    fp = [
        next(
            (float(line[j]["published_fp"]) for line in table.squares if _known(line[j], "published_fp")),  # type: ignore[index]
            None,
        )
        for j in range(len(table.columns))
    ]
    figure = _map(CrossTable(table.lines, table.columns, table.squares, tuple(fp)), values, texts, what)
    places = [(i, j) for i, line in enumerate(values, 1) for j, v in enumerate(line) if not math.isnan(v)]
    figure.add_trace(
        go.Scatter(
            x=[j for _, j in places],
            y=[i for i, _ in places],
            mode="markers",
            marker={"symbol": "square", "size": 28, "opacity": 0},
            text=[_claim_hover(table.lines[i - 1], table.squares[i - 1][j]) for i, j in places],
            hovertemplate="%{text}<extra></extra>",
            name="squares",
            showlegend=False,
        )
    )
    return figure


def _map(table: CrossTable, values: list[list[float]], texts: list[list[str]], what: str) -> go.Figure:
    """The colours, the numbers, the line of the uncompressed network and the frames."""
    columns, lines = range(len(table.columns)), range(1, len(table.lines) + 1)
    figure = go.Figure(
        go.Heatmap(
            z=values,
            x=list(columns),
            y=list(lines),
            text=texts,
            texttemplate="%{text}",
            textfont={"size": 12},
            colorscale=HEAT,
            reversescale=what == "drop",
            xgap=2,
            ygap=2,
            hoverinfo="skip",
            name="values",
            colorbar={
                "orientation": "h",
                "y": 0,
                "yanchor": "top",
                "ypad": 6,
                "thickness": 10,
                "title": {"text": TITLES[what], "side": "bottom"},
            },
        )
    )
    blanks = [(0, j, number(v, 1)) for j, v in enumerate(table.fp) if v is not None]
    for i, row in enumerate(values, 1):
        blanks += [(i, j, texts[i - 1][j]) for j, value in enumerate(row) if math.isnan(value) and texts[i - 1][j]]
    figure.add_trace(
        go.Scatter(
            x=[j for _, j, _ in blanks],
            y=[i for i, _, _ in blanks],
            text=[text for _, _, text in blanks],
            mode="text",
            textfont={"size": 12},
            hoverinfo="skip",
            name="without colour",
            showlegend=False,
        )
    )
    _frames(figure, table, values)
    names = [FP, *table.lines]
    ticks = {"showgrid": False, "ticks": "", "fixedrange": True, "tickfont": {"size": 12}}
    figure.update_xaxes(
        tickvals=list(columns),
        ticktext=[figure_text(header).replace("\n", "<br>") for header in table.headers],
        side="top",
        tickangle=-90,
        ticklabeloverflow="allow",
        range=[-0.5, len(table.columns) - 0.5],
        **ticks,
    )
    figure.update_yaxes(
        tickvals=[0, *lines],
        ticktext=[_two_lines(name) for name in names],
        range=[len(names) - 0.5, -0.5],
        **ticks,
    )
    figure = styled(figure, 230 + 38 * len(names))
    figure.update_layout(hovermode="closest", hoverdistance=60, legend={"y": -0.02, "yanchor": "top", "x": 0})
    return figure


def _frames(figure: go.Figure, table: CrossTable, values: list[list[float]]) -> None:
    """A frame around every square whose images come from the target itself, and grey behind the uncompressed line."""
    width = len(table.columns) - 0.5
    figure.add_shape(
        type="rect", x0=-0.5, x1=width, y0=-0.45, y1=0.45, fillcolor="rgba(128,128,128,0.18)", line_width=0
    )
    for i, line in enumerate(table.squares, 1):
        for j, square in enumerate(line):
            if square is not None and square["membership"] == OWN and not math.isnan(values[i - 1][j]):
                figure.add_shape(
                    type="rect",
                    x0=j - 0.47,
                    x1=j + 0.47,
                    y0=i - 0.46,
                    y1=i + 0.46,
                    line={"color": MARK, "width": 2.5},
                    name=OWN,
                )


def _value(square: Square | None, what: str) -> float:
    return float(square[what]) if square is not None and _known(square, what) else math.nan


def _claimed(square: Square | None, what: str) -> float:
    """The printed accuracy, or the printed drop; NaN where the paper has none."""
    if square is None or not _known(square, "published_mean"):
        return math.nan
    if what == "top1_mean":
        return float(square["published_mean"])
    return (
        float(square["published_fp"]) - float(square["published_mean"]) if _known(square, "published_fp") else math.nan
    )


def _known(square: Square | None, name: str) -> bool:
    return square is not None and not missing(square.get(name))


def _bold(square: Square | None, text: str) -> str:
    best: Any = square["best"] if square is not None else None
    return f"<b>{text}</b>" if not missing(best) and bool(best) else text


def _two_lines(name: str) -> str:
    """A line's name broken before its bracket, or before its compressor."""
    for mark in (" [", " · "):
        head, found, tail = name.partition(mark)
        if found:
            return f"{figure_text(head)}<br>{figure_text(mark.lstrip() + tail)}"
    return figure_text(name)


def _hover(line: str, header: str, square: Square) -> str:
    parts = [f"<b>{figure_text(line)} → {figure_text(header)}</b>"]
    if missing(square["top1_mean"]):
        why = f"{square['status']}: {square['reason']}" if square["reason"] else str(square["status"])
        parts.append(figure_text(why[:160]))
    else:
        mean = rounded(square["top1_mean"], square["top1_low"], square["top1_high"])
        parts.append(f"{mean} % {interval(square['top1_low'], square['top1_high'])} (95 %)")
        parts.append(f"{number(square['drop'])} points below uncompressed")
    parts.append(f"{number(square['n'], 0)} images, seeds {square['seeds']}")
    parts.append(f"synthesis {seconds(square['synthesis_s'])}, compression {seconds(square['compress_s'])}")
    if square["membership"] not in ("none", ""):
        parts.append(f"target among the source's networks: {figure_text(str(square['membership']))}")
    parts += [sign.line for sign in DOUBTS if sign.on(square)]
    return "<br>".join(parts)


def _claim_hover(line: str, square: Square | None) -> str:
    found = square or {}
    parts = [
        f"<b>{figure_text(line)} → {found.get('published_target')}</b>",
        f"{number(found.get('published_mean'))} % published",
    ]
    return "<br>".join([*parts, f"on {found.get('published_dataset')}"])


def names_of(targets: Sequence[str], most: int = 3) -> str:
    """Names in a sentence, the first few of them."""
    known = list(dict.fromkeys(targets))
    return ", ".join(known[:most]) + (f" and {len(known) - most} more" if len(known) > most else "")
