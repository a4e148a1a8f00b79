"""Intervals and tests against closed forms, other implementations and simulation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from bench.board.stats.bootstrap import Floats, mean_skewness, two_level_tails
from bench.board.stats.intervals import accuracy_interval, totals_interval, wilson
from bench.board.stats.multiple import holm, holm_levels
from bench.board.stats.paired import Spread, common_table, half_widths, paired_difference, spread


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
@pytest.mark.parametrize("count", [2, 3, 5])
def test_coverage_of_several_seeds(seed_deviation: float, count: int) -> None:
    """Random seeds and random images, the truth being the mean over both."""
    rng = np.random.default_rng(4)
    trials, images = 2000, 400
    hits = naive = 0
    for _ in range(trials):
        easy = rng.beta(6.0, 2.0, images)  # mean .75; a seed's shift seldom leaves [0, 1]
        shifts = rng.normal(0, seed_deviation, count)
        correct = rng.random((count, images)) < easy[None] + shifts[:, None]
        _, interval = accuracy_interval(correct)
        hits += interval.low <= 75 <= interval.high
        pooled = wilson(correct.sum(), correct.size)
        naive += pooled.low <= 75 <= pooled.high
    assert 0.92 <= hits / trials <= (0.98 if count == 2 else 0.975)
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


def test_pairing_by_image_helps() -> None:
    first, second = _pair(np.random.default_rng(1), 1, 3000, 0.01)
    interval = paired_difference(first, second).interval()
    unpaired = math.hypot(*(spread(100 * x.astype(float)).half_width() for x in (first, second)))
    assert interval.high - interval.low < unpaired


def _exact_coverage(alpha: float, seeds: int, rest: float) -> np.ndarray:
    """Coverage of half_widths for normal errors with known image parts, for seed effects from none to dominating.

    Pooled variance 1, of it ``rest`` interaction; the seed part is (effect + rest)·chi²/df, integrated over.
    """
    effects = np.concatenate([[0.0], np.geomspace(0.03, 3000, 40)])
    edges = np.geomspace(1e-5, 1e5, 1500)
    middle = np.sqrt(edges[1:] * edges[:-1])
    half = half_widths(alpha, middle, 1 - rest, rest, 1.0, seeds - 1)
    scale = (effects + rest)[:, None] / (seeds - 1)
    chance = np.diff(scipy_stats.chi2.cdf(edges[None] / scale, seeds - 1), axis=1)
    inside = 2 * scipy_stats.norm.cdf(half[None] / np.sqrt(effects + 1)[:, None]) - 1
    return (chance * inside).sum(axis=1) / chance.sum(axis=1)


@pytest.mark.parametrize(
    ("seeds", "low", "high"),
    [(2, 0.911, 0.978), (3, 0.923, 0.972), (4, 0.927, 0.97), (5, 0.929, 0.967), (10, 0.93, 0.97)],
)
def test_coverage_over_all_ratios_of_seeds_and_images(seeds: int, low: float, high: float) -> None:
    for rest in (0.1, 0.3, 0.6, 1.0):
        found = _exact_coverage(0.05, seeds, rest)
        assert low <= found.min()
        assert found.max() <= high
    far = np.concatenate([_exact_coverage(0.001, seeds, rest) for rest in (0.1, 0.6, 1.0)])
    assert 1 - far.min() < (0.007 if seeds == 2 else 0.0013)  # Holm's levels hold, too


def _exchangeable_pair(rng: np.random.Generator, seeds: int, seed_deviation: float, moved: float) -> np.ndarray:
    """Correctness [2, seeds, 300] of two methods whose true difference is zero, alike in law.

    Most images are right or wrong under nearly every seed, as measured ones are; ``moved`` of them have another
    chance under the second method; a seed shifts all chances of one method.
    """
    first, other = rng.beta(0.6, 0.2, (2, 300))
    second = np.where(rng.random(300) < moved, other, first)
    shifts = rng.normal(0, seed_deviation, (2, seeds, 1))
    return rng.random((2, seeds, 300)) < np.stack([first[None] + shifts[0], second[None] + shifts[1]])


@pytest.mark.parametrize(
    ("seed_deviation", "moved"), [(0.0, 0.3), (0.03, 0.3), (0.2, 0.1)], ids=["images", "both", "seeds"]
)
@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_coverage_of_paired_differences(seeds: int, seed_deviation: float, moved: float) -> None:
    """92 to 97 %; for two seeds up to 98 %, see half_widths.  One standard error is at most 0.4 points."""
    rng = np.random.default_rng(1)
    trials = 8000 if seeds < 5 else 3000
    hits = 0
    for _ in range(trials):
        low, high = paired_difference(*_exchangeable_pair(rng, seeds, seed_deviation, moved)).interval()
        hits += low <= 0 <= high
    assert 0.92 <= hits / trials <= (0.98 if seeds == 2 else 0.973)


def test_bootstrap_tails_against_drawing_seeds_and_images() -> None:
    rng = np.random.default_rng(5)
    by_seed = rng.exponential(1.0, 6)
    by_image = (rng.random(400) < 0.06) * rng.uniform(8, 16, 400)  # skewed, too
    draws = 20_000
    seeds = by_seed[rng.integers(0, 6, (draws, 6))].mean(axis=1) - by_seed.mean()
    images = by_image[rng.integers(0, 400, (draws, 400))].mean(axis=1) - by_image.mean()
    for scales in ((1.0, 0.0), (0.0, 1.0), (1.3, 0.7)):
        low, high = np.quantile(scales[0] * seeds + scales[1] * images, [0.025, 0.975])
        assert _tails(by_seed, by_image, *scales) == pytest.approx((-low, high), rel=0.03)
    assert _tails(by_seed, by_image, 0.0, 0.0) == [0, 0]


def _tails(by_seed: Floats, by_image: Floats, seed_scale: float, image_scale: float) -> list[float]:
    deviation = image_scale * np.array([by_image.std() / math.sqrt(len(by_image))])
    skewness = mean_skewness(by_image[None])
    return list(two_level_tails(by_seed[None], np.array([seed_scale]), deviation, skewness, 0.95)[0])


def test_from_five_seeds_on_the_bootstrap_gives_the_interval() -> None:
    rng = np.random.default_rng(6)
    values = rng.exponential(1.0, (8, 1)) + rng.normal(0, 0.5, (1, 300)) + rng.normal(0, 0.5, (8, 300))
    found = spread(values)
    assert found.shape == spread(values).shape  # the same data, the same interval
    assert found.shape[1] > found.shape[0] > 0.6  # the seeds' skewness
    assert found.shape[1] < 1.4
    low, high = found.interval()
    arms = found.estimate - low, high - found.estimate
    assert sum(arms) / 2 == pytest.approx(found.half_width())
    for null in (low, high):
        assert found.p_value(null) == pytest.approx(0.05, rel=1e-4)
    assert spread(values[:4]).shape == (1, 1)
    assert spread(np.full((6, 50), 0.5)).shape == (1, 1)


def test_bootstrap_of_seeds_alone_is_as_wide_as_students() -> None:
    """Which a plain draw of six seeds is not: it has 5/6 of their variance and the normal's quantile."""
    rng = np.random.default_rng(9)
    widths = []
    for _ in range(40):
        found = spread(np.repeat(rng.normal(0, 1, (6, 1)), 50, axis=1))
        widths.append(found.half_width() / (scipy_stats.t.ppf(0.975, 5) * math.sqrt(found.seed_variance)))
    assert np.mean(widths) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("seeds", [1, 4])
