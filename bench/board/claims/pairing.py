"""Which rows a claim sets against which, and the paired difference of each such unit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.board.claims.units import Comparison, Unit
from bench.board.index.machines import unlike
from bench.board.index.rows import Row
from bench.board.stats.moderation import Term
from bench.board.stats.paired import Bitmaps
from bench.board.stats.picks import picked
from bench.board.tables.signs import MIXED
from bench.interfaces import Setting
from bench.spec.axes import WHOLE, axis, axis_names, names
from bench.spec.claims import Labels, selects
from bench.spec.suite import Claim, Selector


def _axes() -> tuple[str, ...]:
    """The axes on which two rows may differ; the whole setting is all of its own axes at once."""
    return ("source", "model", "target", "compressor", "policy", *axis_names(), "n")


_ALWAYS = ("dataset", "preset")


@dataclass(frozen=True)
class Compared:
    """All comparisons of a claim (several only with ``over: each``), what is missing, and what was left out.

    ``units`` holds every unit as a comparison of its own, for breakdowns.
    """

    comparisons: tuple[Comparison, ...]
    units: tuple[Comparison, ...]
    settings: tuple[str, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]


def compare(claim: Claim, rows: Sequence[Row]) -> Compared:
    """Find the units of ``claim`` among ``rows`` and difference them."""
    free = _free_axes(claim)
    sides = [_strata(selector, rows, free) for selector in (claim.better, claim.worse)]
    problems: list[str] = []
    notes: list[str] = []
    apart: list[bool] = []
    families: dict[str, list[Unit]] = defaultdict(list)
    for key, better in sides[0].items():
        worse = sides[1].get(key)
        if worse is None:
            continue  # the grid has no such counterpart: an own network that is not on the target axis
        skipped = [row for row in (*better, *worse) if row.status == "not_applicable"]
        notes += [f"left out: {describe(row)}: {row.reason}" for row in skipped]
        left = [[row for row in side if row.status != "not_applicable"] for side in (better, worse)]
        if not left[0] or not left[1]:
            continue
        found = _problems(left[0] + left[1], same_protocol=not free & {"compressor", "policy", *axis_names()})
        found += _twice(left[0]) + _twice(left[1])
        problems += found
        for name, first, second in _pairs(claim, left[0], left[1], free):
            families[name].append(_unit(claim, first, second, missing=bool(found)))
            apart.append(unlike(first, second))
    if any(apart):
        notes.insert(0, f"{MIXED.text} machines differ at the same seed in {sum(apart)} of {len(apart)} pairs of rows")
    if not families:
        problems.append("no two rows to pair")
    comparisons = tuple(Comparison.of(name, units, claim.by) for name, units in families.items())
    if not problems and any(c.spread is None for c in comparisons):
        problems.append("the rows share no seed")
    units = tuple(Comparison.of(c.name, [unit], ()) for c in comparisons for unit in c.units)
    settings = tuple(dict.fromkeys(unit.label(WHOLE) for c in comparisons for unit in c.units))
    return Compared(comparisons, units, settings, tuple(problems), tuple(notes))


def sides(claim: Claim, rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """The rows a claim speaks of, (better, worse): those with a counterpart on the other side."""
    free = _free_axes(claim)
    better, worse = (_strata(selector, rows, free) for selector in (claim.better, claim.worse))
    both = [key for key in better if key in worse]
    return [row for key in both for row in better[key]], [row for key in both for row in worse[key]]


def _free_axes(claim: Claim) -> frozenset[str]:
    """Axes on which the two sides differ by the claim's own words; on all others rows are paired like with like.

    An axis that one side names holds for both.  The network the images come from follows from the source, so it is
    free as soon as the sources differ or any side speaks of it.
    """
    named = [(axis, claim.better.values(axis), claim.worse.values(axis)) for axis in (*_axes(), WHOLE, "membership")]
    free = {axis for axis, first, second in named if first and second and set(first) != set(second)}
    spoken = {axis for axis, first, second in named if first or second}
    if free & {"source", "membership"} or spoken & {"model", "membership"}:
        free.add("model")
    if WHOLE in free:
        free |= set(axis_names())
    return frozenset(free - {"membership", WHOLE})


def _strata(selector: Selector, rows: Sequence[Row], free: frozenset[str]) -> dict[tuple[str, ...], list[Row]]:
    names = {row.head.source for row in rows}, {row.head.compressor for row in rows}
    strata: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if selects(selector, _labels(row, *names)):
            key = tuple(_value(row, axis) for axis in (*_ALWAYS, *_axes()) if axis not in free)
            strata[key].append(row)
    return strata


def _labels(row: Row, sources: set[str], compressors: set[str]) -> Labels:
    """The row as :func:`bench.spec.claims.selects` reads it; a word that is some row's label means that row alone.

    Otherwise ``mixmix`` would mean ``mixmix(mix=1)`` as well, and an ablation could not name its baseline.
    """
    head = row.head
    source = () if head.source_method in sources else (head.source_method,)
    compressor = () if head.compressor_method in compressors else (head.compressor_method,)
    return {
        **{axis: (str(getattr(head, axis)),) for axis in ("model", "target", "membership", "n")},
        "policy": (head.policy, head.policy_method),
        **names(Setting.of(head.setting)),
        "source": (head.source, *source),
        "compressor": (head.compressor, *compressor),
    }


def _value(row: Row, name: str) -> str:
    """What the row is on an axis, by its label there."""
    if name == WHOLE:
        return row.head.setting_label
    return axis(name).label(Setting.of(row.head.setting)) if name in axis_names() else str(getattr(row.head, name))


def _problems(rows: Sequence[Row], *, same_protocol: bool) -> list[str]:
    """Why these rows cannot be averaged or paired, one sentence each."""
    problems = []
    for row in rows:
        if row.stale:
            problems.append(f"{describe(row)}: stale, measured with an older version of its method or other weights")
        elif not row.complete:
            problems.append(f"{describe(row)}: {row.reason or row.status} ({row.seeds} seeds)")
        elif not row.bitmaps:
            problems.append(f"{describe(row)}: no per-image results")
    heads = [row.head for row in rows if row.measured]
    if len({(head.test_digest, head.test_count) for head in heads}) > 1:
        problems.append("the test sets differ")
    if same_protocol and len({head.protocol_id for head in heads}) > 1:
        problems.append(f"{describe(rows[0])} and its counterparts: the protocols differ")
    return problems


def _twice(rows: Sequence[Row]) -> list[str]:
    seen: set[tuple[object, ...]] = set()
    problems = []
    for row in rows:
        if row.setting in seen:
            problems.append(f"{describe(row)}: measured twice, with other weights or another protocol")
        seen.add(row.setting)
    return problems


def _pairs(
    claim: Claim, better: Sequence[Row], worse: Sequence[Row], free: frozenset[str]
) -> list[tuple[str, list[Row], list[Row]]]:
    """(name, rows of the better side, of the worse side) of every comparison in one stratum.

    The name holds what tells the comparisons of ``over: each`` apart, so units of one name belong together.
    """
    out = []
    for first in _side(claim.better, better):
        for second in _side(claim.worse, worse):
            each = [
                " ".join(v for axis in _axes() if axis in free and (v := _value(side[0], axis)))
                for selector, side in ((claim.better, first), (claim.worse, second))
                if selector.over == "each"
            ]
            out.append((" vs ".join(each), first, second))
    return out


def _side(selector: Selector, rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of each comparison's side: one by one for ``over: each``, else all of them in one."""
    return [[row] for row in rows] if selector.over == "each" else [list(rows)]


