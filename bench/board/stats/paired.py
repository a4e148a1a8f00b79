"""Intervals, paired differences and corrections; plain numpy, every number in percent or percentage points.

The model behind them: correctness of test image i under seed s is  mean + image_i + seed_s + rest_is  (two crossed
random effects).  Every seed sees the same test images, so seeds do not shrink the images' part of the error, and one
seed says nothing of the seeds' part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri, stdtrit

from bench.board.stats.bootstrap import Floats as Floats
from bench.board.stats.bootstrap import mean_skewness, two_level_tails

Bitmaps = Mapping[int, npt.NDArray[np.bool_] | Floats]
"""Seed → correctness [N] of one row (bool, or fractions where several rows were averaged)."""

LEVEL = 0.95

BOOTSTRAP_SEEDS = 5
"""From here on intervals come from the two-level bootstrap; fewer seeds leave too few distinct draws."""


class Interval(NamedTuple):
    """Both ends, in percent (or points for a difference)."""

    low: float
    high: float


def half_widths(
    alpha: float | Floats,
    seed_variance: float | Floats,
    image_variance: float | Floats,
    rest_variance: float | Floats,
    pooled_variance: float | Floats,
    degrees: float | Floats,
) -> Floats:
    """Half of the two-sided interval that misses with probability ``alpha``; the arguments are :class:`Spread`'s.

    The square root of  t² · E + z² · (image part + credit),  not less than z² · pooled variance, with
    E = max(0, seed part - credit)  and t of v = ``degrees``: seeds-1 where the seed part is the row's own, more where
    it is moderated (:mod:`stats.moderation`), none for one seed alone.  Each part has its own quantile: three
    seeds leave two degrees of freedom whatever the image count (the modified large-sample form; Burdick and Graybill
    1992, Confidence Intervals on Variance Components).  The credit is the interaction's share of the seed part: it is
    known from (S-1)(N-1) degrees of freedom and needs no t.  It is shrunk by v²/(v²+2), because a seed part that is
    small by luck would otherwise pass for the interaction alone; and by alpha/5 % below 5 %, where such luck is what
    decides (without it p-values near 0.001 would come out several times too often).  The shrinkage is chosen for its
    coverage, which test_paired.py computes for normal errors over all ratios of the parts: at 95 %, without moderation,
    92.4 to 97.2 % for three seeds (97.7 % without any interaction), 92.8 to 97 % for four and more, 91.2 to 97.8 % for
    two (98.7 %).  With two degrees no half width that grows with the seed part does better than 91.6 to 97.9 %.

    Tried: no credit (up to 98.7 % for three seeds, 99.3 % for two); all of it (down to 90.8 and 86 %); Satterthwaite's
    degrees of freedom (88 to 92 % when the seeds dominate).
    """
    some = np.asarray(degrees, np.float64) > 0
    freedom = np.where(some, degrees, 1.0)
    z = ndtri(np.asarray(alpha) / 2)
    t = np.where(some, stdtrit(freedom, np.asarray(alpha) / 2), 0.0)
    credit = rest_variance * credit_share(freedom, alpha)
    excess = np.maximum(seed_variance - credit, 0.0)
    widths: Floats = np.sqrt(np.maximum(t * t * excess + z * z * (image_variance + credit), z * z * pooled_variance))
    return widths


def credit_share(degrees: float | Floats, alpha: float | Floats) -> Floats:
    """Which part of the interaction's variance is taken out of the seed part; see :func:`half_widths`."""
    square = np.asarray(degrees, np.float64) ** 2
    share: Floats = square / (square + 2) * np.minimum(1.0, np.asarray(alpha) / 0.05)
    return share


def p_values(distance: Floats, half: Callable[[Floats], Floats]) -> Floats:
    """Two-sided p: the alpha at which the interval of half width ``half(alpha)`` just touches (by bisection)."""
    low, high = np.full_like(distance, 1e-16), np.ones_like(distance)  # the half width falls as alpha rises
    for _ in range(60):
        middle = np.sqrt(low * high)
        wider = half(middle) > distance
        low, high = np.where(wider, middle, low), np.where(wider, high, middle)
    found: Floats = np.where(distance <= 0, 1.0, np.sqrt(low * high))
    return found


