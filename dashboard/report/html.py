"""Pieces of the static report as HTML; every text that comes from a record or a suite passes :func:`html.escape`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from bench.board.claims.judging import SIGN, Verdict
from bench.board.tables.grids import (
    BLANK,
    RANKS,
    TIED,
    Cell,
    Grid,
    amortised_text,
    board_notes,
    line_dicts,
    missing,
    number,
    rank_interval,
    tie_letters,
)
from bench.board.tables.signs import marks
from bench.board.tables.verdict_grids import verdict_notes
from dashboard.text import html_text, row_name

_WIDTH, _PAD = 180, 6  # of an interval bar, in its own units


def figure_html(figure: go.Figure, caption: str = "", *, wide: bool = False) -> str:
    """A place for a figure and its data, which the page's script draws; ``wide``: scrolls on a narrow screen.

    Args:
        caption: text below it, and what a screen reader says in its place.
    """
    data = figure.to_json()  # plotly writes "<", ">" and "/" as escapes, so that no text can end the script element
    height = int(figure.layout.height or 400)
    said = f' role="img" aria-label="{html_text(caption)}"' if caption else ""
    place = f'<div class="plot{" wide" if wide else ""}" style="height:{height}px"{said}></div>'
    below = f"<figcaption>{html_text(caption)}</figcaption>" if caption else ""
    return (
        f'<figure><div class="figure" tabindex="0">{place}<script type="application/json">{data}</script></div>'
        f"{below}</figure>"
    )


def table_html(headers: Sequence[str], text: Iterable[int], rows: Iterable[str]) -> str:
    """A table whose columns ``text`` are left-aligned; ``rows`` are finished ``<tr>`` elements."""
    left = set(text)
    head = "".join(_header(h, i in left) for i, h in enumerate(headers))
    body = "".join(rows)
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _header(text: str, left: bool) -> str:
    """A column's header; one without text is none, or a screen reader would announce it."""
    return f'<th scope="col" class="{"t" if left else ""}">{html_text(text)}</th>' if text else "<td></td>"


def chip(verdict: Verdict) -> str:
    """A verdict as a pill, with its mark, so that colour alone never tells."""
    return f'<span class="chip {verdict.verdict}">{SIGN[verdict.verdict]} {html_text(verdict.text)}</span>'


def notes_html(notes: Iterable[str]) -> str:
    """Notes as a list; nothing where there are none."""
    items = "".join(f"<li>{html_text(note)}</li>" for note in notes)
    return f'<ul class="notes">{items}</ul>' if items else ""


def grid_html(grid: Grid) -> str:
    """A grid of the board as a table with its notes; the title stands elsewhere."""
    rows = ["<tr>" + "".join(_cell(c, i in grid.text) for i, c in enumerate(row)) + "</tr>" for row in grid.rows]
    return table_html(grid.headers, grid.text, rows) + notes_html(grid.notes)


def _cell(cell: Cell, text: bool) -> str:
    shown = html_text(cell.text)
    kind = "wrap" if text and len(cell.text) > 48 else "t" if text else ""
    return f'<td class="{kind}">{f"<b>{shown}</b>" if cell.bold else shown}</td>'


_RANKED = (
    *("rank", RANKS, "source [from]", "top-1 %", "95 %", "compressor", "drop", "seeds"),
    *("synth s", "amortised s", "compress s", "MiB", "kB", "machine", "remarks"),
)
_RANKED_TEXT = (2, 4, 5, 13, 14)
_COMPRESSOR, _AMORTISED, _MACHINE, _REMARKS = 5, 9, 13, 14


def ranked_html(part: pd.DataFrame) -> str:
    """The ranked rows of one target and bits with a bar per interval; the dashed line is the uncompressed network.

    The bars' common scale leaves the lower control out, which would squeeze the rest into a few pixels.
    """
    lines = line_dicts(part)
    scaled = [row for row in lines if row["control"] != "lower"] or lines
    known = [float(v) for row in scaled for v in (row["top1_low"], row["top1_high"], row["fp_top1"]) if not missing(v)]
    ends = (min(known), max(known)) if known else (0.0, 100.0)
    cells = [_ranked_cells(row, ends) for row in lines]
    same = part["compressor"].nunique() == 1
    moved = {_COMPRESSOR} if same else set()
    moved |= {i for i in (_AMORTISED, _REMARKS) if not any(row[i][1] for row in cells)}
    moved |= {_MACHINE} if len({row[_MACHINE][1] for row in cells} - {""}) < 2 else set()
    said = [f"compressor: {lines[0]['compressor']}"] if same else []
    kept = [i for i in range(len(_RANKED)) if i not in moved]
    rows = [
        f'<tr class="{_control(line)}">{"".join(f"""<td class="{row[i][0]}">{row[i][1]}</td>""" for i in kept)}</tr>'
        for line, row in zip(lines, cells, strict=True)
    ]
    notes = [*said, *board_notes(part), f"bars: from {ends[0]:.1f} to {ends[1]:.1f} %, dashed: uncompressed"]
    if any(tie_letters(row) for row in lines):
        notes.append("rows that share a raised letter: no difference was shown; a–d: each letter from a to d")
    text = [new for new, old in enumerate(kept) if old in _RANKED_TEXT]
    return table_html([_RANKED[i] for i in kept], text, rows) + notes_html(notes)


