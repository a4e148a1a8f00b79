"""What is known of the files of an image folder, kept in the cache folder: sizes, times, contents, digests. No torch.

Decoding 50,000 images to learn that none has changed takes minutes.  A file whose size and time of change are the
recorded ones is taken to be unchanged and is not opened; any other is hashed anew.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.errors import DataError
from bench.notes import read_note, write_note
from bench.paths import cache_folder

log = logging.getLogger(__name__)

KIND = "image folder 2"
KEPT = 64
"""Digests kept per folder; those of contents that came back are found again, the oldest are dropped."""

Fact = tuple[int, int, str]
"""Size in bytes, time of change in ns, SHA-256 of the content."""


class Manifest:
    """The manifest of the files ``names`` (relative) in ``folder``; each is looked at once in this object's life.

    A cache folder that cannot be read or written costs time and nothing else.

    Args:
        part: what of the folder it is about, where several manifests share one.
    """

    def __init__(self, folder: Path, names: Sequence[str], part: str = "") -> None:
        self._folder = folder
        key = hashlib.sha256(f"{folder.resolve()}{part and f' {part}'}".encode()).hexdigest()[:32]
        self._path = cache_folder() / "manifests" / f"{key}.json"
        recorded, self._digests = _read(self._path)
        self._recorded = {name: recorded[name] for name in names if name in recorded}
        self._checked: dict[str, str] = {}

    def contents(self, names: Sequence[str]) -> list[str]:
        """SHA-256 of each file's content.

        Raises:
            DataError: a file is gone or cannot be read.
        """
        new = [name for name in names if name not in self._checked]
        changed = False
        for name in new:
            before = self._recorded.get(name)
            fact = _look(self._folder / name, before)
            self._recorded[name], self._checked[name] = fact, fact[2]
            changed |= fact != before
        if changed:
            self._write()
        return [self._checked[name] for name in names]

    def digest(self, key: str, compute: Callable[[], str]) -> str:
        """The digest recorded under ``key``, which says all it follows from; computed and recorded where there is
        none."""
        if key not in self._digests:
            self._digests[key] = compute()
            for old in list(self._digests)[:-KEPT]:
                del self._digests[old]
            self._write()
        return self._digests[key]

    def _write(self) -> None:
        content = {"folder": str(self._folder), "files": self._recorded, "digests": self._digests}
        if reason := write_note(self._path, KIND, content):
            log.warning("the manifest of %s cannot be kept: %s", self._folder, reason)


def _read(path: Path) -> tuple[dict[str, Fact], dict[str, str]]:
    """What was recorded; nothing where there is no manifest, or a damaged one, or one of another kind."""
    found = read_note(path, KIND)
    try:
        files = {name: (int(size), int(time), str(sha)) for name, (size, time, sha) in found["files"].items()}
        return files, {str(key): str(value) for key, value in found["digests"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}, {}


def _look(path: Path, before: Fact | None) -> Fact:
    """``before`` where the file is as it was, else what it is now."""
    try:
        stat = path.stat()
        if before is not None and before[:2] == (stat.st_size, stat.st_mtime_ns):
            return before
        with path.open("rb") as file:
            return stat.st_size, stat.st_mtime_ns, hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError("cannot read the image", where=str(path), got=error) from error
