"""Ranked lines over several networks: their numbers, their order, and what has no rank."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from bench.board.index.frame import frame
from bench.board.index.rows import make_rows
from bench.board.stats.moderation import Term, moderated
from bench.board.stats.paired import paired_difference
from bench.board.tables.answers import Line, SourceTable, source_tables
from bench.board.tables.averages import apart, average, mean_interval
from bench.store.records import ResultRecord

from .make import paired_rows, record

A, B = "resnet18_w10", "vgg_w8"
SOURCES = ("one", "two", "three", "four", "five")
MEANS = [0.80, 0.79, 0.72, 0.70, 0.55]


def grid(
    targets: tuple[str, ...] = (A, B), seeds: int = 3, means: list[float] | None = None, **fields: object
) -> list[ResultRecord]:
    """Five sources on each target, paired by their images' difficulty."""
    out = []
    for key, target in enumerate(targets):
        rows = paired_rows(means or MEANS, seeds, images=800, key=key)
        for source, row in zip(SOURCES, rows, strict=False):
            named = {"source": source, "target": target, "target_digest": target, "protocol_id": f"p-{target}"}
            out += [record(bits, seed=seed, **{**named, **fields}) for seed, bits in row.items()]
    return out


def only_table(records: list[ResultRecord], **given: object) -> SourceTable:
    (found,) = source_tables(make_rows(records), "compressor", **given)  # type: ignore[arg-type]
    return found


def by_name(table: SourceTable) -> dict[str, Line]:
    return {line.name: line for line in table.lines}


def test_a_line_is_the_mean_over_the_networks_with_its_interval() -> None:
    records = grid()
    table = only_table(records)
    rows = make_rows(records)
    assert table.targets == (A, B)
    for name, line in by_name(table).items():
        own = [row for row in rows if row.head.source == name]
        assert line.mean == pytest.approx(np.mean([row.metric("top1")[k] for row in own for k in range(3)]))
        assert line.interval == mean_interval(own).interval
        assert line.minutes == pytest.approx(26 / 60)  # 20 s of synthesis and 6 s of compression


def test_on_one_network_the_lines_are_the_boards() -> None:
    records = grid((A,))
    board = {row["source"]: row for row in frame(records).to_dict("records")}
    for name, line in by_name(only_table(records)).items():
        row = board[name]
        assert (line.rank, line.tied) == (row["rank"], row["tied"])
        assert line.ranks == (row["rank_low"], row["rank_high"])
        assert line.mean == pytest.approx(row["top1_mean"])
        assert line.interval == pytest.approx((row["top1_low"], row["top1_high"]))


def test_what_lies_between_a_line_and_the_first_is_the_paired_difference_of_the_means() -> None:
    records = grid()
    rows = make_rows(records)
    table = only_table(records)
    first = [row for row in rows if row.head.source == table.lines[0].name]
    assert table.lines[0].behind is None
    for line in table.lines[1:]:
        own = [row for row in rows if row.head.source == line.name]
        tables = [np.mean([[row.bitmaps[s] for s in range(3)] for row in side], axis=0) for side in (own, first)]
        terms = [Term(("own", i), 0.5, row.between) for i, row in enumerate(own)]
        terms += [Term(("first", i), -0.5, row.between) for i, row in enumerate(first)]
        wanted = moderated(paired_difference(tables[0], tables[1]), terms)
        assert line.behind == pytest.approx((wanted.estimate, *wanted.interval()))


def test_ranks_fall_with_the_means_and_controls_and_blanks_come_last() -> None:
    records = grid() + grid(means=[0.83], source="real", control="upper") + grid((A,), means=[0.99], source="part")
    lines = only_table(records).lines
    ranked = [line for line in lines if line.rank is not None]
    assert [line.name for line in lines[len(ranked) :]] == ["real", "part"]
    assert [line.rank for line in ranked] == sorted(line.rank or 0 for line in ranked)
    assert all((first.mean or 0) >= (second.mean or 0) for first, second in pairwise(ranked))
    assert lines[-1].mean is None
    assert lines[-1].why == "1 of 2 networks"  # never a mean over fewer networks
    for line in ranked:
        assert line.ranks is not None
        assert line.ranks[0] <= (line.rank or 0) <= line.ranks[1]


