"""The records shipped with the package, opened one packed file at a time and only when one of its records is needed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.errors import StoreError
from bench.notes import read_note, write_note
from bench.paths import cache_folder
from bench.store.measured import measured_folder, read_pack
from bench.store.record_store import Key
from bench.store.records import SCHEMA_VERSION, ResultRecord, Status, parse_record
from bench.store.scan import FileStamp, pack_files

_KIND = f"packs 1 of records {SCHEMA_VERSION}"


class PackedRecords(Mapping[Key, ResultRecord]):
    """(suite, version, cell_id) → record.

    What a packed file holds is noted in the user's cache folder; the note can be deleted at any time.

    Args:
        folder: of packed records; the package's unless given.
        cache: where the note is kept; the user's cache folder unless given.

    Raises:
        StoreError: a file is damaged, or a newer schema wrote it; on asking for a record, that it changed meanwhile.
    """

    def __init__(self, folder: Path | None = None, cache: Path | None = None) -> None:
        self._folder = folder or Path(str(measured_folder()))
        self._packs: dict[str, list[Any]] = {}
        self._places: dict[Key, tuple[str, int]] = {}
        self.statuses: dict[Key, Status] = {}
        name = hashlib.sha256(str(self._folder.absolute()).encode()).hexdigest()[:16]
        path = (cache or cache_folder()) / "packs" / f"{name}.json"
        kept = read_note(path, _KIND)
        kept = kept if isinstance(kept, dict) else {}
        packs = {pack.name: self._noted(pack, kept.get(pack.name)) for pack in pack_files(self._folder)}
        for pack, (_, cells) in packs.items():
            for position, (suite, version, cell_id, status) in enumerate(cells):
                self._places[suite, version, cell_id] = (pack, position)
                self.statuses[suite, version, cell_id] = status
        if packs != kept:
            write_note(path, _KIND, packs)

    def __getitem__(self, key: Key) -> ResultRecord:
        pack, position = self._places[key]
        raw = self._pack(pack)
        where = f"{self._folder / pack}[{position}]"
        record = parse_record(raw[position], where) if position < len(raw) else None
        if record is None or _key(record) != key:
            raise StoreError("the measured records have changed", where=where, hint="Start the command again.")
        return record

    def __iter__(self) -> Iterator[Key]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def _noted(self, stamp: FileStamp, old: Any) -> list[Any]:
        """[size, time and inode; [suite, version, cell_id, status] of each record in the file's order]."""
        facts = list(stamp[1:])
        if isinstance(old, list) and len(old) == 2 and old[0] == facts and _are_cells(old[1]):
            return list(old)
        records = [
            parse_record(raw, f"{self._folder / stamp.name}[{i}]") for i, raw in enumerate(self._pack(stamp.name))
        ]
        return [facts, [[*_key(record), record.status] for record in records]]

    def _pack(self, name: str) -> list[Any]:
        if name not in self._packs:
            self._packs[name] = read_pack(self._folder / name)
        return self._packs[name]


def _are_cells(noted: Any) -> bool:
    """Whether a note holds [suite, version, cell_id, status] of each record."""
    kinds = [str, int, str, str]
    return isinstance(noted, list) and all(isinstance(c, list) and [type(v) for v in c] == kinds for c in noted)


def _key(record: ResultRecord) -> Key:
    return (record.suite, record.suite_version, record.cell_id)
