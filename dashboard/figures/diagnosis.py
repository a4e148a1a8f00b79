"""Which layer loses the accuracy: ratios over depth, what 8 bits for one layer give, predictions by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from dashboard.text import figure_text
from dashboard.theme import GREY, PALETTE, styled

Answer = Mapping[str, Any]
"""What ``bench diagnose --json`` prints."""

RATIOS = (
    ("weight_db", "weight", PALETTE[0], "dot"),
    ("input_db", "what it reads, behind its quantisers", PALETTE[2], "dot"),
    ("alone_output_db", "its output, it alone quantised", PALETTE[1], "solid"),
    ("drift_db", "its output in the network (drift)", PALETTE[5], "solid"),
)
CLASSES = (
    ("labels", "labels", GREY),
    ("float", "floating point", PALETTE[0]),
    ("compressed", "compressed", PALETTE[1]),
)


def depth_figure(answer: Answer) -> go.Figure:
    """Signal-to-noise ratios over the layers in order of execution; the dashed line marks the layer that loses most.

    A ratio that is infinite (nothing lost) or unknown leaves a gap.
    """
    layers = answer["layers"]
    places = list(range(1, len(layers) + 1))
    names = [figure_text(f"{layer['name']} (rank {layer['rank']})") for layer in layers]
    figure = go.Figure()
    for key, what, colour, dash in RATIOS:
        figure.add_trace(
            go.Scatter(
                x=places,
                y=[layer[key] for layer in layers],
                name=what,
                mode="lines+markers",
                marker={"size": 5},
                line={"color": colour, "dash": dash},
                customdata=names,
                hovertemplate=f"<b>%{{customdata}}</b><br>{what}: %{{y:.1f}} dB<extra></extra>",
            )
        )
    _mark(figure, layers)
    figure.update_layout(xaxis={"title": "layer, in order of execution"}, yaxis={"title": "signal-to-noise ratio, dB"})
    return styled(figure, 420)


def gain_figure(answer: Answer) -> go.Figure:
    """What each layer's own lift to more bits gives, in points with 95 % intervals, over the layers in order; layers
    that have them already have no bar."""
    layers = answer["layers"]
    shown = [(place, layer) for place, layer in enumerate(layers, 1) if layer["gain"] is not None]
    gains = [layer["gain"] for _, layer in shown]
    figure = go.Figure(
        go.Bar(
            x=[place for place, _ in shown],
            y=[gain["points"] for gain in gains],
            width=0.8,
            marker={"color": [PALETTE[5] if layer["rank"] == 1 else PALETTE[0] for _, layer in shown]},
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [gain["interval"][1] - gain["points"] for gain in gains],
                "arrayminus": [gain["points"] - gain["interval"][0] for gain in gains],
                "thickness": 1,
                "width": 2,
                "color": GREY,
            },
            customdata=[
                [figure_text(layer["name"]), layer["weight_bits"], layer["input_bits"], *layer["gain"]["interval"]]
                for _, layer in shown
            ],
            hovertemplate=(
                "<b>%{customdata[0]}</b> W%{customdata[1]}A%{customdata[2]}<br>%{y:+.2f} points "
                "[%{customdata[3]:.2f}, %{customdata[4]:.2f}]<extra></extra>"
            ),
        )
    )
    figure.update_layout(
        showlegend=False,
        xaxis={"title": "layer, in order of execution", "range": [0.3, len(layers) + 0.7]},
        yaxis={"title": f"gain at {answer['lifted_to_bits']} bits, points"},
    )
    return styled(figure, 340)


def block_figure(answer: Answer) -> go.Figure:
    """Signal-to-noise ratios of the blocks' weights and outputs, in order."""
    blocks = answer["blocks"]
    names = [figure_text(block["name"]) for block in blocks]
    figure = go.Figure()
    for key, what, colour in (("weight_db", "weights", PALETTE[0]), ("drift_db", "output", PALETTE[5])):
        values = [block[key] for block in blocks]
        figure.add_trace(go.Scatter(x=names, y=values, name=what, mode="lines+markers", line={"color": colour}))
    figure.update_layout(yaxis={"title": "signal-to-noise ratio, dB"}, xaxis={"type": "category"})
    return styled(figure, 360)


def class_figure(answer: Answer) -> go.Figure:
    """How often each class is the label, and the prediction in floating point and compressed."""
    counts = answer["predictions"]
    figure = go.Figure()
    for key, what, colour in CLASSES:
        figure.add_trace(go.Bar(x=list(range(len(counts[key]))), y=counts[key], name=what, marker={"color": colour}))
    figure.update_layout(barmode="group", xaxis={"title": "class", "type": "category"}, yaxis={"title": "images"})
    return styled(figure, 320)


def _mark(figure: go.Figure, layers: Sequence[Mapping[str, Any]]) -> None:
    for place, layer in enumerate(layers, 1):
        if layer["rank"] == 1:
            figure.add_vline(x=place, line={"dash": "dash", "color": GREY})
