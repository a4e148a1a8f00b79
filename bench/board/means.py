"""The interval of a mean over targets, where the targets share what makes it sound: seeds and test images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bench.board.grids import missing
from bench.board.moderation import Term, moderated
from bench.board.rows import Row, make_rows
from bench.board.stats import LEVEL, Interval, floor_variance, spread
from bench.spec.axes import columns
from bench.store.records import ResultRecord

KEYS = ("suite", "suite_version", "preset", "row_id", "protocol_id")
"""What a line of the frame is found by among the rows."""

RowsByKey = Mapping[tuple[object, ...], Row]


@dataclass(frozen=True)
class TargetMean:
    """Both ends in percent, or None and the reason in words."""

    interval: Interval | None
    why: str = ""


def rows_by_key(records: Iterable[ResultRecord]) -> RowsByKey:
    """The measured rows of ``records`` for :func:`target_mean`."""
    rows = [row for row in make_rows(records) if row.measured]
    return {_key({name: getattr(row.head, name) for name in KEYS}): row for row in rows}


def _key(item: Mapping[str, Any]) -> tuple[object, ...]:
    return tuple("" if missing(item[name]) else str(item[name]) for name in KEYS)


def target_mean(line: Sequence[Mapping[str, Any]], rows: RowsByKey, level: float = LEVEL) -> TargetMean:
    """The interval of the mean over ``line``, rows of the frame with a mean, one per target.

    Correctness is averaged over the targets for every seed and image, and the mean of that table [S, N] has the
    variance of :func:`bench.board.stats.spread`.  So images that are hard for every target and seeds that move all of
    them count once; the variance between seeds is moderated (:mod:`bench.board.moderation`).  The targets are taken as
    they are, not as a sample of networks.
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
    terms = [Term(i, 1 / len(known), row.between) for i, row in enumerate(known)]
    low, high = moderated(floor_variance(spread(100 * tables.mean(axis=0))), terms).interval(level)
    return TargetMean(Interval(max(0.0, low), min(100.0, high)))


def _row(item: Mapping[str, Any], rows: RowsByKey) -> Row | None:
    """The row behind a line of the frame; None for one without a mean."""
    return None if missing(item["top1_mean"]) else rows.get(_key(item))


def setting_groups(table: pd.DataFrame) -> dict[str, list[str]]:
    """Settings that belong in one table: label → settings.

    Settings that differ in the bits of the activations only, on targets that have no other such setting, share a table:
    a suite may ask W4A8 of one network where it asks W4A4 of all others.
    """
    keys = [column.key for column in columns() if column.key != "act_bits"]
    targets: dict[str, set[str]] = {}
    alike: dict[str, tuple[str, ...]] = {}
    for setting, part in table.groupby("setting_label", sort=True):
        targets[str(setting)] = set(part["target"])
        alike[str(setting)] = tuple("" if missing(part[key].iloc[0]) else str(part[key].iloc[0]) for key in keys)
    groups: list[tuple[list[str], set[str]]] = []
    for setting in sorted(targets, key=lambda s: (-len(targets[s]), s)):
        home = next((g for g in groups if alike[g[0][0]] == alike[setting] and not g[1] & targets[setting]), None)
        if home is None:
            groups.append(([setting], set(targets[setting])))
        else:
            home[0].append(setting)
            home[1].update(targets[setting])
    return {", ".join(settings): settings for settings, _ in sorted(groups, key=lambda g: g[0][0])}