def row_pair(
    first: Row, second: Row, labels: Sequence[tuple[str, str]] = (), *, same_protocol: bool = True
) -> tuple[Unit, list[str]]:
    """First minus second, as a claim's unit of one row a side, and what is wrong with it.  Where all that is wrong is
    that both rows are stale, of the same versions, their difference is there.

    Args:
        labels: (axis, value) beside those of the rows, or in their place.
    """
    rows = (first, second)
    problems = _problems(rows, same_protocol=same_protocol)
    whole = all(row.complete and row.bitmaps for row in rows) and first.stale == second.stale and same_code(*rows)
    missing = not whole or len(problems) > sum(row.stale for row in rows)
    every = (*_unit_labels([first], [second]), *labels)
    return (Unit(every, "", None) if missing else row_difference(first, second, every)), problems


def row_difference(first: Row, second: Row, labels: tuple[tuple[str, str], ...] = ()) -> Unit:
    """First minus second on the seeds and images they share; the rows are complete and alike in what was tested."""
    one, two = (_Side(row.bitmaps, (row,), (_term(row, 1.0),)) for row in (first, second))
    return _differenced(labels, one, two)


def same_code(first: Row, second: Row) -> bool:
    """Whether what both rows use is of the same version."""
    one, two = first.head, second.head
    sources = (one.source_version == two.source_version) or one.source_method != two.source_method
    return sources and (
        one.compressor_version == two.compressor_version or one.compressor_method != two.compressor_method
    )


