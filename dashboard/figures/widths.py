"""Accuracy over bit-width: a line per network of several bit-widths, beside networks trained at one each.

The frame is that of :func:`bench.board.tables.widths.point_table`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard.text import figure_text, interval, missing, rounded
from dashboard.theme import GREY, PALETTE, styled

SHIFT = 0.05
"""Bits between two lines' marks at one width, so that their whiskers stand side by side."""
DASHES = ("solid", "dash", "dot", "dashdot")


def accuracy_over_widths(points: pd.DataFrame) -> go.Figure:
    """Top-1 with its 95 % interval over the bit-width, a line per network; those trained alone grey, with squares.

    Filled: trained at this bit-width.  Hollow: not trained at it, a circle where batch normalisation's statistics were
    taken anew, a diamond where they were not.

    Args:
        points: of one group of rows; those without a mean are left out.
    """
    known = points[points["top1_mean"].notna()]
    names = line_names(known)
    order = sorted(set(names), key=lambda name: (bool(known[names == name]["alone"].any()), name))
    figure, taken = go.Figure(), 0
    for place, name in enumerate(order):
        part = known[names == name].sort_values("bits", kind="stable")
        alone = bool(part["alone"].all())
        colour, dash = GREY, "dash"
        if not alone:
            colour, dash = PALETTE[taken % len(PALETTE)], DASHES[taken // len(PALETTE) % len(DASHES)]
            taken += 1
        figure.add_trace(_line(part, name, (colour, dash), SHIFT * (place - (len(order) - 1) / 2)))
    for name, symbol in _symbols(known).items():
        marker = {"size": 10, "color": GREY, "symbol": symbol}
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", marker=marker, name=name))
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
    settings = known.sort_values("bits").drop_duplicates("bits")
    ticks = [figure_text(label) for label in settings["setting_label"]]
    figure.update_xaxes(title="bits of weights and activations", tickvals=list(settings["bits"]), ticktext=ticks)
    figure.update_yaxes(title="top-1 accuracy, %")
    return styled(figure, 460)


def line_names(points: pd.DataFrame) -> pd.Series:
    """Each point's line: the compressor, with what it was asked for and trained at where these tell two lines of one
    compressor apart."""
    several = [
        points.groupby("compressor")[name].transform("nunique") > 1 if len(points) else points["alone"]
        for name in ("asked", "widths")
    ]
    words = zip(points["compressor"], points["asked"], points["widths"], *several, strict=True)
    names = [
        f"{compressor}{f' of {asked}' if by_asked else ''}{f' at {widths}' if by_widths else ''}"
        for compressor, asked, widths, by_asked, by_widths in words
    ]
    return pd.Series(names, index=points.index, dtype="str")


def _symbols(known: pd.DataFrame) -> dict[str, str]:
    """What the marks mean, of those that are there."""
    fresh, zero = known["calibrated"], known["zero_shot"]
    found = {"trained at this bit-width": ("circle", ~zero), "not trained, calibrated": ("circle-open", zero & fresh)}
    found["not trained, not calibrated"] = ("diamond-open", zero & ~fresh)
    return {name: symbol for name, (symbol, there) in found.items() if bool(there.any())} if zero.any() else {}


def _symbol(row: Any) -> str:
    if row.zero_shot and not row.alone:
        return "circle-open" if row.calibrated else "diamond-open"
    return ("square" if row.alone else "circle") + ("-open" if row.zero_shot else "")


def _line(part: pd.DataFrame, name: str, look: tuple[str, str], shift: float) -> go.Scatter:
    mean, low, high = (
        part[column].astype("Float64").to_numpy(float, na_value=np.nan)
        for column in ("top1_mean", "top1_low", "top1_high")
    )
    up, down = np.nan_to_num(high - mean), np.nan_to_num(mean - low)
    colour, dash = look
    return go.Scatter(
        x=part["bits"].astype(float).to_numpy() + shift,
        y=mean,
        error_y={"type": "data", "symmetric": False, "array": up, "arrayminus": down, "thickness": 1.2, "width": 3},
        mode="lines+markers",
        line={"color": colour, "width": 1.5, "dash": dash},
        marker={"size": 10, "color": colour, "symbol": [_symbol(row) for row in part.itertuples()]},
        name=figure_text(name),
        text=[_said(row) for row in part.itertuples()],
        hovertemplate="%{text}<extra></extra>",
    )


def _said(row: Any) -> str:
    """A network in words, as lines."""
    if not row.zero_shot:
        how = "trained alone" if row.alone else "trained at this bit-width"
    else:
        how = "not trained at this bit-width, " + ("calibrated" if row.calibrated else "not calibrated")
    widths = "" if row.alone or missing(row.widths) else f"trained at {figure_text(row.widths)}"
    lines = [
        f"<b>{figure_text(row.compressor)}</b> · {figure_text(row.setting_label)}",
        f"top-1 {rounded(row.top1_mean, row.top1_low, row.top1_high)} % {interval(row.top1_low, row.top1_high)}",
        how,
        widths,
        f"seeds {row.seeds}",
    ]
    return "<br>".join(filter(None, lines))
