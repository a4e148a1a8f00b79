"""The board of a store, cached: a record is parsed when its file changes, and only its target's rows are formed anew.

The JSON records stay the truth.  The cache (Parquet, outside the store) can be deleted at any time; the store itself is
only read.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

from bench import __version__
from bench.board.index.columns import COLUMNS
from bench.board.index.formed import About, Progress, formed
from bench.board.index.listing import (
    CELL_COLUMNS,
    DTYPES,
    FILE,
    STANDARD,
    Place,
    cell_row,
    cell_table,
    checked,
    one_per_cell,
)
from bench.board.index.parts import read_parquet, remove_others, typed, write_parquet
from bench.board.index.versions import board_stamp, code_stamp, noted_versions
from bench.errors import StoreError
from bench.paths import cache_folder
from bench.reading import read_json
from bench.store.exports import export_stamps, parities
from bench.store.files import write_atomic
from bench.store.live import LiveState, read_live
from bench.store.measured import measured_folder, read_pack
from bench.store.records import ResultRecord, parse_record, read_record
from bench.store.scan import FileStamp, pack_file, pack_files, record_files, record_folders
from bench.store.verifications import SUBMISSIONS, outcomes_of_folders, verification_files

__all__ = ["CELL_COLUMNS", "STANDARD", "STORE_VARIABLE", "BoardIndex", "LiveState", "Problem", "Progress", "Snapshot"]

STORE_VARIABLE = "DATAFREE_BENCH_STORE"
"""Environment variable by which `bench dashboard` names the store to the pages."""

SETTLED_NS = 100_000_000
"""A folder's time moves in ticks of some milliseconds; one that moved just now may hide a further change."""

PACKS = "packs.json"
"""Name of the note of how many records each pack holds."""

REMEMBERED = 20_000
"""Parsed records kept while the tables are built, without what no row needs (some 10 kB each); the others are parsed a
second time, which bounds the memory."""

_NO_ROW_NEEDS: dict[str, Any] = {"curves": {}, "protocol": {}, "audit": [], "report": {}, "traceback": None}


@dataclass(frozen=True)
class Problem:
    """A file that could not be read, and the sentence that helps."""

    where: str
    says: str


