"""Words at the edges of a trade-off: where controls lie that the axes leave out, and the uncompressed network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard.figures.costs import Cost
from dashboard.text import figure_text, number
from dashboard.theme import GREY

NEAR = 0.06
"""Controls at an edge within this part of the axis share a label."""


def outside(
    figure: go.Figure,
    known: pd.DataFrame,
    cost: Cost,
    across: tuple[float, float],
    up: tuple[float, float],
    log: bool,
) -> None:
    """An arrow and the value at each place of the edge where controls stand for what lies beyond; controls that would
    cover each other's label share one."""
    out = known[known["_out"]]
    ends = np.log10(across) if log else np.asarray(across)
    groups: list[tuple[float, float, Any, list[Any]]] = []
    for row in out.sort_values(["_x", "_y"]).to_dict("records"):
        at = np.log10(row["_x"]) if log else row["_x"]
        x, y = (at - ends[0]) / (ends[1] - ends[0]), (row["_y"] - up[0]) / (up[1] - up[0])
        for ax, ay, _, rows in groups:
            if abs(ax - x) <= 2 * NEAR and abs(ay - y) <= NEAR:
                rows.append(row)
                break
        else:
            groups.append((x, y, at, [row]))
    for x, y, at, rows in groups:
        values = dict.fromkeys(_beyond(row, cost) for row in rows)
        figure.add_annotation(
            x=at,
            y=rows[0]["_y"],
            text="<br>".join(figure_text(value) for value in values),
            showarrow=False,
            xanchor="left" if x < 0.5 else "right",
            yanchor="top" if y > 0.5 else "bottom",
            align="left" if x < 0.5 else "right",
            xshift=8 if x < 0.5 else -8,
            font={"size": 11},
        )


def _beyond(row: Mapping[str, Any], cost: Cost) -> str:
    """``real ← 1.8 s``: where a control lies that stands at the edge."""
    arrows = "".join(
        sign for name, sign in (("_left", "←"), ("_right", "→"), ("_below", "↓"), ("_above", "↑")) if row[name]
    )
    paid = f"{number(row[cost.column] / cost.scale, 2)} {cost.unit}" if row["_left"] or row["_right"] else ""
    top1 = f"{number(row['top1_mean'], 1)} %" if row["_below"] or row["_above"] else ""
    return f"{row['source']} {arrows} {', '.join(filter(None, (paid, top1)))}"


def reference(figure: go.Figure, known: pd.DataFrame, up: tuple[float, float]) -> None:
    """The uncompressed network's accuracy: a dashed line, or an arrow and the value where the line lies outside."""
    reference = known["fp_top1"].dropna()
    if not len(reference):
        return
    value = float(reference.iloc[0])
    words = f"uncompressed {number(value, 1)} %"
    if not up[0] <= value <= up[1]:
        arrow, edge = ("↑", 1) if value > up[1] else ("↓", 0)
        place = {"xref": "paper", "yref": "paper", "x": 0.5, "xanchor": "center"}
        figure.add_annotation(
            **place, y=edge, text=f"{words} {arrow}", showarrow=False, yanchor=("bottom", "top")[edge]
        )
        return
    figure.add_hline(value, line_dash="dash", line_color=GREY, line_width=1)
    above = value < (up[0] + up[1]) / 2
    figure.add_annotation(
        xref="paper", x=0.5, y=value, text=words, showarrow=False, yanchor="bottom" if above else "top"
    )
