"""Does what a search calls costly lose accuracy?  Its costs of all policies of a board, ranked beside their accuracies.

A search whose cost is a sum over layers reports what it gave each pair of bits (``pair_costs``); with that it rates
every other policy of the same grid as well, drawn, uniform or found by a rival.  Spearman's rank correlation between
how cheap it calls them and how accurate they are says how well the search's proxy foretells the target.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from bench.board.index.rows import Asked, Versions, make_rows
from bench.board.tables.searches import GROUP
from bench.interfaces.ranks import rank_correlation
from bench.store.records import ResultRecord

KEY = (*GROUP, "setting_label")
"""What policies have in common that are compared, the seed aside."""

COLUMNS = (*KEY, "policy", "policies", "seeds", "correlation", "lowest", "highest")
CORRELATION = COLUMNS.index("correlation")

FEWEST = 5
"""Policies below which no correlation is given."""

Bits = tuple[tuple[str, int, int], ...]


def foretelling(
    records: Iterable[ResultRecord], *, versions: Versions | None = None, seeds: Asked | None = None
) -> pd.DataFrame:
    """One row per search and group of policies, the best search of a group first; what is stale rates nothing and is
    not rated.

    Args:
        versions, seeds: as :func:`bench.board.index.rows.make_rows` asks.

    Returns:
        :data:`COLUMNS`: those of :data:`KEY`, ``policy`` (the search), ``policies`` (the fewest of a seed), ``seeds``,
        ``correlation`` (the mean over seeds, 1: the cheaper the more accurate), ``lowest``, ``highest``; empty when no
        search reports its costs or none has :data:`FEWEST` policies to rate.
    """
    groups: dict[tuple[Any, ...], dict[int, list[ResultRecord]]] = {}
    for row in make_rows(records, versions=versions, seeds=seeds):
        if row.head.policy and not row.stale:
            key = tuple(getattr(row.head, name) for name in KEY)
            for record in row.measured:
                groups.setdefault(key, {}).setdefault(record.seed, []).append(record)
    rows = []
    for key, by_seed in groups.items():
        found: dict[str, list[tuple[int, float]]] = {}
        for same in by_seed.values():
            for name, rated in _rated(same).items():
                found.setdefault(name, []).append(rated)
        for name, rated_seeds in found.items():
            values = [value for _, value in rated_seeds]
            counts = [min(count for count, _ in rated_seeds), len(values)]
            rows.append([*key, name, *counts, sum(values) / len(values), min(values), max(values)])
    rows.sort(key=lambda row: (*map(str, row[: len(KEY)]), -row[CORRELATION], row[len(KEY)]))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def cost_of(bits: Bits, costs: Mapping[str, Mapping[str, float]]) -> float | None:
    """The sum over the layers that were searched; None where the policy has bits that were no candidates."""
    own = {name: (weight, act) for name, weight, act in bits}
    total = 0.0
    for layer, pairs in costs.items():
        cost = pairs.get(f"{own[layer][0]},{own[layer][1]}") if layer in own else None
        if cost is None:
            return None
        total += cost
    return total


def _rated(records: Sequence[ResultRecord]) -> dict[str, tuple[int, float]]:
    """Search → (policies it rates, rank correlation) among records of one seed; equal policies count once."""
    accuracies: dict[Bits, float] = {}
    for record in records:
        top1 = record.metrics["top1"]
        assert top1 is not None  # of what was measured
        accuracies.setdefault(_bits(record), top1)
    found = {}
    for record in records:
        costs = _costs(record)
        known = [(cost_of(bits, costs), value) for bits, value in accuracies.items()] if costs else []
        pairs = [(-cost, value) for cost, value in known if cost is not None]
        value = rank_correlation(*zip(*pairs, strict=True)) if len(pairs) >= FEWEST else None
        if value is not None:
            found[record.policy] = (len(pairs), value)
    return found


def _bits(record: ResultRecord) -> Bits:
    listed = record.report.get("layers")
    rows = listed if isinstance(listed, list) else []
    return tuple((row["name"], row["weight_bits"], row["activation_bits"]) for row in rows)


def _costs(record: ResultRecord) -> Mapping[str, Mapping[str, float]]:
    search = record.report.get("search")
    found = search.get("pair_costs") if isinstance(search, dict) else None
    return found if isinstance(found, dict) else {}
