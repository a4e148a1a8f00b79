"""Columns of text beside each other, for a terminal: no name is ever cut or split, whatever the width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

WIDTH = 100
"""Columns of a terminal that boards are made for."""

GAP = "  "


@dataclass(frozen=True)
class Column:
    """A column of text: its header, a text per line, whether it is flush right, and which goes first where the width
    does not hold all (0: never)."""

    header: str
    texts: tuple[str, ...]
    right: bool = True
    spare: int = 0

    @property
    def width(self) -> int:
        """Of its longest text."""
        return max(map(len, (self.header, *self.texts)))


def aligned(columns: Sequence[Column], width: int) -> list[str]:
    """Columns beside each other, the header first; columns that may be spared go until the rest fits ``width``.

    The widest flush-left column holds names; one that is too long for it stands on a line of its own above its numbers.
    """
    columns = list(columns)
    while total(columns) > width and (spare := max(columns, key=lambda column: column.spare)).spare:
        columns.remove(spare)
    names = max((i for i, c in enumerate(columns) if not c.right), key=lambda i: columns[i].width, default=None)
    room = width - total(columns) + columns[names].width if names is not None else width
    widths = [min(c.width, max(room, len(c.header))) if i == names else c.width for i, c in enumerate(columns)]
    lines = []
    for row in zip(*((column.header, *column.texts) for column in columns), strict=True):
        texts = list(row)
        if names is not None and len(texts[names]) > widths[names]:
            lines.append(" " * (sum(widths[:names]) + len(GAP) * names) + texts[names])
            texts[names] = ""
        cells = zip(columns, texts, widths, strict=True)
        placed = [text.rjust(wide) if column.right else text.ljust(wide) for column, text, wide in cells]
        lines.append(GAP.join(placed).rstrip())
    return lines


def total(columns: Sequence[Column]) -> int:
    """The width of ``columns`` with the gaps between them."""
    return sum(column.width for column in columns) + len(GAP) * (len(columns) - 1)


def bold(text: str) -> Text:
    """A title."""
    return Text(text, style="bold")
