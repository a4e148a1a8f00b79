"""Rows of several targets as one: their mean over targets with what makes it sound, and which settings belong together.

Without pandas, which takes longer to load than a board to print.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.board.index.rows import Row
from bench.board.stats.intervals import accuracy_interval, totals_interval
from bench.board.stats.moderation import SeedVariance, Term, harmonic, moderated
from bench.board.stats.paired import LEVEL, Bitmaps, Interval, floor_variance, spread


def row_interval(row: Row, level: float = LEVEL) -> tuple[float, Interval] | None:
    """Mean top-1 of a complete row and its interval in percent; None when a seed or the metric is missing."""
    top1 = row.metric("top1")
    if not top1:
        return None
    if row.bitmaps:
        _, ends = accuracy_interval(np.stack([row.bitmaps[r.seed] for r in row.measured]), level, row.between)
        return float(np.mean(top1)), ends
    if row.head.test_count > 0:
        return totals_interval(top1, row.head.test_count, level, row.between)
    return float(np.mean(top1)), Interval(float("nan"), float("nan"))


@dataclass(frozen=True)
class TargetMean:
    """Both ends in percent, or None and the reason in words."""

    interval: Interval | None
    why: str = ""


@dataclass(frozen=True)
class Average:
    """Rows of several targets as one row: seed → correctness [N], the mean over the targets, and its variance between
    seeds."""

    bitmaps: Bitmaps
    between: SeedVariance


def apart(rows: Sequence[Row]) -> str:
    """Why the rows, one per target, have no common table of seeds and test images; empty where they have."""
    if not rows or not all(row.bitmaps for row in rows):
        return "correctness per test image is not at hand for every target"
    if len({row.head.test_digest for row in rows}) > 1:
        return "the targets were not tested on the same images"
    if len({tuple(sorted(row.bitmaps)) for row in rows}) > 1:
        return "the targets were not measured with the same seeds"
    return ""


def average(rows: Sequence[Row]) -> Average:
    """The mean of ``rows``, which nothing keeps :func:`apart`."""
    return averaged([row.bitmaps for row in rows], [row.between for row in rows])


def averaged(tables: Sequence[Bitmaps], between: Sequence[SeedVariance]) -> Average:
    """The mean of rows of several targets (seed → correctness [N], on the same images), over the seeds in common.

    The variance between seeds is that of a mean of independent rows, on the degrees of freedom that
    :func:`bench.board.stats.moderation.moderated` gives it: a difference of two averages has those of all their rows.
    """
    seeds = sorted(set.intersection(*(set(table) for table in tables)))
    bitmaps = {seed: np.mean([table[seed] for table in tables], axis=0) for seed in seeds}
    known, freedom, own = (
        np.array([getattr(one, name) for one in between]) for name in ("moderated", "degrees", "own")
    )
    squares = len(between) ** 2
    variance = SeedVariance(
        float(known.sum()) / squares, float(harmonic(known / squares, freedom)), float(own.sum()) / squares
    )
    return Average(bitmaps, variance)


def average_interval(found: Average, between: Sequence[SeedVariance], level: float = LEVEL) -> Interval:
    """The interval in percent of the mean that ``found`` is; ``between`` of the rows it was made of.

    The mean of the table [S, N] has the variance of :func:`stats.paired.spread`.  So images that are hard for
    every target and seeds that move all of them count once; the variance between seeds is moderated
    (:mod:`bench.board.stats.moderation`).  The targets are taken as they are, not as a sample of networks.
    """
    terms = [Term(i, 1 / len(between), one) for i, one in enumerate(between)]
    table = 100 * np.stack([found.bitmaps[seed] for seed in sorted(found.bitmaps)])
    low, high = moderated(floor_variance(spread(table)), terms).interval(level)
    return Interval(max(0.0, low), min(100.0, high))


def mean_interval(rows: Sequence[Row], level: float = LEVEL) -> TargetMean:
    """The interval of the mean over ``rows``, one per target (:func:`average_interval`)."""
    why = apart(rows)
    if why:
        return TargetMean(None, why)
    return TargetMean(average_interval(average(rows), [row.between for row in rows], level))


def joined_settings(targets: Mapping[str, set[str]], alike: Mapping[str, object]) -> dict[str, list[str]]:
    """Settings that belong in one table: label → settings.

    Settings that differ in the bits of the activations only, on targets that have no other such setting, share a table:
    a suite may ask W4A8 of one network where it asks W4A4 of all others.

    Args:
        targets: setting → its targets.
        alike: setting → all that it asks but the bits of the activations.
    """
    groups: list[tuple[list[str], set[str]]] = []
    for setting in sorted(targets, key=lambda s: (-len(targets[s]), s)):
        home = next((g for g in groups if alike[g[0][0]] == alike[setting] and not g[1] & targets[setting]), None)
        if home is None:
            groups.append(([setting], set(targets[setting])))
        else:
            home[0].append(setting)
            home[1].update(targets[setting])
    return {", ".join(settings): settings for settings, _ in sorted(groups, key=lambda g: g[0][0])}
