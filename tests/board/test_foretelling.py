"""How well a search's costs foretell accuracies: against ranks by hand, and what is left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench.board.tables.foretelling import FEWEST, cost_of, foretelling
from bench.store.records import ResultRecord
from tests.board.make import record

LAYERS = ("a", "b")
COSTS = {"a": {"2,2": 8.0, "3,3": 3.0, "4,4": 0.0}, "b": {"2,2": 4.0, "3,3": 1.0, "4,4": 0.0}}
POLICIES = [(2, 2), (2, 3), (3, 2), (3, 3), (4, 2), (4, 4)]
CHEAP = [-12, -9, -7, -4, -4, 0]


def searched(name: str, bits: tuple[int, int], top1: float, **fields: Any) -> ResultRecord:
    layers = [
        {"name": layer, "weight_bits": b, "activation_bits": b} for layer, b in zip(LAYERS, bits, strict=True)
    ] + [{"name": "last", "weight_bits": 8, "activation_bits": 8}]
    search = {"pair_costs": fields.pop("costs")} if "costs" in fields else {}
    return record(top1, policy=name, report={"layers": layers, "search": search}, **fields)


def grid(values: list[float], seed: int = 0, **fields: Any) -> list[ResultRecord]:
    """Six policies of these accuracies; the first by a search that reports its costs."""
    return [
        searched(f"p{i}", bits, value, seed=seed, **({"costs": COSTS} if i == 0 else {}), **fields)
        for i, (bits, value) in enumerate(zip(POLICIES, values, strict=True))
    ]


def ranks(values: list[float]) -> np.ndarray:
    """Mean rank of each value by counting."""
    given = np.asarray(values)
    return np.array([(given < v).sum() + ((given == v).sum() + 1) / 2 for v in given])


@pytest.mark.parametrize("values", [[0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0.5, 0.2, 0.6, 0.1, 0.4, 0.3]])
def test_it_is_the_correlation_of_the_ranks(values: list[float]) -> None:
    found = foretelling(grid(values))
    assert list(found["policy"]) == ["p0"]
    expected = np.corrcoef(ranks([float(c) for c in CHEAP]), ranks(values))[0, 1]
    assert found["correlation"].item() == pytest.approx(expected)
    assert (found["policies"].item(), found["seeds"].item()) == (6, 1)


def test_seeds_are_averaged_and_targets_are_apart() -> None:
    up, down = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0.6, 0.5, 0.4, 0.3, 0.2, 0.1]
    found = foretelling([*grid(up), *grid(down, seed=1), *grid(up, target="resnet50_w8")]).set_index("target")
    both = found.loc["resnet18_w10"]
    assert both["correlation"] == pytest.approx(0.0)
    assert both["lowest"] == -both["highest"]
    assert both["seeds"] == 2
    assert found.loc["resnet50_w8", "correlation"] == pytest.approx(both["highest"])


def test_a_policy_counts_once_and_too_few_give_nothing() -> None:
    values = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    twice = [*grid(values), searched("again", POLICIES[3], 0.4)]
    assert foretelling(twice)["policies"].item() == 6
    assert foretelling(grid(values)[: FEWEST - 1]).empty
    assert len(foretelling(grid(values)[:FEWEST])) == 1
    assert foretelling([]).empty


def test_bits_that_were_no_candidates_are_not_rated() -> None:
    assert cost_of((("a", 2, 2), ("b", 4, 4)), COSTS) == 8.0
    assert cost_of((("a", 8, 8), ("b", 4, 4)), COSTS) is None
    assert cost_of((("a", 2, 2),), COSTS) is None
    values = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert foretelling([*grid(values), searched("other", (8, 8), 0.9)])["policies"].item() == 6


def test_what_is_stale_rates_nothing_and_is_not_rated() -> None:
    values = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    fresh, versions = grid(values, policy_method="some", policy_version=2), {("policies", "some"): 2}
    older = searched("old", (2, 4), 0.9, policy_method="some", policy_version=1)
    assert foretelling([older, *fresh])["policies"].item() == 7
    assert foretelling([older, *fresh], versions=versions)["policies"].item() == 6
    assert foretelling(fresh, versions={("policies", "some"): 3}).empty


def test_the_best_search_of_a_group_comes_first() -> None:
    values = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    wrong = {layer: {pair: -cost for pair, cost in pairs.items()} for layer, pairs in COSTS.items()}
    found = foretelling([searched("worse", (2, 4), 0.35, costs=wrong), *grid(values)])
    assert list(found["policy"]) == ["p0", "worse"]
    assert found["correlation"].is_monotonic_decreasing
