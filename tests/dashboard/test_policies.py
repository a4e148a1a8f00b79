"""Policies over each other: colours by bits, the bits most seeds give, how far seeds agree, and the page."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from bench.store.records import ResultRecord
from dashboard.figures.bits import colour, layer_bits
from dashboard.figures.policies import agreement, most, policy_map
from tests.dashboard.fixtures_pages2 import Pages, charts, made, pages, text_of

__all__ = ["pages"]

NAMES = ("name", "kind", "weight_bits", "activation_bits", "macs", "parameters")


def found(*bits: tuple[int, int], **fields: Any) -> ResultRecord:
    """A record with these bits of three layers."""
    rows = [(f"layer{i}", "convolution", weight, act, 100, 10) for i, (weight, act) in enumerate(bits)]
    layers = [dict(zip(NAMES, row, strict=True)) for row in rows]
    return made(0.7, report={"layers": layers}, **fields)


def layers(*bits: tuple[int, int]) -> pd.DataFrame:
    return layer_bits(found(*bits))


ONE, OTHER = layers((8, 8), (2, 4), (4, 2)), layers((8, 8), (4, 4), (4, 4))


def test_a_square_has_the_colour_of_its_bits() -> None:
    figure = policy_map({"one": [ONE], "other": [OTHER]})
    weights, inputs = figure.data
    scale = dict(enumerate(weights.colorbar.ticktext))
    assert [[scale[place] for place in row] for row in weights.z] == [["8", "2", "4"], ["8", "4", "4"]]
    assert [[scale[place] for place in row] for row in inputs.z] == [["8", "4", "2"], ["8", "4", "4"]]
    assert [step[1] for step in weights.colorscale] == [colour(b) for b in (2, 2, 4, 4, 8, 8)]
    assert weights.y == ("one", "other")


def test_over_seeds_the_bits_most_of_them_give() -> None:
    assert most({2: 1, 4: 2}) == 4
    assert most({2: 2, 4: 2}) == 2
    figure = policy_map({"one": [ONE, OTHER, OTHER]})
    scale = figure.data[0].colorbar.ticktext
    assert [scale[place] for place in figure.data[0].z[0]] == ["8", "4", "4"]
    assert "2 bits from one seed, 4 bits from 2 seeds" in figure.data[0].customdata[0][1]


def test_agreement_counts_weights_and_inputs() -> None:
    assert agreement([ONE]) == 1
    assert agreement([ONE, OTHER]) == pytest.approx(4 / 6)


def test_page_sets_searches_of_one_row_over_each_other(pages: Pages) -> None:
    pages.write(
        [
            found((8, 8), (2, 4), (4, 2), policy="first", seed=0),
            found((8, 8), (4, 4), (4, 2), policy="first", seed=1),
            found((8, 8), (4, 4), (4, 4), policy="second", seed=0),
        ]
    )
    app = pages.open("bits", row="mixmix · first · brecq · W4A4 · 256 images")
    assert not app.exception
    assert "Policies over each other" in [e.value for e in app.subheader]
    assert len(charts(app)) == 2
    assert "first 83 %" in text_of(app), [e.value for e in app.caption]


def test_page_without_policies_has_no_map(pages: Pages) -> None:
    pages.write([found((8, 8), (2, 4), (4, 2))])
    app = pages.open("bits")
    assert "Policies over each other" not in [e.value for e in app.subheader]


def test_page_says_which_policies_it_cannot_set_over_the_others(pages: Pages) -> None:
    pages.write(
        [
            found((8, 8), (2, 4), (4, 2), policy="first"),
            found((8, 8), (4, 4), (4, 4), policy="second"),
            found((8, 8), (4, 4), policy="shorter"),
        ]
    )
    app = pages.open("bits", row="mixmix · first · brecq · W4A4 · 256 images")
    assert not app.exception
    assert any("other layers or none" in e.value and "shorter" in e.value for e in app.caption)
