"""Notes: what was learnt by opening many files, kept in one.  Advice only; a note can be deleted at any time."""

from __future__ import annotations

import contextlib
import json
import zlib
from pathlib import Path
from typing import Any

from bench.errors import StoreError
from bench.reading import parse_json, read_bytes
from bench.store.files import write_atomic

LIMIT = 2**30
"""Bytes; a note of a million records takes 100 MB."""


def read_note(path: Path, kind: str) -> Any:
    """The JSON value that :func:`write_note` put there under the same ``kind``; None when there is none, when it is
    damaged, or of another kind (``kind`` names the versions that the value depends on)."""
    try:
        head, _, body = read_bytes(path, LIMIT).partition(b"\n")
        return parse_json(body, LIMIT) if head == _head(kind, body) else None
    except (OSError, ValueError):
        return None


def write_note(path: Path, kind: str, value: Any) -> None:
    """Keep ``value`` (plain JSON); where that cannot be done, it is learnt again the next time."""
    body = json.dumps(value, separators=(",", ":")).encode()
    with contextlib.suppress(StoreError):
        write_atomic(path, _head(kind, body) + b"\n" + body)


def _head(kind: str, body: bytes) -> bytes:
    return f"{kind}, {zlib.crc32(body):08x}".encode()
