"""Notes: what was learnt by opening many files or building a network, kept in one file.  Advice only; a note can be
deleted at any time."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from bench.atomic import replace_file
from bench.reading import parse_json, read_bytes

LIMIT = 2**30
"""Bytes; a note of a million records takes 100 MB."""


_kept: ContextVar[bool] = ContextVar("_kept", default=True)


@contextmanager
def nothing_noted() -> Iterator[None]:
    """Within, notes are read and none is written: for who only looks."""
    token = _kept.set(False)
    try:
        yield
    finally:
        _kept.reset(token)


def read_note(path: Path, kind: str) -> Any:
    """The JSON value that :func:`write_note` put there under the same ``kind``; None when there is none, when it is
    damaged, or of another kind (``kind`` names the versions that the value depends on)."""
    try:
        head, _, body = read_bytes(path, LIMIT).partition(b"\n")
        return parse_json(body, LIMIT) if head == _head(kind, body) else None
    except (OSError, ValueError):
        return None


def write_note(path: Path, kind: str, value: Any) -> str | None:
    """Keep ``value`` (plain JSON).  Where that cannot be done, it is learnt again the next time; returns why.  Within
    :func:`nothing_noted` nothing is kept, which is no failure."""
    if not _kept.get():
        return None
    body = json.dumps(value, separators=(",", ":")).encode()
    try:
        replace_file(path, _head(kind, body) + b"\n" + body)
    except OSError as error:
        return str(error)
    return None


def _head(kind: str, body: bytes) -> bytes:
    return f"{kind}, {zlib.crc32(body):08x}".encode()
