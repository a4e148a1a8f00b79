"""Pieces of the static report as HTML; every text that comes from a record or a suite passes :func:`html.escape`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from bench.board.claims import Verdict
from bench.board.grids import BLANK, STALE, TIED, Cell, Grid, line_dicts, missing, notes_of, number, tie_letters

_WIDTH, _PAD = 170, 6  # of an interval bar, in its own units


def figure_html(figure: go.Figure, *, wide: bool = False) -> str:
    """A place for a figure and its data, which the page's script draws; ``wide``: scrolls on a narrow screen."""
    data = str(figure.to_json()).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    height = int(figure.layout.height or 400)
    place = f'<div class="plot{" wide" if wide else ""}" style="height:{height}px"></div>'
    return f'<div class="figure">{place}<script type="application/json">{data}</script></div>'


def table_html(headers: Sequence[str], text: Iterable[int], rows: Iterable[str]) -> str:
    """A table whose columns ``text`` are left-aligned; ``rows`` are finished ``<tr>`` elements."""
    left = set(text)
    head = "".join(f'<th class="{"t" if i in left else ""}">{escape(h)}</th>' for i, h in enumerate(headers))
    body = "".join(rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def notes_html(notes: Iterable[str]) -> str:
    """Notes as a list; nothing where there are none."""
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f'<ul class="notes">{items}</ul>' if items else ""


def grid_html(grid: Grid) -> str:
    """A grid of the board as a table with its notes; the title stands elsewhere."""
    rows = ["<tr>" + "".join(_cell(c, i in grid.text) for i, c in enumerate(row)) + "</tr>" for row in grid.rows]
    return table_html(grid.headers, grid.text, rows) + notes_html(grid.notes)


def _cell(cell: Cell, text: bool) -> str:
    shown = escape(cell.text)
    kind = "wrap" if text and len(cell.text) > 48 else "t" if text else ""
    return f'<td class="{kind}">{f"<b>{shown}</b>" if cell.bold else shown}</td>'


_RANKED = (
    *("rank", "source", "from", "compressor", "top-1 %", "", "drop", "seeds"),
    *("synth s", "compress s", "MiB", "kB", "remarks"),
)
_RANKED_TEXT = (1, 2, 3, 5, 12)


def ranked_html(part: pd.DataFrame) -> str:
    """The ranked rows of one target and bits with a bar per interval; the dashed line is the uncompressed network."""
    lines = line_dicts(part)
    known = [float(v) for row in lines for v in (row["top1_low"], row["top1_high"], row["fp_top1"]) if not missing(v)]
    ends = (min(known), max(known)) if known else (0.0, 100.0)
    rows = [_ranked_row(row, ends) for row in lines]
    notes = [*notes_of(part), f"bars: 95 % intervals from {ends[0]:.1f} to {ends[1]:.1f} %, dashed: uncompressed"]
    if any(tie_letters(row) for row in lines):
        notes.append("rows that share a raised letter: no difference was shown")
    return table_html(_RANKED, _RANKED_TEXT, rows) + notes_html(notes)


def _ranked_row(row: Mapping[str, Any], ends: tuple[float, float]) -> str:
    rank = str(row["control"]) if missing(row["rank"]) else f"{row['rank']}{TIED if row['tied'] else ''}"
    if missing(row["rank"]) and row["control"] == "none":
        rank = BLANK
    top1 = BLANK
    if not missing(row["top1_mean"]):
        half = "" if missing(row["top1_low"]) else f" ± {number((row['top1_high'] - row['top1_low']) / 2)}"
        letters = f"<sup>{escape(tie_letters(row))}</sup>" if tie_letters(row) else ""
        mean = number(row["top1_mean"])
        top1 = f"{f'<b>{mean}</b>' if row['best'] else mean}{half}{letters}"
    why = [] if row["status"] == "ok" else [": ".join(text for text in (row["status"], row["reason"]) if text)]
    remarks = "; ".join([*(["stale"] if row["stale"] else []), *why])
    size = None if missing(row["size_bytes"]) else row["size_bytes"] / 1000
    cells = (
        f"<td>{escape(rank)}</td>",
        f'<td class="t">{escape(str(row["source"]))}{STALE if row["stale"] else ""}</td>',
        f'<td class="t">{escape(str(row["model"]))}</td>',
        f'<td class="t">{escape(str(row["compressor"]))}</td>',
        f"<td>{top1}</td>",
        f'<td class="t">{_bar(row, ends)}</td>',
        f"<td>{number(row['drop'])}</td>",
        f"<td>{escape(str(row['seeds']))}</td>",
        *(f"<td>{number(row[name], 1)}</td>" for name in ("synthesis_s", "compress_s")),
        f"<td>{number(row['peak_memory_mib'], 0)}</td>",
        f"<td>{number(size, 0)}</td>",
        f'<td class="{"wrap" if len(remarks) > 48 else "t"}">{escape(remarks)}</td>',
    )
    control = row["control"] if row["control"] in ("upper", "lower") else "none"
    return f'<tr class="{control}">{"".join(cells)}</tr>'


def _bar(row: Mapping[str, Any], ends: tuple[float, float]) -> str:
    """The interval as a line and the mean as a dot, on the table's common scale."""
    if missing(row["top1_mean"]) or missing(row["top1_low"]):
        return ""
    span = max(ends[1] - ends[0], 1e-9)

    def at(value: Any) -> str:
        return f"{_PAD + (_WIDTH - 2 * _PAD) * (float(value) - ends[0]) / span:.1f}"

    low, mean, high = (at(row[name]) for name in ("top1_low", "top1_mean", "top1_high"))
    said = f"{number(row['top1_mean'])} in {number(row['top1_low'])} to {number(row['top1_high'])} percent"
    fp = row["fp_top1"]
    mark = "" if missing(fp) else f'<line class="fp" x1="{at(fp)}" x2="{at(fp)}" y1="0" y2="16"/>'
    return (
        f'<svg class="bar" viewBox="0 0 {_WIDTH} 16" role="img" aria-label="{said}">{mark}'
        f'<line x1="{low}" x2="{high}" y1="8" y2="8"/><circle cx="{mean}" cy="8" r="4"/></svg>'
    )


def claims_html(verdicts: Sequence[Verdict]) -> str:
    """The claims, numbered as in their figure, with verdict, effect, interval and what is behind them."""
    rows = []
    for index, item in enumerate(verdicts, 1):
        interval = BLANK if item.low is None else f"[{number(item.low)}, {number(item.high)}]"
        remarks = "; ".join([*([f"decided by {item.deciding}"] if item.deciding else []), *item.remarks[:3]])
        more = f"; and {len(item.remarks) - 3} more" if len(item.remarks) > 3 else ""
        rows.append(
            f'<tr><td>{index}</td><td class="t"><span class="chip {item.verdict}">{item.verdict}</span></td>'
            f'<td class="wrap">{escape(item.says)}</td><td>{number(item.difference)}</td><td>{interval}</td>'
            f"<td>{number(item.margin)}</td><td>{item.pairs} × {item.seeds}</td>"
            f'<td class="wrap">{escape(remarks + more)}</td></tr>'
        )
    headers = ("#", "verdict", "claim", "difference", "interval", "margin", "pairs × seeds", "remarks")
    notes = [
        "better minus worse in points of top-1; intervals at the level Holm's procedure asks for over these claims"
    ]
    if any(item.seeds == 1 for item in verdicts):
        notes.append("one seed: paired by test image only, holds for that seed")
    return table_html(headers, (1, 2, 7), rows) + notes_html(notes)
