"""Pareto front, best under a budget, equal budgets: against brute force and by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.board.index.frame import frame
from bench.board.stats.letters import split_letters
from bench.board.tables.costs import best_under, equal_budget, pareto_front
from bench.store.records import StageCost

from .make import bits, twice

_points = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12)


@given(_points)
def test_the_front_holds_exactly_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    table = pd.DataFrame(points, columns=["cost", "top1_mean"], dtype="Float64")
    front = set(pareto_front(table, "cost").rows.index)
    for i, (cost, value) in enumerate(points):
        beaten = any(c <= cost and v >= value and (c, v) != (cost, value) for c, v in points)
        assert (i in front) == (not beaten)


def test_what_lacks_a_number_is_left_out_and_counted() -> None:
    table = pd.DataFrame({"cost": [1.0, None, 3.0], "top1_mean": [50.0, 99.0, None]}).astype("Float64")
    found = pareto_front(table, "cost")
    assert list(found.rows.index) == [0]
    assert found.left_out == 2


def _spent(synthesis: float, compress: float, **more: float) -> dict[str, StageCost]:
    return {
        "synthesis": StageCost(seconds=synthesis, forward_equivalents=more.get("forwards", 0.0)),
        "compress": StageCost(seconds=compress, forward_equivalents=10),
        "measure": StageCost(seconds=1, forward_equivalents=5),  # not the optimiser's
    }


def _board() -> pd.DataFrame:
    base = bits(0.8, 1)
    nearly = base.copy()
    nearly[np.flatnonzero(base)[0]] = False
    return frame(
        [
            *twice(bits(0.9, 1), source="slow", costs=_spent(600, 60, forwards=1000)),
            *twice(base, source="a", costs=_spent(60, 30, forwards=100)),
            *twice(nearly, source="b", costs=_spent(10, 30, forwards=90), metrics={"size_bytes": 5000.0}),
            *twice(0.3, source="c", costs=_spent(0, 1)),
            *twice(0.95, source="real", control="upper", costs=_spent(0, 1)),
            *twice(0.7, source="a", target="vgg_w8", target_digest="w9", costs=_spent(60, 30)),
            *twice(0.9, source="d", costs={}),
        ]
    )


def test_best_under_keeps_ties_and_groups_apart() -> None:
    table = _board()
    found = best_under(table, minutes=2)
    assert set(zip(found.rows["source"], found.rows["target"], strict=True)) == {
        ("a", "resnet18_w10"),
        ("b", "resnet18_w10"),
        ("a", "vgg_w8"),
    }
    assert found.left_out == 1  # d has no cost
    small = best_under(table, minutes=2, size_bytes=2000).rows
    assert set(small["source"]) == {"a"}
    assert set(best_under(table).rows.query("target == 'resnet18_w10'")["source"]) == {"slow", "d"}
    assert best_under(table, minutes=0.001).rows.empty
    assert best_under(table, bitops_g=1.0).rows.empty


def test_budgets_are_those_of_synthesis_and_compression() -> None:
    table = _board().set_index("source")
    assert table.loc["slow", "forward_equivalents"] == 1010
    assert table.loc["slow", "synthesis_forwards"] == 1000
    assert table.loc["slow", "compress_forwards"] == 10


_budgets = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 4)), min_size=1, max_size=7)


@given(_budgets, st.sampled_from([1.0, 1.5, 2.0, 4.0]))
def test_equal_budget_is_the_largest_set(budgets: list[tuple[int, int]], ratio: float) -> None:
    table = pd.DataFrame(budgets, columns=["forward_equivalents", "n"], dtype="Float64")

    def equal(members: tuple[int, ...]) -> bool:
        sides = [[budgets[i][k] for i in members] for k in (0, 1)]
        return all(max(side) <= ratio * min(side) for side in sides)

    found = list(equal_budget(table, ratio).rows.index)
    sizes = [
        k for k in range(1, len(budgets) + 1) if any(equal(m) for m in itertools.combinations(range(len(budgets)), k))
    ]
    assert equal(tuple(found))
    assert len(found) == max(sizes)


def test_equal_budget_refuses_nonsense_and_counts() -> None:
    table = pd.DataFrame({"forward_equivalents": [1.0, None], "n": [1, 1]})
    assert equal_budget(table, 2).left_out == 1
    for bad in (0.5, 0):
        with pytest.raises(ValueError):
            equal_budget(table, bad)
    with pytest.raises(ValueError):
        equal_budget(table, 2, [])


def test_split_letters() -> None:
    assert split_letters("abd") == ["a", "b", "d"]
    assert split_letters("y,z,aa") == ["y", "z", "aa"]
