"""Bits per image: how they are spread, whether harder images get more, and the curves of the trainings behind them.
Pure: records → plotly figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from scipy.special import ndtri

from bench.board.stats.paired import LEVEL, Floats
from bench.board.tables.dynamic import per_image
from bench.store.records import ResultRecord
from dashboard.figures.cell import DECADES
from dashboard.text import figure_text
from dashboard.theme import PALETTE, styled

BARS = 40
"""Most bars of the histogram."""
PARTS = 10
"""Parts of equally many images along difficulty."""
HEIGHT = 300


def histogram(rows: Mapping[str, ResultRecord]) -> go.Figure:
    """Share of the test images over their bits, a trace per row, from the fewest to the most bits an image of any row
    can have.

    Args:
        rows: name → record whose bits depend on the image, at least one.
    """
    found = {
        name: (pair[0], r.image_bits.between) for name, r in rows.items() if r.image_bits and (pair := per_image(r))
    }
    low = min(ends[0] for _, ends in found.values())
    high = max(ends[1] for _, ends in found.values())
    if high - low < 1e-6:  # one choice: a bar around it
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, BARS + 1)
    middles, width = (edges[:-1] + edges[1:]) / 2, float(edges[1] - edges[0])
    figure = go.Figure()
    for i, (name, (bits, _)) in enumerate(found.items()):
        # a value at an end may lie outside it by the rounding of 32-bit floats
        counts = np.histogram(np.clip(bits, low, high), bins=edges)[0]
        look: dict[str, Any] = {
            "x": middles,
            "y": 100 * counts / max(len(bits), 1),
            "name": figure_text(name),
            "customdata": counts,
            "hovertemplate": "%{x:.2f} bits: %{customdata:,} images, %{y:.1f} %<extra></extra>",
        }
        if len(found) == 1:
            figure.add_trace(go.Bar(**look, width=width, marker={"color": PALETTE[0]}))
        else:  # outlines, since bars of several rows would hide each other
            figure.add_trace(go.Scatter(**look, mode="lines", line={"shape": "hvh", **_line(i)}))
    figure.update_xaxes(title="bits of an image", range=[low, high])
    figure.update_yaxes(title="images, %")
    return styled(figure, HEIGHT).update_layout(bargap=0, showlegend=len(found) > 1)


def _line(place: int) -> dict[str, Any]:
    """Colour and dash of the trace at this place; beyond the palette, dotted."""
    turn, colour = divmod(place, len(PALETTE))
    return {"color": PALETTE[colour], "width": 2, "dash": ("solid", "dot", "dash")[turn % 3]}


def parts_of(bits: Floats, difficulty: Floats, parts: int = PARTS) -> tuple[Floats, Floats, Floats]:
    """Images in ``parts`` of equally many by ascending difficulty: mean difficulty, mean bits, and half of the bits'
    95 % interval over the part's images, each [P]; fewer parts where there are fewer than two images for each.

    Images of one difficulty stay in their order, so that a part does not depend on their bits.
    """
    order = np.argsort(difficulty, kind="stable")
    groups = np.array_split(order, max(1, min(parts, len(order) // 2)))
    z = float(ndtri(0.5 + LEVEL / 2))
    hard, mean, half = (np.empty(len(groups)) for _ in range(3))
    for i, group in enumerate(groups):
        some = bits[group]
        hard[i], mean[i] = difficulty[group].mean(), some.mean()
        half[i] = z * some.std(ddof=1) / np.sqrt(len(some)) if len(some) > 1 else 0.0
    return hard, mean, half


def against_difficulty(rows: Mapping[str, ResultRecord]) -> go.Figure:
    """Mean bits of :data:`PARTS` parts of the images by difficulty, with intervals over the part's images.

    Args:
        rows: as :func:`histogram`.
    """
    figure = go.Figure()
    found = {name: pair for name, record in rows.items() if (pair := per_image(record)) is not None}
    for i, (name, (bits, difficulty)) in enumerate(found.items()):
        hard, mean, half = parts_of(bits, difficulty)
        figure.add_trace(
            go.Scatter(
                x=hard,
                y=mean,
                error_y={"type": "data", "array": half, "thickness": 1},
                mode="lines+markers",
                name=figure_text(name),
                line=_line(i),
                marker={"size": 7},
                customdata=half,
                hovertemplate="difficulty %{x:.3g} nats<br>%{y:.3f} ± %{customdata:.3f} bits<extra></extra>",
            )
        )
    figure.update_xaxes(title="difficulty: entropy of the uncompressed target's prediction, nats")
    figure.update_yaxes(title="mean bits of an image")
    return styled(figure, HEIGHT).update_layout(showlegend=len(found) > 1)


def training_curves(rows: Mapping[str, ResultRecord]) -> dict[str, go.Figure]:
    """A figure per curve that the records' trainings logged, with a line per row that has it, in the curves' order: how
    losses and bits move when something sets in midway.

    A curve GROUP/NAME is a line of the figure GROUP, as on the page of a cell.
    """
    lines: dict[str, list[tuple[str, Sequence[tuple[int, float]]]]] = {}
    for row, record in rows.items():
        for name, curve in record.curves.items():
            group, inside, label = name.partition("/")
            if curve:
                told = " · ".join(filter(None, (row if len(rows) > 1 else "", label if inside else "")))
                lines.setdefault(group, []).append((told or name, curve))
    return {group: _curves(group, found) for group, found in lines.items()}


def _curves(title: str, lines: Sequence[tuple[str, Sequence[tuple[int, float]]]]) -> go.Figure:
    figure = go.Figure()
    for i, (name, curve) in enumerate(lines):
        figure.add_trace(
            go.Scatter(
                x=[step for step, _ in curve],
                y=[value for _, value in curve],
                mode="lines+markers" if len(curve) < 30 else "lines",
                line=_line(i),
                marker={"size": 5},
                name=figure_text(name),
                hovertemplate="step %{x}: %{y:.4g}<extra>%{fullData.name}</extra>",
            )
        )
    values = [value for _, curve in lines for _, value in curve]
    figure.update_xaxes(title="step")
    figure.update_yaxes(title=figure_text(title))
    if min(values) > 0 and max(values) / min(values) >= DECADES:
        figure.update_yaxes(type="log", dtick=1, exponentformat="power")
    return styled(figure, HEIGHT).update_layout(showlegend=len(lines) > 1)
