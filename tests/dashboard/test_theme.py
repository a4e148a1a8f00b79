"""The theme's colours by formula: contrast on both grounds, and what colour-blind readers can tell apart.

Contrast: WCAG 2.1, relative luminance.  Colour blindness: the matrices of Machado, Oliveira and Fernandes 2009 (IEEE
TVCG 15), severity 1.0, on linear RGB.  Difference: CIE76, the distance in CIELAB under D65.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import plotly.graph_objects as go
import pytest

from dashboard.described import described
from dashboard.figures.ranks import LOSS, TIE, WIN
from dashboard.theme import CONTROLS, GREY, GROUNDS, PAGE_STYLE, PALETTE, SOFT

READABLE, SEEN = 4.5, 3.0  # WCAG 2.1: 1.4.3 for text, 1.4.11 for what is drawn
APART = 15.0

MACHADO = {
    "none": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
TOGETHER = (*PALETTE, *(c for c in dict.fromkeys((GREY, *CONTROLS.values())) if c not in PALETTE))


def linear(colour: str) -> np.ndarray:
    encoded = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def luminance(colour: str) -> float:
    return float(XYZ[1] @ linear(colour))


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB of linear RGB; white is that of the matrix, (0.95047, 1, 1.08883)."""
    share = (XYZ @ np.clip(rgb, 0, 1)) / XYZ.sum(axis=1)
    x, y, z = np.where(share > (6 / 29) ** 3, np.cbrt(share), share / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def difference(a: str, b: str, vision: str) -> float:
    return math.dist(*(lab(MACHADO[vision] @ linear(colour)) for colour in (a, b)))


def test_the_formulas_meet_known_values() -> None:
    assert contrast("#000000", "#FFFFFF") == pytest.approx(21)
    assert contrast("#777777", "#FFFFFF") == pytest.approx(4.478, abs=0.001)  # the grey that just fails
    assert lab(linear("#FF0000")) == pytest.approx([53.24, 80.09, 67.20], abs=0.05)
    assert lab(linear("#0000FF")) == pytest.approx([32.30, 79.19, -107.86], abs=0.05)
    for matrix in MACHADO.values():  # greys stay as they are
        assert matrix.sum(axis=1) == pytest.approx([1, 1, 1], abs=1e-5)
    # who sees no red takes this red and this green for one colour far more than others do
    pair = ("#B03A2E", "#5B6B1F")
    assert difference(*pair, "protanopia") < 0.6 * difference(*pair, "none")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_captions_and_ticks_can_be_read(scheme: str) -> None:
    for ground in GROUNDS[scheme]:
        assert contrast(SOFT[scheme], ground) >= READABLE, ground
    assert SOFT[scheme] in PAGE_STYLE


def test_grey_is_seen_on_both_grounds() -> None:
    assert contrast(GREY, GROUNDS["light"][0]) >= READABLE
    assert contrast(GREY, GROUNDS["dark"][0]) >= SEEN


@pytest.mark.parametrize("vision", list(MACHADO))
def test_colours_used_together_are_apart(vision: str) -> None:
    assert len(set(TOGETHER)) == len(TOGETHER) >= len(PALETTE) + 2
    for a, b in itertools.combinations(TOGETHER, 2):
        assert difference(a, b, vision) >= APART, (a, b)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("vision", list(MACHADO))
def test_the_map_of_wins_is_told_by_colour_too(scheme: str, vision: str) -> None:
    ground = GROUNDS[scheme][0]
    for a, b in itertools.combinations((WIN, LOSS, TIE), 2):
        assert difference(over(a, ground), over(b, ground), vision) >= APART, (a, b)


def over(rgba: str, ground: str) -> str:
    """A see-through colour on its ground, as a browser mixes them."""
    *parts, alpha = (float(part) for part in rgba[5:-1].split(","))
    behind = [int(ground[i : i + 2], 16) for i in (1, 3, 5)]
    mixed = (round(alpha * c + (1 - alpha) * b) for c, b in zip(parts, behind, strict=True))
    return "#{:02X}{:02X}{:02X}".format(*mixed)


def test_a_figure_is_told_in_words() -> None:
    figure = go.Figure([go.Scatter(x=[1, 2, None], y=[3, 4, None], name="a &lt;b&gt;<br>c"), go.Scatter(x=[], y=[])])
    figure.update_xaxes(title="seconds").update_yaxes(title="top-1, %")
    assert described(figure) == "Chart, top-1, % against seconds: 2 points of a <b> c."
    many = go.Figure([go.Scatter(x=[1], y=[1], name=f"s{i}") for i in range(11)])
    assert described(many).endswith("1 point of s7, and 3 more series.")
    assert described(go.Figure(go.Heatmap(z=[[1, 2], [3, 4]]))) == "Chart: 4 squares."
    assert described(go.Figure()) == "Chart: no data."
