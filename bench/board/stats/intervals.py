"""Intervals of a row's accuracy, in percent: they stay within 0 and 100."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri, stdtrit

from bench.board.stats.moderation import SeedVariance, Term, moderated
from bench.board.stats.paired import BOOTSTRAP_SEEDS, LEVEL, Interval, Spread, credit_share, spread


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


def accuracy_interval(
    correct: npt.NDArray[np.generic], level: float = LEVEL, between: SeedVariance | None = None
) -> tuple[float, Interval]:
    """Mean top-1 in percent and its interval from correctness [S, N].

    Up to four seeds: as :func:`stats.paired.half_widths`, but with Wilson's interval at the effective sample size
    p(1-p)/variance in place of z times the deviation, for the image part and for the pooled one; the image part's ends
    are moved out by the seeds' part (Student's t) in quadrature.  So the interval stays in [0, 100] and reduces to
    Wilson's when seeds do not matter.  From five on: the bootstrap's interval, not narrower than Wilson's for the
    pooled part.

    Args:
        between: the row's moderated variance between seeds.  Without it, one seed has Wilson's interval over the test
            images, which holds for that seed only.

    Raises:
        ValueError: as :func:`bench.board.stats.paired.spread`.
    """
    table = np.asarray(correct, dtype=np.float64)
    if between is None and table.ndim == 2 and table.shape[0] == 1:
        return 100 * float(table.mean()), wilson(float(table.sum()), table.shape[1], level)
    parts = spread(table) if between is None else moderated(spread(table), [Term(0, 1.0, between)], unit=100)
    mean = 100 * parts.estimate
    least = _effective(parts.estimate, parts.pooled_variance, parts.images, level)
    if parts.seeds >= BOOTSTRAP_SEEDS:
        low, high = parts.interval(level)
        wide = Interval(max(0.0, 100 * low), min(100.0, 100 * high))
    else:
        credit = parts.rest_variance * float(credit_share(parts.degrees, 1 - level))
        image_part = parts.image_variance + credit
        point = Interval(mean, mean)
        base = _effective(parts.estimate, image_part, parts.images, level) if image_part > 0 else point
        wide = _widen(mean, base, 100**2 * max(0.0, parts.seed_variance - credit), parts.degrees, level)
    return mean, Interval(min(least.low, wide.low), max(least.high, wide.high))


def _effective(share: float, variance: float, images: int, level: float) -> Interval:
    """Wilson's interval at the sample size that gives this variance.

    All right or all wrong leaves no variance to read a size from; then the images count once, not per seed.
    """
    size = share * (1 - share) / variance if variance > 0 else float(images)
    return wilson(share * size, size, level)


def totals_interval(
    top1: Sequence[float], images: int, level: float = LEVEL, between: SeedVariance | None = None
) -> tuple[float, Interval]:
    """As :func:`accuracy_interval`, from top-1 percent per seed when no bitmap was stored.

    Never narrower up to four seeds; from five on t-based, since there are no images to draw.
    """
    mean = float(np.mean(top1))
    count = len(top1)
    parts = Spread(mean, float(np.var(top1, ddof=1)) / count if count > 1 else 0.0, 0.0, 0.0, count, images)
    parts = parts if between is None else moderated(parts, [Term(0, 1.0, between)])
    return mean, _widen(mean, wilson(mean / 100 * images, images, level), parts.seed_variance, parts.degrees, level)


def _widen(mean: float, base: Interval, seed_variance: float, degrees: float, level: float) -> Interval:
    if degrees <= 0 or seed_variance <= 0:
        return base
    extra = float(stdtrit(degrees, 0.5 + level / 2)) ** 2 * seed_variance
    low = mean - math.sqrt((mean - base.low) ** 2 + extra)
    high = mean + math.sqrt((base.high - mean) ** 2 + extra)
    return Interval(max(0.0, low), min(100.0, high))
