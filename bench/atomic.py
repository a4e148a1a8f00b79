"""Writing that a crash cannot leave half done; everything that is kept goes through it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import socket
import time
from functools import cache
from pathlib import Path

import psutil

TEMPORARY = ".tmp-"
"""Infix of files that are being written; what follows names the writer (:func:`is_abandoned`)."""

ABANDONED_AFTER = 3600.0
"""Seconds after which a half-written file of another machine counts as left behind; its processes cannot be seen."""


def replace_file(path: Path, content: bytes) -> None:
    """Write ``content`` so that ``path`` holds either all of it or what it held before, whatever happens.

    Raises:
        OSError: the folder cannot be written, or the disk is full; nothing is left behind.
    """
    temporary = path.with_name(temporary_name(path.name))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; a file system that cannot do so is no reason to fail."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


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


def temporary_name(name: str) -> str:
    """The name under which this process writes what will be the file ``name``."""
    return f".{name}{TEMPORARY}{_machine()}-{os.getpid()}-{secrets.token_hex(4)}"


@cache
def _machine() -> str:
    """This machine in eight letters; a container has a name and process numbers of its own."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
