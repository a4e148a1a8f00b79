"""Intervals, paired differences and corrections; plain numpy, every number in percent or percentage points.

The model behind them: correctness of test image i under seed s is  mean + image_i + seed_s + rest_is  (two crossed
random effects).  Every seed sees the same test images, so seeds do not shrink the images' part of the error, and one
seed says nothing of the seeds' part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri, stdtrit

Floats = npt.NDArray[np.float64]
Bitmaps = Mapping[int, npt.NDArray[np.bool_] | Floats]
"""Seed → correctness [N] of one row (bool, or fractions where several rows were averaged)."""

LEVEL = 0.95


class Interval(NamedTuple):
    """Both ends, in percent (or points for a difference)."""

    low: float
    high: float


def wilson(successes: float, trials: float, level: float = LEVEL) -> Interval:
    """Wilson's score interval in percent (Wilson 1927, JASA 22:209); unlike Wald's it is sound near 0 and 100 %.

    ``successes`` and ``trials`` may be fractional (an effective sample size).

    Raises:
        ValueError: no trials, or more successes than trials.
    """
    if trials <= 0 or not 0 <= successes <= trials * (1 + 1e-12):
        raise ValueError(f"{successes} successes of {trials} trials")
    z = float(ndtri(0.5 + level / 2))
    share = min(successes / trials, 1.0)
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return Interval(100 * max(0.0, centre - half), 100 * min(1.0, centre + half))


@dataclass(frozen=True)
class Spread:
    """A mean over seeds × images and its sampling variance, by parts (in the square of the estimate's unit).

    ``seed_variance``: what more seeds would shrink (0 when only one seed was run: unknown, not absent);
    ``image_variance``: what only more test images would shrink; ``pooled_variance``: that of the images' means over
    the seeds, the whole variance if seeds did not matter.
    """

    estimate: float
    seed_variance: float
    image_variance: float
    pooled_variance: float
    seeds: int
    images: int

    def half_width(self, level: float = LEVEL) -> float:
        """Half of the interval: sqrt(t² · seed part + z² · image part), t with seeds-1 degrees of freedom; not less
        than z · sqrt(pooled variance), so that seeds which agree by luck cannot beat the number of test images.

        Each part gets its own quantile, because three seeds leave two degrees of freedom whatever the image count.
        Simulated coverage at 95 %: 95 to 98 % for three seeds and more, up to 99 % for two.  Satterthwaite's pooled
        degrees of freedom, tried too, cover 88 to 92 % when the seeds dominate and there are two or three of them.
        """
        return self._half_width(0.5 + level / 2)

    def _half_width(self, quantile: float) -> float:
        z = float(ndtri(quantile))
        t = float(stdtrit(self.seeds - 1, quantile)) if self.seeds > 1 else 0.0
        parts = t * t * self.seed_variance + z * z * self.image_variance
        return math.sqrt(max(parts, z * z * self.pooled_variance))

    def interval(self, level: float = LEVEL) -> Interval:
        """The estimate ± :meth:`half_width`."""
        half = self.half_width(level)
        return Interval(self.estimate - half, self.estimate + half)

    def p_value(self, null: float = 0.0) -> float:
        """Two-sided p: one minus the level at which the interval's end just touches ``null`` (by bisection)."""
        distance = abs(self.estimate - null)
        low, high = 1e-16, 1.0  # of p: the half width falls as p rises
        if distance <= self._half_width(0.5):
            return 1.0
        if distance >= self._half_width(1 - low / 2):
            return low
        for _ in range(80):
            middle = math.sqrt(low * high)
            low, high = (middle, high) if self._half_width(1 - middle / 2) > distance else (low, middle)
        return math.sqrt(low * high)

    def __add__(self, other: Spread) -> Spread:
        """Sum of two independent estimates; the seeds' degrees of freedom are those of the smaller."""
        return Spread(
            self.estimate + other.estimate,
            self.seed_variance + other.seed_variance,
            self.image_variance + other.image_variance,
            self.pooled_variance + other.pooled_variance,
            min(self.seeds, other.seeds),
            self.images + other.images,
        )


def spread(values: npt.NDArray[np.generic]) -> Spread:
    """Mean of ``values`` [S seeds, N images] and its variance, by the crossed analysis of variance.

    With mean squares s²_seed (of the S seed means), s²_image (of the N image means) and s²_rest (the interaction):
    seed part = s²_seed/S, image part = max(0, s²_image - s²_rest/S)/N.  The interaction sits in both mean squares; it
    stays with the seeds, which have the fewer degrees of freedom.  The two sum to an unbiased estimate of the variance
    of the mean.

    Raises:
        ValueError: not two-dimensional, no seed, or fewer than two images.
    """
    if values.ndim != 2 or values.shape[0] < 1 or values.shape[1] < 2:
        raise ValueError(f"values must be [S >= 1, N >= 2], got {values.shape}")
    table = np.asarray(values, dtype=np.float64)
    seeds, images = table.shape
    mean = float(table.mean())
    by_image, by_seed = table.mean(axis=0), table.mean(axis=1)
    pooled = float(by_image.var(ddof=1)) / images
    if seeds == 1:
        return Spread(mean, 0.0, pooled, pooled, seeds, images)
    rest = table - by_image[None, :] - by_seed[:, None] + mean
    rest_square = float((rest * rest).sum()) / ((seeds - 1) * (images - 1))
    image_part = max(0.0, pooled - rest_square / (seeds * images))
    return Spread(mean, float(by_seed.var(ddof=1)) / seeds, image_part, pooled, seeds, images)


def accuracy_interval(correct: npt.NDArray[np.generic], level: float = LEVEL) -> tuple[float, Interval]:
    """Mean top-1 in percent and its interval from correctness [S, N].

    One seed: Wilson over the test images, conditional on that seed.  Several: as :meth:`Spread.half_width`, but with
    Wilson's interval at the effective sample size p(1-p)/variance in place of z times the deviation, for the image
    part and for the pooled one; the image part's ends are moved out by the seeds' part (t with S-1 degrees of freedom)
    in quadrature.  So the interval stays in [0, 100] and reduces to Wilson's when seeds do not matter.
    """
    table = np.asarray(correct, dtype=np.float64)
    if table.ndim == 2 and table.shape[0] == 1:
        return 100 * float(table.mean()), wilson(float(table.sum()), table.shape[1], level)
    parts = spread(table)
    mean = 100 * parts.estimate
    least = _effective(parts.estimate, parts.pooled_variance, parts.images, level)
    if parts.image_variance > 0:
        base = _effective(parts.estimate, parts.image_variance, parts.images, level)
    else:
        base = Interval(mean, mean)
    wide = _widen(mean, base, 100**2 * parts.seed_variance, parts.seeds, level)
    return mean, Interval(min(least.low, wide.low), max(least.high, wide.high))


def _effective(share: float, variance: float, images: int, level: float) -> Interval:
    """Wilson's interval at the sample size that gives this variance.

    All right or all wrong leaves no variance to read a size from; then the images count once, not per seed.
    """
    size = share * (1 - share) / variance if variance > 0 else float(images)
    return wilson(share * size, size, level)


def totals_interval(top1: Sequence[float], images: int, level: float = LEVEL) -> tuple[float, Interval]:
    """As :func:`accuracy_interval`, from top-1 percent per seed when no bitmap was stored; wider, never narrower."""
    mean = float(np.mean(top1))
    seed_variance = float(np.var(top1, ddof=1)) / len(top1) if len(top1) > 1 else 0.0
    return mean, _widen(mean, wilson(mean / 100 * images, images, level), seed_variance, len(top1), level)


def _widen(mean: float, base: Interval, seed_variance: float, seeds: int, level: float) -> Interval:
    if seeds < 2 or seed_variance <= 0:
        return base
    extra = float(stdtrit(seeds - 1, 0.5 + level / 2)) ** 2 * seed_variance
    low = mean - math.sqrt((mean - base.low) ** 2 + extra)
    high = mean + math.sqrt((base.high - mean) ** 2 + extra)
    return Interval(max(0.0, low), min(100.0, high))


def paired_difference(first: npt.NDArray[np.generic], second: npt.NDArray[np.generic]) -> Spread:
    """First minus second in points, from correctness [S, N] of both on the same seeds and images.

    Pairing by image removes what both share, pairing by seed what one seed does to both.  With one seed this is the
    paired comparison over images alone (large-sample McNemar) and holds for that seed only.

    Raises:
        ValueError: the shapes differ.
    """
    if first.shape != second.shape:
        raise ValueError(f"cannot pair {first.shape} with {second.shape}")
    return floor_variance(spread(100 * (np.asarray(first, np.float64) - np.asarray(second, np.float64))))


def floor_variance(parts: Spread) -> Spread:
    """Not less variance than one discordant image makes: N equal answers do not prove equality beyond 1/N."""
    return replace(parts, pooled_variance=max(parts.pooled_variance, (100 / parts.images) ** 2))


def paired_bootstrap(
    first: npt.NDArray[np.generic],
    second: npt.NDArray[np.generic],
    generator: np.random.Generator,
    draws: int = 2000,
    level: float = LEVEL,
) -> Interval:
    """Percentile interval of first minus second in points; images [N] and seeds [S] are drawn anew, independently.

    The check on :func:`paired_difference` that assumes no normality.  It is anti-conservative for few seeds (a draw of
    S seeds with replacement shrinks their variance by (S-1)/S), so verdicts use the t-based form.
    """
    table = 100 * (np.asarray(first, np.float64) - np.asarray(second, np.float64))
    seeds, images = table.shape
    means = np.empty(draws)
    for k in range(draws):
        weights = generator.multinomial(seeds, np.full(seeds, 1 / seeds)) / seeds
        counts = np.bincount(generator.integers(0, images, images), minlength=images) / images
        means[k] = weights @ table @ counts
    low, high = np.quantile(means, [0.5 - level / 2, 0.5 + level / 2])
    return Interval(float(low), float(high))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values in the given order (Holm 1979, Scand. J. Statist. 6:65)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [1.0] * len(p_values)
    running = 0.0
    for step, index in enumerate(order):
        running = max(running, min(1.0, (len(order) - step) * p_values[index]))
        adjusted[index] = running
    return adjusted


def holm_levels(p_values: Sequence[float], level: float = LEVEL) -> list[float]:
    """Confidence level at which each interval is to be read so that it excludes the null exactly when Holm rejects.

    The k-th smallest p is tested at (1-level)/(m-k); after the first that is kept, all others share its level.
    """
    alpha = 1 - level
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    levels = [level] * len(p_values)
    stopped: float | None = None
    for step, index in enumerate(order):
        share = alpha / (len(order) - step) if stopped is None else stopped
        levels[index] = 1 - share
        if stopped is None and p_values[index] > share:
            stopped = share
    return levels


def common_table(*rows: Bitmaps) -> list[Floats]:
    """The rows' correctness as [S, N] over the seeds all of them have, in ascending order of the seed.

    Empty when no seed is shared or the lengths differ (other test sets cannot be paired).
    """
    shared = sorted(set.intersection(*(set(row) for row in rows)))
    if not shared or len({row[seed].shape for row in rows for seed in shared}) != 1:
        return []
    return [np.stack([np.asarray(row[seed], dtype=np.float64) for seed in shared]) for row in rows]


def tie_groups(rows: Sequence[Bitmaps], level: float = LEVEL) -> list[int]:
    """Rank of each row (1 is best); rows not shown to differ from the best one left share its rank.

    The best row by mean opens a group; each remaining row joins unless its paired difference to that best is
    significant (Holm over the comparisons of this step).  Rows that cannot be paired join: nothing shows a difference.
    The interval of the best carries the winner's curse, so ties are found rather too seldom than too often.
    """
    means = [float(np.mean([np.mean(bits) for bits in row.values()])) for row in rows]
    left = sorted(range(len(rows)), key=lambda i: -means[i])
    ranks = [0] * len(rows)
    done = 0
    while left:
        best, others = left[0], left[1:]
        p_values = [_pair_p(rows[best], rows[other]) for other in others]
        tied = [other for other, p in zip(others, holm(p_values), strict=True) if p > 1 - level]
        for index in (best, *tied):
            ranks[index] = done + 1
        done += 1 + len(tied)
        left = [other for other in others if other not in tied]
    return ranks


def _pair_p(first: Bitmaps, second: Bitmaps) -> float:
    tables = common_table(first, second)
    return paired_difference(*tables).p_value() if tables else 1.0
