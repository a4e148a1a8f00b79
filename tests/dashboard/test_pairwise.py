"""Pairwise comparisons and average ranks as the leaderboard shows them."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from bench.board.stats.demsar import critical_difference
from bench.store.record_store import RecordStore
from dashboard.figures.ranks import critical_difference_plot, win_map
from dashboard.pairwise import matrix, pair_rows
from tests.board.make import seeds
from tests.dashboard.conftest import shown, stored

App = Callable[..., AppTest]


def _records() -> list:
    same = {"target_digest": "a", "protocol_id": "p"}
    found = seeds([0.80, 0.81], source="good", **same) + seeds([0.50, 0.52], source="poor", **same)
    return [*found, *seeds([0.9, 0.9], source="elsewhere", target_digest="a", protocol_id="other")]


def _shown() -> set[str]:
    return {record.row_id for record in _records()}


def test_the_matrix_holds_the_rows_of_one_protocol() -> None:
    pairs = matrix(_records(), "p", _shown())
    assert set(pairs["row"]) == {"good · brecq", "poor · brecq"}
    one = pairs.set_index("row").loc["good · brecq"]
    assert one["difference"] == pytest.approx(29.5)
    assert one["outcome"] == "win"
    assert matrix(_records()[:2], "p", _shown()).empty
    assert matrix(_records(), "p", {_records()[0].row_id}).empty  # the other row is there for the variance only


def test_the_map_marks_who_wins() -> None:
    figure = win_map(matrix(_records(), "p", _shown()))
    (heat,) = figure.data
    assert list(heat.x) == ["good · brecq", "poor · brecq"]  # best first
    assert [list(line) for line in heat.z] == [[None, 1], [-1, None]]
    assert heat.text[0][1].startswith("▲ ")
    assert heat.text[1][0].startswith("▼ -")


def test_the_table_lists_each_pair_once_the_better_row_first() -> None:
    html = pair_rows(matrix(_records(), "p", _shown()))
    body = html[html.index("<tbody>") :]
    assert body.count("<tr") == 1
    cells = re.findall(r"<td[^>]*>(.*?)</td>", body)
    assert cells[:3] == ["good · brecq", "poor · brecq", "29.50"]


def test_bars_span_what_is_not_told_apart() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(70, 5, 8)
    scores = pd.DataFrame({name: base - 3 * i for i, name in enumerate("abcdef")}, index=[f"t{i}" for i in range(8)])
    found = critical_difference(scores)
    figure = critical_difference_plot(found)
    lines = [trace for trace in figure.data if trace.mode == "lines"]
    assert [(trace.y[0], trace.y[1]) for trace in lines] == [(c[0], c[-1]) for c in found.cliques]
    dots = next(trace for trace in figure.data if trace.mode == "markers+text")
    assert dict(zip(dots.y, dots.x, strict=True)) == found.average_ranks
    ruler = figure.data[-1]
    assert ruler.x[1] - ruler.x[0] == pytest.approx(found.cd)


def test_the_page_compares_rows_when_asked(alone: RecordStore, app: App) -> None:
    for one in stored(_records()):
        alone.write(one)
    test = app("leaderboard")
    assert "detectable" not in "".join(e.label for e in test.expander)
    test.toggle[0].set_value(True).run()
    assert not test.exception
    assert "▲ better" in shown(test)
    assert "29.50" in shown(test)


def test_equal_budgets_leave_out_who_spends_more(alone: RecordStore, app: App) -> None:
    for one in stored(_records()):
        alone.write(one)
    for one in stored(seeds([0.6, 0.6], source="dear", target_digest="a", protocol_id="p", n=4096)):
        alone.write(one)
    assert "dear" in shown(app("leaderboard"))
    test = app("leaderboard", budget="equal within 2×")
    assert not test.exception
    assert "dear" not in shown(test)
    assert "1 rows spend more or less" in shown(test)
