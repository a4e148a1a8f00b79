"""The variance between seeds of a row, moderated: its own seeds' together with what its neighbours' seeds say.

After Smyth 2004, "Linear models and empirical Bayes methods for assessing differential expression in microarray
experiments", Statistical Applications in Genetics and Molecular Biology 3(1):3, sections 4 to 6.  The variance between
seeds of row r, s²_r on d degrees of freedom, is sigma²_r chi²_d/d, and 1/sigma²_r is a draw of chi²_d0/(d0 s0²).  Then
(d0 s0² + d s²_r)/(d0 + d) takes the place of s²_r, on d0 + d degrees of freedom: with three seeds Student's quantile is
no longer that of two degrees (4.3), and a row of one seed has s0² on d0.

What differs from the paper, and why (figures: the 280 shipped rows of three seeds, each left out in turn):
- log s0² has a line in log p(1-p), p the row's top-1: rows at 90 % move by 0.1 points between seeds where those at 60 %
  move by 5.  Its slope is shrunk towards none (:data:`RIDGE`), since some groups' rows are all alike.
- level and slope are estimates, so their sampling variance is added to that of log sigma²; a row far from its
  neighbours gets fewer degrees, as in any prediction.
- log sigma² has at least the variance :data:`LEAST`: a handful of rows never proves that all variances are equal.

A difference of rows has the sum of their moderated variances, corrected by part of what its own seeds say they have
in common (:func:`moderated`): over pairs of shipped rows the correlation of their seeds is 0.03 on average within a
target, bits and compressor, and -0.04 to 0.06 between two of these on images of the same source.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import polygamma, psi

from bench.board.stats.paired import Floats, Spread

MIN_ROWS = 4
"""Rows of several seeds from which a group's own level is estimated; fewer take :data:`SHIPPED`."""

RIDGE = 1 / 3
"""Weight on no slope: the variance of log s² about the line, 3, over that of slopes between groups, 9."""

LEAST = 0.1
"""Least variance of log sigma² between the rows of a group; d0 is 21 at most."""

_BOUNDS = 0.5, 1e4  # of d0: below, no moment of the prior is left; above, Student's t is the normal


@dataclass(frozen=True)
class SeedVariance:
    """A row's variance between seeds in squared points: ``moderated`` on ``degrees`` of freedom, and its ``own``."""

    moderated: float
    degrees: float
    own: float


@dataclass(frozen=True)
class Replicates:
    """What a row's seeds say: their variance in squared points on ``degrees`` of freedom (0: one seed, any variance),
    top-1 in percent, test images, and the ``part`` and, within it, ``group`` of rows it is estimated with."""

    variance: float
    degrees: int
    top1: float
    images: int
    part: Hashable
    group: Hashable


@dataclass(frozen=True)
class Term:
    """One row in a weighted sum of rows: which, with what weight, and its variance between seeds."""

    row: Hashable
    weight: float
    variance: SeedVariance


@dataclass(frozen=True)
class _Line:
    """log sigma² against log p(1-p): level and slope, their variances, and the variance of log sigma² about it."""

    level: float
    slope: float
    centre: float
    level_variance: float
    slope_variance: float
    about: float

    def variance(self, row: Replicates) -> SeedVariance:
        """The row's, moderated (Smyth 2004, equation 6) by the scaled inverse chi² of this mean and variance of the
        logarithm (section 6.2)."""
        place = place_of(row.top1, row.images)
        off = place - self.centre
        half = trigamma_inverse(self.about + self.level_variance + self.slope_variance * off**2)
        half = float(np.clip(half, _BOUNDS[0] / 2, _BOUNDS[1] / 2))
        scale = float(np.exp(self.level + self.slope * off + psi(half) - np.log(half)))
        degrees = 2 * half + row.degrees
        return SeedVariance((2 * half * scale + row.degrees * row.variance) / degrees, degrees, row.variance)


SHIPPED = _Line(level=-3.86, slope=6.2, centre=-2.41, level_variance=0.0, slope_variance=0.0, about=2.3)
"""Where no neighbour has several seeds: all shipped rows of three seeds under one line (tests/benchmarks/
test_moderation.py fits it).  Six targets on two settings by two compressors differ much, so d0 is 1.6."""


def trigamma_inverse(value: float) -> float:
    """x with trigamma(x) = ``value`` > 0, by Newton's steps on 1/trigamma (Smyth 2004, appendix)."""
    x = 0.5 + 1 / value
    for _ in range(50):
        found = float(polygamma(1, x))
        step = found * (1 - found / value) / float(polygamma(2, x))
        x += step
        if abs(step) < 1e-10 * x:
            break
    return x


def place_of(top1: float, images: int) -> float:
    """The line's abscissa: log p(1-p), with p at least half an image away from 0 and 1."""
    least = 0.5 / max(images, 1)
    share = min(max(top1 / 100, least), 1 - least)
    return float(np.log(share * (1 - share)))


