"""Searches of bits per layer, each beside the control of equal bits: what it reached, gained and cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from bench.board.index.rows import Asked, Row, Versions, make_rows
from bench.board.stats.moderation import Term, moderated
from bench.board.stats.paired import common_table, paired_difference
from bench.board.tables.averages import row_interval
from bench.spec.registry import Registry
from bench.store.records import ResultRecord

GROUP = ("suite", "suite_version", "dataset", "preset", "source", "model", "target", "compressor", "n")
"""What rows have in common whose searches are set beside each other."""
SETTING = ("setting_label", "variant", "target_digest", "test_digest")
"""What a row and the equal bits it is compared with have in common besides, and the seed."""
INTERVAL_FROM = 3
"""Seeds from which a gain has an interval."""
PASSES = 2
"""Forward-equivalents that training takes for one image: a forward, and a backward counting as one."""
_FIXED = 8
"""Bits of what no setting moves: the image, and tensors inside squeeze-excite."""

COLUMNS: Mapping[str, str] = {
    **dict.fromkeys(GROUP, "str"),
    **dict.fromkeys(("setting_label", "policy", "method", "seeds", "row_id"), "str"),
    **dict.fromkeys(("suite_version", "n"), "Int64"),
    **dict.fromkeys(("control", "equal", "stale"), "bool"),
    **dict.fromkeys(("top1_mean", "top1_low", "top1_high", "fp_top1", "bitops_g"), "Float64"),
    **dict.fromkeys(("gain", "gain_low", "gain_high", "bitops_ratio"), "Float64"),
    **dict.fromkeys(("search_forwards", "search_cpu_s", "search_images"), "Float64"),
}


def search_table(
    records: Iterable[ResultRecord], *, versions: Versions | None = None, seeds: Asked | None = None
) -> pd.DataFrame:
    """One line per row whose bits a search gave: equal bits first, then the other controls, then the searches by name.

    Args:
        records: all rows of a target and compressor, as :func:`index.rows.make_rows` asks; versions, seeds: too.

    Returns:
        :data:`GROUP`, ``setting_label``, ``policy`` (the search's label) and ``method``; ``control``: it looks at
        nothing, and ``equal``: a control that gives every open layer the setting's bits; ``seeds`` k of n, ``row_id``,
        ``stale``; ``top1_mean``, ``top1_low``, ``top1_high``, ``fp_top1`` in percent; ``bitops_g`` (1e9 BitOPs);
        ``gain`` (points over the ``equal`` row of the same setting, mean of the seeds' paired differences),
        ``gain_low``, ``gain_high`` (95 %, from :data:`INTERVAL_FROM` seeds on), ``bitops_ratio`` (over that row's);
        ``search_forwards`` (forward-equivalents), ``search_cpu_s``, ``search_images`` (given to it), means over the
        seeds.  What is not known, or of a row that lacks a seed, is missing.
    """
    rows = [row for row in make_rows(records, versions=versions, seeds=seeds) if row.head.policy and row.measured]
    lines = [_line(row) for row in rows]
    bases = {_key(row): row for row, line in zip(rows, lines, strict=True) if line["equal"] and not row.stale}
    for row, line in zip(rows, lines, strict=True):
        line |= _gain(row, bases.get(_key(row)))
    table = pd.DataFrame([[line.get(name) for name in COLUMNS] for line in lines], columns=list(COLUMNS))
    table = table.astype(dict(COLUMNS))
    order = table.assign(_equal=~table["equal"], _control=~table["control"])
    order = order.sort_values(["_equal", "_control", "policy", "setting_label"], kind="stable")
    return table.loc[order.index].reset_index(drop=True)


@cache
def controls() -> frozenset[str]:
    """The installed searches that declare themselves controls."""
    known = Registry("policies")
    return frozenset(name for name in known.names() if known.get(name).control)


def equal_bits(record: ResultRecord) -> bool:
    """Whether every layer has the setting's bits, or those of the first and last layer or of the image."""
    listed = record.report.get("layers")
    layers = [layer for layer in listed if isinstance(layer, dict)] if isinstance(listed, list) else []
    asked = record.setting
    sides = {
        "weight_bits": {asked.get("weight_bits"), asked.get("first_last_bits"), _FIXED} - {None},
        "activation_bits": {asked.get("act_bits"), asked.get("first_last_bits"), _FIXED} - {None},
    }
    return bool(layers) and all(layer.get(name) in known for layer in layers for name, known in sides.items())


def epoch_of(table: pd.DataFrame) -> int:
    """Images of the epoch that search costs are given in: the most that a search of ``table`` was given; 0 where none
    looked at any."""
    looked = table[(table["search_forwards"] > 0).fillna(False)]["search_images"].dropna()
    return int(looked.max()) if len(looked) else 0


def epochs(forwards: pd.Series, images: int) -> pd.Series:
    """Search costs in epochs of training in floating point on ``images`` images, at :data:`PASSES` an image."""
    return forwards / (PASSES * images) if images else forwards * float("nan")


def _key(row: Row) -> tuple[Any, ...]:
    return tuple(getattr(row.head, name) for name in (*GROUP, *SETTING))


def _line(row: Row) -> dict[str, Any]:
    head, found = row.head, row_interval(row)
    control = head.policy_method in controls()
    line: dict[str, Any] = {name: getattr(head, name) for name in (*GROUP, "setting_label", "policy")}
    line |= {"method": head.policy_method, "row_id": head.row_id, "seeds": row.seeds, "stale": row.stale}
    line |= {"control": control, "equal": control and all(map(equal_bits, row.measured))}
    if found is not None and row.complete:
        line |= {"top1_mean": found[0], "top1_low": found[1].low, "top1_high": found[1].high}
    line |= {name: _mean(row.metric(name)) for name in ("fp_top1", "bitops_g")}
    spent = [record.costs.get("search") for record in row.measured]
    line["search_forwards"] = _mean([None if cost is None else cost.forward_equivalents for cost in spent])
    line["search_cpu_s"] = _mean([None if cost is None else cost.cpu_seconds for cost in spent])
    return line | {"search_images": _mean([_images(record) for record in row.measured])}


def _images(record: ResultRecord) -> float | None:
    search = record.report.get("search")
    found = search.get("images") if isinstance(search, dict) else None
    return float(found) if isinstance(found, int | float) else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def _gain(row: Row, base: Row | None) -> dict[str, Any]:
    """Over ``base``, of the seeds both have, which are all that were asked for."""
    if base is None or row.stale or not (row.complete and base.complete):
        return {}
    taken, own = row.metric("bitops_g"), base.metric("bitops_g")
    found = {"bitops_ratio": float(np.mean(taken) / np.mean(own)) if taken and own and np.mean(own) else None}
    tables = common_table(row.bitmaps, base.bitmaps) if row.bitmaps and base.bitmaps else []
    if row is base or not tables:
        return found | ({"gain": 0.0} if row is base else {})
    parts = paired_difference(*tables)
    found["gain"] = parts.estimate
    if parts.seeds < INTERVAL_FROM:
        return found
    terms = [Term(one.head.row_id, weight, one.between) for one, weight in ((row, 1.0), (base, -1.0))]
    low, high = moderated(parts, terms).interval()
    return found | {"gain_low": low, "gain_high": high}
