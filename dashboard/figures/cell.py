"""Curves of one cell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from dashboard.text import figure_text
from dashboard.theme import PALETTE, styled

Curve = Sequence[tuple[int, float]]
DECADES = 100.0
"""A positive curve whose largest value is this many times its smallest is drawn on a logarithmic axis."""

FEW = len(PALETTE)


def curve_groups(curves: Mapping[str, Curve]) -> dict[str, dict[str, Curve]]:
    """Title → label → curve: curves named GROUP/NAME share a figure, any other has one of its own."""
    groups: dict[str, dict[str, Curve]] = defaultdict(dict)
    for name, curve in curves.items():
        group, found, label = name.partition("/")
        if curve:
            groups[group][label if found else name] = curve
    return dict(groups)


def curves_figure(title: str, curves: Mapping[str, Curve]) -> go.Figure:
    """Each curve as a line over the iteration; a logarithmic axis where all values are positive and span two decades.

    Beyond :data:`FEW` curves, colours run along a scale in their order and the legend is left out.
    """
    figure = go.Figure()
    many = len(curves) > FEW
    colours: Sequence[str] = PALETTE
    if many:
        # the scale's ends vanish on dark and on light ground
        colours = sample_colorscale("Viridis", [0.2 + 0.6 * i / (len(curves) - 1) for i in range(len(curves))])
    for (name, curve), colour in zip(curves.items(), colours, strict=False):
        figure.add_trace(
            go.Scatter(
                x=[step for step, _ in curve],
                y=[value for _, value in curve],
                mode="lines+markers" if len(curve) < 30 else "lines",
                marker={"size": 5},
                line={"color": colour, "width": 2},
                name=figure_text(name),
                hovertemplate="iteration %{x}: %{y:.4g}<extra>%{fullData.name}</extra>",
            )
        )
    values = [value for curve in curves.values() for _, value in curve]
    figure.update_xaxes(title="iteration")
    figure.update_yaxes(title=figure_text(title))
    if min(values) > 0 and max(values) / min(values) >= DECADES:
        figure.update_yaxes(type="log", dtick=1, exponentformat="power")
    styled(figure, 330 if len(curves) > 1 else 260)
    figure.update_layout(showlegend=1 < len(curves) <= FEW)
    return figure