def seed_variances(rows: Sequence[Replicates]) -> list[SeedVariance]:
    """The moderated variance of each row.  Every group has its own level, if enough of its rows have several seeds; the
    slope and the variance about the line come from all such groups of the part."""
    lines: dict[tuple[Hashable, Hashable], _Line] = {}
    parts: dict[Hashable, dict[Hashable, list[Replicates]]] = {}
    for row in rows:
        if row.degrees > 0:
            parts.setdefault(row.part, {}).setdefault(row.group, []).append(row)
    for part, groups in parts.items():
        enough = {group: members for group, members in groups.items() if len(members) >= MIN_ROWS}
        if enough:
            lines |= {(part, group): line for group, line in zip(enough, _lines(list(enough.values())), strict=True)}
    return [lines.get((row.part, row.group), SHIPPED).variance(row) for row in rows]


def _lines(groups: Sequence[Sequence[Replicates]]) -> list[_Line]:
    """One line per group, parallel: e = log s² - psi(d/2) + log(d/2) has the mean of log sigma² and its variance plus
    trigamma(d/2) (Smyth 2004, section 6.2)."""
    degrees = [np.array([row.degrees for row in group], float) for group in groups]
    logs = []
    for group, d in zip(groups, degrees, strict=True):
        # equal accuracies do not prove that seeds do not matter beyond one image
        squares = np.array([max(row.variance, (100 / max(row.images, 1)) ** 2) for row in group])
        logs.append(np.log(squares) - psi(d / 2) + np.log(d / 2))
    places = [np.array([place_of(row.top1, row.images) for row in group]) for group in groups]
    x = np.concatenate([place - place.mean() for place in places])
    e = np.concatenate([log - log.mean() for log in logs])
    square = float(x @ x)
    slope = float(x @ e) / (square + RIDGE)
    left = e - slope * x
    free = len(e) - len(groups) - square / (square + RIDGE)
    noise = float(polygamma(1, np.concatenate(degrees) / 2).mean())
    about = max(LEAST, float(left @ left) / free - noise)
    return [
        _Line(
            level=float(log.mean()),
            slope=slope,
            centre=float(place.mean()),
            level_variance=(about + noise) / len(log),
            slope_variance=(about + noise) / (square + RIDGE),
            about=about,
        )
        for log, place in zip(logs, places, strict=True)
    ]


def moderated(parts: Spread, terms: Sequence[Term], unit: float = 1.0) -> Spread:
    """``parts``, of a weighted sum of rows, with the variance between seeds moderated.

    With s²_L the sum's own variance between seeds, w the weights and v the degrees of the independent rows' sum,
    sum w² moderated_r + lambda (s²_L - sum w² own_r).
    The bracket is what the rows' seeds have in common.  Where it adds (seeds that move all targets together) it counts
    in full, lambda = 1; where it takes away (seeds that move both sides of a difference) it is shrunk, having S-1
    degrees of freedom only, by lambda = (S-1)/(v+S-1).  v is the rows' degrees' harmonic mean, weighted by their part
    of the variance: a sum of many variances is known better than one of them, so this errs on the wide side.

    Args:
        terms: the rows; one that comes twice has both weights.
        unit: of the estimate, in points (100 for a share of 1).
    """
    weights: dict[Hashable, float] = {}
    rows: dict[Hashable, SeedVariance] = {}
    for term in terms:
        weights[term.row] = weights.get(term.row, 0.0) + term.weight
        rows[term.row] = term.variance
    squares = np.array([weight**2 for weight in weights.values()])
    known, freedom, own = (
        np.array([getattr(row, name) for row in rows.values()]) for name in ("moderated", "degrees", "own")
    )
    degrees = harmonic(squares * known, freedom)
    sums = float(squares @ known), float(squares @ own)
    found = float(moderate(parts.seed_variance * unit**2, parts.seeds, *sums, float(degrees)))
    return replace(parts, seed_variance=max(0.0, found) / unit**2, seed_degrees=float(degrees))


def moderate(
    seed_variance: float | Floats, seeds: int, known: float | Floats, own: float | Floats, degrees: float | Floats
) -> Floats:
    """Variance of a mean over ``seeds`` from its own estimate and the sums of :func:`moderated`."""
    common = np.asarray(seed_variance - own / seeds)
    share = np.where(common > 0, 1.0, (seeds - 1) / (degrees + seeds - 1))
    found: Floats = known / seeds + share * common
    return found


def harmonic(shares: Floats, degrees: Floats) -> Floats:
    """Harmonic mean of ``degrees`` [K, ...] weighted by ``shares`` along the first axis."""
    total = shares.sum(axis=0)
    plain = len(degrees) / (1 / degrees).sum(axis=0)
    found: Floats = np.where(total > 0, total / np.where(total > 0, (shares / degrees).sum(axis=0), 1.0), plain)
    return found
