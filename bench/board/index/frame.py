"""Records → tidy pandas frame, one row per setting, with the columns of :mod:`bench.board.index.columns`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import pandas as pd

from bench.board.claims.verdicts import suite_of
from bench.board.index.columns import COLUMNS, Column
from bench.board.index.ladder import rung_of_records
from bench.board.index.machines import content_of, mixed_rows, several_contents
from bench.board.index.readers import Context, metric
from bench.board.index.rows import Asked, Row, Versions, make_rows
from bench.board.stats.paired import LEVEL, Interval
from bench.board.stats.ranks import RANKED_FROM, group_keys
from bench.board.stats.standings import Standing, standings
from bench.board.tables.averages import row_interval
from bench.board.tables.costs import SERVED
from bench.board.tables.scores import recovered_shares
from bench.spec.suite import RankWithin
from bench.store.records import ResultRecord
from bench.store.verifications import Answers, Outcome

Ranked = Mapping[str, RankWithin]
"""Suite → which rows of it are ranked against each other."""


def rank_within(suite: str, ranked: Ranked) -> RankWithin:
    """What ``ranked`` or the suite's shipped file says; the compressor where there is neither."""
    return ranked[suite] if suite in ranked else _shipped_rank_within(suite)


@lru_cache(maxsize=256)
def _shipped_rank_within(suite: str) -> RankWithin:
    found = suite_of(suite)
    return found.rank_within if found is not None else "compressor"


def frame(
    records: Iterable[ResultRecord],
    *,
    versions: Versions | None = None,
    seeds: Asked | None = None,
    extra: Sequence[str] = (),
    level: float = LEVEL,
    ranked: Ranked | None = None,
    rerun: Mapping[Answers, Outcome] | None = None,
) -> pd.DataFrame:
    """One line per (suite, dataset, source, model, target, compressor, policy, setting, n).

    The same setting measured under another preset, protocol, test set, target weights or method version makes a line
    of its own.  Costs are means per seed.

    Args:
        versions: (kind, method) → version of the code, to tell stale rows.
        seeds: see :func:`bench.board.index.rows.make_rows`.
        extra: further metrics of the records, each a column of its mean over the seeds.
        level: of the intervals and ties.
        ranked: suite → its ``rank_within``; one that is not named has what its shipped file says.
        rerun: what re-runs of cells found (:func:`bench.store.verifications.outcomes`).
    """
    records = list(records)
    rows = make_rows(records, versions=versions, seeds=seeds)
    remade = several_contents(map(content_of, records))
    return frame_of_rows(rows, extra, level, ranked, remade, rerun).reset_index(drop=True)


def frame_of_rows(
    rows: Sequence[Row],
    extra: Sequence[str] = (),
    level: float = LEVEL,
    ranked: Ranked | None = None,
    remade: Collection[str] = (),
    rerun: Mapping[Answers, Outcome] | None = None,
) -> pd.DataFrame:
    """As :func:`frame`, from rows; the index holds each line's place in ``rows``.

    Args:
        remade: ids of image sets that exist in several contents (:func:`bench.board.index.machines.several_contents`).
        rerun: as in :func:`frame`.
    """
    known = {column.name for column in COLUMNS}
    more = [name for name in dict.fromkeys(extra) if name not in known]
    columns = (*COLUMNS, *(Column(name, "Float64", "", "metric of the records", metric(name)) for name in more))
    contexts = [
        replace(context, rung=rung_of_records(row.measured, rerun or {}))
        for row, context in zip(rows, _contexts(rows, level, ranked or {}, remade), strict=True)
    ]
    data = {
        c.name: pd.Series([c.value(r, x) for r, x in zip(rows, contexts, strict=True)], dtype=c.dtype, name=c.name)
        for c in columns
    }
    return in_order(pd.DataFrame(data))


def in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Within a group: ranked rows by rank and accuracy, then controls, then what could not be measured."""
    order = ["suite", "dataset", "preset", "target", "setting_label", "rank_group", "rank", "top1_mean"]
    return table.sort_values(order, ascending=[name != "top1_mean" for name in order], kind="stable")


def _contexts(rows: Sequence[Row], level: float, ranked: Ranked, remade: Collection[str]) -> list[Context]:
    found: dict[int, Standing] = {}
    leaders: set[int] = set()
    intervals = [row_interval(row, level) for row in rows]
    shares, mixed = recovered_shares(rows, level), mixed_rows(rows)
    for members in _rank_groups(rows, intervals, ranked).values():
        bitmaps, between = [rows[i].bitmaps for i in members], [rows[i].between for i in members]
        found |= zip(members, standings(bitmaps, level, between), strict=True)
        top = max(_mean_of(intervals[i]) for i in members)
        leaders |= {i for i in members if _mean_of(intervals[i]) == top}
    users = Counter(
        (row.head.suite, synth) for row in rows for synth in {r.synth_id for r in row.records if r.synth_id}
    )
    served = defaultdict[tuple[str, str], set[tuple[str, str]]](set)
    for row in rows:
        for record in row.records if row.status in SERVED else ():
            if record.synth_id:
                served[row.head.suite, record.synth_id].add((row.head.dataset, row.head.target))
    return [
        Context(
            standing=found.get(i),
            best=i in leaders,
            image_set_rows=max((users[row.head.suite, r.synth_id] for r in row.records if r.synth_id), default=0),
            image_set_targets=max(
                (len(served[row.head.suite, r.synth_id]) for r in row.records if r.synth_id), default=0
            ),
            interval=intervals[i],
            share=shares[i],
            mixed=i in mixed,
            remade=any(record.synth_id in remade for record in row.records),
            rank_group=row.head.compressor if rank_within(row.head.suite, ranked) == "compressor" else "",
        )
        for i, row in enumerate(rows)
    ]


def _mean_of(interval: tuple[float, Interval] | None) -> float:
    return interval[0] if interval else float("-inf")


def _rank_groups(
    rows: Sequence[Row], intervals: Sequence[tuple[float, Interval] | None], ranked: Ranked
) -> dict[tuple[object, ...], list[int]]:
    """Indices of the rows ranked against each other: one suite, target (by weights), protocol, test set and, unless the
    suite compares compressors, compressor.

    Controls stand beside, stale and incomplete rows wait; rows without bitmaps cannot be paired; one seed is no rank.
    """
    groups: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        head = row.head
        if intervals[i] is None or not row.bitmaps or row.stale or row.status != "ok" or head.control != "none":
            continue
        if len(row.measured) >= RANKED_FROM:
            keys = group_keys(rank_within(head.suite, ranked))
            groups[tuple(getattr(head, name) for name in keys)].append(i)
    return groups
