"""Cochran's Q against closed forms and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from bench.board.stats.heterogeneity import heterogeneity
from bench.board.stats.paired import Spread


def part(estimate: float, variance: float, degrees: float = 1e8) -> Spread:
    """All of its variance between seeds."""
    return Spread(estimate, variance, 0.0, 0.0, 3, 100, seed_degrees=degrees)


def test_with_known_variances_it_is_cochrans_q() -> None:
    values, variances = np.array([1.0, -2.0, 0.5]), np.array([0.5, 1.0, 2.0])
    weights = 1 / variances
    q = float(weights @ (values - weights @ values / weights.sum()) ** 2)
    found = heterogeneity([part(v, s) for v, s in zip(values, variances, strict=True)])
    assert found == pytest.approx(scipy_stats.chi2.sf(q, 2), rel=1e-4)
    assert heterogeneity([part(1.0, 1.0)]) == 1.0


def test_two_parts_are_welchs_t() -> None:
    rng = np.random.default_rng(0)
    one, two = rng.normal(0, 1, 6), rng.normal(1, 3, 4)
    parts = [part(float(x.mean()), float(x.var(ddof=1)) / len(x), len(x) - 1) for x in (one, two)]
    assert heterogeneity(parts) == pytest.approx(scipy_stats.ttest_ind(one, two, equal_var=False).pvalue, rel=1e-6)


def test_it_rejects_equal_parts_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(2000):
        values = rng.normal(size=(4, 9))
        parts = [part(float(x.mean()), float(x.var(ddof=1)) / 9, 8) for x in values]
        wrong += heterogeneity(parts) <= 0.05
    assert 0.035 <= wrong / 2000 <= 0.065
