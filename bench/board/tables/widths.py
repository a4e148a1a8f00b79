"""Networks of several bit-widths from one training: accuracy over bit-width, and Delta_B against networks that were
trained at one bit-width each.

A row takes part if its protocol says at which settings it was trained (``widths``, widest first) and whether its own is
one of them (``zero_shot``).  Which rows are the denominator a compressor says of itself: it offers ``alone``.  A word
among its ``offers`` is declared code, not part of what is hashed, so ids, protocols and ranks stay as they were; a key
of the protocol would have parted rows that are ranked together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from bench.board.index.rows import Asked, Row, Versions, make_rows
from bench.board.stats.moderation import Term, moderated
from bench.board.stats.paired import LEVEL, Floats, Spread, common_table, floor_variance, spread
from bench.board.tables.averages import row_interval
from bench.spec.registry import Registry
from bench.store.records import ResultRecord, StageCost

GROUP = ("suite", "suite_version", "dataset", "preset", "source", "model", "target", "policy", "n")
"""What rows have in common that are set beside each other; besides, the weights, the test images and the delivery."""
_SAME = (*GROUP, "target_digest", "test_digest", "delivery")
WIDTHS, ZERO_SHOT, CALIBRATED = "widths", "zero_shot", "calibrated"
"""Keys of the protocol: settings the network was trained at; its own is none of them; its statistics were then taken
anew."""

LINE_COLUMNS: Mapping[str, str] = {
    **dict.fromkeys(GROUP, "str"),
    **dict.fromkeys(("compressor", "asked", "widths", "reference", "seeds", "reason"), "str"),
    **dict.fromkeys(("suite_version", "n"), "Int64"),
    "alone": "bool",
    **dict.fromkeys(("delta_b", "delta_low", "delta_high"), "Float64"),
    **dict.fromkeys(("passes", "reference_passes", "cpu_s", "reference_cpu_s"), "Float64"),
}
POINT_COLUMNS: Mapping[str, str] = {
    **dict.fromkeys(GROUP, "str"),
    **dict.fromkeys(("compressor", "asked", "widths", "setting_label", "seeds", "row_id"), "str"),
    **dict.fromkeys(("suite_version", "n", "bits"), "Int64"),
    **dict.fromkeys(("alone", "zero_shot", "calibrated"), "bool"),
    **dict.fromkeys(("top1_mean", "top1_low", "top1_high", "fp_top1"), "Float64"),
}


@dataclass(frozen=True)
class Line:
    """The rows of one compressor that was asked for one setting, by their settings' labels: of one training at all
    ``widths``, or, ``alone``, of a training each."""

    rows: Mapping[str, Row]
    asked: str
    widths: tuple[str, ...]
    alone: bool

    @property
    def head(self) -> ResultRecord:
        """A record to read its keys from."""
        return next(iter(self.rows.values())).head

    def trained(self, width: str) -> Row | None:
        """The row trained at this setting."""
        row = self.rows.get(width)
        return None if row is None or row.head.protocol[ZERO_SHOT] else row


@cache
def alone_methods() -> frozenset[str]:
    """The installed compressors that train a network for each bit-width by itself."""
    known = Registry("compressors")
    return frozenset(name for name in known.names() if "alone" in known.get(name).offers)


def width_lines(
    records: Iterable[ResultRecord], *, versions: Versions | None = None, seeds: Asked | None = None
) -> list[Line]:
    """The lines among ``records``, in the order of their first row; stale rows are left out.

    Args:
        records: all rows of a target and compressor, as :func:`index.rows.make_rows` asks; versions, seeds: too.
    """
    records = list(records)
    if not any(_told(record) for record in records):
        return []  # before any row is formed
    found: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in make_rows(records, versions=versions, seeds=seeds):
        head = row.head
        if not row.measured or row.stale or not _told(head):
            continue
        alone = head.compressor_method in alone_methods()
        widths = () if alone else tuple(map(str, head.protocol[WIDTHS]))
        made = (head.compressor, head.compressor_version, head.source_version, _asked(head), widths, alone)
        key = (*_group(head), *made)
        found.setdefault(key, {}).setdefault(head.setting_label, row)
    return [Line(rows, *key[-3:]) for key, rows in found.items()]


def _told(record: ResultRecord) -> bool:
    """Whether the record says at which settings its network was trained."""
    told = record.protocol
    return isinstance(told.get(WIDTHS), list) and isinstance(told.get(ZERO_SHOT), bool)


def _asked(record: ResultRecord) -> str:
    """The setting the compressor was asked for; ``variant`` is "W4A4 of W8A8"."""
    return record.variant.partition(" of ")[2] or record.setting_label


def _group(record: ResultRecord) -> tuple[Any, ...]:
    return tuple(getattr(record, name) for name in _SAME)


def line_table(lines: Sequence[Line]) -> pd.DataFrame:
    """One row per line, those trained alone last.

    Returns:
        :data:`GROUP`, ``compressor``, ``asked`` (setting), ``widths`` trained at, ``alone``; ``reference``: the
        compressor whose networks are the denominator; ``delta_b``, ``delta_low``, ``delta_high`` (:func:`delta_b`),
        ``seeds`` k of n, and ``reason``: why there is none, or what of the protocols differs; ``passes``
        (forward-equivalents) and ``cpu_s`` of its compression, ``reference_passes`` and ``reference_cpu_s`` of the
        networks trained at the same widths alone, means per seed.  What is not known is missing.
    """
    found = [_line(line, lines) for line in lines]
    table = pd.DataFrame([[line.get(name) for name in LINE_COLUMNS] for line in found], columns=list(LINE_COLUMNS))
    return table.astype(dict(LINE_COLUMNS)).sort_values("alone", kind="stable").reset_index(drop=True)


def point_table(lines: Sequence[Line]) -> pd.DataFrame:
    """One row per network of :func:`width_lines`, by falling bits within its line.

    Returns:
        As :func:`line_table`, with ``setting_label`` and ``bits``, the more of weights' and activations';
        ``zero_shot``: not trained at it, ``calibrated``: batch normalisation's statistics taken anew; ``top1_mean``,
        ``top1_low``, ``top1_high``, ``fp_top1`` in percent, missing where a seed is; ``seeds``, ``row_id``.
    """
    found = []
    for line in lines:
        points = [_point(line, row) for row in line.rows.values()]
        found += sorted(points, key=lambda point: -point["bits"])
    table = pd.DataFrame([[point.get(name) for name in POINT_COLUMNS] for point in found], columns=list(POINT_COLUMNS))
    return table.astype(dict(POINT_COLUMNS))


def _named(line: Line) -> dict[str, Any]:
    head = line.head
    named = {name: getattr(head, name) for name in (*GROUP, "compressor")}
    return named | {"asked": line.asked, "widths": ", ".join(line.widths), "alone": line.alone}


def _point(line: Line, row: Row) -> dict[str, Any]:
    head, found, fp = row.head, row_interval(row), row.metric("fp_top1")
    sides = [head.setting.get(name) for name in ("weight_bits", "act_bits")]
    point = _named(line) | {name: getattr(head, name) for name in ("setting_label", "row_id")}
    point |= {"bits": max((int(bits) for bits in sides if bits is not None), default=0), "seeds": row.seeds}
    point |= {"zero_shot": head.protocol[ZERO_SHOT], "calibrated": bool(head.protocol.get(CALIBRATED))}
    if found is not None and row.complete:
        point |= {"top1_mean": found[0], "top1_low": found[1].low, "top1_high": found[1].high}
        point |= {"fp_top1": float(np.mean(fp)) if fp else None}
    return point


def _line(line: Line, lines: Sequence[Line]) -> dict[str, Any]:
    named = _named(line)
    if line.alone:
        own = [label for label in line.rows if line.trained(label) is not None]
        return named | {"seeds": next(iter(line.rows.values())).seeds} | _spent("", line, own)
    named |= _spent("", line, line.widths)
    other, why = reference(line, lines)
    if other is None:
        return named | {"reason": why}
    named |= {"reference": other.head.compressor, "reason": why} | _spent("reference_", other, line.widths)
    pairs = [(line.trained(width), other.trained(width)) for width in line.widths]
    known = [(own, theirs) for own, theirs in pairs if own is not None and theirs is not None]
    lacking = [width for width, pair in zip(line.widths, pairs, strict=True) if None in pair]
    lacking = [f"{width} is not measured on both sides" for width in lacking]
    lacking += [
        f"{row.head.compressor} {row.head.setting_label}: {row.seeds} seeds"
        for pair in known
        for row in pair
        if not row.complete
    ]
    if lacking:
        return named | {"reason": "; ".join(lacking)}
    found = delta_b(known)
    if isinstance(found, str):
        return named | {"reason": found}
    low, high = found.interval(LEVEL)
    count = f"{found.seeds} of {known[0][0].seeds.rpartition(' ')[2]}"
    return named | {"delta_b": found.estimate, "delta_low": low, "delta_high": high, "seeds": count}


def reference(line: Line, lines: Sequence[Line]) -> tuple[Line | None, str]:
    """The line of networks trained alone that ``line`` is divided by, with what of the protocols differs besides the
    widths in words; or None and why.

    It is the one of the same source, images, target and test images; of several, the one asked for the same setting,
    then the one in whose protocol the least differs (the grid of the weights, say); none where two are equally near.
    """
    beside = [other for other in lines if other.alone and _group(other.head) == _group(line.head)]
    if not beside:
        return None, "no networks trained alone were measured beside it"
    beside = [other for other in beside if other.asked == line.asked] or beside
    unlike = [_unlike(line, other) for other in beside]
    least = min(map(len, unlike))
    nearest = [place for place, keys in enumerate(unlike) if len(keys) == least]
    if len(nearest) > 1:
        names = ", ".join(beside[place].head.compressor for place in nearest)
        return None, f"several networks trained alone are equally near its protocol: {names}"
    keys = unlike[nearest[0]]
    return beside[nearest[0]], f"protocols differ in {', '.join(keys)}" if keys else ""


def _unlike(line: Line, other: Line) -> list[str]:
    """Keys of the protocol in which both differ at some width, sorted; those that tell of widths left out."""
    found: set[str] = set()
    for width in line.widths:
        own, theirs = line.trained(width), other.trained(width)
        if own is not None and theirs is not None:
            first, second = own.head.protocol, theirs.head.protocol
            found |= {key for key in {*first, *second} if first.get(key) != second.get(key)}
    return sorted(found - {WIDTHS, ZERO_SHOT, CALIBRATED})


def delta_b(pairs: Sequence[tuple[Row, Row]]) -> Spread | str:
    """100/|B| · sum over b of a_b/i_b with its variance, from pairs (the one network at b, the network trained at b
    alone) of complete rows; a_b and i_b are mean top-1 over the seeds.  Else in words why there is none.

    The variance is that of the statistic's linear part (the delta method): seed s and test image n contribute
    100/|B| · sum over b of (a_bsn - a_b/i_b · i_bsn)/i_b beside the estimate, so pairing by seed, image and width is
    kept, and the mean of these [S, N] has the spread, from five seeds on the bootstrap, of
    :func:`stats.paired.spread`; the variance between seeds is moderated (:mod:`stats.moderation`).  The
    denominators must be far from zero, as the accuracies of networks in use are; where one is not shown to be above
    zero there is no Delta_B.
    """
    tables = common_table(*(row.bitmaps for pair in pairs for row in pair)) if pairs else []
    if not tables or not all(row.bitmaps for pair in pairs for row in pair):
        return "no results per image on the same seeds and test images"
    count = len(pairs)
    values, terms, estimate = np.zeros_like(tables[0]), list[Term](), 0.0
    for (own, theirs), first, second in zip(pairs, tables[::2], tables[1::2], strict=True):
        below = 100 * float(second.mean())
        ends = row_interval(theirs)
        if ends is None or below <= 0 or ends[1].low <= 0:
            return f"{theirs.head.compressor} {theirs.head.setting_label} is not shown to be right at all"
        ratio = 100 * float(first.mean()) / below
        weight = 100 / count / below  # of a point of top-1
        values += _part(first, second, ratio, weight)
        estimate += 100 / count * ratio
        terms += [Term(_of(own), weight, own.between), Term(_of(theirs), -ratio * weight, theirs.between)]
    return moderated(floor_variance(spread(values + estimate)), terms)


def _part(first: Floats, second: Floats, ratio: float, weight: float) -> Floats:
    """What each seed and image adds to the estimate [S, N], of mean zero."""
    found: Floats = 100 * weight * (first - first.mean() - ratio * (second - second.mean()))
    return found


def _of(row: Row) -> tuple[str, str | None, str]:
    return row.head.row_id, row.head.protocol_id, row.head.preset


# --- costs ---


def _spent(prefix: str, line: Line, widths: Sequence[str]) -> dict[str, float | None]:
    """Passes and CPU seconds of training the networks of ``widths``, mean per seed; None where a record lacks them."""
    by_seed = [_of_seed(line, seed, widths) for seed in _seeds(line)]
    out: dict[str, float | None] = {}
    for name, column in (("forward_equivalents", "passes"), ("cpu_seconds", "cpu_s")):
        costs = [None if cost is None else getattr(cost, name) for cost in by_seed]
        known = [cost for cost in costs if cost is not None]
        out[prefix + column] = float(np.mean(known)) if known and len(known) == len(costs) else None
    return out


def _seeds(line: Line) -> list[int]:
    return sorted({record.seed for row in line.rows.values() for record in row.measured})


def _of_seed(line: Line, seed: int, widths: Sequence[str]) -> StageCost | None:
    """What the networks of ``widths`` cost; None where one of them is not there or its cost is not known.

    Every record of a job bears the cost of the whole job, so each job counts once.  One that trained several networks
    alone counts for each by an equal part: these trainings are of equal length.
    """
    at_seed = {label: r for label, row in line.rows.items() for r in row.measured if r.seed == seed}
    trained = {label: record for label, record in at_seed.items() if not record.protocol[ZERO_SHOT]}
    if not widths or not set(widths) <= set(trained):
        return None
    in_all = Counter(record.job_id for record in trained.values())
    used = Counter(trained[label].job_id for label in widths)
    passes = seconds = 0.0
    for job, count in used.items():
        cost = next(record.costs.get("compress") for record in trained.values() if record.job_id == job)
        if cost is None:
            return None
        share = count / in_all[job] if line.alone else 1.0
        passes, seconds = passes + share * cost.forward_equivalents, seconds + share * cost.cpu_seconds
    return StageCost(forward_equivalents=passes, cpu_seconds=seconds)
