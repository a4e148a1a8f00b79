"""Which source for this compressor and these bits: a suite's rows as ranked lines, each a mean over the networks.

One table per data set, preset, compressor (one for all where a suite compares them) and setting; a line per source,
network of its images and policy.  What is ranked together shares its networks and protocols, so a table whose
lines do not is several.  Means are paired over seeds and test images as rows of one network are, with the variance
between seeds moderated (:func:`bench.board.tables.averages.average`); on one network rank and ties are the board's own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.board.index.machines import mixed_rows
from bench.board.index.readers import STAGES, cost_of
from bench.board.index.rows import Row
from bench.board.stats.paired import Interval
from bench.board.stats.ranks import RANKED_FROM, pair_table
from bench.board.stats.standings import rank_intervals, tie_ranks
from bench.board.tables.averages import apart, average, joined_settings, mean_interval, row_interval
from bench.board.tables.signs import marks
from bench.spec.axes import columns
from bench.spec.suite import RankWithin

_CONTROLS = {"none": 0, "upper": 1, "lower": 2}
_NO_RANK = 10**6
_WORDS = {"not_applicable": "not applicable"}


@dataclass(frozen=True)
class Line:
    """A source on the networks of its table.  ``mean``, ``interval`` in percent; ``ranks``: those not ruled out;
    ``behind``: points to the first line with their paired 95 % interval; ``minutes``: CPU minutes of image set and
    compression for one network; ``why``: what stands in place of a mean; ``shown``: that it was selected."""

    name: str
    control: str
    mean: float | None = None
    interval: Interval | None = None
    rank: int | None = None
    tied: bool = False
    ranks: tuple[int, int] | None = None
    behind: tuple[float, float, float] | None = None
    minutes: float | None = None
    marks: str = ""
    why: str = ""
    shown: bool = True


@dataclass(frozen=True)
class SourceTable:
    """Lines that are measured on the same networks by the same protocols: ranked ones by falling mean, then those
    without a rank, the controls, and what has no mean.  ``compressor`` is empty where compressors are compared,
    ``fp_top1`` the mean of the uncompressed networks, ``protocol`` empty unless two tables differ in nothing else."""

    dataset: str
    preset: str
    compressor: str
    setting: str
    targets: tuple[str, ...]
    images: tuple[int, ...]
    fp_top1: float | None
    lines: tuple[Line, ...]
    protocol: str = ""

    @property
    def ranked(self) -> tuple[Line, ...]:
        """The lines that have a rank."""
        return tuple(line for line in self.lines if line.rank is not None)


@dataclass(frozen=True)
class _Candidate:
    """A line before it is ranked: its rows, one per target, or why these have no mean."""

    head: Row
    line: Line
    rows: tuple[Row, ...] = ()

    @property
    def protocols(self) -> tuple[tuple[object, ...], ...]:
        """What is measured: lines are compared within."""
        keys = ("target", "protocol_id", "target_digest", "test_digest")
        return tuple(tuple(getattr(row.head, key) for key in keys) for row in self.rows)


def source_tables(
    rows: Sequence[Row],
    within: RankWithin,
    *,
    remade: Collection[str] = (),
    shown: Callable[[Row], bool] = lambda row: True,
    measured_on: Callable[[Row], bool] = lambda row: True,
) -> list[SourceTable]:
    """The tables of one suite's rows; those without a compressor have none.

    Args:
        rows: all of the suite, from :func:`bench.board.index.rows.make_rows`.
        within: what ranks are formed within, besides protocols.
        remade: ids of image sets that exist in several contents.
        shown: whether a row was selected; lines without such a row are ranked and marked as not shown.
        measured_on: whether a row belongs to the networks and settings asked for; others are left out.
    """
    mixed = mixed_rows(rows)
    signs = [_marks(row, i in mixed, remade) for i, row in enumerate(rows)]
    parts: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        if row.head.compressor and measured_on(row):
            group = row.head.compressor if within == "compressor" else ""
            parts[row.head.dataset, row.head.preset, group].append(i)
    namer = Namer(rows)
    tables = []
    for (dataset, preset, compressor), members in parts.items():
        for setting, labels in settings_of([rows[i] for i in members]).items():
            own = [i for i in members if rows[i].head.setting_label in labels]
            empty = SourceTable(dataset, preset, compressor, setting, (), (), None, ())
            tables += _tables(empty, own, rows, signs, namer, shown)
    tables.sort(key=lambda table: (table.dataset, table.preset, table.compressor, table.setting))
    called = [(table.dataset, table.preset, table.compressor, table.setting, table.targets) for table in tables]
    return [t if called.count(name) > 1 else replace(t, protocol="") for t, name in zip(tables, called, strict=True)]


class Namer:
    """What a row's line is called: source [network of its images] · policy, and what else tells lines apart.

    A source that only ever looks at the very target makes one line, [self], not one per network.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        own: dict[str, list[bool]] = defaultdict(list)
        for row in rows:
            own[row.head.source].append(row.head.model == row.head.target)
        self._alone = {source for source, found in own.items() if all(found) and len(rows) > 1}

    def name(self, row: Row, *, compressor: bool = False, images: bool = False) -> str:
        """``compressor``, ``images``: with these, where the lines of a table differ in them."""
        head = row.head
        model = "self" if head.source in self._alone else head.model
        words = [f"{head.source} [{model}]" if model else head.source, head.policy, head.variant]
        words = [head.compressor if compressor else "", *words, f"{head.n} images" if images else ""]
        return " · ".join(filter(None, words))


