"""The one door for what comes from outside as JSON or packed: size and depth are limited before anything is built.

Whatever is wrong with the content is a ``ValueError`` with a reason, never a RecursionError or a MemoryError, so that
each caller turns one kind of error into the sentence that fits its file.
"""

from __future__ import annotations

import json
import lzma
import math
import os
import re
import zlib
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

LIMIT = 64 * 2**20
"""Bytes of a file that is read as a whole, and of what a packed one unpacks to."""

DEPTH = 64
"""Lists and objects within each other."""

_OUTSIDE = bytes(code for code in range(256) if code not in b"[]{}")
_ROUND = bytes.maketrans(b"[{]}", b"(())")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_bytes(path: Path | Traversable, limit: int = LIMIT) -> bytes:
    """The file's content.

    Raises:
        OSError: it cannot be read.
        ValueError: it is larger than ``limit``.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise ValueError(f"{size:,} bytes, at most {limit:,} are read")
        return file.read()


def read_json(path: Path | Traversable) -> Any:
    """The JSON value in a file.

    Raises:
        OSError: it cannot be read.
        ValueError: as :func:`parse_json`.
    """
    return parse_json(read_bytes(path))


def parse_json(content: bytes | str, limit: int = LIMIT) -> Any:
    """The JSON value of UTF-8 text.

    Raises:
        ValueError: no JSON, larger than ``limit``, deeper than :data:`DEPTH`, a number that is not finite or of
            more digits than an integer may have, text that is no Unicode.
    """
    raw = content.encode() if isinstance(content, str) else content
    if len(raw) > limit:
        raise ValueError(f"{len(raw):,} bytes, at most {limit:,} are read")
    if too_deep(raw):
        raise ValueError(f"lists and objects within each other more than {DEPTH} deep")
    text = raw.decode()
    try:
        value = _DECODER.decode(text)
    except RecursionError as error:  # brackets that do not pair
        raise ValueError("nested too deeply") from error
    if "\\u" in text and _SURROGATE.search(text):
        json.dumps(value, ensure_ascii=False).encode()  # half a pair of surrogates can be neither stored nor shown
    return value


def too_deep(raw: bytes) -> bool:
    """Whether JSON text is nested deeper than :data:`DEPTH`, told from its brackets alone: nothing is built."""
    if b"\\" in raw:
        raw = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    left = b"".join(raw.split(b'"')[::2]).translate(_ROUND, _OUTSIDE)
    for _ in range(DEPTH):
        inner = left.replace(b"()", b"")
        if len(inner) == len(left):
            break
        left = inner
    return left.count(b"(") > (0 if b"()" in left else DEPTH)


def unxz(content: bytes, limit: int = LIMIT) -> bytes:
    """What an xz file holds; no more than ``limit`` bytes are ever unpacked.

    Raises:
        ValueError: damaged, cut off, or larger.
    """
    unpacker = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=4 * LIMIT)
    try:
        found = unpacker.decompress(content, limit + 1)
    except lzma.LZMAError as error:
        raise ValueError(str(error)) from error
    return _whole(found, unpacker.eof, limit)


def unzip(content: bytes, limit: int = LIMIT, *, gzip: bool = False) -> bytes:
    """What a zlib stream (or a gzip file) holds; no more than ``limit`` bytes are ever unpacked.

    Raises:
        ValueError: damaged, cut off, or larger.
    """
    unpacker = zlib.decompressobj(wbits=31 if gzip else 15)
    try:
        found = unpacker.decompress(content, limit + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    return _whole(found, unpacker.eof, limit)


def _whole(found: bytes, ended: bool, limit: int) -> bytes:
    if len(found) > limit:
        raise ValueError(f"unpacks to more than {limit:,} bytes")
    if not ended:
        raise ValueError("it is cut off")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text[:24]} is not finite")
    return value


def _refused(name: str) -> float:
    raise ValueError(f"the number {name} is not finite")


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_refused)
