"""How far a search's features keep classes apart, in floating point and as searched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from bench.store.records import ResultRecord
from dashboard.figures.markers import SYMBOLS
from dashboard.text import figure_text, missing
from dashboard.theme import GREY, PALETTE, styled

SIDES = (("float", "in floating point", GREY), ("searched", "as searched", PALETTE[0]))
MANY = 20
"""Classes from which a legend of them tells nothing."""
_BAR = 0.36  # width of a bar where a search has the width 1

Margins = Mapping[str, Any]
"""What a search reports of it: ``float`` and ``searched`` (ratios or None), ``why``; ``mean``, the same over all pairs,
which older ones lack; ``points`` (each network's ``x`` and ``y``), ``point_classes``."""


def margins_of(record: ResultRecord) -> Margins | None:
    """The class margins that the record's search reports; None where it reports none."""
    search = record.report.get("search")
    found = search.get("class_margins") if isinstance(search, Mapping) else None
    return found if isinstance(found, Mapping) and all(side in found for side, *_ in SIDES) else None


def margin_bars(margins: Mapping[str, Sequence[Margins]]) -> go.Figure:
    """Smallest distance between class centres over mean spread within classes (SEAM, Figure 2 as a number): a pair of
    bars per search, the mean over its seeds, and a point for each seed; a diamond: mean distance over mean spread.

    Args:
        margins: search → those of its seeds; a seed without a ratio has no point and no part in the mean.
    """
    figure = go.Figure()
    names = [figure_text(name) for name in margins]
    for (side, said, colour), shift in zip(SIDES, (-_BAR / 2, _BAR / 2), strict=True):
        values = [[float(m[side]) for m in seeds if not missing(m[side])] for seeds in margins.values()]
        figure.add_trace(
            go.Bar(
                x=[place + shift for place in range(len(names))],
                y=[float(np.mean(own)) if own else None for own in values],
                width=_BAR,
                marker={"color": colour, "opacity": 0.7},
                name=said,
                customdata=names,
                hovertemplate=f"%{{customdata}}, {said}: %{{y:.3f}}<extra></extra>",
            )
        )
        figure.add_trace(
            go.Scatter(
                x=[place + shift for place, own in enumerate(values) for _ in own],
                y=[value for own in values for value in own],
                mode="markers",
                marker={"size": 6, "color": colour, "line": {"width": 1, "color": "white"}},
                showlegend=False,
                hovertemplate=f"one seed, {said}: %{{y:.3f}}<extra></extra>",
            )
        )
        averages = [
            [float(m["mean"][side]) for m in seeds if not missing(_mean(m, side))] for seeds in margins.values()
        ]
        known = [place for place, own in enumerate(averages) if own]
        if known:
            figure.add_trace(
                go.Scatter(
                    x=[place + shift for place in known],
                    y=[float(np.mean(averages[place])) for place in known],
                    mode="markers",
                    marker={"size": 9, "symbol": "diamond-open", "color": colour, "line": {"width": 2}},
                    name=f"{said}, all pairs",
                    customdata=[names[place] for place in known],
                    hovertemplate=f"%{{customdata}}, {said}, mean of all pairs: %{{y:.3f}}<extra></extra>",
                )
            )
    figure.update_xaxes(tickvals=list(range(len(names))), ticktext=names, showgrid=False)
    figure.update_yaxes(title="distance of centres / spread", rangemode="tozero")
    return styled(figure, 340)


def _mean(margins: Margins, side: str) -> float | None:
    """The ratio over all pairs; None where a record has none."""
    found = margins.get("mean")
    return found.get(side) if isinstance(found, Mapping) else None


def embeddings(margins: Margins) -> go.Figure:
    """Both networks' features in their first two principal components, side by side, a colour per class."""
    figure = go.Figure()
    classes = [int(kind) for kind in margins["point_classes"]]
    kinds = sorted(set(classes))
    for number, (side, said, _) in enumerate(SIDES):
        axes = {"xaxis": "x2", "yaxis": "y2"} if number else {"xaxis": "x", "yaxis": "y"}
        places = {axis: margins["points"].get(side, {}).get(axis, ()) for axis in "xy"}
        for place, kind in enumerate(kinds if all(len(own) == len(classes) for own in places.values()) else ()):
            marker = {"size": 6, "color": PALETTE[place % len(PALETTE)]}
            figure.add_trace(
                go.Scatter(
                    **{
                        axis: [v for v, k in zip(own, classes, strict=True) if k == kind]
                        for axis, own in places.items()
                    },
                    mode="markers",
                    marker={**marker, "symbol": SYMBOLS[place // len(PALETTE) % len(SYMBOLS)]},
                    name=f"class {kind}",
                    legendgroup=f"class {kind}",
                    showlegend=not number and len(kinds) < MANY,
                    hovertemplate=f"class {kind}<extra></extra>",
                    **axes,
                )
            )
        title = said if missing(margins[side]) else f"{said}: {float(margins[side]):.2f}"
        figure.update_layout({f"xaxis{number + 1 if number else ''}": {"title": title}})
    figure.update_layout(
        xaxis={"domain": [0.0, 0.49], "anchor": "y"},
        xaxis2={"domain": [0.51, 1.0], "anchor": "y2"},
        yaxis={"scaleanchor": "x"},
        yaxis2={"scaleanchor": "x2", "anchor": "x2"},
    )
    figure.update_xaxes(showticklabels=False)
    figure.update_yaxes(showticklabels=False)
    return styled(figure, 430)
