"""Complexity against accuracy, cost against gain: the drawn points against the table, the front by hand, the report."""

from __future__ import annotations

import math
import re
from typing import Any

import pandas as pd
import pytest

from bench.board.claims.judging import judge
from bench.board.index.frame import frame
from bench.board.tables.searches import COLUMNS
from bench.store.records import ResultRecord, StageCost
from dashboard.figures.searches import (
    complexity,
    contenders,
    cost_gain,
    cost_notes,
    on_front,
    search_colours,
    search_dashes,
)
from dashboard.report.figures import search_figures
from dashboard.report.page import Part, build
from dashboard.theme import GREY
from tests.board.make import record


def line(policy: str, top1: float | None, bitops: float | None, **fields: Any) -> dict[str, Any]:
    """A line of the table; its interval reaches 2 points down and 1 up."""
    ends = {} if top1 is None else {"top1_low": top1 - 2, "top1_high": top1 + 1}
    given = {"policy": policy, "method": "m", "setting_label": "W4A4", "top1_mean": top1, "bitops_g": bitops, **ends}
    given |= {"control": False, "equal": False, "stale": False, "seeds": "3 of 3", "suite_version": 1, "n": 1}
    return given | fields


def table(*lines: dict[str, Any]) -> pd.DataFrame:
    data = [[one.get(name, pd.NA if kind in ("Float64", "Int64") else "") for name, kind in COLUMNS.items()]
            for one in lines]  # fmt: skip
    return pd.DataFrame(data, columns=list(COLUMNS)).astype(dict(COLUMNS))


EQUAL = {"control": True, "equal": True, "method": "same", "gain": 0.0, "bitops_ratio": 1.0, "search_forwards": 0.0}
DRAWN = {"control": True, "method": "drawn", "search_forwards": 0.0, "search_cpu_s": 0.2, "bitops_ratio": 1.0}


def spent(gain: float, forwards: float, **fields: Any) -> dict[str, Any]:
    """What a search gained and cost, on 100 images."""
    known = {"gain": gain, "gain_low": gain - 3, "gain_high": gain + 2, "bitops_ratio": 1.0}
    return known | {"search_forwards": forwards, "search_cpu_s": forwards / 50, "search_images": 100} | fields


ALL = table(
    line("uniform", 60, 1.0, **EQUAL),
    line("uniform", 80, 2.0, **(EQUAL | {"setting_label": "W6A6"})),
    line("draw 0", 50, 1.0, gain=-10.0, **DRAWN),
    line("draw 1", 40, 1.0, gain=-20.0, **DRAWN),
    line("b", 65, 1.0, **spent(5, 1000)),
    line("b", 79, 2.1, setting_label="W6A6", **spent(-1, 2000, bitops_ratio=1.05)),
    line("a", 64, 0.9, **spent(4, 400)),
    line("a", None, None, setting_label="W6A6"),
)


def points(figure: Any) -> dict[str, Any]:
    return {trace.name: trace for trace in figure.data if trace.error_y.array is not None}


def test_a_line_per_search_and_its_intervals() -> None:
    drawn = points(complexity(ALL))
    assert {name: list(zip(t.x, t.y, strict=True)) for name, t in drawn.items()} == {
        "uniform": [(1, 60), (2, 80)],
        "drawn": [(1, 40), (1, 50)],
        "a": [(0.9, 64)],
        "b": [(1, 65), (2.1, 79)],
    }
    for trace in drawn.values():
        assert set(trace.error_y.array) == {1}
        assert set(trace.error_y.arrayminus) == {2}
    assert {name: trace.mode for name, trace in drawn.items()} == {
        "uniform": "lines+markers",
        "drawn": "markers",
        "a": "lines+markers",
        "b": "lines+markers",
    }


def test_controls_are_grey_and_hollow_and_searches_have_colours() -> None:
    drawn = points(complexity(ALL))
    looks = {name: (trace.marker.color, trace.marker.symbol) for name, trace in drawn.items()}
    assert looks["uniform"] == (GREY, "square-open")
    assert looks["drawn"] == (GREY, "diamond-open")
    assert len({looks[name][0] for name in ("a", "b")} - {GREY}) == 2
    assert {note.text: note.x for note in complexity(ALL).layout.annotations} == {
        "W4A4": pytest.approx(0.98),
        "W6A6": pytest.approx(2.05),
    }


def test_the_front_is_of_searches_that_none_beats() -> None:
    more = pd.concat([ALL, table(line("c", 63, 0.95), line("old", 99, 0.5, stale=True))])
    assert list(zip(on_front(more)["policy"], on_front(more)["bitops_g"], strict=True)) == [
        ("a", 0.9),
        ("b", 1.0),
        ("b", 2.1),
    ]
    assert set(contenders(more)["policy"]) == {"a", "b", "c"}
    front = next(trace for trace in complexity(more).data if trace.name.startswith("Pareto"))
    assert front.line.shape == "hv"
    assert list(front.x) == [0.9, 1, 2.1, 2.1]
    assert list(front.y) == [64, 65, 79, 79]


def test_controls_alone_have_no_front() -> None:
    assert not any(trace.name.startswith("Pareto") for trace in complexity(ALL[ALL["control"]]).data)


