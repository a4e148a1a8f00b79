"""Which test images a network gets right, packed: what a record's top-1 follows from."""

from __future__ import annotations

import base64
import binascii
import zlib

import numpy as np
from numpy.typing import NDArray

from bench.reading import LIMIT, unzip

SAME = 1e-9
"""How far a recorded share may lie from the bitmap's."""


def pack_bits(correct: NDArray[np.bool_]) -> str:
    """Pack a boolean vector [N] into base64 of zlib of its bits (most significant first)."""
    return base64.b64encode(zlib.compress(np.packbits(correct).tobytes(), 9)).decode("ascii")


def unpack_bits(text: str, count: int) -> NDArray[np.bool_]:
    """Inverse of :func:`pack_bits`; ``count`` cuts the padding of the last byte.

    Raises:
        ValueError: no bitmap of so many.
    """
    return np.unpackbits(np.frombuffer(_bitmap(text, count), dtype=np.uint8))[:count].astype(bool)


def share_of(text: str, count: int) -> float:
    """The share of ones in a bitmap of ``count``; none are 0.

    Raises:
        ValueError: no bitmap of so many.
    """
    ones = int.from_bytes(_bitmap(text, count), "big") >> (-count % 8)
    return ones.bit_count() / max(count, 1)


def _bitmap(text: str, count: int) -> bytes:
    size = (count + 7) // 8
    raw = unzip(binascii.a2b_base64(text), min(size, LIMIT)) if count >= 0 else b""
    if len(raw) != size:
        raise ValueError(f"the bitmap is of {8 * len(raw)} images, {count} are recorded")
    return raw


def agrees(top1: float | None, correct: str, count: int) -> None:
    """Check a top-1 in percent against the packed correctness of ``count`` images.

    Raises:
        ValueError: it is not the share of right answers; no bitmap of so many.
    """
    share = share_of(correct, count)
    if top1 is None or not abs(top1 / 100 - share) <= SAME:
        raise ValueError(f"top-1 {top1}, its bitmap says {100 * share}")
