"""Rows of unlike machines and image sets of unlike content: found, marked, explained; and nothing marked without."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.board.claims.judging import judge
from bench.board.index.frame import frame
from bench.board.tables.grids import Grid, board_grids
from bench.board.tables.pivots import pivot_grids
from bench.board.tables.report import report
from bench.board.tables.signs import MIXED, REMADE
from bench.machine import machine_key
from bench.store.records import ResultRecord
from dashboard.report.html import ranked_html

from .make import record, seeds
from .test_index import World, made
from .test_index import _versions as _versions

FAST = {"cpu": "one", "torch": "2", "device": "cpu", "threads": 1, "aten": "AVX512", "kernels": "native"}
SLOW = {**FAST, "cpu": "two", "aten": "AVX2"}
OLD = {"cpu": "one", "torch": "2", "device": "cpu", "threads": 1}


def on(*machines: dict[str, Any], **fields: Any) -> list[ResultRecord]:
    """A row with a seed for each machine."""
    found = seeds([0.8 - 0.001 * k for k in range(len(machines))], **fields)
    return [r.model_copy(update={"provenance": m}) for r, m in zip(found, machines, strict=True)]


def flags(records: list[ResultRecord], column: str = "mixed", **more: Any) -> dict[str, bool]:
    table = frame(records, **more)
    return dict(zip(table["source"], map(bool, table[column]), strict=True))


def test_rows_of_one_machine_bear_no_sign() -> None:
    assert flags([*on(FAST, FAST, source="a"), *on(FAST, FAST, source="b")]) == {"a": False, "b": False}
    assert flags([*on(OLD, OLD, source="a"), *on(OLD, source="b")]) == {"a": False, "b": False}


def test_a_row_whose_seeds_come_from_unlike_machines_is_marked() -> None:
    table = frame(on(FAST, SLOW, source="a"))
    assert bool(table["mixed"][0])
    assert table["machine"][0] == ", ".join(sorted(map(machine_key, (FAST, SLOW))))


def test_the_odd_one_is_marked_and_where_none_is_usual_all_are() -> None:
    rows = {name: on(FAST, FAST, source=name) for name in "ab"}
    assert flags([*rows["a"], *rows["b"], *on(SLOW, SLOW, source="c")]) == {"a": False, "b": False, "c": True}
    assert flags([*rows["a"], *on(SLOW, SLOW, source="c")]) == {"a": True, "c": True}


def test_seeds_are_compared_seed_by_seed_within_one_target() -> None:
    """Two machines that share the seeds out alike are paired like with like."""
    alike = [*on(FAST, SLOW, source="a"), *on(FAST, SLOW, source="b")]
    assert "machines differ" not in str(_claim(alike).remarks)
    other = on(SLOW, source="c", target="t2", target_digest="t2")
    assert flags([*on(FAST, source="a"), *other]) == {"a": False, "c": False}


def test_what_does_not_say_its_instruction_set_is_not_known_to_be_alike() -> None:
    assert flags([*on(FAST, FAST, source="a"), *on(FAST, source="b"), *on(OLD, source="c")])["c"]


def test_stale_rows_are_no_part_of_the_comparison() -> None:
    new = {("sources", "a"): 1, ("sources", "c"): 2}
    assert flags([*on(FAST, source="a"), *on(SLOW, source="c")], versions=new) == {"a": False, "c": False}


# --- claims ---


def _claim(records: list[ResultRecord]) -> Any:
    claim = {"says": "a beats b", "better": {"source": "a"}, "worse": {"source": "b"}}
    return judge([claim], records)[0]


def test_a_claim_across_machines_says_so_and_is_judged_all_the_same() -> None:
    plain = _claim([*on(FAST, FAST, source="a"), *on(FAST, FAST, source="b")])
    across = _claim([*on(FAST, FAST, source="a"), *on(SLOW, SLOW, source="b")])
    assert plain.remarks == ()
    assert across.remarks == (f"{MIXED.text} machines differ at the same seed in 1 of 1 pairs of rows",)
    assert (across.verdict, across.difference) == (plain.verdict, plain.difference)


# --- image sets ---


def _images(digest: str | None, **fields: Any) -> ResultRecord:
    return record(0.8, synth_id="set", **fields).model_copy(update={"image_digest": digest})


def test_one_image_set_of_two_contents_is_told() -> None:
    twice = [_images("x", source="a"), _images("y", source="a", compressor="rtn"), record(0.7, source="b")]
    assert flags(twice, "remade") == {"a": True, "b": False}
    once = [_images("x", source="a"), _images("x", source="a", compressor="rtn"), _images(None, source="c")]
    assert not any(flags(once, "remade").values())
    fewer = [_images("x", source="a"), _images("y", source="a", n=64)]  # a prefix has a digest of its own
    assert not any(flags(fewer, "remade").values())


def test_the_index_finds_it_across_targets_and_suites(world: World) -> None:
    first = made(0.5, target="t1", synth_id="set").model_copy(update={"image_digest": "x"})
    world.write(first)
    assert not world.check().table["remade"].any()
    second = made(0.5, target="t2", suite="other", synth_id="set").model_copy(update={"image_digest": "y"})
    world.write(second)
    assert world.check().table["remade"].all()


# --- what is shown ---


@pytest.fixture(scope="module")
def unlike() -> list[ResultRecord]:
    found = [*on(FAST, FAST, source="a"), *on(FAST, FAST, source="b"), *on(SLOW, SLOW, source="c")]
    return [r.model_copy(update={"synth_id": "set", "image_digest": r.source}) if r.seed else r for r in found]


def _column(grid: Grid, name: str) -> dict[str, str]:
    source, place = grid.headers.index("source"), grid.headers.index(name)
    return {row[source].text: row[place].text for row in grid.rows}


def test_tables_mark_and_explain(unlike: list[ResultRecord]) -> None:
    table = frame(unlike)
    (grid,) = board_grids(table)
    both = MIXED.text + REMADE.text
    assert set(_column(grid, "machine")) == {f"a{REMADE.text}", f"b{REMADE.text}", f"c{both}"}
    assert _column(grid, "machine")[f"c{both}"] == machine_key(SLOW)
    assert {MIXED.line, REMADE.line} <= set(grid.notes)
    (pivot,) = pivot_grids(table)
    assert {row[0].text: both in row[1].text for row in pivot.rows[1:]} == {"a": False, "b": False, "c": True}
    assert MIXED.line in pivot.notes
    latex = str(report(table, "latex"))
    assert r"c\S{}\P{}" in latex
    assert MIXED.text not in latex
    page = ranked_html(table)
    assert f"c{both}" in page
    assert machine_key(SLOW) in page
    assert MIXED.meaning in page


def test_one_machine_takes_no_column(unlike: list[ResultRecord]) -> None:
    table = frame([r for r in unlike if r.source == "a"] + [record(None, source="failed")])
    (grid,) = board_grids(table)
    assert "machine" not in grid.headers
    assert not any(note.startswith(MIXED.text) for note in grid.notes)
    assert "<th" in ranked_html(table)
    assert "machine" not in ranked_html(table)
    found = json.loads(str(report(table, "json")))["rows"][0]
    assert (found["machine"], found["mixed"]) == (machine_key(FAST), False)


def test_old_tables_without_these_columns_are_shown(unlike: list[ResultRecord]) -> None:
    table: pd.DataFrame = frame(unlike).drop(columns=["mixed", "remade", "flagged"])
    assert not any(MIXED.text in cell.text for row in board_grids(table)[0].rows for cell in row)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)
