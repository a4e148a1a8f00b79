"""Measured records that travel with the package: one compressed file per suite, and one small grid per image set."""

from __future__ import annotations

import io
import json
import lzma
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from bench.errors import StoreError
from bench.reading import parse_json, read_bytes, unxz
from bench.store.files import write_atomic
from bench.store.records import ResultRecord, parse_record

MAX_SUITE_BYTES = 2_000_000
MAX_GRID_BYTES = 100_000
CURVE_POINTS = 24
TRACEBACK_LINES = 12

_QUALITIES = (92, 85, 75, 65, 55, 45, 35)


def measured_folder() -> Traversable:
    """Where the package's measured records lie."""
    return resources.files("suites") / "measured"


def read_measured(
    folder: Traversable | None = None,
    suite: str | None = None,
    wanted: Callable[[Mapping[str, Any]], bool] = lambda raw: True,
) -> tuple[ResultRecord, ...]:
    """All packed records of ``folder`` (the package's unless given), or those of one suite; ``wanted`` is asked before
    a record is parsed, which takes far longer than to read it.

    Raises:
        StoreError: a file is damaged, or a newer schema wrote it.
    """
    folder = measured_folder() if folder is None else folder
    if not folder.is_dir():
        return ()
    out: list[ResultRecord] = []
    for item in sorted(folder.iterdir(), key=lambda entry: entry.name):
        name, _, ending = item.name.partition(".")
        if ending in ("json", "json.xz") and suite in (None, name):
            out += [parse_record(raw, f"{item}[{i}]") for i, raw in enumerate(read_pack(item)) if _fits(raw, wanted)]
    return tuple(out)


def _fits(raw: Any, wanted: Callable[[Mapping[str, Any]], bool]) -> bool:
    """What is no record is parsed, too, so that it is said."""
    return not isinstance(raw, dict) or wanted(raw)


def read_grid(record: ResultRecord, folder: Traversable | None = None) -> bytes | None:
    """The image grid (JPEG or PNG) shipped for a record's image set; None when there is none."""
    folder = measured_folder() if folder is None else folder
    if record.synth_id is None:
        return None
    for ending in ("jpg", "png"):
        place = folder / record.suite / f"{record.synth_id}.{ending}"
        if place.is_file():
            return place.read_bytes()
    return None


def suites_with_grids(folder: Traversable | None = None) -> frozenset[str]:
    """Suites whose packed records come with image grids."""
    folder = measured_folder() if folder is None else folder
    return frozenset(item.name for item in folder.iterdir() if item.is_dir()) if folder.is_dir() else frozenset()


def pack_measured(records: Iterable[ResultRecord], grids: Mapping[str, bytes], out: Path) -> Path:
    """Write a suite's finished records to ``out/<suite>.json.xz`` and its grids to ``out/<suite>/<synth_id>.*``.

    Records that are packed there already stay, unless a new one is of the same cell or of the same row and seed with
    newer methods; so a suite can be measured in several sittings.  Bitmaps and metrics are kept as they are; curves are
    thinned and tracebacks cut.

    Args:
        records: all of one suite; failed ones are left out, since their cells are to run again.
        grids: synth_id → an encoded image (PNG or JPEG); made smaller where it must be.

    Raises:
        StoreError: several suites, nothing finished, no image, more than 2 MB, or the folder cannot be written.
    """
    finished = [record for record in records if record.status != "failed"]
    names = sorted({record.suite for record in finished})
    if len(names) != 1:
        raise StoreError("records of one suite are wanted", got=", ".join(names) or "no finished record")
    suite = names[0]
    kept = {(r.suite_version, r.cell_id): r for r in (*read_measured(out, suite), *finished)}
    ordered = sorted(_newest(kept.values()), key=lambda r: (r.suite_version, r.cell_id))
    text = json.dumps([slim(record) for record in ordered], sort_keys=True, separators=(",", ":"), allow_nan=False)
    packed = xz(text.encode())
    images = _fit(_all_grids(out / suite, grids, ordered), MAX_SUITE_BYTES - len(packed), suite)
    for old in (out / suite).glob("*") if (out / suite).is_dir() else ():
        if old.name not in images:
            old.unlink()
    for name, content in images.items():
        write_atomic(out / suite / name, content)
    path = out / f"{suite}.json.xz"
    write_atomic(path, packed)
    return path


