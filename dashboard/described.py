"""A figure in words, for who cannot see it: its axes, its series, and how much each holds."""

from __future__ import annotations

import html
import re
from typing import Any

import plotly.graph_objects as go

from dashboard.text import counted

NAMED = 8
"""Series told by name; the others are counted."""

_MARKUP = re.compile(r"<[^>]*>")


def described(figure: go.Figure) -> str:
    """``Chart, top-1 accuracy, % against seconds: 20 points of methods, 1 point of noise (control).``"""
    axes = [_words(figure.layout[name].title.text) for name in ("yaxis", "xaxis")]
    named = " against ".join(filter(None, axes))
    told = [_series(trace) for trace in figure.data if _size(trace)]
    rest = len(told) - NAMED
    listed = ", ".join([*told[:NAMED], *([f"and {rest} more series"] if rest > 0 else [])])
    return f"Chart{f', {named}' if named else ''}: {listed or 'no data'}."


def _series(trace: Any) -> str:
    size, name = counted(_size(trace), "square" if trace.type == "heatmap" else "point"), _words(trace.name)
    return f"{size} of {name}" if name else size


def _size(trace: Any) -> int:
    if trace.type == "heatmap":
        return sum(len(line) for line in trace.z) if trace.z is not None else 0
    values = getattr(trace, "x", None)
    return sum(value is not None for value in values) if values is not None else 0


def _words(text: Any) -> str:
    return " ".join(html.unescape(_MARKUP.sub(" ", str(text or ""))).split())
