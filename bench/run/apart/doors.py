"""What a process may open: an audit hook of the interpreter, which nothing in Python can take away again."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from bench.errors import AccessDenied

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = frozenset(
    {"os.link", "os.symlink", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod"}
)


def shut(hidden: Iterable[Path], guarded: Iterable[Path], tell: Callable[[str], None]) -> None:
    """From now on this process opens no file of ``hidden`` and changes none of ``guarded`` (files or folders with all
    that is in them); who tries gets AccessDenied, and ``tell`` is called with the file."""
    closed = {os.path.realpath(path) for path in hidden}
    kept = {os.path.realpath(path) for path in guarded}

    def deny(path: str, what: str) -> None:
        tell(path)
        raise AccessDenied(f"the process of a foreign method may not {what} this file", where=path)

    def hook(event: str, facts: tuple[Any, ...]) -> None:
        if event == "open":
            path, flags = _real(facts[0]), facts[2]
            if path is None:
                return
            if _inside(path, closed):
                deny(path, "read")
            if isinstance(flags, int) and flags & _WRITES and _inside(path, kept):
                deny(path, "write")
        elif event in _CHANGES:
            for path in filter(None, map(_real, facts[:2])):
                if _inside(path, closed) or _inside(path, kept):
                    deny(path, "change")

    sys.addaudithook(hook)


def _real(path: object) -> str | None:
    """The file itself, links followed; None for a descriptor that is open already."""
    return os.path.realpath(os.fsdecode(path)) if isinstance(path, str | bytes | os.PathLike) else None


def _inside(path: str, places: set[str]) -> bool:
    return any(path == place or path.startswith(place + os.sep) for place in places)
