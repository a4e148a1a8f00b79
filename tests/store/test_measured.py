"""Packed records: whole where it counts, small, and grown over several sittings."""

from __future__ import annotations

import io
import lzma
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.errors import StoreError
from bench.store import measured
from bench.store.measured import (
    CURVE_POINTS,
    MAX_GRID_BYTES,
    MAX_SUITE_BYTES,
    pack_measured,
    read_grid,
    read_measured,
    thin,
)
from bench.store.record_store import RecordStore
from bench.store.records import ResultRecord

Make = Callable[..., ResultRecord]


def grid(side: int, seed: int = 0) -> bytes:
    """A PNG of noise, which no format makes small."""
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_records_come_back(tmp_path: Path, make_record: Make) -> None:
    rows = [make_record(cell_id=f"{i:016x}", seed=i) for i in range(4)]
    small = grid(32)
    path = pack_measured(rows, {"a" * 16: small, "f" * 16: grid(32)}, tmp_path)
    assert path == tmp_path / "toy.json.xz"
    found = read_measured(tmp_path)
    assert [r.metrics for r in found] == [r.metrics for r in rows]
    assert [r.correct for r in found] == [r.correct for r in rows]
    assert all(len(r.curves["loss"]) == CURVE_POINTS for r in found)
    assert read_grid(found[0], tmp_path) == small
    # A grid of a set that no record is of is not shipped.
    assert [item.name for item in (tmp_path / "toy").iterdir()] == [f"{'a' * 16}.png"]
    assert read_measured(tmp_path, "other") == ()
    assert RecordStore(tmp_path / "store", found).get("toy", 1, f"{2:016x}") == found[2]


def test_a_second_sitting_adds(tmp_path: Path, make_record: Make) -> None:
    pack_measured([make_record(seed=0)], {"a" * 16: grid(32)}, tmp_path)
    rows = [make_record(cell_id="b" * 16, synth_id="b" * 16, seed=1), make_record(seed=9)]
    pack_measured(rows, {"b" * 16: grid(32, 1)}, tmp_path)
    assert [(r.cell_id[0], r.seed) for r in read_measured(tmp_path)] == [("0", 9), ("b", 1)]
    assert len(list((tmp_path / "toy").iterdir())) == 2


def test_a_newer_method_s_rows_take_the_places_of_the_old(tmp_path: Path, make_record: Make) -> None:
    def row(cell: str, **fields: int) -> ResultRecord:
        return make_record(cell_id=cell * 16, **fields)

    first = [row(cell, seed=seed, source_version=1, compressor_version=3) for cell, seed in (("a", 0), ("b", 1))]
    pack_measured(first, {}, tmp_path)
    pack_measured([row("c", seed=0, source_version=2, compressor_version=3)], {}, tmp_path)
    assert [r.cell_id[0] for r in read_measured(tmp_path)] == ["b", "c"]
    # Neither is the newer one: both stay, and the board marks what is stale.
    pack_measured([row("d", seed=0, source_version=1, compressor_version=4)], {}, tmp_path)
    assert [r.cell_id[0] for r in read_measured(tmp_path)] == ["b", "c", "d"]


def test_failed_cells_are_to_run_again(tmp_path: Path, make_record: Make) -> None:
    rows = [make_record(status="failed", reason="x"), make_record(cell_id="b" * 16, status="not_applicable")]
    pack_measured(rows, {}, tmp_path)
    assert [r.status for r in read_measured(tmp_path)] == ["not_applicable"]
    with pytest.raises(StoreError, match="no finished record"):
        pack_measured(rows[:1], {}, tmp_path)


def test_grids_are_made_to_fit(tmp_path: Path, make_record: Make) -> None:
    keys = [f"{i:016x}" for i in range(25)]
    rows = [make_record(cell_id=key, synth_id=key, seed=i) for i, key in enumerate(keys)]
    content = grid(256)
    assert len(content) > MAX_GRID_BYTES
    path = pack_measured(rows, dict.fromkeys(keys, content), tmp_path)
    sizes = [item.stat().st_size for item in (tmp_path / "toy").iterdir()]
    assert len(sizes) == 25
    assert max(sizes) <= MAX_GRID_BYTES
    assert sum(sizes) + path.stat().st_size <= MAX_SUITE_BYTES


def test_too_much_is_refused(tmp_path: Path, make_record: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "MAX_SUITE_BYTES", 2000)
    with pytest.raises(StoreError, match="too large to ship"):
        pack_measured([make_record()], {"a" * 16: grid(32)}, tmp_path)
    with pytest.raises(StoreError, match="no image"):
        measured._shrink(b"x" * 5000, 100, "g")


def test_two_suites_do_not_mix(tmp_path: Path, make_record: Make) -> None:
    with pytest.raises(StoreError, match="one suite"):
        pack_measured([make_record(), make_record(suite="other")], {}, tmp_path)


@pytest.mark.parametrize("content", [b"", b"no xz", lzma.compress(b"{"), lzma.compress(b"{}")])
def test_damaged_files_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "toy.json.xz").write_bytes(content)
    with pytest.raises(StoreError, match=r"toy\.json\.xz"):
        read_measured(tmp_path)


def test_plain_json_reads_too(tmp_path: Path, make_record: Make) -> None:
    (tmp_path / "toy.json").write_text(f"[{make_record().model_dump_json()}]")
    (tmp_path / "README.md").write_text("")
    assert len(read_measured(tmp_path)) == 1


def test_nothing_is_there_yet(tmp_path: Path, make_record: Make) -> None:
    assert read_measured(tmp_path / "nowhere") == ()
    assert read_grid(make_record(), tmp_path) is None
    assert read_grid(make_record(synth_id=None), tmp_path) is None


def test_thinning_keeps_both_ends() -> None:
    curve = [(i, i / 7) for i in range(1000)]
    short = thin(curve, 10)
    assert (len(short), short[0], short[-1]) == (10, (0, 0.0), (999, 142.714))
    assert thin(curve[:5], 10) == [(i, float(f"{i / 7:.6g}")) for i in range(5)]


def test_the_packages_own_records_read() -> None:
    found = list(read_measured())
    assert found
    assert [record.cell_id for record in found if record.status == "failed"] == []
