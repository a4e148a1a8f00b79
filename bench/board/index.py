"""The board of a store, cached: a record is parsed when its file changes, and only its target's rows are formed anew.

The JSON records stay the truth.  The cache (Parquet, outside the store) can be deleted at any time; the store itself is
only read.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bench import __version__
from bench.board.frame import COLUMNS, frame
from bench.board.rows import ROW_KEY
from bench.board.versions import code_stamp, versions
from bench.errors import StoreError
from bench.paths import cache_folder
from bench.store.files import write_atomic
from bench.store.measured import measured_folder, read_pack
from bench.store.records import ResultRecord, parse_record, read_record
from bench.store.scan import FileStamp, pack_files, record_files, record_folders

STANDARD = frozenset({"top1", "fp_top1", "macs", "bitops_g", "size_bytes", "size_ratio"})
"""Metrics of every compressed cell; others (image measures) become columns of their own."""

KEYS = ("suite", "suite_version", "cell_id")
_TEXT = ("dataset", "source", "model", "target", "compressor", "bits", "preset", "control", "membership", "status")
_PART = ["suite", "suite_version", "preset", "dataset", "target"]
CELL_COLUMNS = (
    *KEYS,
    *_TEXT,
    "reason",
    "n",
    "seed",
    "synth_id",
    "top1",
    "finished",
    "metrics",
    "place",
    "size",
    "time",
)
"""One row per record; ``place`` is its file: ``records/SUITE@V/CELL.json`` or ``measured/FILE#POSITION``."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Problem:
    """A file that could not be read, and the sentence that helps."""

    where: str
    says: str


@dataclass(frozen=True)
class Snapshot:
    """``table``: :func:`bench.board.frame.frame` of all records; ``cells``: :data:`CELL_COLUMNS`, a row per record."""

    table: pd.DataFrame
    cells: pd.DataFrame
    problems: tuple[Problem, ...]
    stamp: str


class BoardIndex:
    """The records of a store and of the package, as tables.

    Args:
        store: its folder; one that does not exist is empty, None leaves the package's records alone.
        cache: where the tables are kept; the user's cache folder unless given.
        measured: folder of packed records; the package's unless given.
    """

    def __init__(self, store: Path | None, cache: Path | None = None, measured: Path | None = None) -> None:
        self.store = store.absolute() if store else None
        self.measured = measured or Path(str(measured_folder()))
        name = hashlib.sha256(f"{self.store}|{self.measured.absolute()}".encode()).hexdigest()[:16]
        self.cache = (cache or cache_folder() / "index") / name
        self._packs: dict[FileStamp, list[Any]] = {}

    def stamp(self) -> str:
        """Changes with every record stored or removed and with the code; cheap, no record is opened."""
        folders: Any = record_folders(self.store) if self.store else {}
        facts = [folders, pack_files(self.measured), code_stamp(), __version__, [c.name for c in COLUMNS]]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def snapshot(self, progress: Progress = lambda done, total: None) -> Snapshot:
        """The tables as the records are now; what did not change comes from the cache.

        ``progress`` is told (records read, records to read).

        Raises:
            StoreError: the store is of a newer version, or the cache folder cannot be written.
        """
        stamp = self.stamp()
        kept = self._kept()
        if kept is not None and kept.stamp == stamp:
            return kept
        return self._build(stamp, kept, progress)

    def records(self, cells: pd.DataFrame) -> list[ResultRecord]:
        """The records behind rows of ``cells``.

        Raises:
            StoreError: a file is gone or damaged meanwhile.
        """
        return [self._record(str(place)) for place in cells["place"]]

    def _record(self, place: str) -> ResultRecord:
        kind, _, name = place.partition("/")
        if kind == "records" and self.store:
            return read_record(self.store / place)
        file, _, position = name.partition("#")
        return parse_record(self._pack(file)[int(position)], place)

    def _pack(self, name: str) -> list[Any]:
        stamp = next((item for item in pack_files(self.measured) if item.name == name), None)
        if stamp is None:
            raise StoreError("the measured records are gone", where=name)
        if stamp not in self._packs:
            self._packs = {key: raw for key, raw in self._packs.items() if key.name != name}
            self._packs[stamp] = read_pack(self.measured / name)
        return self._packs[stamp]

    # --- building ---

    def _build(self, stamp: str, kept: Snapshot | None, progress: Progress) -> Snapshot:
        problems: list[Problem] = []
        parsed: dict[str, ResultRecord] = {}
        old: dict[tuple[str, int, int], dict[str, Any]] = {}
        for row in kept.cells.to_dict("records") if kept else ():
            old[row["place"], row["size"], row["time"]] = {str(name): value for name, value in row.items()}
        places = list(self._places(problems))
        fresh = [place for place in places if place not in old]
        rows = [old[place] for place in places if place in old]
        for done, place in enumerate(fresh):
            progress(done, len(fresh))
            try:
                record = parsed[place[0]] = self._record(place[0])
            except StoreError as error:
                problems.append(Problem(place[0], str(error)))
            else:
                rows.append(_cell(record, place))
        cells = _own_wins(pd.DataFrame(rows, columns=list(CELL_COLUMNS)))
        table = self._table(cells, parsed)
        self._keep(Snapshot(table, cells, tuple(problems), stamp))
        progress(len(fresh), len(fresh))
        return Snapshot(table, cells, tuple(problems), stamp)

    def _places(self, problems: list[Problem]) -> Iterator[tuple[str, int, int]]:
        """(place, size, time) of every record; packed ones bear their file's size and time."""
        for pack in pack_files(self.measured):
            try:
                count = len(self._pack(pack.name))
            except StoreError as error:
                problems.append(Problem(pack.name, str(error)))
                continue
            yield from ((f"measured/{pack.name}#{i}", pack.size, pack.mtime_ns) for i in range(count))
        for folder in record_folders(self.store) if self.store else ():
            for file in record_files((self.store or Path()) / "records" / folder):
                yield f"records/{folder}/{file.name}", file.size, file.mtime_ns

    def _table(self, cells: pd.DataFrame, parsed: dict[str, ResultRecord]) -> pd.DataFrame:
        """The frame of all parts, each from the cache where its records are the same."""
        known = self.versions()
        asked: dict[Any, list[int]] = {
            key: sorted({int(seed) for seed in part["seed"]})
            for key, part in cells.groupby(["suite", "suite_version", "preset"])
        }
        frames, used = [], set()
        for key, part in cells.groupby(_PART, sort=True):
            suite, seeds = str(key[0]), asked[key[:3]]
            facts = [part[["place", "size", "time"]].values.tolist(), seeds, sorted(map(str, known.items()))]
            name = f"{hashlib.sha256(json.dumps([facts, __version__], default=int).encode()).hexdigest()[:24]}.parquet"
            used.add(name)
            found = _read_parquet(self.cache / "parts" / name)
            if found is None:
                records = [parsed[p] if p in parsed else self._record(p) for p in part["place"]]
                extra = sorted({name for r in records for name in r.metrics} - STANDARD)
                found = frame(records, versions=known, seeds={suite: seeds}, extra=extra)
                _write_parquet(self.cache / "parts" / name, found)
            frames.append(found)
        for stale in (self.cache / "parts").glob("*.parquet"):
            if stale.name not in used:
                stale.unlink(missing_ok=True)
        return _joined(frames, cells)

    def versions(self) -> dict[tuple[str, str], int]:
        """The methods' versions; asked again only when their files changed."""
        path, stamp = self.cache / "versions.json", code_stamp()
        try:
            raw = json.loads(path.read_bytes())
            if raw["stamp"] == stamp:
                return {(kind, name): version for kind, name, version in raw["versions"]}
        except (OSError, ValueError, KeyError):
            pass  # not there yet, or cut off: asked again
        found = versions()
        content = {"stamp": stamp, "versions": [[*key, version] for key, version in found.items()]}
        write_atomic(path, json.dumps(content).encode())
        return found

    # --- the cache ---

    def _kept(self) -> Snapshot | None:
        try:
            meta = json.loads((self.cache / "meta.json").read_bytes())
            problems = tuple(Problem(**item) for item in meta["problems"])
            table, cells = (_read_parquet(self.cache / f"{n}-{meta['stamp']}.parquet") for n in ("table", "cells"))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return Snapshot(table, cells, problems, meta["stamp"]) if table is not None and cells is not None else None

    def _keep(self, found: Snapshot) -> None:
        names = {f"table-{found.stamp}.parquet": found.table, f"cells-{found.stamp}.parquet": found.cells}
        for name, table in names.items():
            _write_parquet(self.cache / name, table)
        meta = {"stamp": found.stamp, "problems": [{"where": p.where, "says": p.says} for p in found.problems]}
        write_atomic(self.cache / "meta.json", json.dumps(meta).encode())
        for old in self.cache.glob("*.parquet"):
            if old.name not in names:
                old.unlink(missing_ok=True)


