"""Records: written whole, found again, refused when damaged or newer, stale when the code moved on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bench import atomic
from bench.errors import StoreError
from bench.store import records
from bench.store.bitmaps import pack_bits, unpack_bits
from bench.store.files import open_store, require_free, write_atomic
from bench.store.record_store import RecordStore
from bench.store.records import SCHEMA_VERSION, DamagedRecord, ResultRecord, parse_record, read_record
from tests.store.conftest import KEY

Make = Callable[..., ResultRecord]


def test_a_record_reads_back_unrounded(tmp_path: Path, make_record: Make) -> None:
    store = RecordStore(tmp_path / "store")
    record = make_record()
    path = store.write(record)
    assert path == tmp_path / "store" / "records" / "toy@1" / f"{KEY}.json"
    assert store.get("toy", 1, KEY) == record
    assert store.own("toy", 1, KEY)
    assert store.get("toy", 1, "f" * 16) is None
    assert store.get("toy", 2, KEY) is None


def test_a_later_record_replaces_an_earlier_one(tmp_path: Path, make_record: Make) -> None:
    store = RecordStore(tmp_path)
    store.write(make_record(status="failed", reason="killed"))
    store.write(make_record())
    assert [record.status for record in store.all()] == ["ok"]


def test_another_suites_result_is_found(tmp_path: Path, make_record: Make) -> None:
    store = RecordStore(tmp_path)
    assert store.find(KEY) is None
    store.write(make_record(suite="aaa", status="failed", reason="x"))
    store.write(make_record(suite="other"))
    found = store.find(KEY)
    assert found is not None
    assert (found.suite, found.status) == ("other", "ok")
    assert store.find("../x") is None


def test_the_store_wins_over_measured_records(tmp_path: Path, make_record: Make) -> None:
    shipped = [make_record(seed=5), make_record(cell_id="b" * 16, seed=6), make_record(suite="away", seed=7)]
    store = RecordStore(tmp_path, shipped)
    store.write(make_record(seed=0))
    assert [record.seed for record in store.all("toy")] == [0, 6]
    assert [record.seed for record in store.all()] == [7, 0, 6]
    assert store.all("toy", 2) == []
    assert store.get("toy", 1, "b" * 16) == shipped[1]
    assert not store.own("toy", 1, "b" * 16)
    found = store.find(KEY)
    assert found is not None
    assert found.seed == 0


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", "{}", '{"schema_version": 1}', '{"schema_version": "x"}', "\xff"]
)
def test_a_damaged_record_is_named(
    tmp_path: Path, make_record: Make, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = RecordStore(tmp_path)
    path = store.write(make_record())
    path.write_text(content, encoding="latin-1")
    with pytest.raises(DamagedRecord) as caught:
        store.get("toy", 1, KEY)
    assert str(path) in str(caught.value)
    for call in (store.all, lambda: store.find(KEY)):
        caplog.clear()
        assert not call()
        assert "a record is refused and measured again" in caplog.text
        assert str(path) in caplog.text


def test_a_newer_record_is_refused(tmp_path: Path, make_record: Make) -> None:
    store = RecordStore(tmp_path)
    path = store.write(make_record())
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": SCHEMA_VERSION + 1, "new": 1}))
    with pytest.raises(StoreError) as caught:
        store.all()
    assert "newer version" in str(caught.value)
    assert "Update" in str(caught.value)


def test_an_older_record_is_brought_up(make_record: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def rename(raw: dict[str, Any]) -> dict[str, Any]:
        raw["suite"] = raw.pop("suite_name")
        return raw

    old = make_record().model_dump(mode="json")
    old["suite_name"] = old.pop("suite")
    newer = records.SCHEMA_VERSION + 1
    monkeypatch.setattr(records, "SCHEMA_VERSION", newer)
    with pytest.raises(StoreError, match="too old"):
        parse_record(old, "x")
    monkeypatch.setitem(records.MIGRATIONS, newer - 1, rename)
    assert (parse_record(old, "x").suite, parse_record(old, "x").schema_version) == ("toy", newer)


def test_no_number_that_is_not_finite(tmp_path: Path, make_record: Make) -> None:
    store = RecordStore(tmp_path)
    with pytest.raises(StoreError, match="not finite"):
        store.write(make_record().model_copy(update={"metrics": {"top1": float("nan")}}))
    assert store.all() == []
    with pytest.raises(ValidationError, match="finite"):
        make_record(metrics={"top1": float("nan")})


def changed(path: Path, key: str, value: Any, digest: str | None = None) -> None:
    """Set a key of a record's file, and its digest to ``digest`` (the old one, where that is None)."""
    raw = json.loads(path.read_bytes())
    raw[key] = value
    path.write_text(json.dumps(raw if digest is None else {**raw, "digest": digest}))


def test_a_record_carries_the_digest_of_its_content(tmp_path: Path, make_record: Make) -> None:
    store = RecordStore(tmp_path)
    path = store.write(make_record(reason="größer → 1"))
    raw = json.loads(path.read_bytes())
    without = {key: value for key, value in raw.items() if key != "digest"}
    text = json.dumps(without, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
    assert raw["digest"] == hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps(raw))  # laid out anew by whoever looked at it
    assert read_record(path) == make_record(reason="größer → 1")


