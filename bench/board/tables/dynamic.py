"""Networks whose bits depend on the image: what their images take, whether harder ones take more, and what they gain
over static networks of equal mean bit operations."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri, stdtrit

from bench.board.index.rows import Asked, Row, Versions, make_rows
from bench.board.stats.moderation import Term, moderated
from bench.board.stats.paired import LEVEL, Floats, Interval, common_table, floor_variance, spread
from bench.board.tables.averages import row_interval
from bench.board.tables.grids import BLANK, Cell, Grid, line_dicts, missing, number
from bench.board.tables.searches import INTERVAL_FROM
from bench.store.image_bits import MEANING as MEANING
from bench.store.image_bits import unpack_floats
from bench.store.records import ResultRecord

GROUP = ("suite", "suite_version", "dataset", "preset", "source", "model", "target", "n")
"""What a dynamic row and the static ones it is compared with have in common, besides weights, test set and setting."""
FULL = 32 * 32
"""Bit operations of a multiply-accumulate in floating point: bit-FLOPs are per cent of these."""
NEAR = 0.01
"""How far, relatively, a static row's bit operations may lie from a dynamic row's where no two enclose them."""

_ASKED = ("weight_bits", "sparsity", "student")
_MEANS = ("top1", "bitops_g", "bitflops", "bits", "correlation")
COLUMNS: Mapping[str, str] = {
    **dict.fromkeys(GROUP, "str"),
    **dict.fromkeys(("suite_version", "n"), "Int64"),
    **dict.fromkeys(("compressor", "setting_label", "variant", "seeds", "row_id"), "str"),
    "stale": "bool",
    **{f"{name}_{part}": "Float64" for name in _MEANS for part in ("mean", "low", "high")},
    **dict.fromkeys(("bits_least", "bits_most"), "Float64"),
}
EQUAL_COLUMNS: Mapping[str, str] = {
    **dict.fromkeys(GROUP, "str"),
    **dict.fromkeys(("suite_version", "n"), "Int64"),
    **dict.fromkeys(("compressor", "setting_label", "row_id", "static", "between", "seeds"), "str"),
    **dict.fromkeys(("bitflops_mean", "top1_mean", "static_top1", "gain", "gain_low", "gain_high"), "Float64"),
}


def dynamic_table(
    records: Iterable[ResultRecord], *, versions: Versions | None = None, seeds: Asked | None = None
) -> pd.DataFrame:
    """One line per row whose records hold what each image takes.

    Args:
        records, versions, seeds: as :func:`bench.board.index.rows.make_rows` takes them.

    Returns:
        :data:`GROUP`, ``compressor``, ``setting_label``, ``variant``, ``seeds`` k of n, ``row_id``, ``stale``; means
        over test images and seeds with their 95 % intervals (``_mean``, ``_low``, ``_high``): ``top1`` in percent,
        ``bitops_g`` (1e9 bit operations of an image), ``bitflops`` (per cent of all at 32 x 32 bits), ``bits`` of an
        image (:data:`MEANING`) and ``correlation`` (Spearman's, of an image's bit operations and
        its difficulty, the entropy of the uncompressed target's prediction; :func:`correlation_interval`);
        ``bits_least`` and ``bits_most`` an image can have.  What is not known, or of a row that lacks a seed, is
        missing.  One seed's interval holds for that seed.
    """
    rows = [row for row in make_rows(records, versions=versions, seeds=seeds) if _dynamic(row)]
    lines = [_line(row) for row in rows]
    return _typed(lines, COLUMNS)


def equal_table(
    records: Iterable[ResultRecord], *, versions: Versions | None = None, seeds: Asked | None = None
) -> pd.DataFrame:
    """Dynamic rows against static networks of equal mean bit operations, a line per dynamic row and static method.

    A static row is one of the same :data:`GROUP`, weights, test set and weight bits whose images all take the same, and
    whose bits no search assigned.  Where two of a method enclose the dynamic row's bit operations, its accuracy there
    is the straight line between them (of several at one cost the more accurate counts); where the nearest is within
    :data:`NEAR`, it is that row's.

    Returns:
        :data:`GROUP`, ``compressor``, ``setting_label``, ``row_id`` of the dynamic row, ``static`` (method),
        ``between`` (the static rows), ``seeds`` that the dynamic row and all of the method's share; over these,
        ``bitflops_mean`` of the dynamic row, ``top1_mean`` of both (``static_top1``), ``gain`` (points, paired by seed
        and image), ``gain_low``, ``gain_high`` (95 %, from :data:`bench.board.tables.searches.INTERVAL_FROM` seeds on).
    """
    rows = [row for row in make_rows(records, versions=versions, seeds=seeds) if row.complete and not row.stale]
    static: dict[tuple[Any, ...], dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if _static(row):
            static[_key(row)][row.head.compressor_method].append(row)
    lines = []
    for row in rows:
        if not _dynamic(row) or _static(row) or not row.bitmaps:
            continue
        for method, beside in sorted(static[_key(row)].items()):
            found = _equal(row, method, beside)
            lines += [found] if found else []
    return _typed(lines, EQUAL_COLUMNS)


def per_image(record: ResultRecord) -> tuple[Floats, Floats] | None:
    """Bits (:data:`MEANING`) and difficulty (nats) of each test image [N]; None where bits do not depend on it."""
    if record.image_bits is None:
        return None
    values = unpack_floats(record.image_bits.bitops_g, record.test_count)
    return record.image_bits.bits_of(values), unpack_floats(record.image_bits.difficulty, record.test_count)


def correlation_interval(values: Sequence[float], images: int, level: float = LEVEL) -> tuple[float, Interval]:
    """Mean of rank correlations, one per seed on the same ``images``, and its interval; both within -1 and 1.

    On Fisher's scale z = artanh(r): the images' part has the standard error sqrt((1 + r²/2) / (N - 3)) of Bonett and
    Wright (2000, Psychometrika 65:23), which further seeds do not shrink since they see the same images; the seeds'
    part is that of their mean z, with Student's t.  One seed's interval holds for that seed.

    Raises:
        ValueError: no value, or fewer than four images.
    """
    if not values or images < 4:
        raise ValueError(f"{len(values)} correlations of {images} images")
    z = np.arctanh(np.clip(np.asarray(values, np.float64), -1 + 1e-12, 1 - 1e-12))
    centre, count = float(z.mean()), len(values)
    mean = math.tanh(centre)
    square = float(ndtri(0.5 + level / 2)) ** 2 * (1 + mean * mean / 2) / (images - 3)
    if count > 1:
        square += float(stdtrit(count - 1, 0.5 + level / 2)) ** 2 * float(z.var(ddof=1)) / count
    half = math.sqrt(square)
    return mean, Interval(math.tanh(centre - half), math.tanh(centre + half))


def dynamic_grids(table: pd.DataFrame, equal: pd.DataFrame) -> list[Grid]:
    """Both tables to print, one of each per suite, data set and preset; none where there is no dynamic row."""
    keys = ["suite", "dataset", "preset"]
    parts = [_dynamic_grid(" · ".join(map(str, key)), part) for key, part in table.groupby(keys, sort=False)]
    parts += [_equal_grid(" · ".join(map(str, key)), part) for key, part in equal.groupby(keys, sort=False)]
    return parts


def _dynamic_grid(title: str, part: pd.DataFrame) -> Grid:
    headers = (
        *("source", "from", "target", "compressor", "setting", "n", "top-1 %", "GBitOPs", "bit-FLOPs %"),
        *("bits of an image", "of", "with difficulty", "seeds"),
    )
    rows = []
    for row in line_dicts(part):
        names = [str(row[name]) for name in ("source", "model", "target", "compressor", "setting_label", "n")]
        means = [ranged(row, name, digits) for name, digits in (("top1", 2), ("bitops_g", 4), ("bitflops", 3))]
        means += [ranged(row, "bits", 2), f"{number(row['bits_least'], 1)}–{number(row['bits_most'], 1)}"]
        mark = " †" if row["stale"] else ""
        rows.append(tuple(Cell(text) for text in (*names, *means, ranged(row, "correlation", 2), row["seeds"] + mark)))
    notes = [
        "mean over test images and seeds, 95 % interval; one seed's holds for that seed",
        "bit-FLOPs: bit operations of an image in per cent of those at 32 x 32 bits",
        f"bits of an image: {MEANING}; of: the fewest and the most an image can have",
        "with difficulty: Spearman's rank correlation of an image's bit operations and the entropy of the uncompressed "
        "target's prediction",
    ]
    notes += ["†: stale"] if part["stale"].any() else []
    return Grid(f"{title} · bits per image", headers, frozenset(range(5)), tuple(rows), tuple(notes))


def _equal_grid(title: str, part: pd.DataFrame) -> Grid:
    headers = (
        *("source", "from", "target", "dynamic", "setting", "static", "between", "n", "bit-FLOPs %"),
        *("dynamic top-1 %", "static top-1 %", "gain", "95 % interval", "seeds"),
    )
    rows = []
    for row in line_dicts(part):
        names = ("source", "model", "target", "compressor", "setting_label", "static", "between", "n")
        ends = BLANK if missing(row["gain_low"]) else f"[{number(row['gain_low'])}, {number(row['gain_high'])}]"
        numbers = (number(row["bitflops_mean"], 3), *(number(row[k]) for k in ("top1_mean", "static_top1", "gain")))
        texts = (*(str(row[name]) for name in names), *numbers, ends, str(row["seeds"]))
        rows.append(tuple(Cell(text) for text in texts))
    notes = (
        "static accuracy at the dynamic row's mean bit operations: on the straight line between the static rows that "
        f"enclose them, or of the nearest within {100 * NEAR:g} %",
        f"gain: dynamic minus static in points, paired by seed and image; interval from {INTERVAL_FROM} seeds on",
    )
    title += " · dynamic against static at equal mean bit operations"
    return Grid(title, headers, frozenset(range(7)), tuple(rows), notes)


def ranged(row: Mapping[str, Any], name: str, digits: int) -> str:
    """A mean of :func:`dynamic_table` with its interval: ``3.98 [3.90, 4.06]``."""
    mean, low, high = (row[f"{name}_{part}"] for part in ("mean", "low", "high"))
    if missing(mean):
        return BLANK
    return number(mean, digits) + ("" if missing(low) else f" [{number(low, digits)}, {number(high, digits)}]")


def _typed(lines: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> pd.DataFrame:
    table = pd.DataFrame([[line.get(name) for name in columns] for line in lines], columns=list(columns))
    return table.astype(dict(columns))


def _dynamic(row: Row) -> bool:
    """Whether every measured record holds what each image takes."""
    return bool(row.measured) and all(record.image_bits is not None for record in row.measured)


def _static(row: Row) -> bool:
    """Whether all images take the same, by bits that no search assigned."""
    each = [record.image_bits for record in row.measured]
    return (
        bool(row.measured)
        and not row.head.policy
        and all(bits is None or bits.constant for bits in each)
        and bool(row.metric("bitops_g"))
        and bool(row.bitmaps)
    )


def _key(row: Row) -> tuple[Any, ...]:
    head = row.head
    return (
        *(getattr(head, name) for name in GROUP),
        head.target_digest,
        head.test_digest,
        *(head.setting.get(name) for name in _ASKED),
    )


def _line(row: Row) -> dict[str, Any]:
    head = row.head
    line: dict[str, Any] = {name: getattr(head, name) for name in (*GROUP, "compressor", "setting_label", "variant")}
    line |= {"seeds": row.seeds, "row_id": head.row_id, "stale": row.stale}
    found = row_interval(row)
    if found is not None:
        line |= _ends("top1", *found)
    each = [(record, record.image_bits) for record in row.measured if record.image_bits is not None]
    line["bits_least"], line["bits_most"] = each[0][1].between
    if not row.complete or len({record.test_count for record, _ in each}) > 1 or head.test_count < 2:
        return line
    values = np.stack([unpack_floats(bits.bitops_g, record.test_count) for record, bits in each])
    line |= _mean("bitops_g", values)
    if macs := head.metrics.get("macs"):
        line |= _mean("bitflops", 100 * values * 1e9 / (FULL * macs))
    line |= _mean("bits", np.stack([bits.bits_of(one) for (_, bits), one in zip(each, values, strict=True)]))
    related = row.metric("bits_difficulty")
    if related and head.test_count > 3:
        line |= _ends("correlation", *correlation_interval(related, head.test_count))
    return line


def _mean(name: str, values: Floats) -> dict[str, float]:
    found = spread(values)
    return _ends(name, found.estimate, found.interval())


def _ends(name: str, mean: float, ends: Interval) -> dict[str, float]:
    return {f"{name}_mean": mean, f"{name}_low": ends.low, f"{name}_high": ends.high}


def _equal(row: Row, method: str, beside: Sequence[Row]) -> dict[str, Any] | None:
    """The dynamic row against a static method's rows, by costs and accuracies of the seeds all have; None where these
    do not reach its bit operations, or share no seed or image with it."""
    shared = set(row.bitmaps).intersection(*(one.bitmaps for one in beside))
    if not shared:
        return None
    cost = _mean_over(row, "bitops_g", shared)
    weighted = _at(cost, beside, shared)
    if not weighted:
        return None
    some = [{seed: one.bitmaps[seed] for seed in shared} for one in (row, *(one for one, _ in weighted))]
    tables = common_table(*some)
    if not tables:
        return None
    there = sum((weight * table for (_, weight), table in zip(weighted, tables[1:], strict=True)), start=0 * tables[0])
    parts = floor_variance(spread(100 * (tables[0] - there)))
    head = row.head
    line: dict[str, Any] = {name: getattr(head, name) for name in (*GROUP, "compressor", "setting_label", "row_id")}
    line |= {"static": method, "between": " | ".join(_named(one) for one, _ in weighted), "seeds": str(parts.seeds)}
    line |= {"top1_mean": 100 * float(tables[0].mean()), "static_top1": 100 * float(there.mean())}
    line["gain"] = parts.estimate
    if macs := head.metrics.get("macs"):
        line["bitflops_mean"] = 100 * cost * 1e9 / (FULL * macs)
    if parts.seeds >= INTERVAL_FROM:
        terms = [Term(one.head.row_id, weight, one.between) for one, weight in ((row, 1.0), *_minus(weighted))]
        line["gain_low"], line["gain_high"] = moderated(parts, terms).interval()
    return line


def _minus(weighted: Sequence[tuple[Row, float]]) -> list[tuple[Row, float]]:
    return [(row, -weight) for row, weight in weighted]


def _named(row: Row) -> str:
    return f"{row.head.compressor} {row.head.setting_label}".strip()


def _mean_over(row: Row, name: str, seeds: Set[int]) -> float:
    """The metric's mean over some of the row's seeds."""
    return float(np.mean([record.metrics[name] for record in row.measured if record.seed in seeds]))


def _at(cost: float, rows: Sequence[Row], seeds: Set[int]) -> list[tuple[Row, float]]:
    """The rows whose weighted mean over ``seeds`` stands at ``cost`` (1e9 bit operations), with their weights; none
    where no two enclose it and the nearest is not near."""
    known = [(_mean_over(row, "bitops_g", seeds), _mean_over(row, "top1", seeds), row) for row in rows]
    ordered = sorted(known, key=lambda item: item[:2])
    below = [item for item in ordered if item[0] <= cost]
    above = [item for item in ordered if item[0] > cost]
    if below and above:
        (low, _, first), high = below[-1], above[0][0]
        second = [row for at, _, row in above if at == high][-1]
        share = (cost - low) / (high - low)
        return [(first, 1 - share), (second, share)] if share > 0 else [(first, 1.0)]
    near = [(abs(at - cost), -top1, row) for at, top1, row in known if abs(at - cost) <= NEAR * cost]
    return [(min(near, key=lambda item: item[:2])[2], 1.0)] if near else []