def _cell(record: ResultRecord, place: tuple[str, int, int]) -> dict[str, Any]:
    keys = (*KEYS, *_TEXT, "reason", "n", "seed", "synth_id")
    row = {name: getattr(record, name) for name in keys}
    metrics = sorted(set(record.metrics) - STANDARD)
    finished = record.provenance.get("finished")
    row |= {"top1": record.metrics.get("top1"), "metrics": ",".join(metrics)}
    row["finished"] = float(finished) if isinstance(finished, int | float) else None
    return row | {"place": place[0], "size": place[1], "time": place[2]}


def _own_wins(cells: pd.DataFrame) -> pd.DataFrame:
    """One row per cell of a suite: the store's in place of the package's."""
    packed = cells["place"].str.startswith("measured/") if len(cells) else pd.Series(dtype=bool)
    ordered = cells.assign(_packed=packed).sort_values([*KEYS, "_packed"], kind="stable")
    return ordered.drop_duplicates(list(KEYS)).drop(columns="_packed").reset_index(drop=True)


def _joined(frames: Sequence[pd.DataFrame], cells: pd.DataFrame) -> pd.DataFrame:
    """All parts; how many rows an image set feeds is a matter of the whole suite, so it is counted here."""
    if not frames:
        return frame([])
    table = pd.concat(frames, ignore_index=True)
    table["image_set_rows"] = _image_set_rows(table, cells)
    return table.astype({c.name: c.dtype for c in COLUMNS if c.name in table})


def _image_set_rows(table: pd.DataFrame, cells: pd.DataFrame) -> pd.Series:
    row = [*ROW_KEY, "preset"]
    uses = cells.dropna(subset=["synth_id"]).drop_duplicates([*row, "synth_id"])
    rows = uses.groupby(["suite", "synth_id"])["target"].transform("size")
    most = uses.assign(rows=rows).groupby(row)["rows"].max()
    return table[row].merge(most.reset_index(), on=row, how="left")["rows"].fillna(0)


def _read_parquet(path: Path) -> pd.DataFrame | None:
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError):
        return None  # not there, or cut off


def _write_parquet(path: Path, table: pd.DataFrame) -> None:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    write_atomic(path, buffer.getvalue())
