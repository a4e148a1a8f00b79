"""The page of `bench diagnose --html`."""

from __future__ import annotations

from typing import Any

from bench.cli.diagnose import HEADERS, NOTE, line, sentences
from dashboard.figures.diagnosis import block_figure, class_figure, depth_figure, gain_figure
from dashboard.report.frame import framed
from dashboard.report.html import figure_html, notes_html, table_html
from dashboard.text import html_text


def page(found: Any, facts: dict[str, Any]) -> str:
    """The whole page: the sentences, figures over depth, all layers worst first, predictions by class."""
    said = "".join(f"<p>{html_text(sentence)}</p>" for sentence in sentences(found, facts))
    pieces = []
    if facts["layers"]:
        rows = ["".join(_cells(line(rank, layer))) for rank, layer in enumerate(found.ranked(), 1)]
        pieces = [
            "<h2>Over depth</h2>",
            figure_html(depth_figure(facts), wide=True),
            *(["<h3>8 bits for one layer</h3>", figure_html(gain_figure(facts), wide=True)] if _lifted(facts) else []),
            "<h3>Blocks</h3>",
            figure_html(block_figure(facts), wide=True),
            "<h2>Layers, worst first</h2>",
            table_html(HEADERS, (1, 2), (f"<tr>{row}</tr>" for row in rows)),
            notes_html([NOTE]),
        ]
    pieces += ["<h2>Predictions by class</h2>", figure_html(class_figure(facts))]
    what = f"<p>{html_text(facts['title'])} · {html_text(facts['cell'])}</p>"
    return framed("datafree-bench diagnosis", what, f"<section>{said}{''.join(pieces)}</section>", what)


def _lifted(facts: dict[str, Any]) -> bool:
    return any(layer["gain"] is not None for layer in facts["layers"])


def _cells(values: tuple[str, ...]) -> list[str]:
    return [f'<td class="{"t" if i in (1, 2) else ""}">{html_text(value)}</td>' for i, value in enumerate(values)]
