"""The content-addressed store under image sets, policies and checkpoints: keys, locks, whole files, last use.

``ROOT/artifacts/<2 hex>/<key>/<part>.<ending>``: the key is the hash of everything that produced the artifact; a part
is a batch of an image set, a policy, the weights of a network.  What a file holds, and the digests in it, are the
business of whoever writes it (:mod:`bench.store.meta`).  No torch.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from bench.atomic import TEMPORARY
from bench.errors import StoreError
from bench.store.files import not_written, open_store, sweep_temporary, write_atomic

log = logging.getLogger(__name__)

WAIT = 2.0
"""Seconds between two words of a process that waits for another one to make an artifact."""

DAMAGED = ".damaged"
"""Ending of files that were set aside."""

_KEY = re.compile(r"[0-9a-f]{8,64}")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}\.(json|safetensors)")


class LostArtifact(StoreError):
    """An object of the store is missing or damaged; ``where`` is its path."""

    @property
    def key(self) -> str:
        """The artifact's key."""
        return Path(self.where or "").parent.name

    @property
    def part(self) -> str:
        """The part's name without ending: a batch's number, ``policy``."""
        return Path(self.where or "").name.partition(".")[0]


class DamagedArtifact(LostArtifact):
    """An object's content is not the one whose digest was stored with it."""


def lost(path: Path) -> LostArtifact:
    """The error for an object that is not there."""
    return LostArtifact("is not stored", where=str(path), hint="Run the suite again; it makes it.")


def damaged(path: Path, reason: object) -> DamagedArtifact:
    """The error for an object that is damaged."""
    return DamagedArtifact(
        "the stored file is damaged", where=str(path), got=reason, hint="`bench run --fresh` makes it again."
    )


def is_key(text: str) -> bool:
    """Whether ``text`` has the form of an artifact's key."""
    return _KEY.fullmatch(text) is not None


