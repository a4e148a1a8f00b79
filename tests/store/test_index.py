"""The index of a store: always what the folders give without it, and never more than its one file is written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from bench.errors import StoreError
from bench.store import index, packs
from bench.store.index import INDEX, Listing, Place
from bench.store.measured import pack_measured
from bench.store.packs import PackedRecords
from bench.store.record_store import RecordStore
from bench.store.records import FINAL, DamagedRecord, ResultRecord
from tests.store.conftest import KEY

Make = Callable[..., ResultRecord]
CELLS = [f"{i:016x}" for i in range(6)]
STATUSES = ("ok", "failed", "not_applicable", "skipped")


def without_index(store: RecordStore, cell: str) -> ResultRecord | None:
    """What the records themselves say of a cell of toy@1; a damaged one does not stand."""
    try:
        own = store.get("toy", 1, cell)
    except DamagedRecord:
        own = None
    found = own if own is not None and own.status in FINAL else store.find(cell)
    return found if found is not None and found.status in FINAL else None


def with_index(store: RecordStore) -> list[ResultRecord | None]:
    listing = Listing(store)
    places = [listing.standing(cell, "toy", 1) for cell in CELLS]
    return [listing.read(place) if place else None for place in places]


def assert_same(store: RecordStore) -> None:
    """Warm, rebuilt and without an index: the same; and nothing but the index is written."""
    before = contents(store.root)
    truth = [without_index(store, cell) for cell in CELLS]
    assert with_index(store) == truth  # behind by whatever the test changed
    assert with_index(store) == truth  # warm
    (store.root / INDEX).unlink()
    assert with_index(store) == truth  # rebuilt
    assert contents(store.root) == before


def contents(root: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in root.rglob("*") if p.is_file() and p.name != INDEX}


def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the records that the index opens from here on."""
    names: list[str] = []
    real = index.read_record
    monkeypatch.setattr(index, "read_record", lambda path: names.append(path.name) or real(path))
    return names


@pytest.fixture
def store(tmp_path: Path, make_record: Make) -> RecordStore:
    """Cells with every status, under their own suite and others, and some that came with the package."""
    shipped = [make_record(cell_id=CELLS[0], status="ok", seed=8), make_record(cell_id=CELLS[4], suite="away")]
    store = RecordStore(tmp_path / "store", shipped)
    for cell, status in zip(CELLS, STATUSES, strict=False):
        store.write(make_record(cell_id=cell, status=status))
    store.write(make_record(cell_id=CELLS[1], suite="another", status="not_applicable"))
    store.write(make_record(cell_id=CELLS[1], suite="other", status="ok"))
    store.write(make_record(cell_id=CELLS[0], suite="aaa", status="ok", seed=3))
    return store


def test_what_stands(store: RecordStore) -> None:
    assert_same(store)
    listing = Listing(store)
    found = [listing.standing(cell, "toy", 1) for cell in CELLS]
    assert found == [
        Place("toy", 1, CELLS[0], "ok"),  # its own before aaa's
        Place("other", 1, CELLS[1], "ok"),  # its own failed; ok before not applicable
        Place("toy", 1, CELLS[2], "not_applicable"),
        None,
        Place("away", 1, CELLS[4], "ok", packed=True),
        None,
    ]


