"""Half-written files: whose they are, and when they may go."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import pytest

from bench import atomic
from bench.atomic import is_abandoned, temporary_name
from bench.errors import StoreError
from bench.store.files import write_atomic
from bench.store.objects import ObjectStore
from tests.disk import small_disk

STUCK = """
    import os, sys, time
    from pathlib import Path
    from bench.store.files import write_atomic

    def stuck(handle):
        print("writing", flush=True)  # the bytes are written and the rename is still to come: stop here until killed
        time.sleep(60)

    os.fsync = stuck
    write_atomic(Path(sys.argv[1]), b"content")
"""

PLACES = ("records/s@1/0123456789abcdef.json", "fp/0123-4567.json", "live.json")


def temporary(root: Path) -> list[Path]:
    return list(root.rglob(".*.tmp-*"))


def test_what_killed_writers_left_is_swept_and_what_living_ones_write_stays(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path)
    command = [sys.executable, "-c", dedent(STUCK)]
    writers = [subprocess.Popen([*command, str(tmp_path / p)], stdout=subprocess.PIPE, text=True) for p in PLACES]
    try:
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "writing\n"
        assert store.sweep() == 0
        assert len(temporary(tmp_path)) == len(PLACES)
        for writer in writers[1:]:
            writer.kill()
            writer.wait(10)
        assert store.sweep() == len(PLACES) - 1
        assert [path.parent.name for path in temporary(tmp_path)] == ["s@1"]
    finally:
        for writer in writers:
            writer.kill()
            writer.wait(10)
    assert store.sweep() == 1
    assert temporary(tmp_path) == []
    assert not any((tmp_path / place).exists() for place in PLACES)


def test_a_later_process_of_the_same_number_is_not_the_writer(tmp_path: Path) -> None:
    mine = tmp_path / temporary_name("x.json")
    mine.write_text("half")
    assert not is_abandoned(mine)
    os.utime(mine, (1000.0, 1000.0))  # before this process began
    assert is_abandoned(mine)


def test_of_another_machine_only_age_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "_machine", lambda: "0ther000")
    theirs = tmp_path / temporary_name("x.json")
    monkeypatch.undo()
    old = tmp_path / ".x.json.tmp-99999999-ab"  # an earlier version named no machine
    for path in (theirs, old):
        path.write_text("half")
        assert not is_abandoned(path)
        long_ago = time.time() - atomic.ABANDONED_AFTER - 1
        os.utime(path, (long_ago, long_ago))
        assert is_abandoned(path)
    whole = tmp_path / "x.json"
    whole.write_text("whole")
    os.utime(whole, (1000.0, 1000.0))
    assert not is_abandoned(whole)


def test_a_full_disk_is_told_and_nothing_stays(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "64k") as place:
        write_atomic(place / "kept.json", b"old")
        with pytest.raises(StoreError, match="No space left on device") as caught:
            write_atomic(place / "kept.json", b"x" * 100_000)
        assert "Free some space" in str(caught.value)
        assert [path.name for path in place.iterdir()] == ["kept.json"]
        assert (place / "kept.json").read_bytes() == b"old"
