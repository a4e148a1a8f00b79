"""Which source and which compressor for a network: one answer from all suites that measured the same thing.

Rows of several suites that share their identity and protocol are joined: their seeds are united, and the variance
between seeds is estimated over all rows of the network that are up to date.  Rows are compared within one protocol
(docs/architecture.md#rule-5) and equal bit operations, by the paired tests of :mod:`bench.board.ranks` over every
method measured there, whatever the limits; so a limit takes rows away and changes no comparison.  Controls are never
picked.  Rows of one seed, and those of older versions, are picked only where there is nothing else.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from bench.board.joined import Choice, chosen, seed_variances_of
from bench.board.picks import lead
from bench.board.ranks import pair_table
from bench.board.searches import controls
from bench.errors import BenchError, nearest
from bench.interfaces import TIERS as TIERS
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
class Question:
    """A network's name, or a pattern of several (``mobilenet*``: means over them), and what is asked of it.

    ``bits``: a row's setting, W4A4.  Limits, None where there is none: ``minutes`` of CPU time to make an image set,
    ``images``, and ``tier``, the most a source may look at.  ``per_layer``: bits by layer, by image, or at several
    widths from one training, in place of equal bits.
    """

    dataset: str
    network: str
    bits: str
    minutes: float | None = None
    images: int | None = None
    tier: str | None = None
    per_layer: bool = False

    def within(self, choice: Choice) -> bool:
        """Whether the limits allow it; what is not known is beyond a limit."""
        if self.images is not None and choice.n > self.images:
            return False
        if self.tier is not None and (choice.access not in TIERS or _beyond(choice.access, self.tier)):
            return False
        return self.minutes is None or (choice.synthesis_s is not None and choice.synthesis_s <= 60 * self.minutes)


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


# --- what can be asked ---


def asked_of(table: pd.DataFrame) -> pd.DataFrame:
    """The measured rows that a question can be about."""
    return table[(table["compressor"] != "") & (table["status"] == "ok")]


def networks(table: pd.DataFrame, dataset: str) -> list[str]:
    """Networks of a data set by their rows that are up to date, most first; then patterns of those whose names begin
    alike, and ``*`` where there are several."""
    rows = asked_of(table)
    rows = rows[rows["dataset"] == dataset]
    fresh = rows[~rows["stale"].astype(bool)]["target"].value_counts()
    names = sorted(map(str, rows["target"].unique()), key=lambda name: (-int(fresh.get(name, 0)), name))
    stems = [found[0] for name in names if (found := re.match(r"[A-Za-z]{3,}", name))]
    alike = sorted({f"{stem}*" for stem in stems if sum(name.startswith(stem) for name in names) > 1})
    return [*names, *alike, *(["*"] if len(names) > 1 else [])]


def settings(table: pd.DataFrame, dataset: str, network: str) -> list[str]:
    """Settings measured of a network, those of bits alone first, most rows first."""
    rows = asked_of(table)
    rows = rows[(rows["dataset"] == dataset) & _fits(rows, network)]
    counts = rows["setting_label"].value_counts()
    return sorted((str(one) for one in counts.index if one), key=lambda one: (" " in one, -int(counts[one]), one))


def _fits(rows: pd.DataFrame, network: str) -> pd.Series:
    """Which rows are of a network, or of one that fits the pattern."""
    found = map(str, rows["target"].unique())
    names = [name for name in found if name == network or fnmatchcase(name, network)]
    return rows["target"].isin(names)


def tier_of(text: str) -> str:
    """A tier's name; T2 is T2b, the wider of its two.

    Raises:
        BenchError: there is no such tier.
    """
    found = [tier for tier in TIERS if tier.lower().startswith(text.lower())] if len(text) > 1 else []
    if not found:
        raise BenchError("no such tier", where="--tier", got=text, expected=TIERS, nearest=nearest(text, TIERS))
    return found[-1]


def checked(question: Question, table: pd.DataFrame) -> Question:
    """The question, its tier by its full name.

    Raises:
        BenchError: a data set, network or setting that was not measured, or a limit that is none.
    """
    known = list(map(str, asked_of(table)["dataset"].unique()))
    _known(question.dataset, known, "--dataset", "nothing is measured on this data set")
    offered = networks(table, question.dataset)
    if not any(fnmatchcase(name, question.network) for name in offered):
        _known(question.network, offered, "--network", "nothing is measured of this network")
    bits = settings(table, question.dataset, question.network)
    _known(question.bits, bits, "--bits", f"nothing is measured of {question.network} at this setting")
    for name, value in (("--minutes", question.minutes), ("--images", question.images)):
        if value is not None and not 0 < value < 1e9:
            raise BenchError("is no limit", where=name, got=value, expected="a number above 0")
    return question if question.tier is None else replace(question, tier=tier_of(question.tier))


def _known(name: str, known: Sequence[str], where: str, what: str) -> None:
    if name not in known:
        raise BenchError(what, where=where, got=name, expected=known, nearest=nearest(name, known))


def _beyond(access: str, limit: str) -> bool:
    places = list(map(str, TIERS))
    return places.index(access) > places.index(limit)


# --- the answer ---


def choose(question: Question, table: pd.DataFrame, cells: pd.DataFrame, read: Read) -> Answer:
    """The answer from the index's tables (:class:`bench.board.index.Snapshot`); ``read`` opens the records that count.

    Raises:
        StoreError: ``read`` finds a file gone or damaged.
    """
    rows = asked_of(table)
    rows = rows[(rows["dataset"] == question.dataset) & (rows["setting_label"] == question.bits)]
    rows = rows[_fits(rows, question.network)]
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
