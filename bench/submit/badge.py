"""The rung of a submission, or of a printed table, as an SVG badge: no font, no script, no network."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from bench.board.index.ladder import CLAIMED, REPRODUCED, SELF_REPORTED, Rung
from bench.text import visible

LABEL = "datafree-bench"
COLOURS = {CLAIMED: "#6e7781", SELF_REPORTED: "#0969da", REPRODUCED: "#1a7f37"}
DOUBTED = "#b35900"
"""Where some re-run was outside."""

_HEIGHT = 20
_LETTER = 6.6
"""Pixels a letter takes at most of the font size below, on average; the text is then stretched to fit."""


def badge(rung: Rung, told: Sequence[str] = ()) -> str:
    """The badge.

    Args:
        told: what a reader sees who points at it: the suite, the digest, how many cells were run again.
    """
    message = str(rung).replace("_", " ")
    colour = DOUBTED if rung.outside else COLOURS[rung.name]
    left, right = _width(LABEL), _width(message)
    title = " · ".join([f"{LABEL}: {message}", *told])
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="{_HEIGHT}" role="img" \
aria-label="{_text(f"{LABEL}: {message}")}">
<title>{_text(title)}</title>
<rect width="{left}" height="{_HEIGHT}" fill="#24292f"/>
<rect x="{left}" width="{right}" height="{_HEIGHT}" fill="{colour}"/>
<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">
<text x="{left / 2:g}" y="14" textLength="{left - 12}">{_text(LABEL)}</text>
<text x="{left + right / 2:g}" y="14" textLength="{right - 12}">{_text(message)}</text>
</g>
</svg>
"""


def _width(text: str) -> int:
    return round(len(text) * _LETTER) + 12


def _text(text: str) -> str:
    return escape(visible(text), {'"': "&quot;"})
