"""What changed on a board, told from records of known days: nothing is lost, nothing is invented."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from bench.board.index.rows import make_rows
from bench.board.tables.averages import row_interval
from bench.board.tables.history import history, start_of
from bench.board.tables.history_lines import SCREEN, history_lines, overview_lines
from bench.errors import BenchError
from bench.spec.suite import Claim
from bench.store.records import ResultRecord
from tests.board.make import record

CLAIM = Claim.model_validate(
    {"says": "a serves better", "better": {"source": ("a",)}, "worse": {"source": ("b",)}, "by": ("target",)}
)


def at(day: int, hour: int = 12, software: str = "0.1.0", **more: Any) -> dict[str, Any]:
    """Provenance of a record measured on that day of November 2026."""
    when = datetime(2026, 11, day, hour, tzinfo=UTC).timestamp()
    return {"provenance": {"finished": when, "datafree_bench": software, **more}}


def three_days() -> list[ResultRecord]:
    """On the 1st two rows on two seeds, on the 2nd a third seed of both, on the 3rd the first by a newer method."""
    first = [record(0.9, source="a", seed=s, **at(1)) for s in (0, 1)]
    first += [record(0.8, source="b", seed=s, **at(1, 13)) for s in (0, 1)]
    second = [record(0.9, source="a", seed=2, **at(2)), record(0.8, source="b", seed=2, **at(2))]
    third = [record(0.7, source="a", seed=s, source_version=2, **at(3, software="0.2.0")) for s in (0, 1, 2)]
    return [*first, *second, *third]


def test_each_day_says_what_it_changed() -> None:
    found = history("s", three_days(), [CLAIM])
    assert [day.day for day in found.days] == ["2026-11-01", "2026-11-02", "2026-11-03"]
    assert [(len(d.added), len(d.more_seeds), len(d.again)) for d in found.days] == [(2, 0, 0), (0, 2, 0), (0, 0, 1)]
    (again,) = found.days[2].again
    assert again.old is not None
    assert (again.old.mean, again.new.mean) == (pytest.approx(90.0), pytest.approx(70.0))
    assert again.moved == pytest.approx(-20.0)
    assert again.why == "source version 1 → 2"
    assert again.old.seeds == again.new.seeds == (0, 1, 2)


def test_intervals_are_the_boards() -> None:
    records = [r for r in three_days() if r.source_version == 1]
    rows = {row.head.source: row for row in make_rows(records)}
    changes = history("s", records, []).days[-1].more_seeds
    assert {change.source for change in changes} == set(rows)
    for change in changes:
        known = row_interval(rows[change.source])
        assert known is not None
        mean, ends = known
        assert (change.new.mean, change.new.low, change.new.high) == (mean, ends.low, ends.high)


def test_verdicts_that_moved_and_those_that_age() -> None:
    found = history("s", three_days(), [CLAIM], {("sources", "b"): 5})
    moved = {day.day: [(change.old, change.new) for change in day.claims] for day in found.days}
    assert moved["2026-11-01"] == [("", "two seeds")]
    assert moved["2026-11-02"] == [("two seeds", "supported")]
    assert moved["2026-11-03"] == [("supported", "refuted")]
    assert found.stale == 1
    assert [(change.old, change.new) for change in found.aged] == [("refuted", "open")]


def test_since_a_day_or_a_version_leaves_out_what_stood() -> None:
    records = three_days()
    assert [day.day for day in history("s", records, [], since="2026-11-02").days] == ["2026-11-02", "2026-11-03"]
    later = history("s", records, [], since="0.1.0")
    assert [day.day for day in later.days] == ["2026-11-03"]
    assert (later.before, later.rows) == (2, 2)
    assert history("s", records, [], since="0.2.0").days == ()
    assert start_of("2026-11-02", records) == datetime(2026, 11, 2, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("since", ["yesterday", "2026-13-01", "", "v1"])
def test_what_is_neither_day_nor_version_is_refused(since: str) -> None:
    with pytest.raises(BenchError, match="no day and no version"):
        history("s", three_days(), [], since=since)


def test_a_cell_measured_again_on_another_machine_keeps_its_old_value() -> None:
    old = record(0.9, **at(1, instruction_sets="avx2", threads=1))
    new = record(0.91, **at(4, instruction_sets="avx2 avx512f", threads=1))
    assert old.cell_id == new.cell_id
    (again,) = history("s", [new, old], []).days[-1].again
    assert again.old is not None
    assert (again.old.mean, again.new.mean) == (pytest.approx(90.0), pytest.approx(91.0))
    assert again.why == "another machine"


def test_a_record_without_a_date_stood_before_all_others() -> None:
    found = history("s", [record(0.9, source="a"), record(0.8, source="b", **at(2))], [])
    assert found.undated == 1
    assert [[c.source for c in day.added] for day in found.days] == [["b"]]
    assert any("do not say when" in str(line) for line in history_lines(found))


def test_a_long_history_fits_a_screen_and_says_what_it_leaves_out() -> None:
    records = []
    for i in range(60):
        records += [record(0.5 + i / 200, source=f"s{i}", seed=s, **at(1 + s)) for s in (0, 1, 2)]
    lines = history_lines(history("s", records, []))
    assert 20 < len(lines) <= SCREEN
    assert sum("more: --json" in str(line) for line in lines) == 2
    text = "\n".join(map(str, lines))
    assert "on 2" in text
    assert "on 3" in text


def test_the_overview_has_a_line_per_suite_and_counts_the_silent_ones() -> None:
    found = [history(name, three_days(), [], since=day) for name, day in (("one", None), ("two", "2026-11-09"))]
    lines = [str(line) for line in overview_lines(found)]
    assert next(line for line in lines if line.startswith("one")).split() == [
        *("one", "2026-11-01", "2026-11-03", "2", "2", "1", "2"),
    ]
    assert any("in 1 suites" in line for line in lines)
