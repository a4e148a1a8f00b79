"""Records → tidy pandas frame, one row per setting; its columns are the list :data:`COLUMNS`.

:func:`describe_columns` renders that list for the README.  A blank is a missing value (``<NA>``/NaN), never a zero:
statistics and costs are blank unless every expected seed was measured, and ``seeds`` says "k of n".
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bench.board.ranks import GROUP, Standing, standings
from bench.board.rows import Asked, Row, Versions, make_rows
from bench.board.scores import Share, recovered_shares
from bench.board.stats import LEVEL, Interval, accuracy_interval, totals_interval
from bench.spec.axes import columns as axis_columns
from bench.store.records import ResultRecord

STAGES = ("synthesis", "compress", "measure")


@dataclass(frozen=True)
class Context:
    """What a column may need beyond its row: its standing among others, how many rows use its image sets."""

    standing: Standing | None
    best: bool
    image_set_rows: int
    interval: tuple[float, Interval] | None
    share: Share | None


@dataclass(frozen=True)
class Column:
    """One documented column: pandas ``dtype``, unit or kind, meaning, and how it is read from a row."""

    name: str
    dtype: str
    unit: str
    meaning: str
    value: Callable[[Row, Context], Any]


def _head(name: str) -> Callable[[Row, Context], Any]:
    return lambda row, _: getattr(row.head, name)


def _changes(name: str) -> Callable[[Row, Context], Any]:
    return lambda row, _: json.dumps(getattr(row.head, name), separators=(",", ":"))


def _asked(key: str) -> Callable[[Row, Context], Any]:
    return lambda row, _: row.head.setting.get(key)


def _metric(name: str) -> Callable[[Row, Context], Any]:
    def value(row: Row, _: Context) -> float | None:
        found = row.metric(name)
        return float(np.mean(found)) if found else None

    return value


def _cost(field: str, stages: Sequence[str] = STAGES) -> Callable[[Row, Context], Any]:
    """Mean over the seeds of a cost summed over stages; blank unless complete or when no seed recorded any stage."""

    def value(row: Row, _: Context) -> float | None:
        sums = []
        for record in row.measured if row.complete else ():
            known = [getattr(record.costs[stage], field) for stage in stages if stage in record.costs]
            if not known:
                return None
            sums.append(sum(known))
        return float(np.mean(sums)) if sums else None

    return value


def _peak(row: Row, _: Context) -> float | None:
    peaks = [c.peak_memory_mib for r in row.measured for c in r.costs.values() if c.peak_memory_mib is not None]
    return max(peaks) if peaks and row.complete else None


def _fp_top1(row: Row, _: Context) -> float | None:
    """Known as soon as one seed has it: the uncompressed network does not depend on the seed."""
    found = [v for r in row.records if (v := r.metrics.get("fp_top1")) is not None]
    return float(np.mean(found)) if found else None


def _macs_effective(row: Row, _: Context) -> float | None:
    """Records list it only where weights are zero; without any, every multiply-accumulate counts."""
    found = row.metric("macs_effective") or row.metric("macs")
    return float(np.mean(found)) if found else None


def _drop(row: Row, context: Context) -> float | None:
    before = _fp_top1(row, context)
    return before - context.interval[0] if before is not None and context.interval else None


def _interval(pick: Callable[[float, Interval], float]) -> Callable[[Row, Context], Any]:
    return lambda _, context: pick(*context.interval) if context.interval else None


def _standing(name: str) -> Callable[[Row, Context], Any]:
    return lambda _, context: getattr(context.standing, name) if context.standing else None


def _share(name: str) -> Callable[[Row, Context], Any]:
    return lambda _, context: getattr(context.share, name) if context.share else None


COLUMNS: tuple[Column, ...] = (
    Column("suite", "str", "key", "name of the suite", _head("suite")),
    Column("suite_version", "Int64", "key", "version of the suite", _head("suite_version")),
    Column("dataset", "str", "key", "data set the accuracy is measured on", _head("dataset")),
    Column("source", "str", "key", "where the images come from: method and non-default parameters", _head("source")),
    Column("model", "str", "key", "network the images come from; zoo:NAME for several, empty for none", _head("model")),
    Column("target", "str", "key", "network that is compressed", _head("target")),
    Column("compressor", "str", "key", "what compresses it: method and non-default parameters", _head("compressor")),
    Column("policy", "str", "key", "search that gave each layer its bits; empty for none", _head("policy")),
    Column("setting_label", "str", "key", "what was asked: W4A4, S50 W4A4, a student", _head("setting_label")),
    *(Column(c.key, c.dtype, c.unit, c.meaning, _asked(c.key)) for c in axis_columns()),
    Column(
        "n",
        "Int64",
        "images",
        "images the suite asked of the source; one that streams makes new ones at each step",
        _head("n"),
    ),
    Column("preset", "str", "key", "scale of the methods' hyper-parameters: mini, thorough, paper", _head("preset")),
    Column("seeds", "str", "k of n", "seeds measured, of those asked for", lambda row, _: row.seeds),
    Column("top1_mean", "Float64", "%", "top-1, mean over the seeds", _interval(lambda mean, _: mean)),
    Column("top1_low", "Float64", "%", "lower end of its 95 % interval", _interval(lambda _, ends: ends.low)),
    Column("top1_high", "Float64", "%", "upper end of its 95 % interval", _interval(lambda _, ends: ends.high)),
    Column("fp_top1", "Float64", "%", "top-1 of the uncompressed target", _fp_top1),
    Column("drop", "Float64", "points", "fp_top1 minus top1_mean", _drop),
    Column("recovered", "Float64", "%", "share of the way from noise (0) to real images (100)", _share("value")),
    Column("recovered_low", "Float64", "%", "lower end of its 95 % interval (Fieller)", _share("low")),
    Column("recovered_high", "Float64", "%", "upper end of its 95 % interval", _share("high")),
    Column("rank", "Int64", "1 is best", "within target and protocol; controls, stale rows: blank", _standing("rank")),
    Column("rank_low", "Int64", "1 is best", "best rank not ruled out: 1 + rows shown to be better", _standing("low")),
    Column("rank_high", "Int64", "1 is best", "worst rank not ruled out", _standing("high")),
    Column("letters", "str", "key", "rows that share a letter are not shown to differ", _standing("letters")),
    Column(
        "mde",
        "Float64",
        "points",
        "minimum detectable effect: difference found with 80 % power, median over its comparisons",
        _standing("detectable"),
    ),
    Column(
        "tied",
        "boolean",
        "flag",
        "another row has the same rank: no difference shown",
        lambda _, c: c.standing is not None and c.standing.tied > 1,
    ),
    Column("best", "boolean", "flag", "highest mean of those ranked within target and protocol", lambda _, c: c.best),
    Column("membership", "str", "key", "is the target among the networks the images come from", _head("membership")),
    Column("control", "str", "key", "upper (real images), lower (noise), none (a method)", _head("control")),
    Column("status", "str", "key", "ok, incomplete, failed, skipped, not_applicable", lambda row, _: row.status),
    Column("reason", "str", "text", "why seeds are missing", lambda row, _: row.reason),
    Column("stale", "boolean", "flag", "measured with an older version of a method", lambda row, _: row.stale),
    Column("protocol_id", "str", "key", "fingerprint of what is measured; ranks stay within", _head("protocol_id")),
    Column("target_digest", "str", "key", "fingerprint of the target's weights", _head("target_digest")),
    Column("test_digest", "str", "key", "fingerprint of the test images", _head("test_digest")),
    Column("test_count", "Int64", "images", "test images", _head("test_count")),
    Column("macs", "Float64", "MAC", "multiply-accumulates for one image", _metric("macs")),
    Column("macs_effective", "Float64", "MAC", "macs without those of weights that are zero", _macs_effective),
    Column("bitops_g", "Float64", "G", "sum over layers of MACs x weight bits x input bits", _metric("bitops_g")),
    Column("size_bytes", "Float64", "byte", "size of the compressed network", _metric("size_bytes")),
    Column("size_ratio", "Float64", "", "size_bytes over 4 bytes per parameter of the target", _metric("size_ratio")),
    Column(
        "synthesis_s",
        "Float64",
        "s",
        "wall time of the image set, charged in full to each",
        _cost("seconds", STAGES[:1]),
    ),
    Column("compress_s", "Float64", "s", "wall time of the compression", _cost("seconds", STAGES[1:2])),
    Column("measure_s", "Float64", "s", "wall time of the evaluation", _cost("seconds", STAGES[2:])),
    Column("cpu_s", "Float64", "s", "CPU time of the three", _cost("cpu_seconds")),
    Column("synthesis_cpu_s", "Float64", "s", "CPU time of the image set", _cost("cpu_seconds", STAGES[:1])),
    Column("compress_cpu_s", "Float64", "s", "CPU time of the compression", _cost("cpu_seconds", STAGES[1:2])),
    Column("measure_cpu_s", "Float64", "s", "CPU time of the evaluation", _cost("cpu_seconds", STAGES[2:])),
    Column(
        "forward_equivalents",
        "Float64",
        "forwards",
        "optimiser budget: one image through one network, synthesis and compression",
        _cost("forward_equivalents", STAGES[:2]),
    ),
    Column("synthesis_forwards", "Float64", "forwards", "its synthesis", _cost("forward_equivalents", STAGES[:1])),
    Column("compress_forwards", "Float64", "forwards", "its compression", _cost("forward_equivalents", STAGES[1:2])),
    Column("peak_memory_mib", "Float64", "MiB", "highest of all stages and seeds", _peak),
    Column(
        "image_set_rows",
        "Int64",
        "rows",
        "rows fed by the same image sets, this one included",
        lambda _, c: c.image_set_rows,
    ),
    Column("source_method", "str", "key", "its method", _head("source_method")),
    Column("compressor_method", "str", "key", "its method; + joins several steps", _head("compressor_method")),
    Column("source_changes", "str", "JSON", "its parameters that differ from the preset's", _changes("source_changes")),
    Column("compressor_changes", "str", "JSON", "the same of the compressor", _changes("compressor_changes")),
    Column("delivery", "str", "key", "images stored (cached), or made during the training (stream)", _head("delivery")),
    Column("variant", "str", "key", "W4A4 of W8A8, where one compression yields several", _head("variant")),
    Column("row_id", "str", "key", "fingerprint of the row: everything but the seed", _head("row_id")),
    Column("seed_scheme", "Int64", "", "how its cells were seeded; unlike ones share no draws", _head("seed_scheme")),
    Column("access", "str", "tier", "what the source may look at, T0 (nothing) to T6", _head("access")),
)


def frame(
    records: Iterable[ResultRecord],
    *,
    versions: Versions | None = None,
    seeds: Asked | None = None,
    extra: Sequence[str] = (),
    level: float = LEVEL,
) -> pd.DataFrame:
    """One line per (suite, dataset, source, model, target, compressor, policy, setting, n); see :data:`COLUMNS`.

    The same setting measured under another preset, protocol, test set, target weights or method version makes a line
    of its own.  Costs are means per seed.

    Args:
        versions: (kind, method) → version of the code, to tell stale rows.
        seeds: see :func:`bench.board.rows.make_rows`.
        extra: further metrics of the records, each a column of its mean over the seeds.
        level: of the intervals and ties.
    """
    return frame_of_rows(make_rows(records, versions=versions, seeds=seeds), extra, level).reset_index(drop=True)


def frame_of_rows(rows: Sequence[Row], extra: Sequence[str] = (), level: float = LEVEL) -> pd.DataFrame:
    """As :func:`frame`, from rows; the index holds each line's place in ``rows``."""
    known = {column.name for column in COLUMNS}
    more = [name for name in dict.fromkeys(extra) if name not in known]
    columns = (*COLUMNS, *(Column(name, "Float64", "", "metric of the records", _metric(name)) for name in more))
    contexts = _contexts(rows, level)
    data = {
        c.name: pd.Series([c.value(r, x) for r, x in zip(rows, contexts, strict=True)], dtype=c.dtype, name=c.name)
        for c in columns
    }
    return in_order(pd.DataFrame(data))


