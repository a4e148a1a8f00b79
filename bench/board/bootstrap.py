"""Two-level bootstrap: seeds and test images drawn anew, independently, with deviations brought to their true size.

The plain form is wrong twice for a mean over seeds x images.  A draw of S seeds with replacement has (S-1)/S of the
seeds' variance.  And the interaction of seeds and images, which sits in the seeds' means and in the images' means,
enters up to three times (Owen 2007, Annals of Applied Statistics 1:386, "The pigeonhole bootstrap").  Both are mended
by scaling the resampled deviations of each level to the variance that the analysis of variance gives it (Davison and
Hinkley 1997, Bootstrap Methods and their Application, section 3.8).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

Floats = npt.NDArray[np.float64]

DRAWS = 10_000
"""Draws of one bootstrap: a 2.5 % quantile is then off by about 1 % of the interval's half width."""

_KEY = 20071231  # of the generators: the same data give the same interval on every machine


class Tails(NamedTuple):
    """How far the quantiles lie below and above the estimate, both positive, in its unit."""

    low: float
    high: float


def two_level_tails(by_seed: Floats, by_image: Floats, seed_scale: float, image_scale: float, level: float) -> Tails:
    """Percentiles of ``seed_scale`` x (resampled seed means) + ``image_scale`` x (resampled image means), centred.

    The seeds are drawn as they are, since they are few.  The mean of N images drawn with replacement is drawn from its
    Cornish-Fisher expansion to the order of the skewness (Hall 1992, The Bootstrap and Edgeworth Expansion, section
    2.5), whose error is of order 1/N, below that of the draws from some hundred images on.

    Args:
        by_seed: means over the images [S].
        by_image: means over the seeds [N].
        seed_scale, image_scale: factors on the deviations from the mean.
        level: the tails hold (1-level)/2 each.
    """
    deviations = image_scale * _image_draws(by_image)
    if seed_scale > 0:
        deviations += seed_scale * (_seed_weights(len(by_seed)) @ by_seed)
    low, high = np.quantile(deviations, [0.5 - level / 2, 0.5 + level / 2])
    return Tails(max(0.0, -float(low)), max(0.0, float(high)))


@lru_cache(maxsize=16)
def _seed_weights(seeds: int) -> Floats:
    """Weights of the seeds in each draw minus 1/S [draws, S]."""
    generator = np.random.default_rng([_KEY, seeds])
    return generator.multinomial(seeds, np.full(seeds, 1 / seeds), DRAWS) / seeds - 1 / seeds


@lru_cache(maxsize=1)
def _normals() -> Floats:
    """Stratified standard normal draws in random order [draws]."""
    grid: Floats = ndtri((np.arange(DRAWS) + 0.5) / DRAWS)
    return np.random.default_rng([_KEY, 0]).permutation(grid)


def _image_draws(by_image: Floats) -> Floats:
    """Mean of N images drawn with replacement, minus the mean of all [draws]."""
    centred = by_image - by_image.mean()
    variance = float(np.mean(centred * centred))
    if variance <= 0:
        return np.zeros(DRAWS)
    count, normals = len(by_image), _normals()
    skewness = float(np.mean(centred**3)) / variance**1.5 / np.sqrt(count)
    draws: Floats = np.sqrt(variance / count) * (normals + skewness / 6 * (normals * normals - 1))
    return draws