def test_one_seed_has_a_mean_and_no_rank() -> None:
    table = only_table(grid(seeds=1))
    assert not table.ranked
    assert all(line.mean is not None and line.interval is not None for line in table.lines)
    assert table.lines[1].behind is not None


def test_old_rows_have_a_mark_and_no_rank_and_never_share_a_mean_with_fresh_ones() -> None:
    fresh, old = grid((A,)), grid((B,), source_version=0)
    known = {("sources", source): 1 for source in SOURCES}
    new, aged = source_tables(make_rows(fresh + old, versions=known), "compressor")
    assert (new.targets, aged.targets) == ((A,), (B,))
    assert len(new.ranked) == 5
    assert not aged.ranked
    some = fresh + old + grid((B,), means=[0.8])  # "one" is fresh on both networks, the others on the first alone
    (mixed,) = source_tables(make_rows(some, versions=known), "compressor")
    assert {line.name: line.why for line in mixed.lines} == dict.fromkeys(SOURCES[1:], "1 of 2 networks") | {"one": ""}
    (stale,) = source_tables(make_rows(grid(source_version=0), versions=known), "compressor")
    assert all(line.mean is not None and line.marks == "†" and line.rank is None for line in stale.lines)


def test_protocols_settings_and_compressors_are_tables_of_their_own() -> None:
    records = grid((A,)) + grid((A,), compressor="rtn") + grid((A,), setting_label="W2A4")
    tables = source_tables(make_rows(records), "compressor")
    assert [(t.compressor, t.setting) for t in tables] == [("brecq", "W2A4"), ("brecq", "W4A4"), ("rtn", "W4A4")]
    (compared,) = source_tables(make_rows(grid((A,)) + grid((A,), compressor="rtn")), "protocol")
    assert compared.compressor == ""
    assert len(compared.ranked) == 10
    assert {line.name.partition(" · ")[0] for line in compared.lines} == {"brecq", "rtn"}
    apart_ones = grid((A,)) + grid((A,), compressor="rtn", protocol_id="other")
    assert [t.compressor for t in source_tables(make_rows(apart_ones), "protocol")] == ["brecq", "rtn"]


def test_where_no_line_has_all_networks_each_network_has_a_table() -> None:
    tables = source_tables(make_rows(grid((A,)) + grid((B,), means=[0.8], source="another")), "compressor")
    assert [table.targets for table in tables] == [(A,), (B,)]
    assert [len(table.lines) for table in tables] == [5, 1]
    assert all(line.mean is not None for table in tables for line in table.lines)
    assert not any(table.protocol for table in tables)


def test_what_is_not_selected_is_ranked_and_not_shown() -> None:
    whole = by_name(only_table(grid()))
    part = by_name(only_table(grid(), shown=lambda row: row.head.source == "three"))
    assert [line.name for line in part.values() if line.shown] == ["three"]
    assert {name: line.rank for name, line in part.items()} == {name: line.rank for name, line in whole.items()}
    one = only_table(grid(), measured_on=lambda row: row.head.target == A)
    assert one.targets == (A,)


def test_rows_that_share_no_seeds_or_images_have_no_interval() -> None:
    rows = make_rows(grid((A,), seeds=2) + grid((B,), seeds=3))
    own = [row for row in rows if row.head.source == "one"]
    assert "seeds" in apart(own)
    assert mean_interval(own).interval is None
    rows = make_rows(grid((A,)) + grid((B,), test_digest="t2"))
    assert "images" in apart([row for row in rows if row.head.source == "one"])


def test_an_averages_variance_is_that_of_a_mean_of_independent_rows() -> None:
    own = [row for row in make_rows(grid()) if row.head.source == "one"]
    found = average(own).between
    assert found.moderated == pytest.approx(sum(row.between.moderated for row in own) / 4)
    shares = [row.between.moderated for row in own]
    wanted = sum(shares) / sum(share / row.between.degrees for share, row in zip(shares, own, strict=True))
    assert found.degrees == pytest.approx(wanted)
    assert average(own[:1]).between.degrees == pytest.approx(own[0].between.degrees)
