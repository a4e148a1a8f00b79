"""Which cells stand, without opening their records: their statuses in one file, checked against the folders.

The records stay the truth.  The file is advice: it can be deleted at any time, and one that is damaged, of another
version or behind what the folders hold costs the opening of records, never a wrong answer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from bench.errors import StoreError
from bench.notes import read_note, write_note
from bench.store.packs import PackedRecords
from bench.store.records import FINAL, SCHEMA_VERSION, RecordStore, ResultRecord, Status, read_record
from bench.store.scan import record_files, record_folders

INDEX = "index.json"
"""The file, at the store's root; of several processes the last to write it wins."""

_KIND = f"index 1 of records {SCHEMA_VERSION}"

_Folder = dict[str, list[Any]]
"""File → its size, time and inode, and its record's status; None when the record cannot be read."""


class Place(NamedTuple):
    """Where a cell's record lies, and its status; ``packed``: with the package, not in the store."""

    suite: str
    version: int
    cell_id: str
    status: Status | None
    packed: bool = False


class Listing:
    """The records of a store and those shipped with the package, as they are when this is made.

    A file whose size, time and inode are those of the index is not opened; writing replaces a file, so a new record is
    a new inode even within one tick of the clock.

    Raises:
        StoreError: a newer version wrote this store, or it cannot be read; a packed file is damaged.
    """

    def __init__(self, store: RecordStore) -> None:
        self._store = store
        self._places: dict[str, list[Place]] = {}
        for folder, files in _folders(store.root).items():
            suite, _, version = folder.partition("@")
            for name, entry in files.items():
                self._add(Place(suite, int(version), name.removesuffix(".json"), entry[-1]))
        for key, status in _shipped(store).items():
            self._add(Place(*key, status, packed=True))

    def standing(self, cell_id: str, suite: str, version: int) -> Place | None:
        """Where a record of this cell lies that stands: this suite's own, else any, one with status ok if there is.

        Raises:
            StoreError: a record of the cell is damaged, or a newer schema wrote it.
        """
        places = self._places.get(cell_id, [])
        own = [place for place in places if (place.suite, place.version) == (suite, version)][:1]
        for candidates in (own, places):
            settled = [self._settled(place) for place in candidates]
            best = min(settled, key=lambda place: place.status != "ok", default=None)
            if best is not None and best.status in FINAL:
                return best
        return None

    def read(self, place: Place) -> ResultRecord:
        """The record itself.

        Raises:
            StoreError: it is gone or damaged meanwhile.
        """
        key = (place.suite, place.version, place.cell_id)
        record = self._store.measured[key] if place.packed else self._store.get(*key)
        if record is None:
            where = f"{place.suite}@{place.version}, cell {place.cell_id}"
            raise StoreError("the record is gone", where=where, hint="Its cell runs again with the next run.")
        return record

    def _settled(self, place: Place) -> Place:
        return place if place.status is not None else place._replace(status=self.read(place).status)

    def _add(self, place: Place) -> None:
        self._places.setdefault(place.cell_id, []).append(place)


def _shipped(store: RecordStore) -> dict[tuple[str, int, str], Status]:
    packed = store.measured
    if isinstance(packed, PackedRecords):
        return packed.statuses
    return {key: record.status for key, record in packed.items()}


def _folders(root: Path) -> dict[str, _Folder]:
    """The store's folders as they are now; the index is written anew where it was behind."""
    path = root / INDEX
    kept: dict[str, _Folder] = read_note(path, _KIND) or {}
    found = {}
    for folder in sorted(record_folders(root)):
        old = kept.get(folder, {})
        files: _Folder = {}
        for name, *stamp in record_files(root / "records" / folder):
            entry = old.get(name)
            current = entry is not None and entry[:-1] == stamp
            # The stamp is older than the status: a record replaced in between is opened again the next time.
            files[name] = entry if entry and current else [*stamp, _status(root / "records" / folder / name)]
        found[folder] = files
    if found != kept:
        write_note(path, _KIND, found)
    return found


def _status(path: Path) -> Status | None:
    try:
        return read_record(path).status
    except StoreError:
        return None  # said when the cell is asked for
