"""What a report begins with: the claims that were decided, each with its effect and what is behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bench.board.claims.judging import DECIDED, UNJUDGED, WORDS, Verdict, Word
from bench.board.tables.grids import BLANK, number
from dashboard.report.html import chip, notes_html, table_html
from dashboard.text import html_text

_HEADERS = ("suite", "verdict", "claim", "difference", "interval", "pairs × seeds", "test images")


def findings_html(suites: Sequence[tuple[str, Sequence[Verdict]]]) -> str:
    """The decided claims of (suite, its claims), in order, and how many are not decided; nothing without claims."""
    said = [(name, item) for name, verdicts in suites for item in verdicts]
    if not said:
        return ""
    rows = [_row(name, item) for name, item in said if item.verdict in DECIDED]
    counts = Counter(item.verdict for _, item in said)
    left = [f"{counts[word]} {_few(word)}" for word in WORDS if word not in DECIDED and counts[word]]
    notes = ["differences: better minus worse in points of top-1, with the interval that decides the claim"]
    notes += [f"not decided: {', '.join(left)}"] if left else []
    told = table_html(_HEADERS, (0, 1, 2), rows) if rows else "<p>No claim is decided yet.</p>"
    return f"<h2>Findings</h2>{told}{notes_html(notes if rows else notes[1:])}"


def _few(word: Word) -> str:
    return f"on {word}" if word in UNJUDGED else word


def _row(suite: str, item: Verdict) -> str:
    interval = BLANK if item.low is None else f"[{number(item.low)}, {number(item.high)}]"
    name = html_text(suite)
    return (
        f'<tr><td class="t"><a href="#{name}">{name}</a></td>'
        f'<td class="t">{chip(item)}</td>'
        f'<td class="wrap">{html_text(item.says)}</td><td>{number(item.difference)}</td><td>{interval}</td>'
        f"<td>{item.pairs} × {item.seeds}</td><td>{item.images:,}</td></tr>"
    )
