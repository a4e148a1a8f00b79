"""What the rows of a table were asked, read off the axes' columns; labels are for people and never taken apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.board.tables.grids import missing
from bench.interfaces import Setting
from bench.spec.axes import AXES, axis, axis_names, columns

__all__ = ["Level", "asked", "axis_names", "levels", "setting_name"]


@dataclass(frozen=True)
class Level:
    """A row's value on an axis: in words (none where nothing was asked on it), and where it lies on a plot's axis (None
    where it has no order)."""

    text: str
    number: float | None = None

    def __str__(self) -> str:
        return self.text


def asked(row: dict[Any, Any]) -> Setting:
    """The setting of a row, from the axes' columns."""
    plain = {column.key: row.get(column.key) for column in columns()}
    return Setting.of({key: value for key, value in plain.items() if not missing(value) and value != ""})


def levels(table: pd.DataFrame, name: str) -> list[Level]:
    """The rows' values on an axis."""
    own = axis(name)
    found: list[Level] = []
    for row in table[list(own.keys)].to_dict("records"):
        setting = asked(row)
        values = own.values(setting)
        found.append(Level(own.text(values), own.number(values)) if values else Level(""))
    return found


def setting_name(table: pd.DataFrame) -> str:
    """What ``setting_label`` holds in these rows, as a heading: the one axis they speak of (Bits, Sparsity), or else
    Setting."""
    spoken = {
        own.name
        for own in AXES
        if any(not missing(value) and value != "" for key in own.keys for value in table[key].unique())
    }
    return spoken.pop().capitalize() if len(spoken) == 1 else "Setting"
