"""Logarithmic axes with ticks a reader can read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

MANY_DECADES = 4
_UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def log_axis(values: Sequence[float], zero: float | None = None) -> dict[str, Any]:
    """Plotly's settings of a logarithmic axis for positive ``values``: ticks at 1, 2 and 5 of each decade, at whole
    decades when there are many; ``zero`` is the place that stands for nothing, where something does."""
    low, high = min(values), max(values)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if len(decades) <= MANY_DECADES else (1,)
    ticks = [float(f"{step}e{d}") for d in decades for step in steps]
    ticks = [tick for tick in ticks if low / 1.5 <= tick <= high * 1.5]
    first = [] if zero is None else [zero]
    return {"type": "log", "tickvals": [*first, *ticks], "ticktext": ["0"] * len(first) + [short(t) for t in ticks]}


def short(value: float) -> str:
    """A tick: 0.02, 5, 200, 20k, 1M."""
    for unit, sign in _UNITS:
        if value >= unit:
            return f"{value / unit:g}{sign}"
    return f"{value:g}"
