"""The signs behind the name of a row's source, and the legend that explains those in use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.store.image_gate import MEANING

if TYPE_CHECKING:
    import pandas as pd  # takes longer to load than a board to print


@dataclass(frozen=True)
class Sign:
    """A sign, the flag of the frame it stands for, and what the legend says."""

    text: str
    column: str
    meaning: str

    @property
    def line(self) -> str:
        """Its line of the legend."""
        return f"{self.text} {self.meaning}"

    def on(self, row: Mapping[str, Any]) -> bool:
        """Whether the row bears it; a blank, or a table without that column, says no."""
        value = row.get(self.column)
        return isinstance(value, bool | np.bool_) and bool(value)


STALE = Sign("†", "stale", "stale: measured with an older version of its method or other weights; not ranked")
FLAGGED = Sign("‡", "flagged", MEANING)
MIXED = Sign(
    "§",
    "mixed",
    "machines differ, or are not known to be alike: between its seeds, or between it and most rows beside it",
)
REMADE = Sign("¶", "remade", "rows that share its image set saw images of another content: it was made more than once")

SIGNS = (STALE, FLAGGED, MIXED, REMADE)
DOUBTS = (FLAGGED, MIXED, REMADE)
"""What may be doubted of rows that are up to date."""


def marks(row: Mapping[str, Any], signs: Sequence[Sign] = SIGNS) -> str:
    """All signs of ``signs`` the row bears."""
    return "".join(sign.text for sign in signs if sign.on(row))


def legend(part: pd.DataFrame, signs: Sequence[Sign] = SIGNS) -> list[str]:
    """A line for every sign of ``signs`` that some row bears."""
    return [sign.line for sign in signs if sign.column in part and part[sign.column].fillna(False).any()]
