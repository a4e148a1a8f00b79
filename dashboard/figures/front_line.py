"""The Pareto front of a trade-off: a step line with names, over the band of its intervals."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard.figures.costs import Cost, contenders, front_labels, on_front
from dashboard.text import figure_text
from dashboard.theme import GREY

Ends = tuple[float, float]
Box = tuple[float, float, float, float]

BAND = "rgba(127,129,134,0.22)"
WIDE = "names of the front for wide screens"
"""The series of names that a page takes off a phone; the last of its figure."""
WIDE_STYLE = (
    '<style>@media (max-width:640px){[class*="st-key-wide-names"] .scatterlayer .trace:last-child .textpoint'
    "{display:none}}</style>"
)
"""For charts within a container whose key begins with ``wide-names``."""
PHONE = (270.0, 310.0)
"""Pixels of the plot on a screen 390 wide."""
CHARACTER, LINE, MARKER = 6.2, 16.0, 5.0
"""Pixels of a name's character and line, and of half a marker."""


def front_line(
    figure: go.Figure, known: pd.DataFrame, cost: Cost, ends: tuple[Ends, Ends], log: bool
) -> go.Scatter | None:
    """Add the step line, the best accuracy to be had for at most this cost, over the band of its rows' intervals.

    Args:
        known: rows with the place of their marker, ``_x`` and ``_y``.
        ends: of both axes.

    Returns:
        The names for which a phone has no room, to be added last (:data:`WIDE`); None where all fit.
    """
    best = on_front(known, cost)
    if best.empty:
        return None
    across = ends[0]
    xs, mean = best["_x"].to_numpy(float), _floats(best["top1_mean"])
    right = float(contenders(known)["_x"].max())
    low, high = (np.where(np.isnan(found := _floats(best[c])), mean, found) for c in ("top1_low", "top1_high"))
    step = {"x": [*xs, right], "hoverinfo": "skip", "legendgroup": "front"}
    line = {"shape": "hv", "color": "rgba(0,0,0,0)", "width": 0}
    figure.add_trace(go.Scatter(**step, y=[*low, low[-1]], mode="lines", line=line, showlegend=False, name="band"))
    band = {"fill": "tonexty", "fillcolor": BAND, "name": "its 95 % intervals"}
    figure.add_trace(go.Scatter(**step, y=[*high, high[-1]], mode="lines", line=line, **band))
    half = np.sqrt(across[0] * across[1]) if across[0] > 0 else sum(across) / 2
    names = [f"\u00a0{figure_text(label)}\u00a0" for label in front_labels(best, known)]
    sides = ["top right" if x < half else "top left" for x in xs]
    fits = _fitting(best, known, names, sides, ends, log)
    figure.add_trace(
        go.Scatter(
            **step,
            y=[*mean, mean[-1]],
            mode="lines+text",
            text=[*(name if fit else "" for name, fit in zip(names, fits, strict=True)), ""],
            textposition=[*sides, "top left"],
            textfont={"size": 11},
            line={"shape": "hv", "color": GREY, "width": 2, "dash": "dot"},
            name="Pareto front",
        )
    )
    rest = [i for i, fit in enumerate(fits) if not fit]
    return _crowded(xs[rest], mean[rest], [names[i] for i in rest], [sides[i] for i in rest]) if rest else None


def _crowded(x: np.ndarray, y: np.ndarray, names: list[str], sides: list[str]) -> go.Scatter:
    return go.Scatter(
        x=x,
        y=y,
        mode="text",
        text=names,
        textposition=sides,
        textfont={"size": 11},
        name=WIDE,
        legendgroup="front",
        showlegend=False,
        hoverinfo="skip",
    )


def _fitting(
    best: pd.DataFrame,
    known: pd.DataFrame,
    names: Sequence[str],
    sides: Sequence[str],
    ends: tuple[Ends, Ends],
    log: bool,
) -> list[bool]:
    """Which names have room on a phone: that cover neither a name that has nor another row's marker or
    interval."""
    across = np.log10(ends[0]) if log else np.asarray(ends[0])

    def places(rows: pd.DataFrame, column: str = "_y") -> list[tuple[float, float]]:
        x, y = rows["_x"].to_numpy(float), _floats(rows[column])
        left = ((np.log10(x) if log else x) - across[0]) / (across[1] - across[0])
        down = (ends[1][1] - y) / (ends[1][1] - ends[1][0])
        return list(zip(left * PHONE[0], down * PHONE[1], strict=True))

    own = set(zip(best["_x"], best["_y"], strict=True))
    others = known[[place not in own for place in zip(known["_x"], known["_y"], strict=True)]]
    taken = [(x - MARKER, y - MARKER, x + MARKER, y + MARKER) for x, y in places(others)]
    bars = zip(places(others, "top1_high"), places(others, "top1_low"), strict=True)
    taken += [(x, top, x, bottom) for (x, top), (_, bottom) in bars if np.isfinite(top + bottom)]
    fits = []
    for (x, y), name, side in zip(places(best), names, sides, strict=True):
        wide = CHARACTER * len(html.unescape(name))
        left = x if side.endswith("right") else x - wide
        box = (left, y - LINE, left + wide, y - 2.0)
        fits.append(not any(_overlap(box, other) for other in taken))
        if fits[-1]:
            taken.append(box)
    return fits


def _overlap(first: Box, second: Box) -> bool:
    apart = first[2] <= second[0] or second[2] <= first[0] or first[3] <= second[1] or second[3] <= first[1]
    return not apart


def _floats(column: pd.Series) -> np.ndarray:
    return column.astype("Float64").to_numpy(float, na_value=np.nan)
