"""The board's columns: name, type, unit, meaning, and how each is read from a row.

A blank is a missing value (``<NA>``/NaN), never a zero: statistics and costs are blank unless every expected seed was
measured, and ``seeds`` says "k of n".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.board.machines import machines_of
from bench.board.rows import Row
from bench.board.scores import Share
from bench.board.standings import Standing
from bench.board.stats import Interval
from bench.spec.axes import columns as axis_columns
from bench.store.image_gate import MEANING

STAGES = ("synthesis", "compress", "measure")


@dataclass(frozen=True)
class Context:
    """What a column may need beyond its row: its standing among others, how many rows use its image sets, how many
    targets these serve, whether machines differ (:mod:`bench.board.machines`) and the contents of its image sets."""

    standing: Standing | None
    best: bool
    image_set_rows: int
    image_set_targets: int
    interval: tuple[float, Interval] | None
    share: Share | None
    mixed: bool
    remade: bool
    rank_group: str


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


def metric(name: str) -> Callable[[Row, Context], Any]:
    """The mean over the seeds of a metric of the records."""

    def value(row: Row, _: Context) -> float | None:
        found = row.metric(name)
        return float(np.mean(found)) if found else None

    return value


def _cost(field: str, stages: Sequence[str] = STAGES) -> Callable[[Row, Context], Any]:
    """Mean over the seeds of a cost summed over stages; blank unless complete, or when a seed recorded none."""

    def value(row: Row, _: Context) -> float | None:
        sums = []
        for record in row.measured if row.complete else ():
            known = [getattr(record.costs[stage], field) for stage in stages if stage in record.costs]
            if not known or None in known:
                return None
            sums.append(sum(known))
        return float(np.mean(sums)) if sums else None

    return value


def _gmacs(row: Row, context: Context) -> float | None:
    """The synthesis in 1e9 multiply-accumulates."""
    found = _cost("macs", STAGES[:1])(row, context)
    return None if found is None else float(found) / 1e9


def _amortised(full: Callable[[Row, Context], Any]) -> Callable[[Row, Context], Any]:
    """A synthesis's cost over the targets that its image set serves (:func:`bench.board.costs.amortised`)."""

    def value(row: Row, context: Context) -> float | None:
        found = full(row, context)
        if found is None or not context.image_set_targets:
            return None
        return float(found) / context.image_set_targets

    return value


def _gate(name: str) -> Callable[[Row, Context], Any]:
    """Mean over the seeds of a reading by the images' own networks."""

    def value(row: Row, _: Context) -> float | None:
        found = [getattr(r.image_gate, name) for r in row.measured if r.image_gate is not None]
        known = [v for v in found if v is not None]
        return float(np.mean(known)) if row.complete and known and len(known) == len(row.measured) else None

    return value


