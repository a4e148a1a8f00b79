"""The cached board: always what the records give afresh, with little reading, and the store untouched."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bench.board.index.board_index as module
from bench.board.index.board_index import BoardIndex
from bench.board.index.frame import frame
from bench.board.index.listing import CELL_COLUMNS, STANDARD
from bench.errors import StoreError
from bench.store.live import LiveState, live_path, write_live
from bench.store.record_store import RecordStore
from bench.store.records import ResultRecord, parse_record

from .make import record

VERSIONS = {("sources", "mixmix"): 1, ("sources", "kw"): 2, ("compressors", "brecq"): 1}
IMAGES = 60


@pytest.fixture(autouse=True)
def _versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The methods' versions, without importing them all; kw's records are stale."""
    monkeypatch.setattr("bench.board.index.versions.versions", lambda: VERSIONS)


def made(correct: float | None = 0.5, **fields: Any) -> ResultRecord:
    """A record whose cell has a proper id, with few test images."""
    from .make import bits

    given = bits(correct, seed=fields.get("seed", 0), images=IMAGES) if correct is not None else None
    found = record(given, **fields)
    return found.model_copy(update={"cell_id": hashlib.sha256(found.cell_id.encode()).hexdigest()[:32]})


def pack(folder: Path, name: str, records: list[ResultRecord]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps([r.model_dump(mode="json") for r in records]))


def afresh(store: Path, packed: Path) -> pd.DataFrame:
    """The board from every record, with no cache and no parts."""
    raw = [item for file in sorted(packed.glob("*.json")) for item in json.loads(file.read_text())]
    records = RecordStore(store, [parse_record(item, "packed") for item in raw]).all()
    extra = sorted({name for r in records for name in r.metrics} - STANDARD)
    return frame(records, versions=VERSIONS, extra=extra)


def digest(folder: Path) -> dict[str, tuple[str, int]]:
    """Every file and folder below with content and time."""
    return {
        str(p.relative_to(folder)): (p.read_text() if p.is_file() else "", p.stat().st_mtime_ns)
        for p in sorted([folder, *folder.rglob("*")])
    }


class World:
    """A store, packed records and an index over them, with a count of the files read."""

    def __init__(self, root: Path) -> None:
        self.store, self.packed, self.cache = root / "store", root / "packed", root / "cache"
        self.packed.mkdir(parents=True)
        RecordStore(self.store)
        self.read: list[str] = []

    def index(self) -> BoardIndex:
        index = BoardIndex(self.store, self.cache, self.packed)
        inner = index._record

        def counted(place: str) -> ResultRecord:
            self.read.append(place)
            return inner(place)

        index._record = counted  # type: ignore[method-assign]
        return index

    def write(self, *records: ResultRecord) -> None:
        for item in records:
            RecordStore(self.store).write(item)

    def check(self, index: BoardIndex | None = None) -> module.Snapshot:
        """The snapshot equals the frame of all records, now and when a new process reads it from the cache."""
        found = (index or self.index()).snapshot()
        expected = afresh(self.store, self.packed)
        pd.testing.assert_frame_equal(found.table, expected)
        again = self.index().snapshot()
        pd.testing.assert_frame_equal(again.table, expected)
        pd.testing.assert_frame_equal(again.cells, found.cells)
        return found


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def settle() -> None:
    """Until the folders' times count as settled."""
    time.sleep(module.SETTLED_NS / 1e9 + 0.02)


# what a record of the property test may be: few values, so that rows, targets and image sets meet again
FIELDS = st.fixed_dictionaries(
    {
        "suite": st.sampled_from(["s", "u"]),
        "suite_version": st.sampled_from([1, 1, 2]),
        "source": st.sampled_from(["mixmix", "kw", "real"]),
        "target": st.sampled_from(["a", "b"]),
        "seed": st.integers(0, 2),
        "preset": st.sampled_from(["mini", "mini", "thorough"]),
        "setting_label": st.sampled_from(["W4A4", "W2A4"]),
        "protocol_id": st.sampled_from(["p1", "p1", "p2"]),
        "correct": st.sampled_from([0.4, 0.6, 0.9, None]),
        "metrics": st.sampled_from([{}, {}, {"bn_loss": 2.5}, {"mmd": None}]),
    }
)
STEPS = st.lists(st.tuples(st.sampled_from(["write", "write", "write", "remove", "pack"]), FIELDS), max_size=14)


