"""Versions of the methods at hand, to tell stale records; remembered, because asking a method imports torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

from bench.spec.registry import Registry, code_files

KINDS = ("sources", "compressors", "policies")


def versions() -> dict[tuple[str, str], int]:
    """(kind, method) → version of the code at hand."""
    found: dict[tuple[str, str], int] = {}
    for kind in KINDS:
        registry = Registry(kind)
        found |= {(kind, name): int(registry.get(name).version) for name in registry.names()}
    return found


def code_stamp() -> str:
    """What :func:`versions` was read from: the methods' files by path, size and time; imports nothing."""
    names = sorted(name for kind in KINDS for name in Registry(kind).names())
    text = "\n".join([*names, *(f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in code_files())])
    return hashlib.sha256(text.encode()).hexdigest()


def board_stamp() -> str:
    """What the board's tables are formed by: the sources of this package and of the records' format."""
    folder = Path(__file__).parent
    engine = folder.parent
    stored = ("bitmaps", "image_gate", "migrations", "records")
    formed_by = ("identity.py", "machine.py", "spec/axes.py", *(f"store/{name}.py" for name in stored))
    files = [*sorted(folder.glob("*.py")), *(engine / name for name in formed_by)]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()