def _flagged(row: Row, _: Context) -> bool | None:
    """Whether a seed's images do not invert their network; None where no seed's was asked."""
    found = [r.image_gate.flagged for r in row.measured if r.image_gate is not None]
    return any(found) if found else None


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
    Column("rank_group", "str", "key", "compressor ranks are formed in; empty: all", lambda _, c: c.rank_group),
    Column(
        "rank",
        "Int64",
        "1 is best",
        "within target, protocol and compressor; controls, stale rows, one seed: blank",
        _standing("rank"),
    ),
    Column("rank_low", "Int64", "1 is best", "best rank not ruled out: 1 + rows shown to be better", _standing("low")),
    Column("rank_high", "Int64", "1 is best", "worst rank not ruled out", _standing("high")),
    Column("letters", "str", "key", "rows that share a letter are not shown to differ", _standing("letters")),
    Column(
        "best_set",
        "boolean",
        "flag",
        "no row is shown to be better: cannot be told from the best",
        _standing("best_set"),
    ),
    Column(
        "lead",
        "Float64",
        "points",
        "of the first row over the second, both picked on other seeds and images (no winner's curse)",
        _standing("lead"),
    ),
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
    Column("best", "boolean", "flag", "highest mean of those ranked together", lambda _, c: c.best),
    Column("membership", "str", "key", "is the target among the networks the images come from", _head("membership")),
    Column("control", "str", "key", "upper (real images), lower (noise), none (a method)", _head("control")),
    Column("status", "str", "key", "ok, incomplete, failed, skipped, not_applicable", lambda row, _: row.status),
    Column("reason", "str", "text", "why seeds are missing", lambda row, _: row.reason),
    Column("stale", "boolean", "flag", "measured with an older version of a method", lambda row, _: row.stale),
    Column("flagged", "boolean", "flag", f"in some seed, {MEANING}; blank: no question", _flagged),
    Column(
        "machine",
        "str",
        "key",
        "what measured it: kernels/threads/digest",
        lambda r, _: ", ".join(machines_of(r.measured)),
    ),
    Column("mixed", "boolean", "flag", "machines differ between its seeds, or from rows beside", lambda _, c: c.mixed),
    Column("remade", "boolean", "flag", "its image set exists in several contents", lambda _, c: c.remade),
    Column("own_top1", "Float64", "%", "assigned labels that the images' own networks find", _gate("top1")),
    Column("own_bn_share", "Float64", "of that of noise", "BN loss of the images' own networks", _gate("bn_share")),
    Column("protocol_id", "str", "key", "fingerprint of what is measured; ranks stay within", _head("protocol_id")),
    Column("target_digest", "str", "key", "fingerprint of the target's weights", _head("target_digest")),
    Column("test_digest", "str", "key", "fingerprint of the test images", _head("test_digest")),
    Column("test_count", "Int64", "images", "test images", _head("test_count")),
    Column("macs", "Float64", "MAC", "multiply-accumulates for one image", metric("macs")),
    Column("macs_effective", "Float64", "MAC", "macs without those of weights that are zero", _macs_effective),
    Column("bitops_g", "Float64", "G", "sum over layers of MACs x weight bits x input bits", metric("bitops_g")),
    Column("size_bytes", "Float64", "byte", "size of the compressed network", metric("size_bytes")),
    Column("size_ratio", "Float64", "", "size_bytes over 4 bytes per parameter of the target", metric("size_ratio")),
    Column("float_weights", "Float64", "%", "share of the weights left in floating point", metric("float_weights")),
    Column("float_macs", "Float64", "%", "share of the MACs by weights in floating point", metric("float_macs")),
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
        "optimiser budget: one image through one network (synthesis: the inverted one), synthesis and compression",
        _cost("forward_equivalents", STAGES[:2]),
    ),
    Column("synthesis_forwards", "Float64", "forwards", "its synthesis", _cost("forward_equivalents", STAGES[:1])),
    Column("compress_forwards", "Float64", "forwards", "its compression", _cost("forward_equivalents", STAGES[1:2])),
    Column("synthesis_gmacs", "Float64", "G", "multiply-accumulates of its synthesis, each network's its own", _gmacs),
    Column(
        "image_set_targets",
        "Int64",
        "targets",
        "targets of the suite that the same image sets serve, this one included",
        lambda _, c: c.image_set_targets,
    ),
    Column(
        "synthesis_amortised_s",
        "Float64",
        "s",
        "synthesis_s over image_set_targets",
        _amortised(_cost("seconds", STAGES[:1])),
    ),
    Column(
        "synthesis_amortised_forwards",
        "Float64",
        "forwards",
        "synthesis_forwards over image_set_targets",
        _amortised(_cost("forward_equivalents", STAGES[:1])),
    ),
    Column(
        "synthesis_amortised_gmacs",
        "Float64",
        "G",
        "synthesis_gmacs over image_set_targets",
        _amortised(_gmacs),
    ),
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


def describe_columns() -> str:
    """The columns as a Markdown table."""
    lines = ["| column | unit | meaning |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| `{c.name}` | {c.unit} | {c.meaning} |" for c in COLUMNS)]) + "\n"
