"""Which source and which compressor for a network: one answer from all suites that measured the same thing.

Rows of several suites that share their identity and protocol are joined: their seeds are united, and the variance
between seeds is estimated over all rows of the network that are up to date.  Rows are compared within one protocol
(docs/architecture.md#rule-5) and equal bit operations, by the paired tests of :mod:`bench.board.stats.ranks` over every
method measured there, whatever the limits; so a limit takes rows away and changes no comparison.  Controls are never
picked.  Rows of one seed, and those of older versions, are picked only where there is nothing else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from bench.board.choose.asked import Question, asked_of, fits
from bench.board.choose.joined import Choice, chosen, seed_variances_of
from bench.board.stats.picks import lead
from bench.board.stats.ranks import pair_table
from bench.board.tables.searches import controls
from bench.spec.registry import Registry
from bench.store.records import ResultRecord

Read = Callable[[pd.DataFrame], Sequence[ResultRecord]]
"""Rows of the index's ``cells`` → their records."""

Level = Literal["several seeds", "one seed", "older version"]
LEVELS: tuple[Level, ...] = ("several seeds", "one seed", "older version")
"""What a pick rests on, best first."""

EQUAL_BITOPS = 0.02
"""How far, relatively, below the dearest row's bit operations those of a table of searched bits may lie."""


@dataclass(frozen=True)
class Table:
    """What was measured under one protocol and at equal bit operations.

    ``pick``: the highest mean within the limits, None where no method is; ``level``: what it rests on; ``tied``: those
    within the limits that are not told apart from it, ``apart``: the others, both best first; ``weaker``: rows within
    the limits that rest on less than the pick; ``references``: controls; ``beyond``: methods outside the limits;
    ``unpaired``: methods not measured on every network; ``detectable`` (points): the difference to the pick that is
    found with 80 % power, median; ``ahead`` (points): of the best over the second, picked and judged on other data.
    """

    protocol_id: str
    protocol: Mapping[str, Any]
    targets: tuple[str, ...]
    pick: Choice | None
    level: Level
    tied: tuple[Choice, ...]
    apart: tuple[Choice, ...]
    weaker: tuple[Choice, ...]
    references: tuple[Choice, ...]
    beyond: int
    unpaired: int
    detectable: float | None
    ahead: float | None

    @cached_property
    def cheapest(self) -> Choice | None:
        """Of the pick and those tied with it; None where no cost is known."""
        known = [one for one in (self.pick, *self.tied) if one is not None and one.cpu_s is not None]
        return min(known, key=lambda one: one.cpu_s or 0.0, default=None)


@dataclass(frozen=True)
class Answer:
    """Tables, the one that answers first; ``stale``: rows of older versions that were not looked at."""

    question: Question
    tables: tuple[Table, ...]
    stale: int

    @property
    def main(self) -> Table | None:
        """The table that answers; None where nothing is measured."""
        return self.tables[0] if self.tables else None


def choose(question: Question, table: pd.DataFrame, cells: pd.DataFrame, read: Read) -> Answer:
    """The answer from the index's tables (:class:`index.board_index.Snapshot`); ``read`` opens the records that count.

    Raises:
        StoreError: ``read`` finds a file gone or damaged.
    """
    rows = asked_of(table)
    rows = rows[(rows["dataset"] == question.dataset) & (rows["setting_label"] == question.bits)]
    rows = rows[fits(rows, question.network)]
    assigned = (rows["policy"] != "") | (rows["variant"] != "")
    rows = rows if question.per_layer else rows[~assigned]
    old = rows["stale"].astype(bool)
    found = _tables(question, table, cells, rows[~old], read)
    if any(one.pick is not None for one in found):
        return Answer(question, _ordered(found), rows[old]["row_id"].nunique())
    found += _tables(question, table, cells, rows[old], read)
    return Answer(question, _ordered(found), 0)


def _tables(
    question: Question, table: pd.DataFrame, cells: pd.DataFrame, rows: pd.DataFrame, read: Read
) -> list[Table]:
    if rows.empty:
        return []
    near = cells[cells["row_id"].isin(rows["row_id"]) & (cells["status"] == "ok")]
    near = near.sort_values("finished", kind="stable", na_position="first")
    stale = bool(rows["stale"].iloc[0])
    between = seed_variances_of(table, cells, question.dataset, sorted(set(map(str, rows["target"]))), stale)
    undeclared = _controls(rows) if question.per_layer else frozenset[str]()
    choices = [one for one in chosen(rows, read(near), between, undeclared) if one.per_layer == question.per_layer]
    groups: dict[tuple[str, int], list[Choice]] = defaultdict(list)
    for choice, place in zip(choices, _places(choices, question.per_layer), strict=True):
        groups[choice.protocol_id, place].append(choice)
    return [_table(question, members, stale) for members in groups.values()]


