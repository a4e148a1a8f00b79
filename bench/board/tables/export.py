"""The board as a file: which format a file's name asks for, and its bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType

from bench.board.tables.words import FORMATS
from bench.errors import BenchError, nearest

if TYPE_CHECKING:
    import pandas as pd  # takes longer to load than a board to print

PARQUET = "parquet"
FILE_FORMATS = (*FORMATS, PARQUET)
"""Formats of a file; Parquet is none to print."""

_OF_SUFFIX: Mapping[str, str] = {
    ".csv": "csv",
    ".json": "json",
    ".md": "md",
    ".tex": "latex",
    ".parquet": PARQUET,
    ".txt": "table",
}
_TEXT_WIDTH = 160


def chosen_format(form: str | None, out: Path | None) -> str:
    """The format asked for, else the one the file's suffix stands for, else a table.

    Raises:
        BenchError: unknown format or suffix; Parquet without a file.
    """
    if form is not None and form not in FILE_FORMATS:
        raise BenchError(
            "unknown format", where="--format", got=form, expected=FILE_FORMATS, nearest=nearest(form, FILE_FORMATS)
        )
    if form == PARQUET and out is None:
        raise BenchError(
            "Parquet is binary and needs a file", where="--format", got=form, hint="Add --out FILE.parquet."
        )
    if form is None and out is not None and out.suffix not in _OF_SUFFIX:
        raise BenchError(
            "the file's name does not say the format",
            where="--out",
            got=str(out),
            expected=tuple(_OF_SUFFIX),
            nearest=nearest(out.suffix, _OF_SUFFIX),
            hint="Or say it with --format.",
        )
    return form or (_OF_SUFFIX[out.suffix] if out is not None else "table")


def to_parquet(table: pd.DataFrame) -> bytes:
    """The frame as Parquet: the columns' types as they are, blanks null."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False, engine="pyarrow")
    return buffer.getvalue()


def to_bytes(board: RenderableType) -> bytes:
    """A rendered board as UTF-8; tables as plain text of a fixed width."""
    if isinstance(board, str):
        return board.encode()
    console = Console(width=_TEXT_WIDTH, color_system=None, file=io.StringIO())
    with console.capture() as capture:
        console.print(board)
    return capture.get().encode()