def in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Within a group: ranked rows by rank and accuracy, then controls, then what could not be measured."""
    order = ["suite", "dataset", "preset", "target", "setting_label", "rank", "top1_mean"]
    return table.sort_values(order, ascending=[name != "top1_mean" for name in order], kind="stable")


def describe_columns() -> str:
    """The columns as a Markdown table."""
    lines = ["| column | unit | meaning |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| `{c.name}` | {c.unit} | {c.meaning} |" for c in COLUMNS)]) + "\n"


def row_interval(row: Row, level: float = LEVEL) -> tuple[float, Interval] | None:
    """Mean top-1 of a complete row and its interval in percent; None when a seed or the metric is missing."""
    top1 = row.metric("top1")
    if not top1:
        return None
    if row.bitmaps:
        _, ends = accuracy_interval(np.stack([row.bitmaps[r.seed] for r in row.measured]), level)
        return float(np.mean(top1)), ends
    if row.head.test_count > 0:
        return totals_interval(top1, row.head.test_count, level)
    return float(np.mean(top1)), Interval(float("nan"), float("nan"))


def _contexts(rows: Sequence[Row], level: float) -> list[Context]:
    found: dict[int, Standing] = {}
    leaders: set[int] = set()
    intervals = [row_interval(row, level) for row in rows]
    shares = recovered_shares(rows, level)
    for members in _rank_groups(rows, intervals).values():
        found |= zip(members, standings([rows[i].bitmaps for i in members], level), strict=True)
        top = max(_mean_of(intervals[i]) for i in members)
        leaders |= {i for i in members if _mean_of(intervals[i]) == top}
    users = Counter(
        (row.head.suite, synth) for row in rows for synth in {r.synth_id for r in row.records if r.synth_id}
    )
    return [
        Context(
            standing=found.get(i),
            best=i in leaders,
            image_set_rows=max((users[row.head.suite, r.synth_id] for r in row.records if r.synth_id), default=0),
            interval=intervals[i],
            share=shares[i],
        )
        for i, row in enumerate(rows)
    ]


def _mean_of(interval: tuple[float, Interval] | None) -> float:
    return interval[0] if interval else float("-inf")


def _rank_groups(
    rows: Sequence[Row], intervals: Sequence[tuple[float, Interval] | None]
) -> dict[tuple[object, ...], list[int]]:
    """Indices of the rows ranked against each other: one suite, target (by weights), protocol and test set.

    Controls stand beside, stale and incomplete rows wait; rows without bitmaps cannot be paired.
    """
    groups: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        head = row.head
        if intervals[i] is None or not row.bitmaps or row.stale or row.status != "ok" or head.control != "none":
            continue
        groups[tuple(getattr(head, name) for name in GROUP)].append(i)
    return groups
