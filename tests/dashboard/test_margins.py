"""Class margins: bars are the reported ratios, pictures the reported points, awkward reports draw nothing wrong."""

from __future__ import annotations

from typing import Any

import pytest

from dashboard.figures.margins import SIDES, embeddings, margin_bars, margins_of
from tests.board.make import record


def reported(own: float | None = 2.0, searched: float | None = 1.5, **more: Any) -> dict[str, Any]:
    points = {
        "float": {"x": [0.0, 1.0, 2.0, 3.0], "y": [4.0, 5.0, 6.0, 7.0]},
        "searched": {"x": [0.0, 10.0, 20.0, 30.0], "y": [40.0, 50.0, 60.0, 70.0]},
    }
    found = {"float": own, "searched": searched, "why": {}, "points": points, "point_classes": [3, 5, 3, 5]}
    return found | more


def test_a_records_margins_are_its_searchs() -> None:
    kept = record(0.5, report={"search": {"class_margins": reported()}})
    assert margins_of(kept) == reported()
    without: list[dict[str, Any]] = [
        {},
        {"search": None},
        {"search": {}},
        {"search": {"class_margins": {"float": 1.0}}},
    ]
    for report in without:
        assert margins_of(record(0.5, report=report)) is None


def test_bars_are_means_and_points_the_seeds() -> None:
    figure = margin_bars({"one": [reported(2.0, 1.0), reported(3.0, 2.0)], "other": [reported(1.0, None)]})
    bars = [trace for trace in figure.data if trace.type == "bar"]
    assert [bar.name for bar in bars] == [said for _, said, _ in SIDES]
    assert [list(bar.y) for bar in bars] == [[2.5, 1.0], [1.5, None]]
    dots = [trace for trace in figure.data if trace.type == "scatter"]
    assert [list(trace.y) for trace in dots] == [[2.0, 3.0, 1.0], [1.0, 2.0]]
    for bar, trace in zip(bars, dots, strict=True):
        assert set(trace.x) <= set(bar.x)  # over its own bar
    assert bars[0].x[1] - bars[0].x[0] == pytest.approx(1)
    assert list(figure.layout.xaxis.ticktext) == ["one", "other"]
    assert "&lt;b&gt;" in margin_bars({"<b>": [reported()]}).layout.xaxis.ticktext[0]


def test_diamonds_are_means_over_all_pairs() -> None:
    means = [{"float": 4.0, "searched": 3.0}, {"float": 6.0, "searched": None}]
    figure = margin_bars({"old": [reported()], "new": [reported(mean=one) for one in means]})
    diamonds = {trace.name: trace for trace in figure.data if trace.type == "scatter" and trace.name}
    assert {name: list(trace.y) for name, trace in diamonds.items()} == {
        "in floating point, all pairs": [5.0],
        "as searched, all pairs": [3.0],
    }
    assert all(list(trace.customdata) == ["new"] for trace in diamonds.values())


def test_pictures_are_the_points_by_class() -> None:
    figure = embeddings(reported())
    found = {(t.name, t.xaxis): (list(t.x), list(t.y)) for t in figure.data}
    assert found == {
        ("class 3", "x"): ([0, 2], [4, 6]),
        ("class 5", "x"): ([1, 3], [5, 7]),
        ("class 3", "x2"): ([0, 20], [40, 60]),
        ("class 5", "x2"): ([10, 30], [50, 70]),
    }
    assert len({trace.marker.color for trace in figure.data if trace.name == "class 3"}) == 1
    assert [trace.name for trace in figure.data if trace.showlegend] == ["class 3", "class 5"]
    assert figure.layout.xaxis.title.text == "in floating point: 2.00"
    assert figure.layout.xaxis2.title.text == "as searched: 1.50"
    assert figure.layout.yaxis.scaleanchor == "x"
    assert figure.layout.yaxis2.scaleanchor == "x2"


def test_many_classes_differ_in_colour_or_marker_and_have_no_legend() -> None:
    places = list(range(30))
    points = {side: {"x": places, "y": places} for side in ("float", "searched")}
    figure = embeddings(reported(points=points, point_classes=places))
    looks = {(trace.marker.color, trace.marker.symbol) for trace in figure.data}
    assert len(looks) == 30
    assert not any(trace.showlegend for trace in figure.data)


def test_a_side_without_points_is_empty() -> None:
    figure = embeddings(reported(searched=None, points={"float": reported()["points"]["float"], "searched": {}}))
    assert {trace.xaxis for trace in figure.data} == {"x"}
    assert figure.layout.xaxis2.title.text == "as searched"