def test_more_searches_than_colours_stay_apart() -> None:
    rows = table(*(line(f"s{i:02}", 50 + i, 1.0) for i in range(16)))
    colours, dashes = search_colours(rows), search_dashes(rows)
    assert len({(colours[name], dashes[name]) for name in colours}) == 16


def test_gains_stand_over_both_costs() -> None:
    figure = cost_gain(ALL, 100)
    found = {(t.name, t.xaxis): list(zip(t.x, t.y, strict=True)) for t in figure.data if t.error_y.array is not None}
    # 400 passes are 2 epochs of 100 images; what costs nothing stands left of the cheapest
    assert found["a", "x"] == [(2, 4)]
    assert found["b", "x"] == [(5, 5), (10, -1)]
    assert found["a", "x2"] == [(8, 4)]
    assert found["b", "x2"] == [(20, 5), (40, -1)]
    assert found["drawn", "x2"] == [(0.2, -10), (0.2, -20)]
    (edge, _), _ = found["drawn", "x"]
    assert 0 < edge < 2
    assert (figure.layout.xaxis.ticktext[0], figure.layout.xaxis.tickvals[0]) == ("0", edge)
    assert "0" not in figure.layout.xaxis2.ticktext
    assert not any(name == "uniform" for name, _ in found)  # it is the line at 0
    assert [(shape.y0, shape.y1) for shape in figure.layout.shapes] == [(0, 0)]
    assert "100 images" in figure.layout.xaxis.title.text
    assert "CPU seconds" in figure.layout.xaxis2.title.text


def test_gains_have_intervals_where_they_are_known_and_dearer_ones_are_hollow() -> None:
    drawn = {t.name: t for t in cost_gain(ALL, 100).data if t.error_y.array is not None and t.xaxis == "x"}
    assert list(drawn["a"].error_y.array) == [2]
    assert list(drawn["a"].error_y.arrayminus) == [3]
    assert list(drawn["drawn"].error_y.array) == [0, 0]
    assert all(not math.isnan(v) for t in drawn.values() for v in t.error_y.array)
    assert list(drawn["b"].marker.symbol) == ["circle", "square-open"]  # the second takes 1.05 times the BitOPs
    assert drawn["drawn"].marker.color == GREY
    notes = " ".join(cost_notes(ALL, 100))
    assert "1 row of more than 1.01 times" in notes
    assert "no intervals" not in notes
    assert "no intervals" in " ".join(cost_notes(table(line("a", 60, 1.0, gain=1.0)), 100))


def test_hovers_say_gain_cost_and_escape() -> None:
    rows = pd.concat([ALL, table(line("<b>x</b>", 65, 1.0, **spent(5, 1000)))])
    for figure in (complexity(rows), cost_gain(rows, 100)):
        text = figure.to_json()
        assert "&lt;b" in text.replace("\\u003c", "<")
        assert re.search(r"\+5\.00 points \[2\.0, 7\.0\] over equal bits at 1\.000 times", text)
        assert "1,000 forward-equivalents" in text


def test_the_report_draws_costs_only_where_there_is_a_gain() -> None:
    assert [len(search_figures(rows)) for rows in (ALL, ALL[ALL["policy"] == "b"], ALL[ALL["control"]])] == [2, 2, 1]
    assert len(search_figures(table(line("a", 60, 1.0), line("b", 61, 1.0)))) == 1


def measured(accuracy: float, policy: str, method: str, bits: int, **fields: Any) -> ResultRecord:
    layers = [{"name": "l0", "weight_bits": bits, "activation_bits": 4}]
    report = {"layers": layers, "search": {"images": 32}}
    costs = {
        "synthesis": StageCost(seconds=1),
        "compress": StageCost(seconds=1),
        "search": StageCost(forward_equivalents=64.0 * (bits != 4), cpu_seconds=1),
    }
    return record(accuracy, policy=policy, policy_method=method, report=report, costs=costs, **fields)


def _part(records: list[ResultRecord]) -> Part:
    return Part("s", "Suite", "", frame(records), judge([], records), records, None, (), ())


def test_the_report_has_searches_with_what_they_are_compared_with() -> None:
    rows = [
        maker
        for seed in range(3)
        for maker in (
            measured(0.6, "same", "uniform", 4, seed=seed),
            measured(0.5, "drawn", "random", 2, seed=seed),
            measured(0.7, "found", "seam", 3, seed=seed),
            record(0.65, seed=seed),
        )
    ]
    page = build([_part(rows)])
    assert "<h3>Searched bits</h3>" in page
    assert "mixmix → resnet18_w10, brecq, 256 images" in page
    assert "bit operations of one image" in page
    assert "gain over equal bits" in page
    assert "mixmix · found" in page  # the leaderboard tells the rows apart, too
    assert "on 32 images, the most a search got, with 2 passes each" in page
    assert "epochs of 32 images" in page
    assert "Searched bits" not in build([_part([row for row in rows if not row.policy])])


def test_the_report_leaves_out_stale_searches() -> None:
    rows = [measured(0.6, name, "seam", 3) for name in ("a", "b", "c")]
    stale = frame(rows, versions={("policies", "seam"): 2, ("policies", "x"): 1})
    page = build([_part(rows)])
    assert "Searched bits" in page
    part = Part("s", "Suite", "", stale, [], rows, None, (), ())
    assert "Searched bits" not in build([part])
