"""Ranks that say what is known: pairwise tests of one rank group, rank intervals, tie letters, critical differences.

A rank group holds the rows of one suite, target, protocol, test set and compressor; a suite that compares compressors
has them in one group (``rank_within: protocol``).  Everything in it comes from one table of paired comparisons, so that
ranks, intervals, letters and the win matrix never contradict each other.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from bench.board.stats.bootstrap import skewness_of
from bench.board.stats.moderation import SeedVariance, harmonic, moderate
from bench.board.stats.multiple import holm
from bench.board.stats.paired import BOOTSTRAP_SEEDS, LEVEL, Bitmaps, Floats, half_widths, p_values, shapes
from bench.spec.suite import RankWithin

if TYPE_CHECKING:
    import pandas as pd  # takes longer to load than a board to print

GROUP = ("suite", "suite_version", "dataset", "target", "target_digest", "protocol_id", "test_digest")
"""Keys of a rank group, of records and of the frame: accuracies are compared within, never across.  The compressor is
one more (:func:`group_keys`)."""

RANKED_FROM = 2
"""Seeds from which a row is ranked: one seed says nothing of what another would give."""

Family = Literal["row", "group"]


def group_keys(within: RankWithin) -> tuple[str, ...]:
    """The keys of a rank group for a suite's ``rank_within``."""
    return (*GROUP, "compressor") if within == "compressor" else GROUP


@dataclass(frozen=True)
class PairTable:
    """All paired comparisons of k rows; matrices [k, k], row minus column in points of top-1.

    ``low`` and ``high``: the 95 % interval of one comparison alone; ``p``: its p-value; ``p_holm``: corrected, see
    :func:`pair_table`; ``detectable``: the true difference one such comparison finds with 80 % power.  Two rows that
    share no seed or no test images have NaN and p = 1: nothing shows a difference.
    """

    means: Floats
    difference: Floats
    low: Floats
    high: Floats
    p: Floats
    p_holm: Floats
    detectable: Floats
    level: float = LEVEL

    @cached_property
    def outcome(self) -> npt.NDArray[np.int64]:
        """1 where the row is better than the column by the corrected test, -1 where it is worse, else 0 [k, k]."""
        decided = self.p_holm <= 1 - self.level
        return np.where(decided, np.sign(np.nan_to_num(self.difference)), 0).astype(np.int64)

    @cached_property
    def order(self) -> list[int]:
        """Indices of the rows, highest mean first."""
        return sorted(range(len(self.means)), key=lambda i: -self.means[i])


def pair_table(
    rows: Sequence[Bitmaps],
    level: float = LEVEL,
    family: Family = "row",
    between: Sequence[SeedVariance] | None = None,
) -> PairTable:
    """Compare every two of ``rows`` on the seeds and images both have, as :func:`stats.paired.paired_difference`.

    The sums of squares and cubes of all differences follow from the rows' inner products, so a group costs few matrix
    products.

    Args:
        between: each row's moderated variance between seeds (:mod:`stats.moderation`).  None: a difference's
            own seeds alone.
        family: what Holm's correction spans.  "row": the comparisons of one row with all others, and a pair is decided
            when both of its rows' families reject it; what the table says of any one row is then wrong somewhere with
            probability 5 % at most.  "group": all pairs, for statements about the whole board at once; with few seeds
            and many rows it finds hardly anything (16 rows, 120 pairs, two degrees of freedom).
    """
    count = len(rows)
    means = np.array([100 * float(np.mean([np.mean(bits) for bits in row.values()])) for row in rows])
    empty = np.full((count, count), np.nan)
    difference, low, high, detectable, p = (empty.copy() for _ in range(5))
    p[:] = 1.0
    for seeds, pairs in _by_common_seeds(rows).items():
        used = sorted({i for pair in pairs for i in pair})
        tables = np.stack([[np.asarray(rows[i][seed], np.float64) for seed in seeds] for i in used])
        i, j = (np.array(side) for side in zip(*pairs, strict=True))
        found = _pairs(tables, np.searchsorted(used, i), np.searchsorted(used, j))
        found = found if between is None else found.moderated([between[k] for k in i], [between[k] for k in j])
        ends = found.interval(level)
        difference[i, j], difference[j, i] = found.estimate, -found.estimate
        low[i, j], high[i, j], low[j, i], high[j, i] = ends.low, ends.high, -ends.high, -ends.low
        detectable[i, j] = detectable[j, i] = found.detectable(level)
        p[i, j] = p[j, i] = found.p_value()
    return PairTable(means, difference, low, high, p, _corrected(p, family), detectable, level)


def _corrected(p: Floats, family: Family) -> Floats:
    """Holm-adjusted p of every pair [k, k], symmetric, 1 on the diagonal."""
    count = len(p)
    adjusted = np.ones((count, count))
    if family == "group":
        upper = np.triu_indices(count, 1)
        adjusted[upper] = holm(list(p[upper]))
        return np.minimum(adjusted, adjusted.T)
    for i in range(count):
        others = [j for j in range(count) if j != i]
        adjusted[i, others] = holm(list(p[i, others]))
    return np.maximum(adjusted, adjusted.T)