def _newest(records: Iterable[ResultRecord]) -> list[ResultRecord]:
    """Those whose row and seed nobody measured with newer methods."""
    rows: dict[tuple[object, ...], list[ResultRecord]] = defaultdict(list)
    for r in records:
        where = (r.suite_version, r.dataset, r.preset, r.seed)
        rows[*where, r.source, r.model, r.target, r.compressor, r.policy, r.setting_label, r.n].append(r)
    return [
        record
        for row in rows.values()
        for record in row
        if not any(
            new.source_version >= record.source_version
            and new.compressor_version >= record.compressor_version
            and (new.source_version, new.compressor_version) != (record.source_version, record.compressor_version)
            for new in row
        )
    ]


def thin(curve: Sequence[tuple[int, float]], points: int = CURVE_POINTS) -> list[tuple[int, float]]:
    """At most ``points`` of a curve, evenly spaced, first and last among them; values to six digits."""
    if len(curve) > points:
        last = len(curve) - 1
        curve = [curve[round(i * last / (points - 1))] for i in range(points)]
    return [(step, float(f"{value:.6g}")) for step, value in curve]


def xz(content: bytes) -> bytes:
    """As small as xz makes it, with a SHA-256 of its own."""
    return lzma.compress(content, check=lzma.CHECK_SHA256, preset=9 | lzma.PRESET_EXTREME)


def slim(record: ResultRecord) -> dict[str, Any]:
    """The record as it is packed: JSON, curves thinned and tracebacks cut, all else as it is."""
    lines = record.traceback.splitlines()[-TRACEBACK_LINES:] if record.traceback else None
    changes = {
        "curves": {name: thin(curve) for name, curve in record.curves.items()},
        "traceback": "\n".join(lines) if lines else None,
    }
    return record.model_copy(update=changes).model_dump(mode="json")


def _all_grids(folder: Path, new: Mapping[str, bytes], records: Sequence[ResultRecord]) -> dict[str, bytes]:
    """synth_id → grid, of the records' image sets: the new ones, and those packed in an earlier sitting."""
    wanted = {record.synth_id for record in records}
    old = {path.stem: path.read_bytes() for path in folder.glob("*")} if folder.is_dir() else {}
    return {key: content for key, content in {**old, **new}.items() if key in wanted}


def _fit(grids: Mapping[str, bytes], budget: int, suite: str) -> dict[str, bytes]:
    """File name → content, each grid within its share of ``budget`` bytes."""
    share = min(MAX_GRID_BYTES, budget // max(len(grids), 1))
    if share < 2000:
        raise StoreError(
            "the measured records are too large to ship",
            where=suite,
            got=f"{(MAX_SUITE_BYTES - budget) / 1e6:.2f} MB of records and {len(grids)} grids",
            expected=f"{MAX_SUITE_BYTES / 1e6:.0f} MB in all",
        )
    out = {}
    for key, content in sorted(grids.items()):
        fitted = _shrink(content, share, key)
        out[f"{key}.{'png' if fitted.startswith(bytes([137]) + b'PNG') else 'jpg'}"] = fitted
    return out


def _shrink(content: bytes, limit: int, name: str) -> bytes:
    """The encoded image itself when small enough, else the best JPEG that is, at full or at half size."""
    if len(content) <= limit:
        return content
    try:
        image = Image.open(io.BytesIO(content)).convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise StoreError("the grid is no image", where=name, got=error) from error
    while min(image.size) >= 16:
        for quality in _QUALITIES:
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=quality, optimize=True)
            if buffer.tell() <= limit:
                return buffer.getvalue()
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)
    raise StoreError("the grid cannot be made small enough", where=name, expected=f"{limit} bytes")


def read_pack(item: Traversable) -> list[Any]:
    """The raw records of one packed file, which holds :data:`bench.reading.LIMIT` at most, packed and unpacked.

    Raises:
        StoreError: it cannot be read or is damaged.
    """
    try:
        content = read_bytes(item)
        raw = parse_json(unxz(content) if item.name.endswith(".xz") else content)
    except (OSError, ValueError) as error:
        raise StoreError("the measured records are damaged", where=str(item), got=error) from error
    if not isinstance(raw, list):
        raise StoreError("is no list of records", where=str(item), got=type(raw).__name__)
    return raw
