"""Writing that a crash cannot leave half done, and the checks of a store's folder before any compute."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import psutil

from bench.errors import StoreError
from bench.reading import parse_json, read_bytes

TEMPORARY = ".tmp-"
"""Infix of files that are being written; what follows names the writer (:func:`is_abandoned`)."""

ABANDONED_AFTER = 3600.0
"""Seconds after which a half-written file of another machine counts as left behind; its processes cannot be seen."""

STORE_SCHEMA = 1
"""Version of the store's layout (folders and file formats); records have their own."""

_MARKER = "store.json"


def write_atomic(path: Path, content: bytes) -> None:
    """Write ``content`` so that ``path`` holds either all of it or what it held before, whatever happens.

    Raises:
        StoreError: the folder cannot be written, or the disk is full.
    """
    temporary = path.with_name(_temporary_name(path.name))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise not_written(path, error) from error


def not_written(path: Path, error: OSError) -> StoreError:
    """The error for a file of the store that cannot be written."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    hint = "Free some space; the same command resumes." if full else "Choose --store DIR."
    return StoreError("cannot be written", where=str(path), got=error.strerror, hint=hint)


def sweep_temporary(paths: Iterable[Path]) -> int:
    """Delete those of ``paths`` that a writer who is gone left half-written; returns how many.

    What cannot be deleted stays: it is no reason to fail.
    """
    removed = 0
    for path in paths:
        with contextlib.suppress(OSError):
            if is_abandoned(path):
                path.unlink()
                removed += 1
    return removed


def is_abandoned(path: Path) -> bool:
    """Whether ``path`` is a half-written file whose writer is gone.

    The writer is the process that its name tells, on this machine; a later process may bear the same number, but began
    after the file.  A file of another machine, or without a writer's name, is left behind after ``ABANDONED_AFTER``.

    Raises:
        OSError: the file is gone or cannot be looked at.
    """
    _, infix, writer = path.name.rpartition(TEMPORARY)
    if not infix:
        return False
    written = path.stat().st_mtime
    machine, _, rest = writer.partition("-")
    pid = rest.partition("-")[0]
    if machine != _machine() or not pid.isdecimal():
        return time.time() - written > ABANDONED_AFTER
    try:
        born = float(psutil.Process(int(pid)).create_time())
    except (psutil.NoSuchProcess, OverflowError):
        return True
    except psutil.AccessDenied:
        return False
    return born > written + 1  # the clocks of files and processes tick differently


def _temporary_name(name: str) -> str:
    return f".{name}{TEMPORARY}{_machine()}-{os.getpid()}-{secrets.token_hex(4)}"


@cache
def _machine() -> str:
    """This machine in eight letters; a container has a name and process numbers of its own."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def open_store(root: Path | str) -> Path:
    """Make the store's folder if need be and check that it can be used; returns it.

    Raises:
        StoreError: it cannot be written, is no folder, or a newer version of the code wrote it.
    """
    root = Path(root)
    if not check_layout(root):
        write_atomic(root / _MARKER, json.dumps({"schema": STORE_SCHEMA}).encode())
        return root
    _check_writable(root)
    return root


def check_layout(root: Path) -> bool:
    """Whether ``root`` is a store; nothing is written.

    Raises:
        StoreError: it cannot be read, is damaged, or a newer version of the code wrote it.
    """
    marker = root / _MARKER
    try:
        if not marker.exists():
            return False
        text = read_bytes(marker).decode(errors="replace")
    except (OSError, ValueError) as error:
        raise StoreError("cannot be read", where=str(marker), got=error) from error
    try:
        schema = int(parse_json(text)["schema"])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError("is damaged", where=str(marker), got=text[:80], hint="Choose --store DIR.") from error
    if schema > STORE_SCHEMA:
        raise StoreError(
            "a newer version of datafree-bench wrote this store",
            where=str(root),
            got=f"schema {schema}",
            expected=f"up to {STORE_SCHEMA}",
            hint="Update datafree-bench, or choose another folder with --store DIR.",
        )
    return True


def require_free(root: Path, needed: int) -> None:
    """Check the disk under ``root`` against a plan's estimate in bytes plus a reserve for records.

    Raises:
        StoreError: less is free.
    """
    here = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    free = shutil.disk_usage(here).free
    wanted = needed + max(needed // 10, 64 * 2**20)
    if free < wanted:
        raise StoreError(
            "less disk is free than the plan needs",
            where=str(root),
            got=f"{free / 2**20:.0f} MiB free",
            expected=f"{wanted / 2**20:.0f} MiB",
            hint="Free some space, choose another folder with --store DIR, or ask for less with --only.",
        )


def _check_writable(root: Path) -> None:
    probe = root / _temporary_name("probe")
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise not_written(root, error) from error


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; a file system that cannot do so is no reason to fail."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
