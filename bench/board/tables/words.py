"""What every printed table writes alike: a blank, a tie, a number to its significant digits."""

from __future__ import annotations

import math

BLANK = "–"
TIED = "="
FORMATS = ("table", "csv", "md", "json", "latex")
"""Forms of a printed board."""


def significant(value: float, digits: int = 4) -> str:
    """``value`` to ``digits`` significant digits, at most as many decimals."""
    whole = math.floor(math.log10(abs(value))) + 1 if value else 0
    return f"{value:.{min(max(digits - whole, 0), digits)}f}"