def control_of(source: str) -> str:
    return "upper" if source == "real" else "none"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rounds=st.lists(STEPS, min_size=1, max_size=3))
def test_it_is_always_what_the_records_give(rounds: list[Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    world = World(tmp_path_factory.mktemp("world"))
    packed: dict[str, ResultRecord] = {}
    index = world.index()
    for number, steps in enumerate(rounds):
        for what, fields in steps:
            item = made(**{**fields, "control": control_of(fields["source"])})
            path = world.store / "records" / f"{item.suite}@{item.suite_version}" / f"{item.cell_id}.json"
            if what == "write":
                world.write(item)
                # a second write of one cell within a tick of the clock and of one length would go unseen
                os.utime(path, ns=(number, time.time_ns()))
            elif what == "remove":
                path.unlink(missing_ok=True)
            else:
                packed[item.cell_id] = item
                pack(world.packed, "pack", list(packed.values()))
        world.check(index)


def test_cells_name_every_record_once(world: World) -> None:
    records = [made(0.5, seed=k, source=s) for k in range(2) for s in ("mixmix", "kw")]
    records.append(made(None, target="b", reason="out of memory", synth_id=None))
    world.write(*records)
    index = world.index()
    found = world.check(index)
    assert tuple(found.cells.columns) == CELL_COLUMNS
    assert sorted(found.cells["cell_id"]) == sorted(r.cell_id for r in records)
    assert index.records(found.cells) == sorted(records, key=lambda r: r.cell_id)
    failed = found.cells[found.cells["status"] == "failed"].iloc[0]
    assert failed["reason"] == "out of memory"
    assert pd.isna(failed["synth_id"])
    assert pd.isna(failed["top1"])


def test_image_sets_are_counted_over_all_targets_of_a_suite(world: World) -> None:
    for suite in ("s", "u"):
        world.write(*(made(0.5, target=t, setting_label=b, suite=suite) for t in "abc" for b in ("W4A4", "W2A4")))
    assert set(world.check().table["image_set_rows"]) == {6}
    world.write(made(0.5, target="d", suite="u"))
    rows = world.check().table
    assert set(rows.loc[rows["suite"] == "s", "image_set_rows"]) == {6}
    assert set(rows.loc[rows["suite"] == "u", "image_set_rows"]) == {7}
    for suite, targets in (("s", 3), ("u", 4)):
        shared = rows[rows["suite"] == suite]
        assert set(shared["image_set_targets"]) == {targets}
        assert (shared["synthesis_amortised_s"] * targets == shared["synthesis_s"]).all()


def test_only_what_changed_is_read(world: World) -> None:
    world.write(*(made(0.5, suite=s, target=t, seed=k) for s in "su" for t in "ab" for k in range(3)))
    index = world.index()
    settle()
    index.snapshot()
    assert sorted(world.read) == sorted(set(world.read))  # each once
    assert len(world.read) == 12
    world.read.clear()
    index.snapshot()
    world.index().snapshot()
    assert world.read == []
    world.write(made(0.9, suite="u", target="b", source="new"))
    index.snapshot()
    assert {place.split("/")[1] for place in world.read} == {"u@1"}
    assert len(world.read) == 4  # the new one, and its target's three for their ranks
    # a seed more is a seed asked for: it touches every target of its suite, and no other suite
    world.read.clear()
    world.write(made(0.9, suite="u", target="a", seed=7))
    world.check(index)
    assert {place.split("/")[1] for place in world.read} == {"u@1"}


def test_a_change_of_the_boards_code_forms_the_rows_anew(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.write(made(0.5))
    settle()
    world.index().snapshot()
    world.read.clear()
    monkeypatch.setattr(module, "board_stamp", lambda: "another")
    world.index().snapshot()
    assert len(world.read) == 1


def test_records_beyond_those_remembered_are_read_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 2)
    world.write(*(made(0.5, seed=k, target=t) for k in range(3) for t in "ab"))
    world.check()


def test_two_changes_within_one_tick_are_both_seen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.write(made(0.5, seed=0))
    folder = world.store / "records" / "s@1"
    now = time.time_ns()
    os.utime(folder, ns=(now, now))
    index = world.index()
    with monkeypatch.context() as slow:
        slow.setattr(module, "SETTLED_NS", 600 * 10**9)  # however long a busy machine takes from here
        index.snapshot()
        world.write(made(0.5, seed=1))
        os.utime(folder, ns=(now, now))  # the folder's time stood still
        assert len(index.snapshot().cells) == 2
    settle()
    assert index.stamp() == index.stamp()


def test_the_stores_record_wins_over_the_packages(world: World) -> None:
    pack(world.packed, "pack", [made(0.5), made(0.7, target="b")])
    assert list(world.check().table["top1_mean"]) == [pytest.approx(70), pytest.approx(50)]
    world.write(made(0.9))
    found = world.check()
    assert sorted(found.table["top1_mean"]) == pytest.approx([70, 90])
    assert sorted(p.split("/")[0] for p in found.cells["place"]) == ["measured", "records"]
    next((world.store / "records").rglob("*.json")).unlink()
    assert sorted(world.check().table["top1_mean"]) == pytest.approx([50, 70])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"schema_version": 1, "cell_id": "12', "damaged"),
        ('{"schema_version": 99}', "newer version"),
        ("[1, 2]", "no result record"),
        ('{"schema_version": 1}', "damaged"),
        ("\x00\xff", "damaged"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_and_the_rest_stands(world: World, content: str, says: str) -> None:
    world.write(made(0.5))
    bad = world.store / "records" / "s@1" / f"{'ab' * 16}.json"
    bad.write_bytes(content.encode("latin1"))
    found = world.index().snapshot()
    assert len(found.table) == 1
    (problem,) = found.problems
    assert problem.where == f"records/s@1/{bad.name}"
    assert says in problem.says
    assert world.index().snapshot().problems == found.problems  # remembered, too
    bad.unlink()
    assert world.check().problems == ()


def test_a_file_that_is_being_written_is_not_a_record(world: World) -> None:
    world.write(made(0.5))
    (world.store / "records" / "s@1" / ".abcdabcd.json.tmp-1-2").write_text('{"schema')
    assert world.check().problems == ()


def test_a_damaged_pack_is_named_and_the_rest_stands(world: World) -> None:
    pack(world.packed, "good", [made(0.5)])
    (world.packed / "bad.json").write_text("[{")
    found = world.index().snapshot()
    assert [p.where for p in found.problems] == ["bad.json"]
    assert len(found.table) == 1


def test_a_record_gone_while_the_rows_are_formed_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 0)
    items = [made(0.5, seed=k) for k in range(2)]
    world.write(*items)
    index = world.index()

    def progress(stage: str, done: int, total: int) -> None:
        if stage == "forming rows":
            (world.store / "records" / "s@1" / f"{items[1].cell_id}.json").unlink(missing_ok=True)

    found = index.snapshot(progress)
    assert list(found.cells["cell_id"]) == [items[0].cell_id]
    assert len(found.problems) == 1
    assert world.check(index).problems == ()


def test_a_store_of_a_newer_version_is_refused(world: World) -> None:
    (world.store / "store.json").write_text('{"schema": 99}')
    with pytest.raises(StoreError, match="newer version"):
        world.index().snapshot()


def test_no_store_leaves_the_packages_records(world: World, tmp_path: Path) -> None:
    pack(world.packed, "pack", [made(0.5)])
    for store in (None, tmp_path / "nowhere"):
        found = BoardIndex(store, tmp_path / "other", world.packed).snapshot()
        assert len(found.table) == len(found.cells) == 1
    assert not (tmp_path / "nowhere").exists()


def test_nothing_at_all_is_an_empty_board(world: World) -> None:
    found = world.check()
    assert found.table.empty
    assert found.cells.empty
    assert tuple(found.cells.columns) == CELL_COLUMNS


def test_the_packages_own_records_are_shown(tmp_path: Path) -> None:
    found = BoardIndex(None, tmp_path).snapshot()
    assert not found.table.empty
    assert found.problems == ()


@pytest.mark.parametrize("damage", [lambda p: p.write_bytes(p.read_bytes()[:-9]), lambda p: p.unlink()])
def test_a_damaged_cache_is_formed_anew(world: World, damage: Callable[[Path], object]) -> None:
    world.write(*(made(0.5, target=t) for t in "ab"))
    world.check()
    files = [p for p in world.cache.rglob("*") if p.suffix in (".json", ".parquet")]
    assert len(files) >= 6
    for path in files:
        if path.exists():
            damage(path)
        world.check()


def test_a_second_store_reads_no_packed_record_again(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(world.packed, "shipped", [made(0.5, target=t, seed=k) for t in "ab" for k in range(2)])
    world.check()
    other, read, inner = tmp_path / "other", [], BoardIndex._record
    RecordStore(other)

    def noted(self: BoardIndex, place: str) -> ResultRecord:
        read.append(place)
        return inner(self, place)

    monkeypatch.setattr(BoardIndex, "_record", noted)
    monkeypatch.setattr(BoardIndex, "_pack", lambda self, name: pytest.fail(f"{name} was opened"))
    found = BoardIndex(other, world.cache, world.packed).snapshot()
    assert read == []
    assert len(found.table) == 2
    assert len(found.cells) == 4
    pd.testing.assert_frame_equal(found.table, world.index().snapshot().table)


def test_a_cache_without_todays_columns_is_formed_anew(world: World) -> None:
    world.write(made())
    world.check()
    file = next(iter(world.cache.rglob("table-*.parquet")))
    pd.read_parquet(file).drop(columns=["rank_low", "letters"]).to_parquet(file)
    world.check()


def test_a_cache_that_cannot_be_written_is_said_so(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="BENCH_DATA"):
        BoardIndex(world.store, tmp_path / "file", world.packed).snapshot()


def test_nothing_is_ever_written_into_the_store(world: World) -> None:
    world.write(*(made(0.5, target=t, seed=k) for t in "ab" for k in range(2)))
    (world.store / "records" / "s@1" / f"{'cd' * 16}.json").write_text("{")
    write_live(world.store, state())
    before = digest(world.store), digest(world.packed)
    index = world.index()
    found = index.snapshot()
    index.records(found.cells)
    index.live()
    index.stamp()
    assert (digest(world.store), digest(world.packed)) == before


def test_progress_is_told_to_its_end(world: World) -> None:
    world.write(*(made(0.5, seed=k) for k in range(3)))
    told: list[tuple[str, int, int]] = []
    world.index().snapshot(lambda *facts: told.append(facts))
    assert told[0] == ("reading records", 0, 3)
    assert ("reading records", 3, 3) in told
    assert told[-1] == ("forming rows", 3, 3)


def state(**changes: Any) -> LiveState:
    facts = {"pid": 1, "suite": "s", "suite_version": 1, "preset": "mini", "workers": 2, "tasks": 4}
    return LiveState.model_validate({**facts, "started": 1.0, "beat": 2.0, **changes})


def test_the_live_state_is_read_from_its_store(world: World, tmp_path: Path) -> None:
    index = world.index()
    assert index.live() is None
    assert BoardIndex(None, tmp_path).live() is None
    write_live(world.store, state(done=3))
    assert index.live() == state(done=3)
    live_path(world.store).write_text('{"schema_version": 1, "pid"')
    with pytest.raises(StoreError, match="half-written"):
        index.live()
