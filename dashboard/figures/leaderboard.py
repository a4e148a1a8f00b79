"""Ranked rows as dots with intervals."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from dashboard.board_cells import single
from dashboard.text import figure_text, interval, rounded, row_name
from dashboard.theme import CONTROLS, GREY, styled

GROUPS = (("none", "methods"), ("upper", "real images (control)"), ("lower", "noise (control)"))

REFERENCE = "uncompressed"
USED = (
    *("source", "model", "policy", "compressor", "control", "seeds", "n", "fp_top1"),
    *("top1_mean", "top1_low", "top1_high"),
)
"""The columns of the board that are drawn: walking over rows of all of them takes ten times as long."""


def leaderboard_bars(table: pd.DataFrame) -> go.Figure:
    """One dot with its 95 % interval per row, best on top, open where it stands on one seed; a dashed line at
    the uncompressed network.

    Args:
        table: rows of the board of one target, compressor and bits, with a mean.
    """
    ordered = table[list(USED)].sort_values("top1_mean", kind="stable")
    several = ordered["compressor"].nunique() > 1
    names = [_name(row, several) for row in ordered.itertuples()]
    figure = go.Figure()
    for control, label in GROUPS:
        part = ordered[ordered["control"] == control]
        if part.empty:
            continue
        figure.add_trace(
            go.Scatter(
                x=part["top1_mean"].astype(float),
                y=[_name(row, several) for row in part.itertuples()],
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": (part["top1_high"] - part["top1_mean"]).astype(float),
                    "arrayminus": (part["top1_mean"] - part["top1_low"]).astype(float),
                },
                mode="markers",
                marker={"size": 10, "color": CONTROLS[control], **_hollow(part)},
                name=label,
                text=[
                    f"{rounded(r.top1_mean, r.top1_low, r.top1_high)} % {interval(r.top1_low, r.top1_high)}<br>"
                    f"seeds {r.seeds}, {r.n} images"
                    for r in part.itertuples()
                ],
                hovertemplate="%{y}<br>%{text}<extra></extra>",
            )
        )
    reference = ordered["fp_top1"].dropna()
    if len(reference):
        figure.add_trace(
            go.Scatter(
                x=[float(reference.iloc[0])] * len(names),
                y=names,
                mode="lines",
                line={"dash": "dash", "color": GREY, "width": 1.5},
                name=REFERENCE,
                hovertemplate="uncompressed %{x:.2f} %<extra></extra>",
            )
        )
    figure.update_yaxes(categoryorder="array", categoryarray=names)
    ends = ordered[["top1_low", "top1_high"]].astype(float).fillna({"top1_low": 0.0, "top1_high": 100.0})
    low, high = float(ends["top1_low"].min()), max(float(ends["top1_high"].max()), *reference.astype(float), 0.0)
    pad = max(0.04 * (high - low), 0.2)
    figure.update_xaxes(title="top-1 accuracy, %", range=[low - pad, high + pad])
    return styled(figure, 150 + 26 * len(names))


def _hollow(part: pd.DataFrame) -> dict[str, Any]:
    """The symbol of each row's dot, and how thick the line of an open one is."""
    symbols = ["circle-open" if single(row) else "circle" for row in part.itertuples()]
    return {"symbol": symbols, "line": {"width": [2 if symbol == "circle-open" else 0 for symbol in symbols]}}


def _name(row: Any, several: bool) -> str:
    name = row_name(str(row.source), str(row.model), str(row.policy))
    return figure_text(f"{name} · {row.compressor}" if several else name)