@dataclass(frozen=True)
class Spread:
    """A mean over seeds × images and its sampling variance, by parts (in the square of the estimate's unit).

    ``seed_variance``: what more seeds would shrink (0 when only one seed was run: unknown, not absent), on
    ``seed_degrees`` of freedom, seeds-1 unless it is moderated (:mod:`bench.board.stats.moderation`);
    ``image_variance``: what only more test images would shrink; ``pooled_variance``: that of the images' means over the
    seeds, the whole variance if seeds did not matter; ``rest_variance``: the interaction's part, within both the seeds'
    and the pooled one.  ``shape``: the interval's two arms relative to the t-based ones, from the bootstrap.
    """

    estimate: float
    seed_variance: float
    image_variance: float
    pooled_variance: float
    seeds: int
    images: int
    rest_variance: float = 0.0
    shape: tuple[float, float] = (1.0, 1.0)
    seed_degrees: float | None = None

    @property
    def degrees(self) -> float:
        """Degrees of freedom of ``seed_variance``."""
        return self.seeds - 1 if self.seed_degrees is None else self.seed_degrees

    def half_width(self, level: float = LEVEL) -> float:
        """Half of the interval, the mean of both arms; see :func:`half_widths`."""
        return sum(self.shape) / 2 * self._half(1 - level)

    def _half(self, alpha: float) -> float:
        return float(self._halves(np.asarray(alpha)))

    def _halves(self, alpha: Floats) -> Floats:
        parts = self.seed_variance, self.image_variance, self.rest_variance, self.pooled_variance
        return half_widths(alpha, *parts, self.degrees)

    def interval(self, level: float = LEVEL) -> Interval:
        """The estimate minus and plus its arms."""
        half = self._half(1 - level)
        return Interval(self.estimate - self.shape[0] * half, self.estimate + self.shape[1] * half)

    def p_value(self, null: float = 0.0) -> float:
        """Two-sided p: one minus the level at which the interval's end just touches ``null``."""
        shape = self.shape[0] if null < self.estimate else self.shape[1]
        return float(p_values(np.asarray(abs(self.estimate - null) / shape), self._halves))

    def detectable(self, level: float = LEVEL, power: float = 0.8) -> float:
        """Minimum detectable effect: the true value that a test at ``level`` finds with this power.

        Bloom's sum (1995, Evaluation Review 19:547) of the test's half width and the power's quantile of the same form.
        """
        return self.half_width(level) + self.half_width(2 * power - 1)

    def __add__(self, other: Spread) -> Spread:
        """Sum of two independent estimates; the seeds' degrees of freedom are those of the smaller."""
        first, second = (s.seed_variance + s.pooled_variance for s in (self, other))
        weight = first / (first + second) if first + second > 0 else 0.5
        arms = zip(self.shape, other.shape, strict=True)
        low, high = (math.sqrt(weight * a * a + (1 - weight) * b * b) for a, b in arms)
        return Spread(
            self.estimate + other.estimate,
            self.seed_variance + other.seed_variance,
            self.image_variance + other.image_variance,
            self.pooled_variance + other.pooled_variance,
            min(self.seeds, other.seeds),
            self.images + other.images,
            self.rest_variance + other.rest_variance,
            (low, high),
        )


def spread(values: npt.NDArray[np.generic]) -> Spread:
    """Mean of ``values`` [S seeds, N images] and its variance, by the crossed analysis of variance.

    With mean squares s²_seed (of the S seed means), s²_image (of the N image means) and s²_rest (the interaction):
    seed part = s²_seed/S, image part = max(0, s²_image - s²_rest/S)/N.  The interaction sits in both mean squares; it
    stays with the seeds.  The two sum to an unbiased estimate of the variance of the mean.

    From five seeds on the interval is that of the two-level bootstrap: its arms at 95 % relative to the t-based half
    width are the ``shape``.  The seeds' deviations are scaled by sqrt(S/(S-1)), and by t/z, since percentiles of a few
    resampled values are as narrow as the normal's (Hesterberg 2015, The American Statistician 69:371, section 4.1);
    other levels keep the arms' ratio, since a draw of five seeds never leaves their range.  Where seeds dominate and
    their effects are as skewed as an exponential's, coverage is about 89 % up to five seeds and 93 % for ten.

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
    rest_part = float((rest * rest).sum()) / ((seeds - 1) * (images - 1) * seeds * images)
    seed_part = float(by_seed.var(ddof=1)) / seeds
    found = Spread(mean, seed_part, max(0.0, pooled - rest_part), pooled, seeds, images, rest_part)
    if seeds < BOOTSTRAP_SEEDS:
        return found
    parts = np.array([[seed_part], [found.image_variance], [rest_part], [pooled]])
    low, high = shapes(parts, by_seed[None], images, mean_skewness(by_image[None]))[0]
    return replace(found, shape=(float(low), float(high)))


def shapes(parts: Floats, by_seed: Floats, images: int, skewness: Floats) -> Floats:
    """Arms of the two-level bootstrap's 95 % interval over the t-based half width, of P means [P, 2]; 1 without any
    variance.

    Args:
        parts: :class:`Spread`'s seed, image, rest and pooled variance [4, P].
        by_seed: means over the images [P, S].
        images: over which the means are.
        skewness: as :func:`bench.board.stats.bootstrap.mean_skewness` [P].
    """
    seed_variance, image_variance, rest_variance, pooled_variance = parts
    alpha, seeds = 1 - LEVEL, by_seed.shape[1]
    credit = rest_variance * credit_share(seeds - 1, alpha)
    excess = np.maximum(0.0, seed_variance - credit)
    image_part = np.minimum(image_variance + credit, pooled_variance)
    t_over_z = float(stdtrit(seeds - 1, alpha / 2) / ndtri(alpha / 2))
    half = -float(ndtri(alpha / 2)) * np.sqrt(t_over_z**2 * excess + image_part)
    left = np.divide(excess, seed_variance, out=np.zeros_like(excess), where=excess > 0)
    seed_scale = t_over_z * np.sqrt(left * seeds / (seeds - 1))
    image_deviation = np.sqrt(image_part * (images - 1) / images)  # draws have the variance with N below the sum
    tails = two_level_tails(by_seed, seed_scale, image_deviation, skewness, LEVEL)
    found: Floats = np.divide(tails, half[:, None], out=np.ones_like(tails), where=half[:, None] > 0)
    return found


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


def common_table(*rows: Bitmaps) -> list[Floats]:
    """The rows' correctness as [S, N] over the seeds all of them have, in ascending order of the seed.

    Empty when no seed is shared or the lengths differ (other test sets cannot be paired).
    """
    shared = sorted(set.intersection(*(set(row) for row in rows)))
    if not shared or len({row[seed].shape for row in rows for seed in shared}) != 1:
        return []
    return [np.stack([np.asarray(row[seed], dtype=np.float64) for seed in shared]) for row in rows]