def _unit(claim: Claim, better: Sequence[Row], worse: Sequence[Row], *, missing: bool) -> Unit:
    if missing:
        return Unit(_unit_labels(better, worse), "", None)
    first, second = (_one(rows, selector) for rows, selector in ((better, claim.better), (worse, claim.worse)))
    return _differenced(_unit_labels(first.rows, second.rows), first, second)


def _differenced(labels: tuple[tuple[str, str], ...], first: _Side, second: _Side) -> Unit:
    seeds = sorted(set(first.bitmaps) & set(second.bitmaps))
    table = {
        seed: 100 * (np.asarray(first.bitmaps[seed], np.float64) - np.asarray(second.bitmaps[seed], np.float64))
        for seed in seeds
    }
    terms = (*first.terms, *(replace(term, weight=-term.weight) for term in second.terms))
    return Unit(labels, first.rows[0].head.test_digest or "", table, terms)


def _unit_labels(better: Sequence[Row], worse: Sequence[Row]) -> tuple[tuple[str, str], ...]:
    return tuple((axis, _side_label(axis, better, worse)) for axis in (*_axes(), WHOLE))


def _side_label(axis: str, better: Sequence[Row], worse: Sequence[Row]) -> str:
    values = [" | ".join(dict.fromkeys(_value(row, axis) for row in side)) for side in (better, worse)]
    return values[0] if values[0] == values[1] else " > ".join(values)


@dataclass(frozen=True)
class _Side:
    """Several rows as one: correctness, the rows it is of, and their weights."""

    bitmaps: Bitmaps
    rows: tuple[Row, ...]
    terms: tuple[Term, ...]


def _one(rows: Sequence[Row], selector: Selector) -> _Side:
    """The rows' mean; with ``over: best`` the best of them, picked on other seeds and images than it is judged on
    (:mod:`stats.picks`): picked on the same ones, the side that has the choice would look better than it is, and
    a claim against it be refuted too easily.  Where rows are so close that such a pick errs, it costs that side the
    little they differ by.  A picked row weighs in the variance by its share of the folds, hence the root."""
    if len(rows) == 1 or selector.over != "best":
        seeds = sorted(set.intersection(*(set(row.bitmaps) for row in rows)))
        bitmaps = {seed: np.mean([row.bitmaps[seed] for row in rows], axis=0) for seed in seeds}
        return _Side(bitmaps, tuple(rows), tuple(_term(row, 1 / len(rows)) for row in rows))
    found, shares = picked([row.bitmaps for row in rows])
    chosen = [(row, float(share)) for row, share in zip(rows, shares, strict=True) if share > 0]
    return _Side(found, tuple(row for row, _ in chosen), tuple(_term(row, share**0.5) for row, share in chosen))


def _term(row: Row, weight: float) -> Term:
    return Term((row.head.row_id, row.head.protocol_id, row.head.preset), weight, row.between)


def describe(row: Row) -> str:
    """A row in words: source [model] → target, compressor, setting."""
    head = row.head
    return f"{short(row)} → {head.target} {head.compressor} {head.setting_label}".rstrip()


def short(row: Row) -> str:
    """Source and, in brackets, the network its images come from."""
    return f"{row.head.source} [{row.head.model}]" if row.head.model else row.head.source
