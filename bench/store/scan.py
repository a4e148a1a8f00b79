"""Which records there are, by file and time, without parsing them; nothing is written."""

from __future__ import annotations

import os
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import NamedTuple

from bench.store.files import check_layout
from bench.store.measured import measured_folder
from bench.store.record_store import CELL, SUITE_FOLDER


class FileStamp(NamedTuple):
    """A file's name below its folder, with what tells that it has not changed."""

    name: str
    size: int
    mtime_ns: int
    inode: int


def record_folders(store: Path) -> dict[str, int]:
    """Folders ``suite@version`` of the store with their time, which moves with every record stored or removed.

    Raises:
        StoreError: a newer version wrote this store, or it cannot be read.
    """
    root = store / "records"
    if not check_layout(store) or not root.is_dir():
        return {}
    with os.scandir(root) as entries:
        return {e.name: e.stat().st_mtime_ns for e in entries if SUITE_FOLDER.fullmatch(e.name)}


def record_files(folder: Path) -> list[FileStamp]:
    """The records' files of one suite; half-written ones bear another name and are not among them."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            stem, ending = os.path.splitext(entry.name)
            if ending == ".json" and CELL.fullmatch(stem):
                status = entry.stat()
                found.append(FileStamp(entry.name, status.st_size, status.st_mtime_ns, status.st_ino))
    return sorted(found)


def pack_files(folder: Traversable | None = None) -> list[FileStamp]:
    """The files of measured records that came with the package (or lie in ``folder``)."""
    folder = measured_folder() if folder is None else folder
    found = []
    for item in folder.iterdir() if folder.is_dir() else ():
        if item.name.endswith((".json", ".json.xz")):
            found.append(pack_file(Path(str(item))))
    return sorted(found)


def pack_file(path: Path) -> FileStamp:
    """One file of measured records.

    Raises:
        OSError: it is not there.
    """
    status = path.stat()
    return FileStamp(path.name, status.st_size, status.st_mtime_ns, status.st_ino)
