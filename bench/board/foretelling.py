"""Does what a search calls costly lose accuracy?  Its costs of all policies of a board, ranked beside their accuracies.

A search whose cost is a sum over layers reports what it gave each pair of bits (``pair_costs``); with that it rates
every other policy of the same grid as well, drawn, uniform or found by a rival.  Spearman's rank correlation between
how cheap it calls them and how accurate they are says how well the search's proxy foretells the target.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from bench.store.records import ResultRecord

FEWEST = 5
"""Policies below which no correlation is given."""

GROUP = ("suite", "source", "model", "target", "compressor", "setting", "n", "preset")
"""What policies have in common that are compared, the seed aside."""

Bits = tuple[tuple[str, int, int], ...]


def foretelling(records: Iterable[ResultRecord]) -> pd.DataFrame:
    """One row per search and group of policies.

    Returns:
        The columns of :data:`GROUP`, ``policy`` (the search), ``policies`` (the fewest of a seed), ``seeds``,
        ``correlation`` (the mean over seeds, 1: the cheaper the more accurate), ``lowest``, ``highest``; empty when no
        search reports its costs or none has :data:`FEWEST` policies to rate.
    """
    groups: dict[tuple[Any, ...], dict[int, list[ResultRecord]]] = {}
    for record in records:
        if record.status == "ok" and record.policy and record.metrics.get("top1") is not None:
            key = tuple(record.setting_label if name == "setting" else getattr(record, name) for name in GROUP)
            groups.setdefault(key, {}).setdefault(record.seed, []).append(record)
    rows = []
    for key, seeds in groups.items():
        found: dict[str, list[tuple[int, float]]] = {}
        for same in seeds.values():
            for name, rated in _rated(same).items():
                found.setdefault(name, []).append(rated)
        for name, rated_seeds in found.items():
            values = [value for _, value in rated_seeds]
            row = dict(zip(GROUP, key, strict=True)) | {"policy": name, "policies": min(n for n, _ in rated_seeds)}
            rows.append(
                row
                | {"seeds": len(values), "correlation": sum(values) / len(values)}
                | {"lowest": min(values), "highest": max(values)}
            )
    return pd.DataFrame(rows, columns=[*GROUP, "policy", "policies", "seeds", "correlation", "lowest", "highest"])


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
    from scipy.stats import spearmanr

    accuracies: dict[Bits, float] = {}
    for record in records:
        accuracies.setdefault(_bits(record), float(record.metrics["top1"] or 0.0))
    found = {}
    for record in records:
        costs = _costs(record)
        known = [(cost_of(bits, costs), value) for bits, value in accuracies.items()] if costs else []
        pairs = [(-cost, value) for cost, value in known if cost is not None]
        if len(pairs) >= FEWEST:
            value = float(spearmanr([cheap for cheap, _ in pairs], [right for _, right in pairs]).statistic)
            if not math.isnan(value):  # all cost the same, or are equally good
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
