"""Policies over each other: which bits each layer gets from each search, and how often over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go

from dashboard.figures.bits import FLOAT, colour
from dashboard.text import figure_text
from dashboard.theme import styled

SIDES = (("weight_bits", "weights"), ("activation_bits", "inputs"))


def policy_map(policies: Mapping[str, Sequence[pd.DataFrame]]) -> go.Figure:
    """A line per policy and a square per layer, weights above inputs, a colour per number of bits (as Figure 4 of SEAM
    sets bits of several searches over each other).

    Args:
        policies: name → the layers of each seed, as `dashboard.figures.bits.layer_bits` gives them; all of one network.

    Over several seeds a square shows the bits most of them give (of equally many the fewest), the hover how many do.
    """
    names = list(policies)
    layers = list(next(iter(policies.values()))[0]["layer"])
    found = sorted({int(b) for frames in policies.values() for f in frames for side, _ in SIDES for b in f[side]})
    places = {bits: place for place, bits in enumerate(found)}
    figure = go.Figure()
    for strip, (side, what) in enumerate(SIDES):
        votes = [[_votes(policies[name], side, index) for index in range(len(layers))] for name in names]
        figure.add_trace(
            go.Heatmap(
                z=[[places[most(vote)] for vote in row] for row in votes],
                x=list(range(1, len(layers) + 1)),
                y=[figure_text(name) for name in names],
                yaxis="y" if strip == 0 else "y2",
                zmin=-0.5,
                zmax=len(found) - 0.5,
                colorscale=_steps([colour(bits) for bits in found]),
                xgap=1,
                ygap=2,
                showscale=strip == 0,
                colorbar={
                    "title": {"text": "bits"},
                    "tickvals": list(range(len(found))),
                    "ticktext": ["float" if bits >= FLOAT else str(bits) for bits in found],
                },
                customdata=[
                    [f"{figure_text(layer)}<br>{what}: {_said(vote)}" for layer, vote in zip(layers, row, strict=True)]
                    for row in votes
                ],
                hovertemplate="<b>%{y}</b><br>%{customdata}<extra></extra>",
            )
        )
    figure.update_layout(
        yaxis={"domain": [0.54, 1.0], "title": "weights", "autorange": "reversed", "anchor": "x"},
        yaxis2={"domain": [0.0, 0.46], "title": "inputs", "autorange": "reversed", "anchor": "x"},
    )
    figure.update_xaxes(title="layer, in the order of execution", anchor="y2", showgrid=False)
    return styled(figure, 140 + 2 * 24 * max(len(names), 3))


def most(votes: Mapping[int, int]) -> int:
    """The bits that most seeds give; of equally many the fewest."""
    return min(votes, key=lambda bits: (-votes[bits], bits))


def agreement(policies: Sequence[pd.DataFrame], sides: Sequence[str] = ("weight_bits", "activation_bits")) -> float:
    """Share of the layers' weights and inputs that all seeds give the same bits; 1 for one seed."""
    same = [len(_votes(policies, side, index)) == 1 for side in sides for index in range(len(policies[0]))]
    return sum(same) / max(len(same), 1)


def stability(policies: Sequence[pd.DataFrame]) -> go.Figure:
    """How often each layer gets which bits: a bar per layer, its parts the shares of the seeds, weights above inputs.

    Args:
        policies: the layers of each seed of one search, as `dashboard.figures.bits.layer_bits` gives them.
    """
    layers = [figure_text(layer) for layer in policies[0]["layer"]]
    found = sorted({int(b) for frame in policies for side, _ in SIDES for b in frame[side]})
    figure = go.Figure()
    for strip, (side, what) in enumerate(SIDES):
        votes = [_votes(policies, side, index) for index in range(len(layers))]
        for bits in found:
            counts = [vote.get(bits, 0) for vote in votes]
            figure.add_trace(
                go.Bar(
                    x=list(range(1, len(layers) + 1)),
                    y=[100 * count / len(policies) for count in counts],
                    yaxis="y" if strip == 0 else "y2",
                    marker={"color": colour(bits)},
                    name=_bits(bits),
                    legendgroup=_bits(bits),
                    showlegend=strip == 0,
                    customdata=[f"{layer}<br>{what}: {_said(vote)}" for layer, vote in zip(layers, votes, strict=True)],
                    hovertemplate="%{customdata}<extra></extra>",
                )
            )
    figure.update_layout(
        barmode="stack",
        bargap=0.12,
        yaxis={"domain": [0.55, 1.0], "title": "weights, %", "range": [0, 100], "anchor": "x"},
        yaxis2={"domain": [0.0, 0.45], "title": "inputs, %", "range": [0, 100], "anchor": "x"},
    )
    figure.update_xaxes(title="layer, in the order of execution", anchor="y2", showgrid=False)
    return styled(figure, 340)


def _votes(frames: Sequence[pd.DataFrame], side: str, index: int) -> dict[int, int]:
    counts: dict[int, int] = {}
    for frame in frames:
        bits = int(frame[side].iloc[index])
        counts[bits] = counts.get(bits, 0) + 1
    return dict(sorted(counts.items()))


def _said(votes: Mapping[int, int]) -> str:
    shown = {bits: _bits(bits) for bits in votes}
    if len(votes) == 1:
        return next(iter(shown.values()))
    return ", ".join(
        f"{shown[bits]} from {count} seeds" if count > 1 else f"{shown[bits]} from one seed"
        for bits, count in votes.items()
    )


def _bits(bits: int) -> str:
    return "float" if bits >= FLOAT else f"{bits} bits"


def _steps(colours: Sequence[str]) -> list[tuple[float, str]]:
    """A scale of flat steps."""
    width = 1 / len(colours)
    return [edge for i, c in enumerate(colours) for edge in ((i * width, c), (min((i + 1) * width, 1.0), c))]
