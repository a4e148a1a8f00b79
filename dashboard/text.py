"""Numbers and names as they are shown: rounded to their uncertainty, blank where there is none."""

from __future__ import annotations

import math
import re
from html import escape
from typing import Any

import pandas as pd

from bench.board.tables.words import BLANK as BLANK
from bench.text import visible


def missing(value: Any) -> bool:
    """None, NaN or pandas' NA."""
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def digits_for(half_width: Any) -> int:
    """Decimals that give a half width two significant digits, 0 to 3: 12.3 → 0, 4.21 → 1, 0.62 → 2."""
    if missing(half_width) or float(half_width) <= 0:
        return 2
    return min(3, max(0, 1 - math.floor(math.log10(float(half_width)))))


def number(value: Any, digits: int = 2) -> str:
    """With fixed decimals and thousands set apart."""
    return BLANK if missing(value) else f"{float(value):,.{digits}f}"


def significant(value: Any, digits: int = 3) -> str:
    """To three significant digits, for measures without an interval: 146, 4.12, 0.0031."""
    if missing(value) or not math.isfinite(float(value)) or float(value) == 0:
        return number(value, 0)
    return number(value, min(6, max(0, digits - 1 - math.floor(math.log10(abs(float(value)))))))


def rounded(value: Any, low: Any, high: Any) -> str:
    """``value`` with as many decimals as its interval warrants."""
    return number(value, digits_for(None if missing(low) or missing(high) else (float(high) - float(low)) / 2))


def interval(low: Any, high: Any) -> str:
    """Both ends with as many decimals as their distance warrants."""
    if missing(low) or missing(high):
        return BLANK
    digits = digits_for((float(high) - float(low)) / 2)
    return f"[{number(low, digits)}, {number(high, digits)}]"


def seconds(value: Any) -> str:
    """A duration in the unit one would say it in."""
    if missing(value):
        return BLANK
    found = float(value)
    if found < 60:
        return f"{found:.1f} s"
    return f"{found / 60:.1f} min" if found < 3600 else f"{found / 3600:.1f} h"


def size(value: Any) -> str:
    """Bytes in kB or MB."""
    if missing(value):
        return BLANK
    return f"{float(value) / 1e3:,.0f} kB" if float(value) < 1e6 else f"{float(value) / 1e6:,.1f} MB"


def row_name(source: str, model: str, policy: str = "") -> str:
    """A source with, in brackets, the network its images come from, and the search that gave each layer its bits."""
    name = f"{source} [{model}]" if model else source
    return f"{name} · {policy}" if policy else name


_SIGNS = re.compile(r"([\\`*_{}\[\]()<>#+!|$:~&-])")
_STARTS = re.compile(r"^(\d+)(?=\.)|^(?==)", re.MULTILINE)
_LINKED = re.compile(r"(?<=:)(?=//)|(?<=:)(?=[\w+/-]+\\:)|(?<=\bwww)(?=\.)|(?<=@)", re.IGNORECASE)
JOINER = "\u2060"
"""Has no width and joins words; within an address, or a name between colons, it keeps both from being found in text."""


def plain(text: object) -> str:
    """Text for a place that reads Markdown, shown as it is: no link, picture, formula, heading or list is made of it.

    Line breaks stay; blank lines and indents, which would begin a paragraph or a block of code, do not.
    """
    lines = [line.strip() for line in visible(str(text)).split("\n")]
    signed = _SIGNS.sub(r"\\\1", "  \n".join(filter(None, lines)))
    return _LINKED.sub(JOINER, _STARTS.sub(r"\1\\", signed))


def html_text(text: object) -> str:
    """Text as HTML that shows it as it is."""
    return escape(visible(str(text)))


def figure_text(text: object) -> str:
    """Text for a figure, shown as it is: plotly reads a subset of HTML in labels, and ``%{…}`` in hovers."""
    return escape(visible(str(text)), quote=False).replace("%{", f"%{JOINER}{{")


def counted(count: int, thing: str) -> str:
    """``1 row``, ``3 rows``."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"
