"""Intervals and tests against closed forms, other implementations and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from bench.board.stats import (
    Spread,
    accuracy_interval,
    common_table,
    holm,
    holm_levels,
    paired_bootstrap,
    paired_difference,
    spread,
    tie_groups,
    totals_interval,
    wilson,
)


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (1, 2000), (850, 1000), (9234, 10000)])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.999])
def test_wilson_equals_scipy(k: int, n: int, level: float) -> None:
    other = scipy_stats.binomtest(k, n).proportion_ci(level, method="wilson")
    found = wilson(k, n, level)
    assert found.low == pytest.approx(100 * other.low, abs=1e-9)
    assert found.high == pytest.approx(100 * other.high, abs=1e-9)


def test_wilson_refuses_nonsense() -> None:
    for k, n in ((1, 0), (3, 2), (-1, 5)):
        with pytest.raises(ValueError):
            wilson(k, n)


def test_holm_by_hand() -> None:
    # Holm: 4·.01, max(.04, 3·.02), max(.06, 2·.03), max(.06, .04)
    assert holm([0.01, 0.04, 0.03, 0.02]) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


@given(st.lists(st.floats(1e-9, 1.0), min_size=1, max_size=8))
def test_holm_levels_reject_what_holm_rejects(p_values: list[float]) -> None:
    adjusted, levels = holm(p_values), holm_levels(p_values)
    for p, whole, level in zip(p_values, adjusted, levels, strict=True):
        if abs(whole - 0.05) > 1e-9:
            assert (p <= 1 - level) == (whole <= 0.05)


def test_holm_levels_by_hand() -> None:
    # .001 <= .05/3 rejected, .03 > .05/2 kept: both left share that level
    assert holm_levels([0.04, 0.001, 0.03]) == pytest.approx([0.975, 1 - 0.05 / 3, 0.975])


def test_one_seed_is_wilson() -> None:
    correct = np.arange(1000)[None] < 873
    mean, interval = accuracy_interval(correct)
    assert mean == pytest.approx(87.3)
    assert interval == pytest.approx(wilson(873, 1000))


def test_equal_seeds_add_nothing() -> None:
    correct = np.tile(np.arange(1000) < 873, (3, 1))
    _, interval = accuracy_interval(correct)
    # the images' variance with N-1 instead of N
    assert interval == pytest.approx(wilson(873, 1000), abs=2e-3)


@pytest.mark.parametrize("share", [0, 1])
def test_all_wrong_or_right_keeps_a_width(share: int) -> None:
    _, interval = accuracy_interval(np.full((3, 200), bool(share)))
    assert interval == pytest.approx(wilson(200 * share, 200))


def test_spread_is_the_crossed_analysis_of_variance() -> None:
    table = np.array([[1.0, 2, 6], [3, 3, 9]])
    mean = table.mean()
    rest = table - table.mean(0) - table.mean(1)[:, None] + mean
    ms_rest = (rest**2).sum() / 2
    found = spread(table)
    assert found.estimate == mean
    assert found.pooled_variance == pytest.approx(table.mean(0).var(ddof=1) / 3)
    assert found.image_variance == pytest.approx(table.mean(0).var(ddof=1) / 3 - ms_rest / 6)
    assert found.seed_variance == pytest.approx(table.mean(1).var(ddof=1) / 2)
    with pytest.raises(ValueError):
        spread(table[0])


def test_half_width_by_hand() -> None:
    parts = Spread(1.0, 0.04, 0.09, 0.1, 3, 100)
    t, z = scipy_stats.t.ppf(0.975, 2), scipy_stats.norm.ppf(0.975)
    assert parts.half_width() == pytest.approx(math.sqrt(t * t * 0.04 + z * z * 0.09))
    one = Spread(1.0, 0.0, 0.09, 0.09, 1, 100)
    assert one.half_width() == pytest.approx(z * 0.3)
    lucky = Spread(1.0, 0.0, 0.01, 0.09, 3, 100)  # seeds that agree by chance
    assert lucky.half_width() == pytest.approx(z * 0.3)


@pytest.mark.parametrize("null", [0.0, 0.4, 1.0, 5.0])
def test_p_value_is_the_level_at_which_the_interval_touches(null: float) -> None:
    parts = Spread(1.0, 0.04, 0.09, 0.1, 3, 100)
    p = parts.p_value(null)
    if null == 1.0:
        assert p == 1.0
        return
    assert parts.half_width(1 - p) == pytest.approx(abs(1 - null), rel=1e-6)
    alone = Spread(1.0, 0.0, 0.09, 0.09, 1, 100)
    assert alone.p_value(null) == pytest.approx(2 * scipy_stats.norm.sf(abs(1 - null) / 0.3), rel=1e-6)
    seeds_only = Spread(1.0, 0.04, 0.0, 0.0, 3, 100)
    assert seeds_only.p_value(null) == pytest.approx(2 * scipy_stats.t.sf(abs(1 - null) / 0.2, 2), rel=1e-6)


@pytest.mark.parametrize("seed_deviation", [0.0, 0.01, 0.04])
@pytest.mark.parametrize("count", [3, 5])
def test_coverage_of_several_seeds(seed_deviation: float, count: int) -> None:
    """Random seeds and random images, the truth being the mean over both."""
    rng = np.random.default_rng(4)
    trials, images = 400, 400
    hits = naive = 0
    for _ in range(trials):
        easy = rng.beta(6.0, 2.0, images)  # mean .75; a seed's shift seldom leaves [0, 1]
        shifts = rng.normal(0, seed_deviation, count)
        correct = rng.random((count, images)) < easy[None] + shifts[:, None]
        _, interval = accuracy_interval(correct)
        hits += interval.low <= 75 <= interval.high
        pooled = wilson(correct.sum(), correct.size)
        naive += pooled.low <= 75 <= pooled.high
    assert 0.93 <= hits / trials <= 0.995
    assert naive < hits  # counting every seed's answers as new images is too sure of itself
    if seed_deviation == 0.04:
        assert naive / trials < 0.8


def test_totals_are_never_narrower() -> None:
    rng = np.random.default_rng(0)
    correct = rng.random((3, 500)) < rng.beta(6, 2, 500)[None]
    mean, interval = accuracy_interval(correct)
    rough_mean, rough = totals_interval([100 * float(row.mean()) for row in correct], 500)
    assert rough_mean == pytest.approx(mean)
    assert rough.low <= interval.low
    assert rough.high >= interval.high
    assert totals_interval([80.0], 500)[1] == pytest.approx(wilson(400, 500))


def _pair(rng: np.random.Generator, count: int, images: int, gap: float) -> tuple[np.ndarray, np.ndarray]:
    easy = rng.beta(4, 1, images)
    base = rng.random((count, images))
    return base < easy + gap, base < easy


def test_paired_with_one_seed_is_mcnemar() -> None:
    first = np.array([[1] * 30 + [0] * 10 + [1] * 60], dtype=bool)
    second = np.array([[0] * 30 + [1] * 10 + [1] * 60], dtype=bool)
    found = paired_difference(first, second)
    assert found.estimate == pytest.approx(20)
    values = first[0].astype(float) - second[0]
    assert found.image_variance == pytest.approx(1e4 * values.var(ddof=1) / 100)
    with pytest.raises(ValueError):
        paired_difference(first, second[:, :50])


def test_equal_answers_do_not_prove_equality() -> None:
    same = np.ones((2, 1000), dtype=bool)
    low, high = paired_difference(same, same).interval()
    assert low < 0 < high
    assert high == pytest.approx(1.96 * 0.1, rel=1e-3)


def test_bootstrap_agrees_and_pairing_helps() -> None:
    rng = np.random.default_rng(1)
    first, second = _pair(rng, 1, 3000, 0.01)
    interval = paired_difference(first, second).interval()
    boot = paired_bootstrap(first, second, np.random.default_rng(2))
    assert boot == pytest.approx(interval, abs=0.08)
    unpaired = math.hypot(*(spread(100 * x.astype(float)).half_width() for x in (first, second)))
    assert interval.high - interval.low < unpaired


@pytest.mark.parametrize("count", [1, 6])
def test_bootstrap_and_paired_coverage(count: int) -> None:
    rng = np.random.default_rng(3)
    trials, hits, boots = 200, 0, 0
    for _ in range(trials):
        easy = rng.uniform(0.1, 0.9, 300)
        shift = rng.normal(0, 0.02 if count > 1 else 0, (count, 1))
        first = rng.random((count, 300)) < easy + 0.05 + shift
        second = rng.random((count, 300)) < easy
        interval = paired_difference(first, second).interval()
        boot = paired_bootstrap(first, second, rng, draws=200)
        hits += interval.low <= 5 <= interval.high
        boots += boot.low <= 5 <= boot.high
    assert hits / trials >= 0.92
    assert boots / trials >= 0.88


def test_common_table_pairs_only_what_can_be_paired() -> None:
    a, b = np.ones(4, dtype=bool), np.zeros(4, dtype=bool)
    first, second = common_table({0: a, 2: b, 1: a}, {2: a, 0: b})
    np.testing.assert_array_equal(first, [[1, 1, 1, 1], [0, 0, 0, 0]])
    np.testing.assert_array_equal(second, [[0, 0, 0, 0], [1, 1, 1, 1]])
    assert common_table({0: a}, {1: a}) == []
    assert common_table({0: a}, {0: np.ones(5, dtype=bool)}) == []


def test_tie_groups() -> None:
    def row(right: int) -> dict[int, np.ndarray]:
        return {0: np.arange(2000) < right}

    # 1800 and 1798 differ in two images only; 1500 in hundreds; 1499 ties with 1500
    assert tie_groups([row(1500), row(1800), row(1499), row(1798), row(900)]) == [3, 1, 3, 1, 5]
    assert tie_groups([row(10)]) == [1]
    assert tie_groups([]) == []
    other_seed = {1: np.arange(2000) < 100}
    assert tie_groups([row(1800), other_seed]) == [1, 1]  # nothing pairs them, so nothing shows a difference
