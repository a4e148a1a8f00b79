"""Output that a terminal of any encoding takes: a sign it lacks is written in signs that it has."""

from __future__ import annotations

import codecs
import io
import sys
import unicodedata

_ERRORS = "bench.plain"
_SIGNS = {"→": "->", "←": "<-", "×": "x", "±": "+-", "…": "...", "·": "-", "–": "-", "—": "-", "−": "-", "≤": "<=",
          "≥": ">=", "≈": "~", "•": "*", "●": "*", "✓": "ok", "✔": "ok", "✗": "x", "✘": "x", "─": "-", "━": "-",
          "│": "|", "┃": "|"}  # fmt: skip


def plain(text: str) -> str:
    """``text`` in ASCII: signs spelled out, frames as lines, accents dropped, what has no likeness as a question mark.

    A byte that Python could not decode (of a file's name) is shown as ``\\xNN``.
    """
    return "".join(character if character.isascii() else _ascii(character) for character in text)


def _ascii(character: str) -> str:
    code = ord(character)
    if character in _SIGNS:
        return _SIGNS[character]
    if 0x2500 <= code < 0x2580:
        return "+"  # corners and crossings of frames
    if 0x2580 <= code < 0x25A0:
        return "#"  # bars
    if 0x2800 <= code < 0x2900:
        return "*"  # a spinner's dots
    if 0xDC80 <= code < 0xDD00:
        return f"\\x{code - 0xDC00:02x}"
    return unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode() or "?"


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return plain(error.object[error.start : error.end]), error.end


def take_any_text() -> None:
    """Let this process's output and error stream write any text, whatever their encoding."""
    codecs.register_error(_ERRORS, _replaced)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ERRORS)
