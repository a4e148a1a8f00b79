"""Which columns a table of the board shows: the usual ones, or those that the reader chose among all the board has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from bench.board.index.columns import COLUMNS as DOCUMENTED
from dashboard.board_cells import Ends
from dashboard.board_columns import COLUMNS, LEADING, Shown, leading_columns, shown_columns
from dashboard.tables import Column
from dashboard.text import BLANK, missing, number, significant

_UNITLESS = ("", "key", "flag", "text", "k of n", "JSON", "tier", "1 is best")
_OWN = {item[1]: item for item in COLUMNS}
_OTHERS = {column.name: column for column in DOCUMENTED if column.name not in _OWN}


def offered(table: pd.DataFrame) -> list[str]:
    """The columns of the frame that may be chosen besides those that always stand first: this page's, then the rest of
    what :mod:`bench.board.index.columns` documents."""
    return [name for name in (*_OWN, *_OTHERS) if name in table and name not in LEADING]


def label(name: str) -> str:
    """What a column is called where it is chosen."""
    if name not in _OWN:
        return _header(name).replace("\n", ", ")
    return _OWN[name][0].header.replace("\n", " ") or "interval as a line"


def columns_of(part: pd.DataFrame, chosen: Sequence[str]) -> list[Shown]:
    """The columns that always stand first and then the chosen ones, in their order; the usual ones where none is."""
    if not chosen:
        return shown_columns(part)
    return leading_columns(part) + [_OWN.get(name) or _other(name) for name in chosen if name in part]


def _header(name: str) -> str:
    unit = _OTHERS[name].unit
    return name if unit in _UNITLESS else f"{name}\n{unit}"


def _other(name: str) -> Shown:
    column = _OTHERS[name]

    def cell(row: Any, _: Ends) -> str:
        return _text(getattr(row, name), column.dtype)

    return Column(_header(name), column.dtype in ("Int64", "Float64"), column.meaning), name, cell


def _text(value: Any, dtype: str) -> str:
    """A value as it is shown, with what its type warrants."""
    if missing(value) or value == "":
        return BLANK
    if dtype == "boolean":
        return "yes" if value else "no"
    if dtype == "Int64":
        return number(value, 0)
    return significant(value) if dtype == "Float64" else str(value)