def test_detectable_effect_is_found_with_its_power(seeds: int) -> None:
    rng = np.random.default_rng(8)
    images, seed_deviation = 400, 1.0 * (seeds > 1)
    found, trials = 0, 1500
    # as many draws of the parts' truth: seed effects, image effects, interaction
    truth = Spread(
        0.0, seed_deviation**2 / seeds + 9 / seeds / images, 9 / images, 9 / images + 9 / seeds / images, seeds, images
    )
    truth = replace(truth, rest_variance=9 / seeds / images if seeds > 1 else 0.0)
    effect = truth.detectable()
    if seeds == 1:
        factor = scipy_stats.norm.ppf(0.975) + scipy_stats.norm.ppf(0.8)
        assert effect == pytest.approx(factor * math.sqrt(truth.pooled_variance))
    for _ in range(trials):
        noise = rng.normal(0, 3, (seeds, images)) + rng.normal(0, 3, (1, images))
        values = effect + noise + rng.normal(0, 1, (seeds, 1)) * seed_deviation
        found += spread(values).p_value() <= 0.05
    assert found / trials == pytest.approx(0.8, abs=0.05)


def test_common_table_pairs_only_what_can_be_paired() -> None:
    a, b = np.ones(4, dtype=bool), np.zeros(4, dtype=bool)
    first, second = common_table({0: a, 2: b, 1: a}, {2: a, 0: b})
    np.testing.assert_array_equal(first, [[1, 1, 1, 1], [0, 0, 0, 0]])
    np.testing.assert_array_equal(second, [[0, 0, 0, 0], [1, 1, 1, 1]])
    assert common_table({0: a}, {1: a}) == []
    assert common_table({0: a}, {0: np.ones(5, dtype=bool)}) == []