def test_changes_are_seen_and_only_they_are_opened(
    store: RecordStore, make_record: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    Listing(store)
    names = opened(monkeypatch)
    Listing(store)
    assert names == []
    store.write(make_record(cell_id=CELLS[5]))
    path = store.write(make_record(cell_id=CELLS[3]))
    (path.parent / f"{CELLS[2]}.json").unlink()
    Listing(store)
    assert names == [f"{CELLS[3]}.json", f"{CELLS[5]}.json"]
    assert_same(store)
    for gone in store.root.glob("records/other@1/*.json"):
        gone.unlink()
    assert_same(store)
    (store.root / "records" / "other@1").rmdir()
    assert_same(store)


def test_a_record_replaced_within_a_tick_of_the_clock(store: RecordStore, make_record: Make) -> None:
    path = store.write(make_record(cell_id=CELLS[5], status="ok", reason="12345678901234"))
    os.utime(path, ns=(1, 1))
    Listing(store)
    size = path.stat().st_size
    store.write(make_record(cell_id=CELLS[5], status="failed", reason="1234567890"))
    os.utime(path, ns=(1, 1))
    assert path.stat().st_size == size
    assert Listing(store).standing(CELLS[5], "toy", 1) is None


def test_a_damaged_record_does_not_stand_and_is_named(store: RecordStore) -> None:
    Listing(store)
    path = store.root / "records" / "toy@1" / f"{CELLS[0]}.json"
    path.write_text("{")
    assert_same(store)
    listing = Listing(store)
    assert listing.standing(CELLS[1], "toy", 1) is not None
    assert listing.refused == {}
    assert listing.standing(CELLS[0], "toy", 1) == Place("aaa", 1, CELLS[0], "ok")  # another suite's is as good
    assert list(listing.refused) == [str(path)]
    (store.root / "records" / "aaa@1" / f"{CELLS[0]}.json").unlink()
    store.measured = {}
    assert Listing(store).standing(CELLS[0], "toy", 1) is None


def test_a_record_that_goes_after_it_was_listed(store: RecordStore) -> None:
    listing = Listing(store)
    place = listing.standing(CELLS[2], "toy", 1)
    assert place is not None
    (store.root / "records" / "toy@1" / f"{CELLS[2]}.json").unlink()
    with pytest.raises(StoreError, match=f"{CELLS[2]}: the record is gone"):
        listing.read(place)


def lying(content: bytes) -> bytes:
    """An index that says every record is ok."""
    return content.replace(b'"failed"', b'"ok"')


def newer(content: bytes) -> bytes:
    return lying(content).replace(b"index 1", b"index 2")


@pytest.mark.parametrize(
    "damage",
    [lying, newer, lambda content: content[:-40], lambda content: b"", lambda content: b"\xff\n[1]"],
    ids=["changed", "newer", "cut", "empty", "foreign"],
)
def test_an_index_that_cannot_be_trusted_is_made_anew(store: RecordStore, damage: Callable[[bytes], bytes]) -> None:
    Listing(store)
    path = store.root / INDEX
    good = path.read_bytes()
    path.write_bytes(damage(good))
    assert path.read_bytes() != good
    assert_same(store)
    assert path.read_bytes() == good


def test_an_index_that_cannot_be_written(store: RecordStore) -> None:
    (store.root / INDEX).mkdir()
    assert with_index(store) == [without_index(store, cell) for cell in CELLS]


WRITER = """
    import sys
    from pathlib import Path
    from bench.store.index import Listing
    from bench.store.records import read_record
    from bench.store.record_store import RecordStore
    store, record = RecordStore(sys.argv[1]), read_record(Path(sys.argv[2]))
    for number in range(30):
        cell = f"{int(sys.argv[3]):08x}{number:08x}"
        store.write(record.model_copy(update={"cell_id": cell}))
        assert Listing(store).standing(cell, "toy", 1) is not None
"""


def test_two_processes_write(tmp_path: Path, make_record: Make) -> None:
    store = RecordStore(tmp_path / "store")
    path = store.write(make_record())
    ran = [
        subprocess.Popen([sys.executable, "-c", dedent(WRITER), str(store.root), str(path), str(which)])
        for which in (1, 2)
    ]
    assert [process.wait(60) for process in ran] == [0, 0]
    listing = Listing(store)
    cells = [record.cell_id for record in store.all()]
    assert len(cells) == 61
    assert all(listing.standing(cell, "toy", 1) == Place("toy", 1, cell, "ok") for cell in cells)


def test_packed_records_are_opened_when_needed(
    tmp_path: Path, make_record: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "packed"
    rows = [make_record(cell_id=cell, curves={}, seed=i) for i, cell in enumerate(CELLS)]
    pack_measured(rows, {}, folder)
    pack_measured([make_record(suite="away", status="not_applicable", curves={})], {}, folder)
    first = dict(PackedRecords(folder, tmp_path / "cache"))
    names: list[str] = []
    real = packs.read_pack
    monkeypatch.setattr(packs, "read_pack", lambda item: names.append(item.name) or real(item))
    warm = PackedRecords(folder, tmp_path / "cache")
    assert warm.statuses == {("away", 1, KEY): "not_applicable", **{("toy", 1, cell): "ok" for cell in CELLS}}
    assert RecordStore(tmp_path / "store", warm).get("toy", 1, "f" * 16) is None
    assert names == []
    assert warm["toy", 1, CELLS[3]] == rows[3]
    assert names == ["toy.json.xz"]
    for note in (tmp_path / "cache" / "packs").iterdir():
        note.write_bytes(note.read_bytes()[:-9])
    assert dict(PackedRecords(folder, tmp_path / "cache")) == dict(warm) == first
    store = RecordStore(tmp_path / "store", warm)
    listing = Listing(store)
    found = listing.standing(KEY, "toy", 1)
    assert found == Place("away", 1, KEY, "not_applicable", packed=True)
    assert found is not None
    assert listing.read(found) == store.find(KEY)


def test_packs_that_change(tmp_path: Path, make_record: Make) -> None:
    folder = tmp_path / "packed"
    pack_measured([make_record(curves={})], {}, folder)
    PackedRecords(folder, tmp_path / "cache")
    before = PackedRecords(folder, tmp_path / "cache")  # has opened nothing yet
    pack_measured([make_record(cell_id="0" * 16, curves={}, n=64)], {}, folder)
    with pytest.raises(StoreError, match="have changed"):
        before["toy", 1, KEY]
    assert set(PackedRecords(folder, tmp_path / "cache")) == {("toy", 1, KEY), ("toy", 1, "0" * 16)}
    (folder / "toy.json.xz").unlink()
    (folder / "toy.json").write_text(json.dumps([{"schema_version": 2}]))
    with pytest.raises(StoreError, match=r"toy\.json\[0\]"):
        PackedRecords(folder, tmp_path / "cache")
    assert len(PackedRecords(tmp_path / "nowhere", tmp_path / "cache")) == 0
