"""Rank correlation: against a count by hand."""

from __future__ import annotations

import random

import pytest

from bench.interfaces.ranks import rank_correlation


def by_hand(a: list[float], b: list[float]) -> float:
    """1 - 6 sum d^2 / (n (n^2 - 1)), for values that are all different."""
    places = [[sorted(values).index(value) for value in values] for values in (a, b)]
    squares = sum((i - j) ** 2 for i, j in zip(*places, strict=True))
    return 1 - 6 * squares / (len(a) * (len(a) ** 2 - 1))


def test_it_is_the_correlation_of_the_places() -> None:
    draw = random.Random(0)
    for count in range(2, 12):
        a, b = ([draw.random() for _ in range(count)] for _ in range(2))
        assert rank_correlation(a, b) == pytest.approx(by_hand(a, b))
        assert rank_correlation(a, [value**3 for value in a]) == pytest.approx(1.0)
        assert rank_correlation(a, [-value for value in a]) == pytest.approx(-1.0)


def test_equal_values_share_their_mean_rank() -> None:
    a, ranks, b = [1.0, 1.0, 2.0], [1.5, 1.5, 3.0], [5.0, 7.0, 9.0]
    mean = sum(ranks) / 3
    over = sum((r - mean) * (s - 2) for r, s in zip(ranks, [1, 2, 3], strict=True))
    under = (sum((r - mean) ** 2 for r in ranks) * 2) ** 0.5
    assert rank_correlation(a, b) == pytest.approx(over / under)


def test_nothing_to_rank_has_none() -> None:
    assert rank_correlation([1.0, 1.0], [1.0, 2.0]) is None
    assert rank_correlation([1.0, 2.0], [3.0, 3.0]) is None
    assert rank_correlation([1.0], [2.0]) is None
    assert rank_correlation([], []) is None