def _by_common_seeds(rows: Sequence[Bitmaps]) -> dict[tuple[int, ...], list[tuple[int, int]]]:
    """Shared seeds → pairs that share just these; pairs without any, or on other test sets, are left out."""
    sizes = [{np.shape(bits)[0] for bits in row.values()} for row in rows]
    groups: dict[tuple[int, ...], list[tuple[int, int]]] = defaultdict(list)
    for i, j in itertools.combinations(range(len(rows)), 2):
        shared = tuple(sorted(set(rows[i]) & set(rows[j])))
        if shared and len(sizes[i] | sizes[j]) == 1:
            groups[shared].append((i, j))
    return groups


class _Ends(NamedTuple):
    low: Floats
    high: Floats


@dataclass(frozen=True)
class _Pairs:
    """The fields of :class:`bench.board.stats.paired.Spread` for P pairs, each [P]; ``shape`` [P, 2]."""

    estimate: Floats
    seed_variance: Floats
    image_variance: Floats
    pooled_variance: Floats
    rest_variance: Floats
    shape: Floats
    seeds: int
    degrees: float | Floats

    def moderated(self, first: Sequence[SeedVariance], second: Sequence[SeedVariance]) -> _Pairs:
        """As :func:`bench.board.stats.moderation.moderated` of each pair's two rows."""
        known, freedom, own = (
            np.array([[getattr(row, name) for row in side] for side in (first, second)])
            for name in ("moderated", "degrees", "own")
        )
        degrees = harmonic(known, freedom)
        found = moderate(self.seed_variance, self.seeds, known.sum(axis=0), own.sum(axis=0), degrees)
        return replace(self, seed_variance=np.maximum(found, 0.0), degrees=degrees)

    def half(self, alpha: float | Floats) -> Floats:
        parts = self.seed_variance, self.image_variance, self.rest_variance, self.pooled_variance
        return half_widths(alpha, *parts, self.degrees)

    def interval(self, level: float) -> _Ends:
        half = self.half(1 - level)
        return _Ends(self.estimate - self.shape[:, 0] * half, self.estimate + self.shape[:, 1] * half)

    def detectable(self, level: float, power: float = 0.8) -> Floats:
        halves: Floats = self.shape.mean(axis=1) * (self.half(1 - level) + self.half(2 - 2 * power))
        return halves

    def p_value(self) -> Floats:
        arms = np.where(self.estimate > 0, self.shape[:, 0], self.shape[:, 1])
        return p_values(np.abs(self.estimate) / arms, self.half)


def _pairs(tables: Floats, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]) -> _Pairs:
    """First minus second, in points, for P pairs of rows of ``tables`` [k, S, N]; see stats.spread."""
    _, seeds, images = tables.shape
    by_image = tables.mean(axis=1)
    by_seed = tables.mean(axis=2)
    mean = by_seed.mean(axis=1)
    parts = []
    for block in (tables.reshape(len(tables), -1), by_image, by_seed):
        # centred by each row's own mean first: small differences of large sums would lose digits
        centred = block - mean[:, None]
        gram = centred @ centred.T
        squares = np.diag(gram)
        parts.append(1e4 * np.maximum(squares[first] + squares[second] - 2 * gram[first, second], 0.0))
    whole, image_squares, seed_squares = parts
    pooled = image_squares / (images - 1) / images
    estimate = 100 * (mean[first] - mean[second])
    least = np.maximum(pooled, (100 / images) ** 2)  # as stats.floor_variance
    shape = np.ones((len(first), 2))
    if seeds == 1:
        return _Pairs(estimate, np.zeros_like(pooled), pooled, least, np.zeros_like(pooled), shape, seeds, 0)
    rest = np.maximum(whole - seeds * image_squares - images * seed_squares, 0.0)
    rest_part = rest / ((seeds - 1) * (images - 1) * seeds * images)
    seed_part = seed_squares / (seeds - 1) / seeds
    image_part = np.maximum(0.0, pooled - rest_part)
    if seeds >= BOOTSTRAP_SEEDS:
        differences = 100 * (by_seed[first] - by_seed[second])
        skewness = skewness_of(_cubes(by_image - mean[:, None], first, second), image_squares)
        shape = shapes(np.stack([seed_part, image_part, rest_part, pooled]), differences, images, skewness)
    return _Pairs(estimate, seed_part, image_part, least, rest_part, shape, seeds, seeds - 1)


def _cubes(rows: Floats, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]) -> Floats:
    """Sums of the cubed differences of rows [k, N], in points, from inner products as the squares are [P]."""
    cross = (rows * rows) @ rows.T
    own = np.diag(cross)
    return 1e6 * (own[first] - 3 * cross[first, second] + 3 * cross[second, first] - own[second])


def win_matrix(table: PairTable, names: Sequence[str]) -> pd.DataFrame:
    """The pair table in long form, a line for every ordered pair, rows and columns by descending mean.

    Columns: ``row``, ``column`` (of ``names``), ``difference`` (row minus column, points), ``low``, ``high`` (its 95 %
    interval, not corrected), ``p``, ``p_holm``, ``outcome`` (win, tie, loss of the row after correction),
    ``detectable`` (points, one comparison, 80 % power).
    """
    import pandas as pd

    words = {1: "win", 0: "tie", -1: "loss"}
    lines = []
    for i, j in itertools.permutations(table.order, 2):
        line: dict[str, object] = {"row": names[i], "column": names[j]}
        for name in ("difference", "low", "high", "p", "p_holm", "detectable"):
            line[name] = float(getattr(table, name)[i, j])
        lines.append(line | {"outcome": words[int(table.outcome[i, j])]})
    fields = ["row", "column", "difference", "low", "high", "p", "p_holm", "outcome", "detectable"]
    return pd.DataFrame(lines, columns=fields)
