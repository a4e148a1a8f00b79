"""Where a number stands: the rungs, the board's column, its printed tables, and the index that follows the reports."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from bench.board.index.board_index import BoardIndex
from bench.board.index.frame import frame
from bench.board.index.ladder import Rung, rung_of_records, rung_of_submission
from bench.board.index.machines import machines_of
from bench.board.tables.grids import board_grids
from bench.board.tables.names import parse
from bench.board.tables.published import papers, published
from bench.cli.board import reruns
from bench.store.record_store import RecordStore
from bench.store.records import ResultRecord
from bench.store.verifications import (
    SUBMISSIONS,
    Checked,
    Outcome,
    Verification,
    answers_of,
    outcomes,
    write_verification,
)
from dashboard.board_columns import shown_columns

from .make import record
from .test_names import FILE


def cell(accuracy: float, seed: int = 0, source: str = "kw") -> ResultRecord:
    """A measured record whose cell has a proper id."""
    found = record(accuracy, seed=seed, source=source)
    ids = {name: hashlib.sha256(getattr(found, name).encode()).hexdigest()[:16] for name in ("cell_id", "row_id")}
    return found.model_copy(update={**ids, "provenance": {"aten": "AVX2", "threads": 1}})


def report(found: ResultRecord, again: float = 70.0, threads: int = 4) -> Verification:
    """A re-run of the cell on a machine with so many threads, within five points or not."""
    top1 = float(found.metrics["top1"] or 0.0)
    line = Checked(
        cell_id=found.cell_id,
        row_id=found.row_id,
        title="a cell",
        seed=found.seed,
        answers=answers_of(found),
        submitted=top1,
        again=again,
        half_width=5.0,
        inside=abs(again - top1) <= 5.0,
        equal=False,
        machine="another",
    )
    return Verification(
        submission="0" * 64,
        suite=found.suite,
        suite_version=1,
        benchmark="0",
        made="2026-01-01T00:00:00+00:00",
        facts={"aten": "AVX512", "threads": threads},
        cells=9,
        seed=0,
        level=0.95,
        checked=(line,),
    )


@pytest.mark.parametrize(
    ("rung", "says"),
    [
        (Rung(False), "claimed"),
        (Rung(True), "self_reported"),
        (Rung(True, 1), "reproduced ×1"),
        (Rung(True, 0, 1), "self_reported, outside ×1"),
        (Rung(True, 2, 1), "reproduced ×2, outside ×1"),
    ],
)
def test_rungs(rung: Rung, says: str) -> None:
    assert str(rung) == says


def test_a_row_counts_the_machines_of_all_its_seeds() -> None:
    seeds = [cell(0.7, seed) for seed in range(3)]
    found = outcomes([report(seeds[0], threads=4), report(seeds[1], threads=4), report(seeds[1], threads=8)])
    assert str(rung_of_records(seeds, found)) == "reproduced ×2"
    assert str(rung_of_records(seeds[2:], found)) == "self_reported"
    assert str(rung_of_records([], found)) == "claimed"


def test_inside_once_and_outside_once_on_one_machine_is_no_reproduction() -> None:
    one = cell(0.7)
    found = outcomes([report(one), report(one, again=10.0)])
    machines = frozenset([report(one).machine])
    assert found[one.cell_id, answers_of(one)] == Outcome(machines, machines)
    assert str(rung_of_records([one], found)) == "self_reported, outside ×1"


def test_a_report_does_not_say_what_measured_the_number() -> None:
    """One that calls the number's own machine another one reproduces nothing."""
    one = cell(0.7)
    own = report(one).model_copy(update={"facts": one.provenance})
    assert own.machine != own.checked[0].machine
    assert str(rung_of_records([one], outcomes([own]))) == "self_reported"
    assert str(rung_of_submission("0" * 64, [own], machines_of([one]))) == "self_reported"
    assert str(rung_of_submission("0" * 64, [report(one)], machines_of([one]))) == "reproduced ×1"


def test_other_answers_of_that_cell_are_not_reproduced() -> None:
    one = cell(0.7)
    other = cell(0.9).model_copy(update={"cell_id": one.cell_id})
    assert str(rung_of_records([other], outcomes([report(one)]))) == "self_reported"


def test_tables_show_it_where_something_is_reproduced() -> None:
    records = [cell(0.7, seed, source) for seed in range(2) for source in ("kw", "zeroq")]
    plain, told = frame(records), frame(records, rerun=outcomes([report(records[0])]))
    assert all("ladder" not in grid.headers for grid in board_grids(plain))
    (grid,) = board_grids(told)
    place = grid.headers.index("ladder")
    assert sorted(row[place].text for row in grid.rows) == ["", "reproduced ×1"]
    assert "ladder" not in [name for _, name, _ in shown_columns(plain)]
    assert "ladder" in [name for _, name, _ in shown_columns(told)]


def test_the_index_follows_the_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.board.index.versions.versions", dict)
    store = tmp_path / "store"
    one, other = cell(0.7), cell(0.6, source="zeroq")
    records = RecordStore(store)
    for found in (one, other):
        records.write(found)
    index = BoardIndex(store, tmp_path / "cache", tmp_path / "none")

    def told() -> dict[str, str]:
        table = index.snapshot().table
        return dict(zip(table["source"], table["ladder"], strict=True))

    assert told() == {"kw": "self_reported", "zeroq": "self_reported"}
    path = write_verification(report(one), store / SUBMISSIONS / "s@1.json.xz")
    assert told() == {"kw": "reproduced ×1", "zeroq": "self_reported"}
    assert str(rung_of_records([one], reruns(store))) == "reproduced ×1"
    path.unlink()
    assert told() == {"kw": "self_reported", "zeroq": "self_reported"}


def test_no_printed_number_is_known_to_be_got_again() -> None:
    for key in papers():
        assert set(published(key)["verified_implementation"]) == {"no"}


def test_one_that_was_got_again() -> None:
    """An entry of names.yaml marks the rows it names, and no others."""
    entry = "\n  - {paper: mixmix, table: T7, metric: top1, sources: [DAFL], by: A. Lovelace, where: somewhere}\n"
    text = FILE.read_text(encoding="utf-8").replace("verified_implementation: []", f"verified_implementation:{entry}")
    names = parse(text, "n.yaml")
    rows = published("mixmix").to_dict("records")
    found = [row for row in rows if names.verified_by(row) == "A. Lovelace"]
    assert {(row["table"], row["source"], row["metric"]) for row in found} == {("T7", "DAFL", "top1")}
