"""The paired settings of a claim, and the mean over several of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.board.stats.moderation import Term, moderated
from bench.board.stats.paired import Floats, Spread, floor_variance, spread


@dataclass(frozen=True)
class Unit:
    """One paired setting: better minus worse in points per seed and image; ``table`` None when a cell is missing.
    ``terms``: the rows it is a sum of, with their variances between seeds."""

    labels: tuple[tuple[str, str], ...]
    test_digest: str
    table: Mapping[int, Floats] | None
    terms: tuple[Term, ...] = ()

    def label(self, axis: str) -> str:
        """The unit's value on an axis; "better > worse" where the two sides differ."""
        return dict(self.labels)[axis]


@dataclass(frozen=True)
class Comparison:
    """The mean over units of one comparison; ``spread`` is None when a unit lacks a cell (never a mean over less)."""

    name: str
    units: tuple[Unit, ...]
    spread: Spread | None

    def along(self, axis: str) -> list[tuple[str, Comparison]]:
        """This comparison split along ``axis``: seeds one by one, every other axis by the units' value."""
        groups: dict[str, list[Unit]] = defaultdict(list)
        for unit in self.units:
            if axis != "seed":
                groups[unit.label(axis)].append(unit)
                continue
            for seed, table in (unit.table or {}).items():
                groups[str(seed)].append(replace(unit, table={seed: table}))
        return [(value, Comparison.of("", units, ())) for value, units in groups.items()]

    @staticmethod
    def of(name: str, units: Sequence[Unit], by: Sequence[str]) -> Comparison:
        """Mean over the values of ``by`` of the mean over the units within, each value with the same weight."""
        return Comparison(name, tuple(units), _spread(units, _weights(units, by)))

    @staticmethod
    def join(name: str, members: Sequence[Comparison], by: Sequence[str]) -> Comparison:
        """One comparison over the units of all ``members``."""
        return Comparison.of(name, [unit for member in members for unit in member.units], by)


def _weights(units: Sequence[Unit], by: Sequence[str]) -> list[float]:
    keys = [tuple(unit.label(axis) for axis in by if axis != "seed") for unit in units]
    return [1 / (len(set(keys)) * keys.count(key)) for key in keys]


def _spread(units: Sequence[Unit], weights: Sequence[float]) -> Spread | None:
    """Weighted sum of the units' differences; units on one test set share their images' errors, others do not.  The
    variance between seeds is moderated by that of the rows in it."""
    if not units or any(not unit.table for unit in units):
        return None
    seeds = sorted(set.intersection(*(set(unit.table or {}) for unit in units)))
    if not seeds:
        return None
    by_test: dict[str, list[Floats]] = defaultdict(list)
    for unit, weight in zip(units, weights, strict=True):
        tables = unit.table or {}
        by_test[unit.test_digest].append(weight * np.stack([tables[seed] for seed in seeds]))
    parts = [floor_variance(spread(np.sum(tables, axis=0))) for tables in by_test.values()]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    pairs = zip(units, weights, strict=True)
    return moderated(total, [replace(t, weight=w * t.weight) for unit, w in pairs for t in unit.terms])
