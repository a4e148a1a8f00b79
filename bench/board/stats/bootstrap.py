"""Two-level bootstrap: seeds and test images drawn anew, independently, with deviations brought to their true size.

The plain form is wrong twice for a mean over seeds x images.  A draw of S seeds with replacement has (S-1)/S of the
seeds' variance.  And the interaction of seeds and images, which sits in the seeds' means and in the images' means,
enters up to three times (Owen 2007, Annals of Applied Statistics 1:386, "The pigeonhole bootstrap").  Both are mended
by scaling the resampled deviations of each level to the variance that the analysis of variance gives it (Davison and
Hinkley 1997, Bootstrap Methods and their Application, section 3.8).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

Floats = npt.NDArray[np.float64]

DRAWS = 10_000
"""Draws of one bootstrap: a 2.5 % quantile is then off by about 1 % of the interval's half width."""

_KEY = 20071231  # of the generators: the same data give the same interval on every machine
_BLOCK = 32  # means whose draws are formed by one matrix product: 2.5 MB, which stays in the processor's cache


def two_level_tails(
    by_seed: Floats, seed_scale: Floats, image_deviation: Floats, skewness: Floats, level: float
) -> Floats:
    """How far the percentiles of resampled means lie below and above the estimate, for P means at once [P, 2].

    The seeds are drawn as they are, since they are few.  The mean of N images drawn with replacement is drawn from its
    Cornish-Fisher expansion to the order of the skewness (Hall 1992, The Bootstrap and Edgeworth Expansion, section
    2.5), whose error is of order 1/N, below that of the draws from some hundred images on.  So a draw is linear in the
    numbers that tell the means apart, and all draws are one matrix product.

    Args:
        by_seed: means over the images [P, S].
        seed_scale: factor on the deviations of the resampled seed means from their mean [P].
        image_deviation: standard deviation of the resampled image mean, already scaled [P].
        skewness: that of the image mean, see :func:`mean_skewness` [P].
        level: the tails hold (1-level)/2 each.
    """
    seeds = by_seed.shape[1]
    facts = np.column_stack([image_deviation, image_deviation * skewness / 6, seed_scale[:, None] * by_seed])
    tails = np.empty((len(facts), 2))
    for start in range(0, len(facts), _BLOCK):
        draws = facts[start : start + _BLOCK] @ _basis(seeds)
        draws.sort(axis=1)  # faster than a partition where numpy sorts by vector instructions
        for side, share in enumerate((0.5 - level / 2, 0.5 + level / 2)):
            below, part = divmod(share * (DRAWS - 1), 1)
            left, right = draws[:, int(below)], draws[:, min(int(below) + 1, DRAWS - 1)]
            tails[start : start + _BLOCK, side] = left + part * (right - left)
    return np.maximum(0.0, tails * [-1.0, 1.0])


def mean_skewness(by_image: Floats) -> Floats:
    """Skewness of the mean of N images drawn from each row with replacement [P], from [P, N]; 0 without variance."""
    centred = by_image - by_image.mean(axis=1, keepdims=True)
    square = centred * centred
    return skewness_of(np.einsum("pn,pn->p", square, centred), square.sum(axis=1))


def skewness_of(cubes: Floats, squares: Floats) -> Floats:
    """As :func:`mean_skewness`, from the sums of cubes and of squares of the deviations [P]."""
    found = np.divide(cubes, squares**1.5, out=np.zeros_like(cubes), where=squares > 0)
    return np.clip(found, -1.0, 1.0)  # where it always lies, but for rounding


@lru_cache(maxsize=16)
def _basis(seeds: int) -> Floats:
    """What each draw multiplies: z, z² - 1 and each seed's weight minus 1/S [2 + S, draws]."""
    generator = np.random.default_rng([_KEY, seeds])
    weights = generator.multinomial(seeds, np.full(seeds, 1 / seeds), DRAWS) / seeds - 1 / seeds
    # stratified standard normal draws in random order
    normals = np.random.default_rng([_KEY, 0]).permutation(ndtri((np.arange(DRAWS) + 0.5) / DRAWS))
    basis: Floats = np.vstack([normals, normals * normals - 1, weights.T])
    return basis