def _controls(rows: pd.DataFrame) -> frozenset[str]:
    """Controls among the sources and searches of these rows: a row of searched bits does not say that its images are
    a control's."""
    known = Registry("sources")
    used = sorted(set(known.names()) & set(map(str, rows["source_method"])))
    return controls() | {name for name in used if known.get(name).control != "none"}


def _places(choices: Sequence[Choice], per_layer: bool) -> list[int]:
    """Which of a protocol's tables each belongs to: searched bits take unlike bit operations, equal bits equal ones."""
    if not per_layer:
        return [0] * len(choices)
    found = [0] * len(choices)
    tops: dict[tuple[str, str], tuple[float, int]] = {}
    for i in sorted(range(len(choices)), key=lambda i: -(choices[i].bitops_g or 0.0)):
        key = choices[i].protocol_id, choices[i].members[0].head.target
        spent = choices[i].bitops_g or 0.0
        top, place = tops.get(key, (spent, 0))
        if spent < (1 - EQUAL_BITOPS) * top:
            top, place = spent, place + 1
        tops[key] = top, place
        found[i] = place
    return found


def _over_targets(members: Sequence[Choice], targets: Sequence[str]) -> tuple[list[Choice], int]:
    """The means over several networks of what was measured on all of them once, and how many methods were not."""
    if len(targets) == 1:
        return list(members), 0
    by_method: dict[tuple[object, ...], list[Choice]] = defaultdict(list)
    for one in members:
        by_method[one.method].append(one)
    whole = [
        found
        for found in by_method.values()
        if sorted(one.members[0].head.target for one in found) == list(targets)
        and len({one.members[0].head.test_digest for one in found}) == 1
    ]
    joined = [Choice.over(found) for found in whole]
    return [one for one in joined if one is not None], len(by_method) - len(whole)


def _table(question: Question, members: Sequence[Choice], stale: bool) -> Table:
    targets = tuple(sorted({one.members[0].head.target for one in members}))
    choices, unpaired = _over_targets(members, targets)
    methods = [one for one in choices if not one.control and one.bitmaps]
    by_level: dict[Level, list[Choice]] = defaultdict(list)
    for one in methods:
        by_level["older version" if stale else "one seed" if len(one.seeds) < 2 else "several seeds"].append(one)
    allowed = {level: [one for one in found if question.within(one)] for level, found in by_level.items()}
    level = next((level for level in LEVELS if allowed.get(level)), LEVELS[-1] if stale else LEVELS[0])
    pool = sorted(allowed.get(level, []), key=lambda one: -one.top1)
    pick = pool[0] if pool else None
    tied, apart, detectable, ahead = (
        _compared(by_level[level], pool) if level == LEVELS[0] else ([], pool[1:], None, None)
    )
    weaker = [one for other in LEVELS if other != level for one in allowed.get(other, [])]
    head = members[0].members[0].head
    return Table(
        head.protocol_id or "",
        head.protocol,
        targets,
        pick,
        level,
        tuple(tied),
        tuple(apart),
        tuple(sorted(weaker, key=lambda one: -one.top1)),
        tuple(_references([one for one in choices if one.control], pick)),
        len(methods) - sum(map(len, allowed.values())),
        unpaired,
        detectable,
        ahead,
    )


def _compared(
    methods: Sequence[Choice], pool: Sequence[Choice]
) -> tuple[list[Choice], list[Choice], float | None, float | None]:
    """Of ``pool``, best first: those not told apart from its first, the others, and what the comparisons can find."""
    if not pool:
        return [], [], None, None
    table = pair_table([one.bitmaps for one in methods], between=[one.between for one in methods])
    place = {id(one): i for i, one in enumerate(methods)}
    first = place[id(pool[0])]
    tied = [one for one in pool[1:] if table.outcome[first, place[id(one)]] == 0]
    apart = [one for one in pool[1:] if table.outcome[first, place[id(one)]] != 0]
    effects = table.detectable[first][np.isfinite(table.detectable[first])]
    return tied, apart, float(np.median(effects)) if len(effects) else None, lead([one.bitmaps for one in pool])


def _references(found: Sequence[Choice], pick: Choice | None) -> list[Choice]:
    """The controls of the pick's compressor, of as many images where there are; all of them without a pick."""
    ordered = sorted(found, key=lambda one: -one.top1)
    if pick is None:
        return ordered
    beside = [one for one in ordered if one.compressor == pick.compressor] or ordered
    return [one for one in beside if one.n == pick.n] or beside


def _ordered(tables: Sequence[Table]) -> tuple[Table, ...]:
    """The table that answers first: what its pick rests on, then how many methods it compares; accuracies of unlike
    protocols have no say."""

    def key(one: Table) -> tuple[bool, int, int, int, str]:
        count = len(one.tied) + len(one.apart) + len(one.weaker) + one.beyond
        return one.pick is None, LEVELS.index(one.level), -count, -one.unpaired, one.protocol_id

    return tuple(sorted(tables, key=key))
