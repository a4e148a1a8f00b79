"""Policies over each other: colours by bits, the bits most seeds give, how far seeds agree, and the page with all of a
suite's searches."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from bench.store.records import ResultRecord, StageCost
from dashboard.figures.bits import colour, layer_bits
from dashboard.figures.policies import agreement, most, policy_map, stability
from tests.dashboard.fixtures_pages2 import AWKWARD, Pages, charts, check_awkward, made, pages, text_of

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
    half = layers((8, 8), (4, 4), (2, 2))
    assert agreement([ONE, half], ["weight_bits"]) == pytest.approx(1 / 3)
    assert agreement([ONE, half], ["activation_bits"]) == 1


def test_the_parts_of_a_bar_are_the_shares_of_the_seeds() -> None:
    figure = stability([ONE, OTHER, OTHER])
    parts = {(bar.yaxis, bar.name): [round(share, 3) for share in bar.y] for bar in figure.data}
    assert parts == {
        ("y", "2 bits"): [0, 33.333, 0],
        ("y", "4 bits"): [0, 66.667, 100],
        ("y", "8 bits"): [100, 0, 0],
        ("y2", "2 bits"): [0, 0, 33.333],
        ("y2", "4 bits"): [0, 100, 66.667],
        ("y2", "8 bits"): [100, 0, 0],
    }
    assert {bar.name: bar.marker.color for bar in figure.data} == {f"{bits} bits": colour(bits) for bits in (2, 4, 8)}
    assert sum(bar.showlegend for bar in figure.data) == 3
    assert "2 bits from one seed, 4 bits from 2 seeds" in figure.data[0].customdata[1]


def searched(accuracy: float, policy: str, *bits: tuple[int, int], method: str = "seam", **fields: Any) -> ResultRecord:
    """A record of three layers, with what its search took."""
    one = found(*bits)
    spent = {"search": StageCost(forward_equivalents=640.0, cpu_seconds=3.0)}
    report = one.report | {"search": {"images": 64, "class_margins": margins()}}
    known = {"policy_method": method, "policy_version": 99, "source_version": 99, "compressor_version": 99}
    return made(accuracy, policy=policy, costs=spent, report=report, **(known | fields))


SAME, MIXED, DRAWN = ((8, 8), (4, 4), (4, 4)), ((8, 8), (2, 4), (4, 6)), ((8, 8), (6, 4), (2, 4))


def margins() -> dict[str, Any]:
    points = {"x": [0.0, 1.0, 5.0], "y": [0.0, 1.0, 5.0]}
    return {"float": 2.0, "searched": 1.5, "why": {}, "points": {"float": points, "searched": points}} | {
        "point_classes": [0, 0, 1]
    }


def suite(seeds: int = 3) -> list[ResultRecord]:
    rows = []
    for seed in range(seeds):
        for setting in ("W4A4", "W3A3"):
            same = SAME if setting == "W4A4" else ((8, 8), (3, 3), (3, 3))
            rows += [
                searched(0.7, "uniform", *same, method="uniform", seed=seed, setting_label=setting),
                searched(0.6, "drawn", *DRAWN, method="random", seed=seed, setting_label=setting),
                searched(0.72 + 0.01 * seed, "first", *MIXED, seed=seed, setting_label=setting),
                searched(0.71, "second", *(SAME if seed else MIXED), seed=seed, setting_label=setting),
            ]
    return rows


def test_page_shows_all_of_a_suites_searches(pages: Pages) -> None:
    pages.write(suite())
    app = pages.open("policies", level="W3A3", search="second")
    assert not app.exception
    assert [e.value for e in app.header] == [
        "Complexity against accuracy",
        "Search cost against gain",
        "Policies over each other",
        "Stability over seeds",
        "Class margins of the features",
    ]
    assert [e.value for e in app.info] == []
    accuracy, costs, over, stable, bars, picture = charts(app)
    assert {t["name"] for t in accuracy["data"]} == {
        "Pareto front of the searches",
        "uniform",
        "random",
        "first",
        "second",
    }
    assert "gain over equal bits" in costs["layout"]["yaxis"]["title"]["text"]
    assert over["data"][0]["y"] == ["uniform", "drawn", "first", "second"]
    assert {t["name"] for t in stable["data"]} == {"2 bits", "4 bits", "6 bits", "8 bits"}
    assert bars["data"][0]["y"] == [2.0] * 4
    assert len(picture["data"]) == 4
    text = text_of(app)
    assert "64 images" in text
    assert "5.00" in text  # 640 passes are 5 epochs of 64 images


def test_page_sets_the_newest_version_of_a_suite_beside_nothing_older(pages: Pages) -> None:
    pages.write([searched(0.5, "old", *SAME), searched(0.6, "new", *MIXED, suite_version=2)])
    app = pages.open("policies")
    assert not app.exception
    assert charts(app)[1]["data"][0]["y"] == ["new"]


def test_page_says_why_a_section_is_empty(pages: Pages) -> None:
    pages.write([made(0.7, policy="first", policy_method="seam")])
    app = pages.open("policies")
    assert not app.exception
    said = " ".join(e.value for e in app.info)
    for why in (
        "No control of equal bits",
        "No record here lists its layers",
        "None of these searches reports margins",
    ):
        assert why in said, why
    pages.write([searched(0.7, "uniform", *SAME, method="uniform")])
    said = " ".join(e.value for e in pages.open("policies").info)
    assert "One seed says nothing" in said
    assert "No control of equal bits" not in said


def test_page_mixes_no_stale_record_with_those_measured_again(pages: Pages) -> None:
    old = [searched(0.7, "first", *MIXED, seed=seed, policy_version=0, row_id="old") for seed in (0, 1)]
    new = [searched(0.7, "first", *SAME, seed=seed, row_id="new") for seed in (0, 1)]
    pages.write([*(r.model_copy(update={"cell_id": f"{i:016x}"}) for i, r in enumerate([*old, *new]))])
    app = pages.open("policies")
    assert not app.exception
    stable = next(figure for figure in charts(app) if figure["layout"].get("barmode") == "stack")
    assert {bar["name"] for bar in stable["data"]} == {"4 bits", "8 bits"}  # none of the old ones' 2 and 6


def test_page_says_that_rows_are_stale(pages: Pages) -> None:
    pages.write(
        [
            searched(0.7, "uniform", *SAME, method="uniform", policy_version=0),
            searched(0.6, "first", *MIXED, policy_version=0),
        ]
    )
    app = pages.open("policies")
    assert any("are stale" in e.value for e in app.info)
    assert any("2 rows stale, on no front" in e.value for e in app.caption)


def test_page_says_when_no_row_is_complete(pages: Pages) -> None:
    pages.write([searched(0.7, "first", *MIXED), searched(0.7, "second", *MIXED, seed=1)])
    app = pages.open("policies")
    assert not app.exception
    assert any("still lacks a seed" in e.value for e in app.info)


@pytest.mark.parametrize("name", AWKWARD)
def test_page_answers_awkward_stores(pages: Pages, name: str) -> None:
    check_awkward(pages, "policies", name)


def test_page_without_policies_says_so(pages: Pages) -> None:
    pages.write([found((8, 8), (2, 4), (4, 2))])
    app = pages.open("policies")
    assert not charts(app)
    assert any("bits were searched" in e.value for e in app.info)


def test_page_says_which_policies_it_cannot_set_over_the_others(pages: Pages) -> None:
    pages.write(
        [
            found((8, 8), (2, 4), (4, 2), policy="first"),
            found((8, 8), (4, 4), (4, 4), policy="second"),
            found((8, 8), (4, 4), policy="shorter"),
        ]
    )
    app = pages.open("policies")
    assert not app.exception
    assert any("other layers or none" in e.value and "shorter" in e.value for e in app.caption)