def _control(row: Mapping[str, Any]) -> str:
    return str(row["control"]) if row["control"] in ("upper", "lower") else "none"


def _ranked_cells(row: Mapping[str, Any], ends: tuple[float, float]) -> list[tuple[str, str]]:
    """(class, HTML) of each of :data:`_RANKED`."""
    rank = str(row["control"]) if missing(row["rank"]) else f"{row['rank']}{TIED if row['tied'] else ''}"
    if missing(row["rank"]) and row["control"] == "none":
        rank = BLANK
    why = [] if row["status"] == "ok" else [": ".join(text for text in (row["status"], row["reason"]) if text)]
    remarks = "; ".join([*(["stale"] if row["stale"] else []), *why])
    size = None if missing(row["size_bytes"]) else row["size_bytes"] / 1000
    return [
        ("", html_text(rank)),
        ("", rank_interval(row)),
        ("t", html_text(row_name(row["source"], row["model"], row["policy"])) + marks(row)),
        ("", _top1(row)),
        ("t", _bar(row, ends)),
        ("t", html_text(row["compressor"])),
        ("", number(row["drop"])),
        ("", html_text(row["seeds"])),
        ("", number(row["synthesis_s"], 1)),
        ("", amortised_text(row)),
        ("", number(row["compress_s"], 1)),
        ("", number(row["peak_memory_mib"], 0)),
        ("", number(size, 0)),
        ("t", html_text(row["machine"])),
        ("wrap" if len(remarks) > 48 else "t", html_text(remarks)),
    ]


def _top1(row: Mapping[str, Any]) -> str:
    """Mean, half of the interval, tie letters."""
    if missing(row["top1_mean"]):
        return BLANK
    half = "" if missing(row["top1_low"]) else f" ± {number((row['top1_high'] - row['top1_low']) / 2)}"
    letters = f"<sup>{html_text(tie_letters(row))}</sup>" if tie_letters(row) else ""
    mean = number(row["top1_mean"])
    return f"{f'<b>{mean}</b>' if row['best'] else mean}{half}{letters}"


def _bar(row: Mapping[str, Any], ends: tuple[float, float]) -> str:
    """The interval as a line and the mean as a tick, on the table's common scale; an arrow where it lies outside."""
    if missing(row["top1_mean"]) or missing(row["top1_low"]):
        return ""
    said = f"{number(row['top1_mean'])} in {number(row['top1_low'])} to {number(row['top1_high'])} percent"
    opening = f'<svg class="bar" viewBox="0 0 {_WIDTH} 16" role="img" aria-label="{said}">'
    span = max(ends[1] - ends[0], 1e-9)

    def at(value: Any) -> str:
        share = min(max((float(value) - ends[0]) / span, 0.0), 1.0)
        return f"{_PAD + (_WIDTH - 2 * _PAD) * share:.1f}"

    fp = row["fp_top1"]
    mark = "" if missing(fp) else f'<line class="fp" x1="{at(fp)}" x2="{at(fp)}" y1="0" y2="16"/>'
    if row["top1_high"] < ends[0]:
        return f'{opening}{mark}<path d="M8 3 L1 8 L8 13"/></svg>'
    low, mean, high = (at(row[name]) for name in ("top1_low", "top1_mean", "top1_high"))
    return (
        f'{opening}{mark}<line x1="{low}" x2="{high}" y1="8" y2="8"/>'
        f'<line class="mean" x1="{mean}" x2="{mean}" y1="2" y2="14"/></svg>'
    )


def claims_html(verdicts: Sequence[Verdict]) -> str:
    """The claims, numbered, with verdict, effect, interval and what is behind them."""
    headers = ["#", "verdict", "claim", "difference", "interval", "margin", "pairs × seeds"]
    said = [_remarks(item) for item in verdicts]
    headers += ["remarks"] if any(said) else []
    rows = []
    for index, (item, remarks) in enumerate(zip(verdicts, said, strict=True), 1):
        interval = BLANK if item.low is None else f"[{number(item.low)}, {number(item.high)}]"
        last = f'<td class="wrap">{html_text(remarks)}</td>' if any(said) else ""
        rows.append(
            f'<tr><td>{index}</td><td class="t">{chip(item)}</td>'
            f'<td class="wrap">{html_text(item.says)}</td><td>{number(item.difference)}</td><td>{interval}</td>'
            f"<td>{number(item.margin)}</td><td>{item.pairs} × {item.seeds}</td>{last}</tr>"
        )
    notes = [
        "better minus worse in points of top-1; intervals at the level Holm's procedure asks for over these claims"
    ]
    notes += verdict_notes(verdicts)
    return table_html(headers, (1, 2, 7), rows) + notes_html(notes)


def _remarks(verdict: Verdict, most: int = 3) -> str:
    """What decided it and the first remarks; a suite measured in part has one for every row it lacks."""
    rest = len(verdict.remarks) - most
    decided = [f"decided by {verdict.deciding}"] if verdict.deciding else []
    return "; ".join([*decided, *verdict.remarks[:most], *([f"and {rest} more like these"] if rest > 0 else [])])
