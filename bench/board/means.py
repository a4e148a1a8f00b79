"""The interval of a mean over targets, where the targets share what makes it sound: seeds and test images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bench.board.grids import missing
from bench.board.rows import ROW_KEY, Row, make_rows
from bench.board.stats import LEVEL, Interval, floor_variance, spread
from bench.store.records import ResultRecord

KEYS = (*ROW_KEY, "preset", "protocol_id", "target_digest", "test_digest")
"""What a line of the frame is found by among the rows."""

_EQUAL = 1e-6  # points; the frame's mean of a row and the row's own

RowsByKey = Mapping[tuple[object, ...], Sequence[Row]]


@dataclass(frozen=True)
class TargetMean:
    """Both ends in percent, or None and the reason in words."""

    interval: Interval | None
    why: str = ""


def rows_by_key(records: Iterable[ResultRecord]) -> RowsByKey:
    """The measured rows of ``records`` for :func:`target_mean`; one key may hold several method versions."""
    found: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in make_rows(records):
        if row.measured:
            found[_key({name: getattr(row.head, name) for name in KEYS})].append(row)
    return found


def _key(item: Mapping[str, Any]) -> tuple[object, ...]:
    return tuple("" if missing(item[name]) else str(item[name]) for name in KEYS)


def target_mean(line: Sequence[Mapping[str, Any]], rows: RowsByKey, level: float = LEVEL) -> TargetMean:
    """The interval of the mean over ``line``, rows of the frame with a mean, one per target.

    Correctness is averaged over the targets for every seed and image, and the mean of that table [S, N] has the
    variance of :func:`bench.board.stats.spread`.  So images that are hard for every target and seeds that move all of
    them count once.  The targets are taken as they are, not as a sample of networks.
    """
    found = [_row(item, rows) for item in line]
    known = [row for row in found if row is not None]
    if not known or len(known) < len(found) or not all(row.bitmaps for row in known):
        return TargetMean(None, "correctness per test image is not at hand for every target")
    if len({row.head.test_digest for row in known}) > 1:
        return TargetMean(None, "the targets were not tested on the same images")
    seeds = sorted(known[0].bitmaps)
    if any(sorted(row.bitmaps) != seeds for row in known):
        return TargetMean(None, "the targets were not measured with the same seeds")
    tables = np.stack([np.stack([row.bitmaps[seed] for seed in seeds]) for row in known])
    low, high = floor_variance(spread(100 * tables.mean(axis=0))).interval(level)
    return TargetMean(Interval(max(0.0, low), min(100.0, high)))


def _row(item: Mapping[str, Any], rows: RowsByKey) -> Row | None:
    """The row behind a line of the frame; versions of one method are told apart by the mean."""
    if missing(item["top1_mean"]):
        return None
    for row in rows.get(_key(item), ()):
        top1 = [v for r in row.measured if (v := r.metrics.get("top1")) is not None]
        if len(top1) == len(row.measured) and abs(float(np.mean(top1)) - float(item["top1_mean"])) < _EQUAL:
            return row
    return None


def bit_groups(table: pd.DataFrame) -> dict[str, list[str]]:
    """Bits that belong in one table: label → bits.

    Bits of the same weights on targets that have no other such bits share a table: a suite may ask W4A8 of one
    network where it asks W4A4 of all others.
    """
    targets = {str(bits): set(part["target"]) for bits, part in table.groupby("bits", sort=True)}
    groups: list[tuple[list[str], set[str]]] = []
    for bits in sorted(targets, key=lambda b: (-len(targets[b]), b)):
        weights = bits.partition("A")[0]
        home = next((g for g in groups if g[0][0].partition("A")[0] == weights and not g[1] & targets[bits]), None)
        if home is None:
            groups.append(([bits], set(targets[bits])))
        else:
            home[0].append(bits)
            home[1].update(targets[bits])
    return {", ".join(bits): bits for bits, _ in sorted(groups, key=lambda g: g[0][0])}