class ObjectReader:
    """Looks into a store and writes nothing, not even that it looked; the folder need not be there."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self._folder = self.root / "artifacts"

    def path(self, key: str, name: str) -> Path:
        """Where the object lies.

        Args:
            key: the artifact's hash, 8 to 64 hex digits.
            name: the part with its ending, ``00000.safetensors``.

        Raises:
            ValueError: no key, or no part's name.
        """
        if not is_key(key) or not _NAME.fullmatch(name):
            raise ValueError(f"no key of an artifact: {key!r}, {name!r}")
        return self._folder / key[:2] / key / name

    def has(self, key: str, name: str) -> bool:
        """Whether the object is stored; not whether it is intact, which reading tells."""
        try:
            found = self.path(key, name).stat()
        except OSError:
            return False
        return stat.S_ISREG(found.st_mode) and found.st_size > 0

    def read(self, key: str, name: str) -> bytes:
        """The object's bytes; their digest is for the caller to check.

        Raises:
            LostArtifact: it is not stored, or (DamagedArtifact) cannot be read.
        """
        path = self.path(key, name)
        try:
            return path.read_bytes()
        except FileNotFoundError as error:
            raise lost(path) from error
        except OSError as error:
            raise damaged(path, error.strerror) from error

    def last_use(self, key: str) -> float | None:
        """When the artifact was last written or read, in seconds since 1970; advice for who needs the disk.  None when
        nothing of it is stored."""
        try:
            return (self._folder / key[:2] / key).stat().st_mtime
        except OSError:
            return None


class ObjectStore(ObjectReader):
    """Objects are written once, as a whole, by one process at a time.

    Raises:
        StoreError: the folder cannot be written, or a newer version wrote it.
    """

    def __init__(self, root: Path | str) -> None:
        super().__init__(open_store(root))
        self._locks: dict[Path, FileLock] = {}

    def read(self, key: str, name: str) -> bytes:
        """As :meth:`ObjectReader.read`; the artifact's last use moves."""
        content = super().read(key, name)
        self.touch(key)
        return content

    def touch(self, key: str) -> None:
        """Note that the artifact is in use: its folder's time moves.  A store that forbids it is no reason to fail."""
        with contextlib.suppress(OSError):
            os.utime(self._folder / key[:2] / key)

    @contextmanager
    def lock(
        self, key: str, name: str, timeout: float = -1, waiting: Callable[[], None] | None = None
    ) -> Iterator[None]:
        """One writer per object, across processes; re-entrant within one store.  It dies with its holder.

        Args:
            timeout: seconds to wait; -1 waits for ever.
            waiting: called every ``WAIT`` seconds of a wait for ever; what it raises ends the wait.

        Raises:
            StoreError: not free in time, or the lock file cannot be made.
        """
        path = self.root / "locks" / f"{self.path(key, name).parent.name}-{name.partition('.')[0]}.lock"
        held = self._locks.setdefault(path, FileLock(path))
        while not _acquired(held, path, timeout):
            if waiting is not None:
                waiting()
        try:
            yield
        finally:
            held.release()

    @contextmanager
    def making(self, key: str, name: str, waiting: Callable[[], None] | None = None) -> Iterator[bool]:
        """Whether the caller is to make the object; until the block ends nobody else makes it.

        ``with store.making(key, name) as wanted: if wanted: store.write(key, name, made())``

        Raises:
            StoreError: the lock file cannot be made.
        """
        if self.has(key, name):
            yield False
            return
        with self.lock(key, name, waiting=waiting):
            yield not self.has(key, name)  # it may have been made while we waited

    def write(self, key: str, name: str, content: bytes) -> bool:
        """Store an object; one that is there stays as it is.  Returns whether this one was written.

        Raises:
            StoreError: the folder cannot be written.
        """
        with self.lock(key, name):
            if self.has(key, name):
                return False
            write_atomic(self.path(key, name), content)
            return True

    def set_aside(self, key: str, name: str, check: Callable[[], object]) -> bool:
        """Give a damaged object another name, so that it is made anew; returns whether that was needed.

        Args:
            check: reads the object and raises DamagedArtifact.  It runs under the lock: what one process found damaged,
                another may have made again by now.
        """
        with self.lock(key, name):
            if not self.has(key, name):
                return False
            try:
                check()
            except DamagedArtifact as error:
                _rename(self.path(key, name), f"{name}{DAMAGED}")
                log.warning("%s\n  It is made again; the damaged file is kept as %s%s", error, name, DAMAGED)
                return True
            return False

    def sweep(self) -> int:
        """Delete the temporary files of writers that are gone, in all of the store; returns how many.

        An artifact's file whose key is locked belongs to a writer at work and stays; of the others their names tell.
        """
        elsewhere = (place for part in ("", "fp/", "records/*/") for place in self.root.glob(f"{part}.*{TEMPORARY}*"))
        removed = sweep_temporary(elsewhere)
        for path in self._folder.glob(f"*/*/.*{TEMPORARY}*"):
            key, name = path.parent.name, path.name[1:].partition(TEMPORARY)[0]
            if not is_key(key) or not _NAME.fullmatch(name):
                continue
            try:
                with self.lock(key, name, timeout=0):
                    path.unlink(missing_ok=True)
                    removed += 1
            except StoreError:
                continue
        return removed


def _acquired(lock: FileLock, path: Path, timeout: float) -> bool:
    """Whether the lock is ours now; False after ``WAIT`` seconds of a wait for ever.

    Raises:
        StoreError: as :meth:`ObjectStore.lock`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=WAIT if timeout < 0 else timeout)
    except Timeout as error:
        if timeout < 0:
            return False
        raise StoreError("another process is writing this artifact", where=str(path)) from error
    except OSError as error:
        raise not_written(path, error) from error
    return True


def _rename(path: Path, name: str) -> None:
    try:
        path.replace(path.with_name(name))
    except OSError as error:
        raise not_written(path, error) from error
