"""How far a second run of a cell may lie from the first: the interval, what it detects, what a sample of cells catches.

Two runs of one cell on unlike machines are taken for two draws of its row's seeds: kernels that sum in another order
change the images and the rounding as another seed does.  With sigma² the variance of top-1 between seeds, on the same
test images, their difference has the variance 2 sigma².  In place of sigma² stands its moderated estimate
(:mod:`stats.moderation`; Smyth 2004) from rows of the same kind: same target, bits and compressor.  With v its
degrees of freedom, |again - first| is within  t_v(1 - alpha/2) sqrt(2 s²)  with probability 1 - alpha (moderated t,
Smyth 2004, section 4).  The variance between seeds holds what the test images add to a difference between two
networks; where it is small by luck, the sampling of the images on which two such networks disagree is a floor: with q
the share of test images that two seeds answer unlike and N images,  z(1 - alpha/2)² q/N  (large-sample McNemar), q at
least 1/N.

Deviation: of K cells each interval misses with alpha/K (Bonferroni), so that K honest cells are all inside with 95 %.

Left open: whether seeds bound machines for every method.  ``tests/benchmarks/spread.py`` measures both.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

import numpy as np

from bench.board.stats.moderation import MIN_ROWS, Replicates, SeedVariance, seed_variances
from bench.board.stats.paired import LEVEL, Spread
from bench.store.bitmaps import unpack_bits
from bench.store.records import ResultRecord

POWER = 0.8


class Kind(NamedTuple):
    """What cells share whose runs spread alike; the digests tell networks and test sets of one name apart."""

    dataset: str
    target: str
    compressor: str
    preset: str
    target_digest: str
    test_digest: str
    setting: str

    @property
    def title(self) -> str:
        """In a line."""
        return " ".join(filter(None, (self.target, self.setting, self.compressor)))


def kind_of(record: ResultRecord) -> Kind:
    """The kind of a cell."""
    r = record
    test = r.test_digest or ""
    return Kind(r.dataset, r.target, r.compressor, r.preset, r.target_digest, test, r.setting_label)


@dataclass(frozen=True)
class RunSpread:
    """How far runs of a cell lie apart: the variance of one run's top-1 in squared points, the share ``unlike`` of test
    images that two runs answer unlike (0 where no two seeds are known), test ``images``, and how many ``rows`` of its
    kind have several seeds."""

    variance: SeedVariance
    unlike: float
    images: int
    rows: int

    def difference(self, points: float = 0.0) -> Spread:
        """The difference between two runs, in points."""
        pooled = 1e4 * max(self.unlike, 1 / self.images) / self.images
        own = 2 * self.variance.moderated
        return Spread(points, own, 0.0, pooled, 1, self.images, seed_degrees=self.variance.degrees)

    def half_width(self, cells: int = 1, level: float = LEVEL) -> float:
        """Points by which the second run of one of ``cells`` may differ."""
        return self.difference().half_width(1 - (1 - level) / cells)

    def smallest_forgery(self, cells: int = 1, level: float = LEVEL, power: float = POWER) -> float:
        """Points that a number must be off for the second run to lie outside with this ``power``, as
        :meth:`bench.board.stats.paired.Spread.detectable` at the level of one of ``cells``."""
        return self.difference().detectable(1 - (1 - level) / cells, power)


def run_spreads(reference: Iterable[ResultRecord], cells: Sequence[ResultRecord]) -> list[RunSpread]:
    """How far runs of each of ``cells`` lie apart, from the seeds of the rows of ``reference``.

    A cell's variance is predicted from the rows of its kind (at least four of several seeds, else all shipped rows) at
    the cell's own top-1; where the reference holds several seeds of its very row, these join in (Smyth 2004, equation
    6).

    Args:
        cells: measured records; their top-1 says where on the line between accuracy and variance they lie.
    """
    rows: dict[tuple[Kind, str], list[ResultRecord]] = defaultdict(list)
    for record in reference:
        if record.status == "ok" and record.metrics.get("top1") is not None:
            rows[kind_of(record), record.row_id].append(record)
    known = {key: found for key, found in rows.items() if len({r.seed for r in found}) > 1}
    replicates = {key: _replicates(key[0], found) for key, found in known.items()}
    unlike = {key: share for key, found in known.items() if (share := _unlike(found)) is not None}
    probes = [_probe(cell) for cell in cells]
    predicted = seed_variances([*replicates.values(), *probes])[len(replicates) :]
    out = []
    for cell, prior in zip(cells, predicted, strict=True):
        kind = kind_of(cell)
        own = replicates.get((kind, cell.row_id))
        shares = [share for key, share in unlike.items() if key[0] == kind]
        share = unlike.get((kind, cell.row_id), float(np.mean(shares)) if shares else 0.0)
        count = sum(key[0] == kind for key in replicates)
        out.append(RunSpread(_joined(prior, own), share, cell.test_count, count))
    return out


def enough(spread: RunSpread) -> bool:
    """Whether its kind has rows enough for a level of its own."""
    return spread.rows >= MIN_ROWS


def _probe(record: ResultRecord) -> Replicates:
    """A row of the cell's kind and top-1 of which nothing else is known."""
    kind = kind_of(record)
    return Replicates(0.0, 0, float(record.metrics["top1"] or 0.0), record.test_count, kind[:-1], kind.setting)


def _replicates(kind: Kind, found: Sequence[ResultRecord]) -> Replicates:
    seeds = {record.seed: float(record.metrics["top1"] or 0.0) for record in found}
    values = list(seeds.values())
    mean, variance = float(np.mean(values)), float(np.var(values, ddof=1))
    return Replicates(variance, len(values) - 1, mean, found[0].test_count, kind[:-1], kind.setting)


def _joined(prior: SeedVariance, own: Replicates | None) -> SeedVariance:
    if own is None:
        return prior
    degrees = prior.degrees + own.degrees
    moderated = (prior.degrees * prior.moderated + own.degrees * own.variance) / degrees
    return replace(prior, moderated=moderated, degrees=degrees, own=own.variance)


def _unlike(found: Sequence[ResultRecord]) -> float | None:
    """Mean share of test images that two seeds of a row answer unlike."""
    maps = {r.seed: unpack_bits(r.correct, r.test_count) for r in found if r.correct is not None and r.test_count > 0}
    if len({len(bits) for bits in maps.values()}) != 1:
        return None
    pairs = [float(np.mean(a != b)) for a, b in combinations(maps.values(), 2)]
    return float(np.mean(pairs)) if pairs else None


def caught(share: float, sample: int, power: float = 1.0) -> float:
    """Probability that ``sample`` cells drawn at random hold, and show, one of the ``share`` of all that are forged:
    1 - (1 - power f)^K.  Drawn without replacement, as they are, it is this or more.

    Raises:
        ValueError: no share, no power, or a negative sample.
    """
    if not (0 <= share <= 1 and 0 <= power <= 1 and sample >= 0):
        raise ValueError(f"share {share}, power {power}, sample {sample}")
    return -math.expm1(sample * math.log1p(-share * power)) if share * power < 1 else float(sample > 0)


def kinds(records: Iterable[ResultRecord]) -> Mapping[Kind, list[ResultRecord]]:
    """The measured records of each kind, in the order of their first appearance."""
    found: dict[Kind, list[ResultRecord]] = defaultdict(list)
    for record in records:
        if record.status == "ok" and record.metrics.get("top1") is not None:
            found[kind_of(record)].append(record)
    return dict(found)
