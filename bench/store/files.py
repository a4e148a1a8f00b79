"""Writing that a crash cannot leave half done, and the checks of a store's folder before any compute."""

from __future__ import annotations

import contextlib
import errno
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.atomic import is_abandoned, replace_file, temporary_name
from bench.errors import StoreError
from bench.reading import parse_json, read_bytes, read_json

if TYPE_CHECKING:
    from pydantic import ValidationError

STORE_SCHEMA = 1
"""Version of the store's layout (folders and file formats); records have their own."""

_MARKER = "store.json"


def write_atomic(path: Path, content: bytes) -> None:
    """Write ``content`` so that ``path`` holds either all of it or what it held before, whatever happens.

    Raises:
        StoreError: the folder cannot be written, or the disk is full.
    """
    try:
        replace_file(path, content)
    except OSError as error:
        raise not_written(path, error) from error


def not_written(path: Path, error: OSError) -> StoreError:
    """The error for a file of the store that cannot be written."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    hint = "Free some space; the same command resumes." if full else "Choose --store DIR."
    return StoreError("cannot be written", where=str(path), got=error.strerror, hint=hint)


def read_stored(path: Path, damaged: Callable[[object], StoreError]) -> Any:
    """The JSON value of a file of the store; None when there is none.  ``damaged`` makes the error that says why it is
    no JSON.

    Raises:
        StoreError: it is damaged, or cannot be read.
    """
    try:
        found = read_json(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError("cannot be read", where=str(path), got=error.strerror) from error
    except ValueError as error:
        raise damaged(error) from error
    if found is None:
        raise damaged("null")
    return found


def first_fault(error: ValidationError) -> str:
    """Where a stored value departs first from its form, and how."""
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


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
    probe = root / temporary_name("probe")
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise not_written(root, error) from error
