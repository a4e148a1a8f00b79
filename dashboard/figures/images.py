"""Synthesised images, the curves of their synthesis, and their measures over networks."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go
from PIL import Image

from dashboard.figures.scales import log_axis
from dashboard.text import figure_text
from dashboard.theme import GREY, PALETTE, styled

PAIR = (PALETTE[0], PALETTE[1], PALETTE[2])
"""Colours of the sources that stand side by side."""
MARKERS = ("circle", "square", "triangle-up")
DASHES = ("solid", "dash", "dot")
NAME_WIDTH = 6.6
"""Pixels that a character of a class's name takes at most, on average."""
DECADES = 20.0
"""Values that span this factor are drawn on a logarithmic axis."""

Curve = Sequence[tuple[int, float]]
UNITS = {"top1": "%", "image_top1": "%"}
WORDS = {
    "bn": "batch-norm loss",
    "ce": "cross-entropy",
    "clipped": "share of pixels clipped",
    "prior": "image prior",
    "top1": "top-1 on the labels",
    "kl_held_up": "channels held up",
    "bn_loss_u1": "batch-norm loss (u1)",
    "bn_loss_u1_batch32": "batch-norm loss (u1, batches of 32)",
    "bn_loss_u2": "batch-norm loss (u2)",
    "class_similarity": "similar classes are mixed up, rank correlation",
    "entropy_least_sure": "entropy of each class's least sure image",
    "entropy_surest": "entropy of each class's surest image",
    "image_top1": "top-1 on the labels",
    "mmd_kid": "MMD to real images, cubic kernel (KID)",
    "mmd_rbf": "MMD to real images, Gaussian kernel",
}
EXPLAINED = {
    "bn_loss_u1": "distance of the images' batch-norm statistics to the network's own: norms summed over layers",
    "bn_loss_u1_batch32": "as u1, with statistics of 32 images at a time, as in the synthesis",
    "bn_loss_u2": "as u1, but squared differences averaged over channels and layers",
    "class_similarity": "rank correlation, over all pairs of classes, of the cosine of their rows in the network's "
    "classifier and how often its predictions mix them",
    "classifier_score": "inception score with the network as classifier; higher is more varied and more certain",
    "entropy_least_sure": "highest entropy of a prediction (nats) among the images of a class, mean over classes",
    "entropy_surest": "lowest entropy of a prediction (nats) among the images of a class, mean over classes",
    "image_top1": "share of the images that the network puts into the class they were made for",
    "mmd_kid": "maximum mean discrepancy of the network's features; 0 for images of the same distribution",
    "mmd_rbf": "maximum mean discrepancy of the network's features; 0 for images of the same distribution",
}
"""What a measure means, for who sees it first."""


def class_grid(picture: npt.NDArray[np.uint8], names: Sequence[str]) -> go.Figure:
    """A picture [height, width, C] whose rows are classes, with the classes' names beside the rows.

    Args:
        names: one per row, top to bottom; none for images without labels.
    """
    figure = go.Figure(go.Image(source=_png(picture), hoverinfo="skip"))
    row = picture.shape[0] / max(len(names), 1)
    centres = [row * (i + 0.5) for i in range(len(names))]
    figure.update_xaxes(visible=False)
    # the picture keeps its shape, so the axis reserves no room of its own for the names
    left = 12 + round(NAME_WIDTH * max(map(len, names), default=-1))
    figure = styled(figure, 450).update_layout(margin={"l": max(left, 0), "r": 0, "t": 4, "b": 4})
    figure.update_yaxes(
        tickvals=centres,
        ticktext=[figure_text(name) for name in names],
        showgrid=False,
        visible=bool(names),
        automargin=False,
    )
    return figure


