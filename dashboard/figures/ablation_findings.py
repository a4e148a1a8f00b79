"""What a panel of an ablation shows, in one sentence: its levels against one of them, judged as claims are.

Levels of a parameter, and settings of one source, stand against the preset's own, those of bits or of an image count
against the lowest.  Of other things (sources, compressors, zoos) the highest stands against all others; it was picked
by the numbers it is judged on, so all pairs of levels are the family that is corrected for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from bench.board.claims.judging import SEEDS_TO_JUDGE, UNJUDGED, Verdict, Word, current_rows, judge_compared
from bench.board.claims.pairing import Compared, row_pair
from bench.board.claims.units import Comparison, Unit
from bench.board.index.rows import Row
from bench.board.stats.heterogeneity import heterogeneity
from bench.board.stats.paired import LEVEL
from bench.board.tables.settings import axis_names
from dashboard.figures.ablation_axes import (
    OPTION,
    PARAM,
    SCHEME,
    SETTING,
    Layout,
    axis_name,
    is_shared,
    number_of,
    said,
)
from dashboard.figures.ablations import setting_names

UNEVEN = 3
"""Values of an axis along which a sentence says how a difference varies, at most."""


@dataclass(frozen=True)
class Finding:
    """One level against another: ``better`` minus ``worse`` as a claim of these words would be judged.  ``uneven``:
    the axis along which the difference varies though its sign does not, and (value, difference) along it."""

    better: str
    worse: str
    verdict: Verdict
    uneven: tuple[str, tuple[tuple[str, float], ...]] = ("", ())
    stale: bool = False


@dataclass(frozen=True)
class Findings:
    """The levels of one panel, or of several together, against ``reference``; with ``best`` it is the highest of
    them and the better side of each."""

    reference: str
    best: bool
    found: tuple[Finding, ...]


@dataclass(frozen=True)
class _Asked:
    says: str
    by: tuple[str, ...]
    margin: float = 0.0


Key = tuple[str, ...]
Places = dict[str, dict[Key, Row]]
"""Level → what a row is on all other axes → the row."""


def findings(drawn: pd.DataFrame, plan: Layout, rows: Mapping[object, Row], level: float = LEVEL) -> Findings | None:
    """The levels of ``plan.x`` among the drawn rows; None where there are not two of them to compare.

    Two rows are a pair where they are alike in everything but x and what follows from it.  Controls are left out where
    there are methods.

    Args:
        drawn: rows of :func:`dashboard.figures.ablation_axes.with_axes`.
        rows: index of ``drawn`` → the measured row.
    """
    own = drawn[drawn["control"] == "none"]
    own = own if len(own) else drawn
    own = own[[i in rows for i in own.index]]
    if own.empty:
        return None
    others = _others(own, plan)
    places = _places(own, plan, others, rows)
    if len(places) < 2:
        return None
    reference, best = _reference(own, plan, places, rows)
    names = [name for name in places if name != reference]
    pairs = {name: _pairs(places, (reference, name) if best else (name, reference)) for name in names}
    pairs = {name: both for name, both in pairs.items() if both}
    if not pairs:
        return None
    asked, compared = [], []
    for name, both in pairs.items():
        better, worse = (reference, name) if best else (name, reference)
        by, comparison = _compared(both, others, plan)
        asked.append(_Asked(f"{better} against {worse}", by))
        compared.append(comparison)
    verdicts = _judged(asked, compared, level, len(places) if best else 0)
    found = []
    for name, one, result, verdict in zip(pairs, asked, compared, verdicts, strict=True):
        better, worse = (reference, name) if best else (name, reference)
        stale = any(row.stale for pair in pairs[name] for row in pair[1:])
        word: Word = "open" if stale and verdict.verdict not in UNJUDGED else verdict.verdict
        uneven = ("", ()) if word in ("open", "depends") else _uneven(result, one.by, verdict.level)
        found.append(Finding(better, worse, replace(verdict, verdict=word), uneven, stale))
    return Findings(reference, best, tuple(found))


def _others(own: pd.DataFrame, plan: Layout) -> tuple[str, ...]:
    """The axes on which a pair is alike: all that are not x, do not follow from it and are no part of a setting."""
    axes = [axis for axis in plan.axes if axis != plan.x and axis not in plan.beside]
    return ("target", *(axis for axis in axes if is_shared(axis) or plan.x != SETTING))


def _places(own: pd.DataFrame, plan: Layout, others: Sequence[str], rows: Mapping[object, Row]) -> Places:
    """The current rows by level and place; of a place that holds several the first."""
    kept = {id(row) for row in current_rows([rows[i] for i in own.index])}
    names = setting_names(own, plan)
    out: Places = {}
    for (index, values), name in zip(own[list(others)].iterrows(), names, strict=True):
        row = rows[index]
        if id(row) in kept and row.status != "not_applicable":
            place = tuple(said(str(axis), value) for axis, value in values.items())
            out.setdefault(str(name), {}).setdefault((*place, row.head.policy, row.head.variant or ""), row)
    return out


def _reference(own: pd.DataFrame, plan: Layout, places: Places, rows: Mapping[object, Row]) -> tuple[str, bool]:
    """The level that the others stand against, and whether it is the highest."""
    if plan.x.startswith((PARAM, OPTION)):
        kind, name = ("source" if plan.x.startswith(PARAM) else "compressor"), axis_name(plan.x)
        for level, members in places.items():
            if any(name not in getattr(row.head, f"{kind}_changes") for row in members.values()):
                return level, False
    heads = [row.head for members in places.values() for row in members.values()]
    if plan.x == SETTING and len({head.source_method for head in heads}) == 1:
        plain = [name for name, members in places.items() if not any(r.head.source_changes for r in members.values())]
        if len(plain) == 1:
            return plain[0], False
    if plan.x != SETTING:
        numbers = dict(zip(setting_names(own, plan), own[plan.x].map(lambda v: number_of(plan.x, v)), strict=True))
        known = {name: value for name in places if (value := numbers.get(name)) is not None and not np.isnan(value)}
        if len(known) == len(places):
            return min(known, key=lambda name: known[name]), False
    return _highest(places), True


def _highest(places: Places) -> str:
    """The level with the highest mean over the places that most levels have."""
    counts: dict[Key, int] = {}
    for members in places.values():
        for place in members:
            counts[place] = counts.get(place, 0) + 1
    common = {place for place, count in counts.items() if count == max(counts.values())}

    def mean(name: str) -> float:
        seeds = [row.metric("top1") for place, row in places[name].items() if place in common]
        return float(np.mean([np.mean(v) for v in seeds])) if len(seeds) == len(common) and all(seeds) else -1.0

    return max(places, key=mean)


def _pairs(places: Places, levels: tuple[str, str]) -> list[tuple[Key, Row, Row]]:
    first, second = (places[level] for level in levels)
    return [(place, row, second[place]) for place, row in first.items() if place in second]


def _compared(
    pairs: Sequence[tuple[Key, Row, Row]], others: Sequence[str], plan: Layout
) -> tuple[tuple[str, ...], Compared]:
    """The axes along which the pairs differ, and the mean over them."""
    units: list[Unit] = []
    problems: list[str] = []
    same = plan.x not in (SCHEME, *axis_names()) and not plan.x.startswith(OPTION)
    for place, first, second in pairs:
        values = zip(others, place, strict=False)
        labels = [(_board_name(axis), value.removeprefix(f"{axis_name(axis)} ")) for axis, value in values]
        unit, wrong = row_pair(first, second, labels, same_protocol=same)
        units.append(unit)
        problems += wrong
    varied = [_board_name(axis) for i, axis in enumerate(others) if len({place[i] for place, _, _ in pairs}) > 1]
    by = tuple(varied)
    comparison = Comparison.of("", units, by)
    return by, Compared((comparison,), (), (), tuple(problems), ())


def _board_name(axis: str) -> str:
    """What claims call the axis."""
    return axis if axis in ("model", "n") else axis_name(axis)


def _judged(asked: Sequence[_Asked], compared: Sequence[Compared], level: float, levels: int) -> list[Verdict]:
    """The verdicts; of ``levels`` of which the highest was picked, the pairs without it take part in the correction,
    as if they showed nothing."""
    rest = max(0, levels * (levels - 1) // 2 - len(asked))
    empty = [Compared((), (), (), (), ())] * rest
    return judge_compared([*asked, *[_Asked("", ())] * rest], [*compared, *empty], level)[: len(asked)]


def _uneven(compared: Compared, by: Sequence[str], level: float) -> tuple[str, tuple[tuple[str, float], ...]]:
    """The axis of few values along which the parts differ most, by Cochran's Q, corrected for the number of axes."""
    tested = []
    for axis in by:
        parts = [(value, part.spread) for value, part in compared.comparisons[0].along(axis) if part.spread]
        if 1 < len(parts) <= UNEVEN and min(spread.seeds for _, spread in parts) >= SEEDS_TO_JUDGE:
            tested.append((heterogeneity([spread for _, spread in parts]), axis, parts))
    if not tested:
        return "", ()
    p, axis, parts = min(tested, key=lambda one: one[0])
    if p > (1 - level) / len(tested):
        return "", ()
    return axis, tuple((value, spread.estimate) for value, spread in parts)
