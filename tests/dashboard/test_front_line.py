"""Names of a front on a phone: those that would cover something stand in a series of their own, the last."""

from __future__ import annotations

import plotly.graph_objects as go
import pytest

from bench.board.index.frame import frame
from dashboard.figures.costs import COSTS
from dashboard.figures.front_line import WIDE
from dashboard.figures.trade_offs import trade_off
from tests.board.make import record

SIZE = next(cost for cost in COSTS if cost.column == "size_bytes")


def drawn(*rows: tuple[float, str, float]) -> go.Figure:
    """(accuracy, source, bytes)"""
    return trade_off(frame([record(a, source=s, metrics={"size_bytes": b}) for a, s, b in rows]), SIZE)


def names(figure: go.Figure) -> tuple[set[str], set[str]]:
    """Names that stand everywhere, and on wide screens alone."""
    by_name = {trace.name: trace for trace in figure.data}
    kept = {text.strip() for text in by_name["Pareto front"].text or () if text}
    wide = {text.strip() for text in by_name[WIDE].text} if WIDE in by_name else set()
    return kept, wide


def test_names_with_room_stand_everywhere() -> None:
    figure = drawn((0.5, "a", 1000), (0.9, "b", 9000))
    assert names(figure) == ({"a", "b"}, set())


@pytest.mark.parametrize("crowd", [(0.501, "second", 1010), (0.512, "no front", 1200)])
def test_a_name_that_covers_something_is_for_wide_screens(crowd: tuple[float, str, float]) -> None:
    figure = drawn((0.5, "a name of some length", 1000), crowd, (0.9, "b", 2000), (0.52, "under b", 9000))
    kept, wide = names(figure)
    assert wide
    assert kept | wide >= {"a name of some length", "b"}
    assert not kept & wide
    assert figure.data[-1].name == WIDE  # what the page's style takes off a phone is the last series
