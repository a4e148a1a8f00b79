"""The folder of records: one JSON file a cell, beside those shipped with the package."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from bench.errors import StoreError
from bench.store.files import check_layout, open_store, write_atomic
from bench.store.records import DamagedRecord, ResultRecord, read_record, record_bytes, refused

log = logging.getLogger(__name__)

SUITE_FOLDER = re.compile(r"[a-z][a-z0-9_]*@[0-9]+")
CELL = re.compile(r"[0-9a-f]{8,64}")

Key = tuple[str, int, str]
"""Suite, its version, cell_id."""


class RecordReader:
    """``ROOT/records/<suite>@<version>/<cell_id>.json``, and the measured records shipped beside the suites; looks and
    writes nothing.

    Args:
        root: the store's folder; one that does not exist is empty.
        measured: records that came with the package (by key, where they are opened only when needed); the store's own
            win over them.

    Raises:
        StoreError: the folder cannot be read, or a newer version wrote it.
    """

    def __init__(self, root: Path | str, measured: Iterable[ResultRecord] | Mapping[Key, ResultRecord] = ()) -> None:
        self.root = Path(root)
        check_layout(self.root)
        self._folder = self.root / "records"
        self.measured: Mapping[Key, ResultRecord] = (
            measured if isinstance(measured, Mapping) else {_key(record): record for record in measured}
        )

    def get(self, suite: str, version: int, cell_id: str) -> ResultRecord | None:
        """The record of a cell of this suite, from the store or else the measured ones; None when there is none.

        Raises:
            StoreError: damaged, or written by a newer schema.
        """
        path = self._path(suite, version, cell_id)
        return read_record(path) if path.is_file() else self.measured.get((suite, version, cell_id))

    def find(self, cell_id: str) -> ResultRecord | None:
        """A record of this cell under whichever suite measured it; one with status ok if there is any, none that is
        damaged.

        A cell's id holds no suite, so another suite's result is the same result.  This looks into every suite's folder;
        for many cells see :class:`bench.store.index.Listing`.

        Raises:
            StoreError: a newer schema wrote one, or it cannot be read.
        """
        if not CELL.fullmatch(cell_id):
            return None
        found = _sound(sorted(self._folder.glob(f"*@*/{cell_id}.json")))
        found += [self.measured[key] for key in self.measured if key[2] == cell_id]
        return min(found, key=lambda record: record.status != "ok", default=None)

    def cells(self) -> list[Key]:
        """Suite, version and cell of every record, those of the package first; none is opened."""
        return [*self.measured, *((*_suite(path), path.stem) for path in self._paths())]

    def all(self, suite: str | None = None, version: int | None = None) -> list[ResultRecord]:
        """All records (of a suite, of one version of it), the store's own in place of measured ones of their cell.

        Those that are damaged are left out, and it is said.

        Raises:
            StoreError: a newer schema wrote one, or it cannot be read.
        """

        def wanted(name: str, number: int) -> bool:
            return suite in (None, name) and version in (None, number)

        found = {key: self.measured[key] for key in self.measured if wanted(*key[:2])}
        for record in _sound(path for path in self._paths() if wanted(*_suite(path))):
            found[_key(record)] = record
        return sorted((r for r in found.values() if wanted(r.suite, r.suite_version)), key=_key)

    def own(self, suite: str, version: int, cell_id: str) -> bool:
        """Whether the store itself (not the package) holds this record."""
        return self._path(suite, version, cell_id).is_file()

    def _paths(self) -> list[Path]:
        if not self._folder.is_dir():
            return []
        folders = [folder for folder in self._folder.iterdir() if SUITE_FOLDER.fullmatch(folder.name)]
        return sorted(path for folder in folders for path in folder.glob("*.json") if CELL.fullmatch(path.stem))

    def _path(self, suite: str, version: int, cell_id: str) -> Path:
        folder = f"{suite}@{version}"
        if not SUITE_FOLDER.fullmatch(folder) or not CELL.fullmatch(cell_id):
            raise ValueError(f"no key of a record: {folder!r}, {cell_id!r}")
        return self._folder / folder / f"{cell_id}.json"


def _suite(path: Path) -> tuple[str, int]:
    name, _, number = path.parent.name.partition("@")
    return name, int(number)


def _sound(paths: Iterable[Path]) -> list[ResultRecord]:
    """The records of the files that are not damaged; the others are said."""
    found, errors = [], []
    for path in paths:
        try:
            found.append(read_record(path))
        except DamagedRecord as error:
            errors.append(error)
    if errors:
        log.warning("%s", refused(errors))
    return found


class RecordStore(RecordReader):
    """As :class:`RecordReader`, and writes records; the folder is made when missing.

    Raises:
        StoreError: the folder cannot be written, or a newer version wrote it.
    """

    def __init__(self, root: Path | str, measured: Iterable[ResultRecord] | Mapping[Key, ResultRecord] = ()) -> None:
        super().__init__(open_store(root), measured)

    def write(self, record: ResultRecord) -> Path:
        """Store a record, atomically, in place of an earlier one of the same cell; returns its path.

        Raises:
            StoreError: the folder cannot be written; a number is not finite.
        """
        path = self._path(record.suite, record.suite_version, record.cell_id)
        try:
            content = record_bytes(record)
        except ValueError as error:
            raise StoreError("the record holds a number that is not finite", where=str(path), got=error) from error
        write_atomic(path, content)
        return path


def _key(record: ResultRecord) -> Key:
    return (record.suite, record.suite_version, record.cell_id)
