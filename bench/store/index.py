"""Which cells stand, without opening their records: their statuses in one file, checked against the folders.

The records stay the truth.  The file is advice: it can be deleted at any time, and one that is damaged, of another
version or behind what the folders hold costs the opening of records, never a wrong answer.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, NamedTuple, get_args

from bench.errors import StoreError
from bench.notes import read_note, write_note
from bench.store.packs import PackedRecords
from bench.store.record_store import RecordReader, RecordStore
from bench.store.records import FINAL, SCHEMA_VERSION, DamagedRecord, ResultRecord, Status, read_record
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
    a new inode even within one tick of the clock.  An index that was behind is written anew, unless ``store`` only
    reads.

    Raises:
        StoreError: a newer version wrote this store, or it cannot be read; a packed file is damaged.
    """

    def __init__(self, store: RecordReader) -> None:
        self._store = store
        self.refused: dict[str, DamagedRecord] = {}
        self._places: dict[str, list[Place]] = {}
        for folder, files in _folders(store.root, keep=isinstance(store, RecordStore)).items():
            suite, _, version = folder.partition("@")
            for name, entry in files.items():
                self._add(Place(suite, int(version), name.removesuffix(".json"), entry[-1]))
        for key, status in _shipped(store).items():
            self._add(Place(*key, status, packed=True))

    def standing(self, cell_id: str, suite: str, version: int) -> Place | None:
        """Where a record of this cell lies that stands: this suite's own, else any, one with status ok if there is.

        One that is damaged does not stand; it is found in ``refused`` afterwards, by its path.

        Raises:
            StoreError: a newer schema wrote a record of the cell.
        """
        places = self._places.get(cell_id, [])
        own = [place for place in places if (place.suite, place.version) == (suite, version)][:1]
        for candidates in (own, places):
            settled = [found for place in candidates if (found := self._settled(place)) is not None]
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

    def counts(self) -> dict[tuple[str, int, bool], dict[str, int]]:
        """(suite, version, whether with the package) → status, or "refused", → how many; what is refused is found in
        ``refused`` afterwards.

        Raises:
            StoreError: a newer schema wrote a record.
        """
        found: dict[tuple[str, int, bool], Counter[str]] = defaultdict(Counter)
        for place in (place for places in self._places.values() for place in places):
            settled = self._settled(place)
            status = "refused" if settled is None else str(settled.status)
            found[place.suite, place.version, place.packed][status] += 1
        return {key: dict(counted) for key, counted in found.items()}

    def _settled(self, place: Place) -> Place | None:
        if place.status is not None:
            return place
        try:
            return place._replace(status=self.read(place).status)
        except DamagedRecord as error:
            self.refused[str(error.where)] = error
            return None

    def _add(self, place: Place) -> None:
        self._places.setdefault(place.cell_id, []).append(place)


def _shipped(store: RecordReader) -> dict[tuple[str, int, str], Status]:
    packed = store.measured
    if isinstance(packed, PackedRecords):
        return packed.statuses
    return {key: record.status for key, record in packed.items()}


def _folders(root: Path, keep: bool) -> dict[str, _Folder]:
    """The store's folders as they are now; with ``keep`` the index is written anew where it was behind."""
    path = root / INDEX
    kept = _plausible(read_note(path, _KIND))
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
    if keep and found != kept:
        write_note(path, _KIND, found)
    return found


def _plausible(kept: Any) -> dict[str, _Folder]:
    """What a note holds, as far as it has the form of one."""
    folders = kept if isinstance(kept, dict) else {}
    return {
        folder: {name: entry for name, entry in files.items() if _is_entry(entry)}
        for folder, files in folders.items()
        if isinstance(files, dict)
    }


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, list) and len(entry) == 4 and (entry[3] is None or entry[3] in get_args(Status))


def _status(path: Path) -> Status | None:
    try:
        return read_record(path).status
    except StoreError:
        return None  # said when the cell is asked for