@pytest.mark.parametrize(("key", "value"), [("seed", 3), ("source", "kx"), ("suite_version", True), ("digest", 0)])
def test_a_record_that_was_changed_is_refused(tmp_path: Path, make_record: Make, key: str, value: Any) -> None:
    path = RecordStore(tmp_path).write(make_record())
    changed(path, key, value)
    with pytest.raises(DamagedRecord, match="its content is not the one its digest was made of"):
        read_record(path)


def test_a_bit_that_flipped_is_seen(tmp_path: Path, make_record: Make) -> None:
    path = RecordStore(tmp_path).write(make_record())
    content = path.read_bytes()
    for place in range(0, len(content), 97):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with contextlib.suppress(DamagedRecord):
            assert read_record(path) == make_record(), place  # a space that became another one


@pytest.mark.parametrize(
    "change",
    [
        {"metrics": {"top1": 90.0}},
        {"metrics": {"top1": None}},
        {"test_count": 998},
        {"test_count": 2**31 - 1},
        {"correct": "not base64!"},
        {"correct": pack_bits(np.ones(80_000_000, dtype=bool))},
    ],
    ids=["top1", "none", "count", "huge count", "no bitmap", "bomb"],
)
def test_a_top_1_that_is_not_its_bitmaps_is_refused(tmp_path: Path, make_record: Make, change: dict[str, Any]) -> None:
    store = RecordStore(tmp_path)
    path = store.write(make_record(**change))  # its digest is right
    with pytest.raises(DamagedRecord):
        read_record(path)
    old = {**json.loads(path.read_bytes()), "schema_version": 2}
    del old["digest"]
    with pytest.raises(DamagedRecord):
        parse_record(old, "x")


def test_a_record_of_an_older_schema_needs_no_digest(tmp_path: Path, make_record: Make) -> None:
    store = RecordStore(tmp_path)
    path = store.write(make_record())
    raw = json.loads(path.read_bytes())
    del raw["digest"]
    path.write_text(json.dumps({**raw, "schema_version": 2}))
    assert store.all() == [make_record()]
    path.write_text(json.dumps(raw))
    with pytest.raises(DamagedRecord, match="digest"):
        read_record(path)


def test_strange_files_are_left_alone(tmp_path: Path, make_record: Make) -> None:
    store = RecordStore(tmp_path)
    path = store.write(make_record())
    (path.parent / "notes.json").write_text("mine")
    (path.parent / f".{path.name}.tmp-1-aa").write_text("half")
    (path.parent.parent / "backup").mkdir()
    (path.parent.parent / "backup" / path.name).write_text("{")
    assert len(store.all()) == 1


@pytest.mark.parametrize("key", [("../x", 1, KEY), ("toy", 1, "../../x"), ("toy", -1, KEY)])
def test_keys_stay_inside(tmp_path: Path, key: tuple[str, int, str]) -> None:
    with pytest.raises(ValueError):
        RecordStore(tmp_path).get(*key)


@given(st.lists(st.booleans(), max_size=300))
def test_bitmaps_keep_every_bit(bits: list[bool]) -> None:
    assert unpack_bits(pack_bits(np.array(bits, dtype=bool)), len(bits)).tolist() == bits


def test_a_store_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    open_store(tmp_path)
    open_store(tmp_path)
    (tmp_path / "store.json").write_text('{"schema": 99}')
    with pytest.raises(StoreError, match="newer version"):
        RecordStore(tmp_path)
    (tmp_path / "store.json").write_text("?")
    with pytest.raises(StoreError, match="damaged"):
        RecordStore(tmp_path)


def test_a_store_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    with pytest.raises(StoreError, match="cannot be"):
        RecordStore(tmp_path / "store")


@pytest.mark.parametrize("denied", ["touch", "mkdir"])
def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, denied: str) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    root = tmp_path / "store"
    if denied == "touch":
        open_store(root)
    monkeypatch.setattr(Path, denied, refuse)  # a mode would not do: root writes anywhere
    with pytest.raises(StoreError) as caught:
        open_store(root)
    for word in ["cannot be written", str(root), "Permission denied", "--store DIR"]:
        assert word in str(caught.value)


def test_a_full_disk_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    write_atomic(path, b"old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["x.json"]


def test_disk_estimate(tmp_path: Path) -> None:
    require_free(tmp_path / "not" / "yet", 1000)
    with pytest.raises(StoreError, match="less disk is free"):
        require_free(tmp_path, 10**18)


WRITER = """
    import sys
    from pathlib import Path
    from bench.store.files import write_atomic
    path = Path(sys.argv[1])
    print("ready", flush=True)
    for i in range(10**9):
        write_atomic(path, (b"%d " % (i % 10)) * 40_000)
"""


def test_kill_at_any_moment_leaves_one_whole_version(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for delay in (0.0, 0.01, 0.03, 0.07):
        writer = subprocess.Popen([sys.executable, "-c", dedent(WRITER), str(path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        writer.stdout.readline()
        deadline = time.monotonic() + 10
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
        writer.wait(10)
        content = path.read_bytes()
        assert len(content) == 80_000
        assert len(set(content.split())) == 1