def curve_figure(name: str, curves: Sequence[tuple[str, Curve]]) -> go.Figure:
    """One quantity over the iterations, for the sources that have it (at most three).

    Args:
        curves: (the source's name, its points); an empty curve leaves its colour unused.
    """
    figure = go.Figure()
    values = [v for _, curve in curves for _, v in curve]
    for i, (source, curve) in enumerate(curves):
        if curve:
            x, y = zip(*curve, strict=True)
            line = {"color": PAIR[i], "width": 2, "dash": DASHES[i]}
            hover = f"iteration %{{x}}: %{{y:.4g}}<extra>{figure_text(source)}</extra>"
            figure.add_trace(
                go.Scatter(x=x, y=y, mode="lines", line=line, name=figure_text(source), hovertemplate=hover)
            )
    positive = [v for v in values if v > 0]
    wide = len(positive) == len(values) and bool(values) and max(values) > DECADES * min(values) and name not in UNITS
    figure.update_yaxes(title=figure_text(titled(name)), **(log_axis(values) if wide else {}))
    figure.update_xaxes(title="iteration")
    return styled(figure, 230).update_layout(margin_t=6, showlegend=False)


def measure_dots(
    values: pd.DataFrame, measure: str, pair: Sequence[str], order: Sequence[str], reference: str | None = None
) -> go.Figure:
    """A measure per network: the chosen sources (at most three) in colour, the others of the suite in grey.

    Args:
        values: columns ``network``, ``name`` (of the source), ``measure`` and, where recorded, its ``_low``, ``_high``.
        pair: names of the chosen sources.
        order: networks from top to bottom.
        reference: name of the source drawn as upright strokes: the real images.
    """
    figure = go.Figure()
    known = values[values[measure].notna()]
    others = known[~known["name"].isin([*pair, reference or ""])]
    groups: list[tuple[str, pd.DataFrame, dict[str, object]]] = []
    if len(others):
        groups.append(("other sources", others, {"size": 6, "color": GREY, "opacity": 0.55}))
    if reference and reference not in pair:
        stroke = {"size": 13, "color": GREY, "symbol": "line-ns", "line": {"width": 2, "color": GREY}}
        groups.append((reference, known[known["name"] == reference], stroke))
    for i, name in enumerate(dict.fromkeys(pair)):
        groups.append((name, known[known["name"] == name], {"size": 11, "color": PAIR[i], "symbol": MARKERS[i]}))
    for name, part, marker in groups:
        if len(part):
            figure.add_trace(_dots(part, measure, name, marker))
    numbers = known[measure].astype(float)
    wide = len(numbers) > 0 and bool((numbers > 0).all()) and float(numbers.max()) > DECADES * float(numbers.min())
    wide = wide and measure not in UNITS
    figure.update_xaxes(title=figure_text(titled(measure)), **(log_axis(numbers.tolist()) if wide else {}))
    figure.update_yaxes(categoryorder="array", categoryarray=[figure_text(name) for name in reversed(order)])
    return styled(figure, 120 + 24 * len(order))


def _dots(part: pd.DataFrame, measure: str, name: str, marker: Mapping[str, object]) -> go.Scatter:
    values = part[measure].astype(float)
    low, high = (part.get(f"{measure}_{end}") for end in ("low", "high"))
    error = None
    if low is not None and high is not None and low.notna().all() and high.notna().all():
        plus, minus = high.astype(float) - values, values - low.astype(float)
        error = {"type": "data", "symmetric": False, "array": plus, "arrayminus": minus, "thickness": 1.2, "width": 3}
    return go.Scatter(
        x=values,
        y=[figure_text(network) for network in part["network"]],
        error_x=error,
        mode="markers",
        marker=dict(marker),
        name=figure_text(name),
        text=[figure_text(str(source)) for source in part["name"]],
        hovertemplate="%{text} on %{y}: %{x:.4g}<extra></extra>",
    )


def words(name: str) -> str:
    """A metric's or curve's name as it is said; one without an entry in :data:`WORDS` with spaces for underscores."""
    return WORDS.get(name, name.replace("_", " "))


def titled(name: str) -> str:
    """:func:`words` with the unit where there is one."""
    return f"{words(name)}, {UNITS[name]}" if name in UNITS else words(name)


def _png(picture: npt.NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture).convert("RGB").save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