def settings_of(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Settings of rows that belong in one table: :func:`bench.board.tables.averages.joined_settings`."""
    keys = [column.key for column in columns() if column.key != "act_bits"]
    targets: dict[str, set[str]] = defaultdict(set)
    alike: dict[str, object] = {}
    for row in rows:
        targets[row.head.setting_label].add(row.head.target)
        alike[row.head.setting_label] = tuple(row.head.setting.get(key) for key in keys)
    return joined_settings(targets, alike)


def _marks(row: Row, mixed: bool, remade: Collection[str]) -> str:
    flagged = any(record.image_gate is not None and record.image_gate.flagged for record in row.measured)
    twice = any(record.synth_id in remade for record in row.records)
    return marks({"stale": row.stale, "flagged": flagged, "mixed": mixed, "remade": twice})


def _tables(
    empty: SourceTable,
    members: Sequence[int],
    rows: Sequence[Row],
    signs: Sequence[str],
    namer: Namer,
    shown: Callable[[Row], bool],
) -> list[SourceTable]:
    """``empty`` filled: one table for each set of networks and protocols that its lines are measured on; one for each
    network where no line was measured on all of them."""
    targets = tuple(dict.fromkeys(rows[i].head.target for i in members))
    images = tuple(sorted({rows[i].head.n for i in members}))
    named: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for i in members:
        name = namer.name(rows[i], compressor=not empty.compressor, images=len(images) > 1)
        named[name][rows[i].head.target].append(i)
    groups: dict[tuple[tuple[object, ...], ...], list[_Candidate]] = defaultdict(list)
    blank: list[_Candidate] = []
    for name, by_target in named.items():
        found = _candidate(name, by_target, targets, rows)
        used = {id(row) for row in found.rows}
        places = [i for at in by_target.values() for i in at if id(rows[i]) in used or not used]
        sign = "".join(dict.fromkeys("".join(signs[i] for i in places)))
        line = replace(found.line, marks=sign, shown=any(shown(rows[i]) for at in by_target.values() for i in at))
        found = replace(found, line=line)
        (groups[found.protocols] if found.rows else blank).append(found)
    if not groups and len(targets) > 1:  # no line has all networks: each network for itself
        alone = [[i for i in members if rows[i].head.target == target] for target in targets]
        return [table for part in alone for table in _tables(empty, part, rows, signs, namer, shown)]
    if not groups:
        groups[()] = []
    largest = max(groups, key=lambda key: len(groups[key]))
    tables = []
    for key, candidates in groups.items():
        own = [*candidates, *(blank if key == largest else [])]
        if not any(candidate.line.shown for candidate in own):
            continue
        compressors = {candidate.head.head.compressor for candidate in own}
        named_apart = not empty.compressor and len(compressors) > 1
        own = [_named(candidate, namer, compressor=named_apart, images=len(images) > 1) for candidate in own]
        tables.append(
            replace(
                empty,
                compressor="" if named_apart else compressors.pop(),
                targets=targets,
                images=images,
                fp_top1=_full(candidates[0].rows) if candidates else None,
                lines=(*_ranked([c for c in own if c.rows]), *(c.line for c in own if not c.rows)),
                protocol=", ".join(dict.fromkeys(str(part[1]) for part in key)),
            )
        )
    return tables


def _named(candidate: _Candidate, namer: Namer, *, compressor: bool, images: bool) -> _Candidate:
    name = namer.name(candidate.head, compressor=compressor, images=images)
    return replace(candidate, line=replace(candidate.line, name=name))


def _candidate(
    name: str, by_target: Mapping[str, Sequence[int]], targets: Sequence[str], rows: Sequence[Row]
) -> _Candidate:
    """The line's rows: of each target its fresh one, or the stale one where all of them are stale."""
    found = [[rows[i] for i in by_target.get(target, ())] for target in targets]
    head = next(row for at in found for row in at)
    fresh = [[row for row in at if not row.stale] for at in found]
    chosen = fresh if any(fresh) else found
    whole = [at[0] for at in chosen if len(at) == 1 and at[0].metric("top1")]
    line = Line(name, head.head.control)
    if len(whole) == len(targets):
        return _Candidate(head, line, tuple(whole))
    if len(targets) > 1:
        return _Candidate(head, replace(line, why=f"{len(whole)} of {len(targets)} networks"))
    (at,) = chosen
    word = "measured twice" if len(at) != 1 else at[0].status
    unfinished = word in ("ok", "incomplete")
    return _Candidate(head, replace(line, why=f"{at[0].seeds} seeds" if unfinished else _WORDS.get(word, word)))


def _full(rows: Sequence[Row]) -> float | None:
    """Mean top-1 of the uncompressed targets."""
    found = [[v for r in row.records if (v := r.metrics.get("fp_top1")) is not None] for row in rows]
    return float(np.mean([np.mean(values) for values in found])) if found and all(found) else None


def _ranked(candidates: Sequence[_Candidate]) -> list[Line]:
    """The lines in their order, with means, intervals, ranks and what lies between them and the first."""
    lines = [_mean(candidate) for candidate in candidates]
    paired = [i for i, candidate in enumerate(candidates) if not apart(candidate.rows)]
    ranked = [i for i in paired if _has_rank(candidates[i])]
    averages = {i: average(candidates[i].rows) for i in paired}
    if ranked:
        table = pair_table([averages[i].bitmaps for i in ranked], between=[averages[i].between for i in ranked])
        ranks, ends = tie_ranks(table), rank_intervals(table)
        for i, rank, ranks_left in zip(ranked, ranks, ends, strict=True):
            lines[i] = replace(lines[i], rank=rank, tied=ranks.count(rank) > 1, ranks=ranks_left)
    leading = ranked or [i for i in paired if lines[i].control == "none"]
    if leading and len(paired) > 1:
        first = max(leading, key=lambda i: lines[i].mean or 0.0)
        table = pair_table([averages[i].bitmaps for i in paired], between=[averages[i].between for i in paired])
        place = paired.index(first)
        for row, i in enumerate(paired):
            found = tuple(float(of[row, place]) for of in (table.difference, table.low, table.high))
            if i != first and np.isfinite(found).all():
                lines[i] = replace(lines[i], behind=(found[0], found[1], found[2]))
    return sorted(lines, key=_place)


def _place(line: Line) -> tuple[int, int, float]:
    return _CONTROLS.get(line.control, 0), line.rank or _NO_RANK, -(line.mean or 0.0)


def _has_rank(candidate: _Candidate) -> bool:
    """As the board ranks rows: no control, nothing stale or unfinished, more than one seed."""
    sound = all(row.status == "ok" and not row.stale for row in candidate.rows)
    return sound and candidate.line.control == "none" and len(candidate.rows[0].measured) >= RANKED_FROM


def _mean(candidate: _Candidate) -> Line:
    rows = candidate.rows
    means = [float(np.mean(row.metric("top1"))) for row in rows]
    interval = mean_interval(rows).interval
    if len(rows) == 1 and (alone := row_interval(rows[0])) is not None:
        interval = alone[1]
    costs = [cost_of(row, "cpu_seconds", STAGES[:2]) for row in rows]
    known = [cost for cost in costs if cost is not None]
    minutes = float(np.mean(known)) / 60 if len(known) == len(costs) else None
    if interval is not None and not np.isfinite(interval).all():
        interval = None
    return replace(candidate.line, mean=float(np.mean(means)), interval=interval, minutes=minutes)
