"""The board's columns: name, type, unit, meaning, and how each is read from a row (`bench.board.index.readers`).

A blank is a missing value (``<NA>``/NaN), never a zero: statistics and costs are blank unless every expected seed was
measured, and ``seeds`` says "k of n".
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.board.index import readers as read
from bench.board.index.machines import machines_of
from bench.board.index.readers import STAGES, Value
from bench.spec.axes import columns as axis_columns
from bench.store.image_gate import MEANING


@dataclass(frozen=True)
class Column:
    """One documented column: pandas ``dtype``, unit or kind, meaning, and how it is read from a row."""

    name: str
    dtype: str
    unit: str
    meaning: str
    value: Value


COLUMNS: tuple[Column, ...] = (
    Column("suite", "str", "key", "name of the suite", read.head("suite")),
    Column("suite_version", "Int64", "key", "version of the suite", read.head("suite_version")),
    Column("dataset", "str", "key", "data set the accuracy is measured on", read.head("dataset")),
    Column(
        "seen_in_training",
        "boolean",
        "flag",
        "its test images are of those that the networks were trained on: no measure of generalising",
        read.seen_in_training,
    ),
    Column(
        "source", "str", "key", "where the images come from: method and non-default parameters", read.head("source")
    ),
    Column(
        "model", "str", "key", "network the images come from; zoo:NAME for several, empty for none", read.head("model")
    ),
    Column("target", "str", "key", "network that is compressed", read.head("target")),
    Column(
        "compressor", "str", "key", "what compresses it: method and non-default parameters", read.head("compressor")
    ),
    Column("policy", "str", "key", "search that gave each layer its bits; empty for none", read.head("policy")),
    Column("setting_label", "str", "key", "what was asked: W4A4, S50 W4A4, a student", read.head("setting_label")),
    *(Column(c.key, c.dtype, c.unit, c.meaning, read.asked(c.key)) for c in axis_columns()),
    Column(
        "n",
        "Int64",
        "images",
        "images the suite asked of the source; one that streams makes new ones at each step",
        read.head("n"),
    ),
    Column(
        "preset", "str", "key", "scale of the methods' hyper-parameters: mini, thorough, paper", read.head("preset")
    ),
    Column("seeds", "str", "k of n", "seeds measured, of those asked for", lambda row, _: row.seeds),
    Column("top1_mean", "Float64", "%", "top-1, mean over the seeds", read.interval_end(lambda mean, _: mean)),
    Column("top1_low", "Float64", "%", "lower end of its 95 % interval", read.interval_end(lambda _, ends: ends.low)),
    Column("top1_high", "Float64", "%", "upper end of its 95 % interval", read.interval_end(lambda _, ends: ends.high)),
    Column("fp_top1", "Float64", "%", "top-1 of the uncompressed target", read.fp_top1),
    Column("drop", "Float64", "points", "fp_top1 minus top1_mean", read.drop),
    Column("recovered", "Float64", "%", "share of the way from noise (0) to real images (100)", read.share_of("value")),
    Column("recovered_low", "Float64", "%", "lower end of its 95 % interval (Fieller)", read.share_of("low")),
    Column("recovered_high", "Float64", "%", "upper end of its 95 % interval", read.share_of("high")),
    Column("rank_group", "str", "key", "compressor ranks are formed in; empty: all", lambda _, c: c.rank_group),
    Column(
        "rank",
        "Int64",
        "1 is best",
        "within target, protocol and compressor; controls, stale rows, one seed: blank",
        read.standing_of("rank"),
    ),
    Column(
        "rank_low",
        "Int64",
        "1 is best",
        "best rank not ruled out: 1 + rows shown to be better",
        read.standing_of("low"),
    ),
    Column("rank_high", "Int64", "1 is best", "worst rank not ruled out", read.standing_of("high")),
    Column("letters", "str", "key", "rows that share a letter are not shown to differ", read.standing_of("letters")),
    Column(
        "best_set",
        "boolean",
        "flag",
        "no row is shown to be better: cannot be told from the best",
        read.standing_of("best_set"),
    ),
    Column(
        "lead",
        "Float64",
        "points",
        "of the first row over the second, both picked on other seeds and images (no winner's curse)",
        read.standing_of("lead"),
    ),
    Column(
        "mde",
        "Float64",
        "points",
        "minimum detectable effect: difference found with 80 % power, median over its comparisons",
        read.standing_of("detectable"),
    ),
    Column(
        "tied",
        "boolean",
        "flag",
        "another row has the same rank: no difference shown",
        lambda _, c: c.standing is not None and c.standing.tied > 1,
    ),
    Column("best", "boolean", "flag", "highest mean of those ranked together", lambda _, c: c.best),
    Column(
        "membership", "str", "key", "is the target among the networks the images come from", read.head("membership")
    ),
    Column("control", "str", "key", "upper (real images), lower (noise), none (a method)", read.head("control")),
    Column("status", "str", "key", "ok, incomplete, failed, skipped, not_applicable", lambda row, _: row.status),
    Column("reason", "str", "text", "why seeds are missing", lambda row, _: row.reason),
    Column(
        "stale",
        "boolean",
        "flag",
        "measured with an older version of a method or on other weights",
        lambda row, _: row.stale,
    ),
    Column("flagged", "boolean", "flag", f"in some seed, {MEANING}; blank: no question", read.flagged),
    Column(
        "machine",
        "str",
        "key",
        "what measured it: kernels/threads/digest",
        lambda r, _: ", ".join(machines_of(r.measured)),
    ),
    Column(
        "ladder",
        "str",
        "key",
        "self_reported, or reproduced ×N: re-run inside its interval on N other kinds of machine; empty: not measured",
        read.ladder,
    ),
    Column(
        "integer_parity",
        "Float64",
        "%",
        "test images on which the exported network predicts what the simulated one does, mean over its exported seeds",
        read.parity,
    ),
    Column("mixed", "boolean", "flag", "machines differ between its seeds, or from rows beside", lambda _, c: c.mixed),
    Column("remade", "boolean", "flag", "its image set exists in several contents", lambda _, c: c.remade),
    Column("own_top1", "Float64", "%", "assigned labels that the images' own networks find", read.gate("top1")),
    Column("own_bn_share", "Float64", "of that of noise", "BN loss of the images' own networks", read.gate("bn_share")),
    Column("protocol_id", "str", "key", "fingerprint of what is measured; ranks stay within", read.head("protocol_id")),
    Column("target_digest", "str", "key", "fingerprint of the target's weights", read.head("target_digest")),
    Column("test_digest", "str", "key", "fingerprint of the test images", read.head("test_digest")),
    Column("test_count", "Int64", "images", "test images", read.head("test_count")),
    Column("macs", "Float64", "MAC", "multiply-accumulates for one image", read.metric("macs")),
    Column("macs_effective", "Float64", "MAC", "macs without those of weights that are zero", read.macs_effective),
    Column("bitops_g", "Float64", "G", "sum over layers of MACs x weight bits x input bits", read.metric("bitops_g")),
    Column("size_bytes", "Float64", "byte", "size of the compressed network", read.metric("size_bytes")),
    Column(
        "size_ratio", "Float64", "", "size_bytes over 4 bytes per parameter of the target", read.metric("size_ratio")
    ),
    Column(
        "float_weights", "Float64", "%", "share of the weights left in floating point", read.metric("float_weights")
    ),
    Column("float_macs", "Float64", "%", "share of the MACs by weights in floating point", read.metric("float_macs")),
    Column(
        "synthesis_s",
        "Float64",
        "s",
        "wall time of the image set, charged in full to each",
        read.cost("seconds", STAGES[:1]),
    ),
    Column("compress_s", "Float64", "s", "wall time of the compression", read.cost("seconds", STAGES[1:2])),
    Column("measure_s", "Float64", "s", "wall time of the evaluation", read.cost("seconds", STAGES[2:])),
    Column("cpu_s", "Float64", "s", "CPU time of the three", read.cost("cpu_seconds")),
    Column("synthesis_cpu_s", "Float64", "s", "CPU time of the image set", read.cost("cpu_seconds", STAGES[:1])),
    Column("compress_cpu_s", "Float64", "s", "CPU time of the compression", read.cost("cpu_seconds", STAGES[1:2])),
    Column("measure_cpu_s", "Float64", "s", "CPU time of the evaluation", read.cost("cpu_seconds", STAGES[2:])),
    Column(
        "forward_equivalents",
        "Float64",
        "forwards",
        "optimiser budget: one image through one network (synthesis: the inverted one), synthesis and compression",
        read.cost("forward_equivalents", STAGES[:2]),
    ),
    Column("synthesis_forwards", "Float64", "forwards", "its synthesis", read.cost("forward_equivalents", STAGES[:1])),
    Column(
        "compress_forwards", "Float64", "forwards", "its compression", read.cost("forward_equivalents", STAGES[1:2])
    ),
    Column(
        "synthesis_gmacs", "Float64", "G", "multiply-accumulates of its synthesis, each network's its own", read.gmacs
    ),
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
        read.amortised(read.cost("seconds", STAGES[:1])),
    ),
    Column(
        "synthesis_amortised_forwards",
        "Float64",
        "forwards",
        "synthesis_forwards over image_set_targets",
        read.amortised(read.cost("forward_equivalents", STAGES[:1])),
    ),
    Column(
        "synthesis_amortised_gmacs",
        "Float64",
        "G",
        "synthesis_gmacs over image_set_targets",
        read.amortised(read.gmacs),
    ),
    Column("peak_memory_mib", "Float64", "MiB", "highest of all stages and seeds", read.peak),
    Column(
        "image_set_rows",
        "Int64",
        "rows",
        "rows fed by the same image sets, this one included",
        lambda _, c: c.image_set_rows,
    ),
    Column("source_method", "str", "key", "its method", read.head("source_method")),
    Column("compressor_method", "str", "key", "its method; + joins several steps", read.head("compressor_method")),
    Column(
        "source_changes", "str", "JSON", "its parameters that differ from the preset's", read.changes("source_changes")
    ),
    Column("compressor_changes", "str", "JSON", "the same of the compressor", read.changes("compressor_changes")),
    Column(
        "delivery", "str", "key", "images stored (cached), or made during the training (stream)", read.head("delivery")
    ),
    Column("variant", "str", "key", "W4A4 of W8A8, where one compression yields several", read.head("variant")),
    Column("row_id", "str", "key", "fingerprint of the row: everything but the seed", read.head("row_id")),
    Column(
        "seed_scheme", "Int64", "", "how its cells were seeded; unlike ones share no draws", read.head("seed_scheme")
    ),
    Column("access", "str", "tier", "what the source may look at, T0 (nothing) to T6", read.head("access")),
)


def describe_columns() -> str:
    """The columns as a Markdown table."""
    lines = ["| column | unit | meaning |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| `{c.name}` | {c.unit} | {c.meaning} |" for c in COLUMNS)]) + "\n"
