"""Whether the parts of a claim differ among themselves: Cochran's Q."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import fdtrc

from bench.board.stats.paired import Spread


def heterogeneity(parts: Sequence[Spread]) -> float:
    """p-value of equal true differences: Q = sum of w (d - d̄)², w = 1/variance (Cochran 1954, Biometrics 10:101).

    The variances between seeds are estimates, so Q is not referred to chi² but, as Welch's F, to F (Welch 1951,
    Biometrika 38:330): with k parts, mean weight share h and degrees v,
    F = Q/(k-1) / (1 + 2(k-2)/(k²-1) · sum (1-h)²/v)  on  k-1  and  (k²-1) / (3 sum (1-h)²/v).
    Parts are taken as independent; that they share test images is left out, which weakens the test where it matters.

    Returns:
        1 for fewer than two parts.
    """
    count = len(parts)
    if count < 2:
        return 1.0
    estimates = np.array([part.estimate for part in parts])
    seeds = np.array([part.seed_variance for part in parts])
    whole = [max(part.seed_variance + part.image_variance, part.pooled_variance) for part in parts]
    variances = np.maximum(whole, np.finfo(float).tiny)
    weights = 1 / variances
    shares = weights / weights.sum()
    q = float(weights @ (estimates - shares @ estimates) ** 2)
    # the images' part is known well: Satterthwaite's degrees for the sum of both
    degrees = np.array([max(part.degrees, 1.0) for part in parts]) * (variances / np.maximum(seeds, 1e-300)) ** 2
    lack = float(((1 - shares) ** 2 / degrees).sum())
    f = q / (count - 1) / (1 + 2 * (count - 2) / (count**2 - 1) * lack)
    second = (count**2 - 1) / (3 * lack) if lack > 0 else 1e9
    return float(fdtrc(count - 1, min(second, 1e9), f))