@dataclass(frozen=True)
class Snapshot:
    """``table``: :func:`index.frame.frame` of all records; ``cells``: :data:`CELL_COLUMNS`, a row per record."""

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
        """Changes with every record stored or removed and with the code; cheap, no record is opened.

        Raises:
            StoreError: a newer version wrote this store, or it cannot be read.
        """
        folders = sorted(record_folders(self.store).items()) if self.store else []
        now = time.time_ns()
        moving = now if any(abs(now - moved) < SETTLED_NS for _, moved in folders) else 0
        facts = [folders, moving, pack_files(self.measured), self._reports(), export_stamps(self.store), self._code]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def snapshot(self, progress: Progress = lambda stage, done, total: None) -> Snapshot:
        """The tables as the records are now; what did not change comes from the cache.

        ``progress`` is told (stage in words, records done, records in all).

        Raises:
            StoreError: the store is of a newer version, or the cache folder cannot be written.
        """
        stamp = self.stamp()
        kept = self._kept()
        if kept is not None and kept.stamp == stamp:
            return kept
        try:
            self.cache.mkdir(parents=True, exist_ok=True)
            with FileLock(self.cache / "lock"):  # two that build at once would delete each other's files
                stamp = self.stamp()
                kept = self._kept()
                if kept is not None and kept.stamp == stamp:
                    return kept
                return self._build(stamp, kept or self._begun(progress), progress)
        except OSError as error:
            raise StoreError(
                "the board's index cannot be written",
                where=str(self.cache),
                got=error.strerror or error,
                hint="Set BENCH_DATA to a folder that can be written.",
            ) from error

    def records(self, cells: pd.DataFrame) -> list[ResultRecord]:
        """The records behind rows of ``cells``.

        Raises:
            StoreError: a file is gone or damaged meanwhile.
        """
        return [self._record(str(place)) for place in cells["place"]]

    def live(self) -> LiveState | None:
        """What the store's latest run says of itself; None when none did.

        Raises:
            StoreError: its file is damaged, or a newer version wrote it.
        """
        return read_live(self.store) if self.store else None

    def versions(self) -> dict[tuple[str, str], int | str]:
        """Versions of methods and weights; asked again only when their files changed."""
        return noted_versions(note=self.cache / "versions.json", stamp=self._code[1])

    def _report_folders(self) -> list[Path]:
        """Where reports on re-runs lie: beside the package's records and beside the store's submissions."""
        return [self.measured, *([self.store / SUBMISSIONS] if self.store else [])]

    def _reports(self) -> list[list[object]]:
        """The reports' files, with what tells that they have not changed."""
        paths = verification_files(*self._report_folders())
        return [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in paths]

    @cached_property
    def _code(self) -> tuple[str, str, str]:
        # Once: a process goes on with the code it has loaded, whatever happens to the files.
        return __version__, code_stamp(), board_stamp()

    def _record(self, place: str) -> ResultRecord:
        kind, _, name = place.partition("/")
        if kind == "records" and self.store:
            return read_record(self.store / place)
        file, _, position = name.partition("#")
        pack = self._pack(file)
        if int(position) >= len(pack):
            raise StoreError("the measured records have changed", where=place)
        return parse_record(pack[int(position)], place)

    def _pack(self, name: str) -> list[Any]:
        try:
            stamp = pack_file(self.measured / name)  # for every record: listing them all takes half of reading a board
        except OSError as error:
            raise StoreError("the measured records are gone", where=name) from error
        packs = self._packs
        if stamp not in packs:
            packs = {key: raw for key, raw in packs.items() if key.name != name}
            # Bound as a whole: another thread may be reading the old one.
            self._packs = packs = {**packs, stamp: read_pack(self.measured / name)}
        return packs[stamp]

    # --- building ---

    def _begun(self, progress: Progress) -> Snapshot | None:
        """A store's first index begins with that of the package's own records, which all stores share: most of the work
        is theirs."""
        if self.store is None or not pack_files(self.measured):
            return None
        package = BoardIndex(None, self.cache.parent, self.measured)
        found = package.snapshot(progress)
        with FileLock(package.cache / "lock"):
            if (package.cache / "parts").is_dir():
                shutil.copytree(package.cache / "parts", self.cache / "parts", dirs_exist_ok=True)
            if (package.cache / PACKS).is_file():
                shutil.copyfile(package.cache / PACKS, self.cache / PACKS)
        return found

    def _build(self, stamp: str, kept: Snapshot | None, progress: Progress) -> Snapshot:
        problems: list[Problem] = []
        parsed: dict[str, ResultRecord] = {}
        places = pd.DataFrame(list(self._places(problems)), columns=list(FILE))
        places = places.astype({"place": "str", "size": "int64", "time": "int64"})
        old = kept.cells if kept else cell_table([])
        known = old.merge(places, on=list(FILE), how="inner")
        fresh = places[~places["place"].isin(known["place"])]
        rows = []
        for done, file in enumerate(fresh.itertuples(index=False, name=None)):
            progress("reading records", done, len(fresh))
            record = self._try(file[0], problems)
            if record is not None:
                rows.append(cell_row(record, Place(*file)))
                if len(parsed) < REMEMBERED:
                    parsed[file[0]] = record.model_copy(update=_NO_ROW_NEEDS)
        progress("reading records", len(fresh), len(fresh))
        made = cell_table(rows)
        cells = one_per_cell(pd.concat([known, made]) if len(known) and len(made) else known if len(known) else made)

        def of(place: str) -> ResultRecord | None:
            return parsed[place] if place in parsed else self._try(place, problems)

        table = formed(cells, of, self._about(), self.cache / "parts", progress)
        lost = {problem.where for problem in problems}
        cells = cells[~cells["place"].isin(lost)].reset_index(drop=True) if lost else cells
        found = Snapshot(table, cells, tuple(problems), stamp)
        self._keep(found)
        return found

    def _try(self, place: str, problems: list[Problem]) -> ResultRecord | None:
        try:
            return checked(self._record(place), place)
        except StoreError as error:
            problems.append(Problem(place, str(error)))
            return None

    def _places(self, problems: list[Problem]) -> Iterator[Place]:
        counted = self._counted()
        counts = {}
        for pack in pack_files(self.measured):
            try:
                counts[str(pack)] = count = counted.get(str(pack)) or len(self._pack(pack.name))
            except StoreError as error:
                problems.append(Problem(pack.name, str(error)))
                continue
            yield from (Place(f"measured/{pack.name}#{i}", pack.size, pack.mtime_ns) for i in range(count))
        if counts != counted:
            write_atomic(self.cache / PACKS, json.dumps(counts).encode())
        for folder in sorted(record_folders(self.store)) if self.store else ():
            for file in record_files((self.store or Path()) / "records" / folder):
                yield Place(f"records/{folder}/{file.name}", file.size, file.mtime_ns)

    def _counted(self) -> dict[str, int]:
        """Pack, with its size and time → its records, from the last time: opening all packs takes half a second."""
        try:
            return {str(pack): int(count) for pack, count in read_json(self.cache / PACKS).items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}  # not there yet, or cut off: opened again

    def _about(self) -> About:
        return About(self.versions(), self._code, outcomes_of_folders(*self._report_folders()), parities(self.store))

    # --- the cache ---

    def _kept(self) -> Snapshot | None:
        try:
            meta = read_json(self.cache / "meta.json")
            problems = tuple(Problem(**item) for item in meta["problems"])
            table, cells = (read_parquet(self.cache / f"{n}-{meta['stamp']}.parquet") for n in ("table", "cells"))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if table is None or cells is None or tuple(cells.columns) != CELL_COLUMNS:
            return None
        if not {column.name for column in COLUMNS} <= set(table.columns):
            return None  # an older version of the code wrote it
        # Parquet forgets the type of a column without a single value.
        return Snapshot(typed(table), cells.astype(DTYPES), problems, meta["stamp"])

    def _keep(self, found: Snapshot) -> None:
        names = {f"table-{found.stamp}.parquet": found.table, f"cells-{found.stamp}.parquet": found.cells}
        for name, table in names.items():
            write_parquet(self.cache / name, table)
        meta = {"stamp": found.stamp, "problems": [{"where": p.where, "says": p.says} for p in found.problems]}
        write_atomic(self.cache / "meta.json", json.dumps(meta).encode())
        remove_others(self.cache, set(names))
