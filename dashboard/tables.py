"""Tables as HTML: numbers right-aligned, interval bars drawn in the row, every text from a record escaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dashboard.text import html_text, missing
from dashboard.theme import CONTROLS, SOFT

STYLE = """<style>
.df-wrap{overflow-x:auto;max-width:100%}
.df-table{border-collapse:collapse;width:100%;font-size:.86rem;font-variant-numeric:tabular-nums}
.df-table th{position:sticky;top:0;text-align:left;font-weight:600;border-bottom:1px solid rgba(128,128,128,.5);
padding:.35rem .6rem;white-space:pre;vertical-align:bottom}
.df-table thead td{border-bottom:1px solid rgba(128,128,128,.5)}
.df-table td{padding:.28rem .6rem;border-bottom:1px solid rgba(128,128,128,.18);white-space:nowrap}
.df-table .num{text-align:right}
.df-table tr.best td{font-weight:650}
.df-table tr.control td{opacity:.85;font-style:italic}
.df-table tr.single td{color:light-dark(SOFT_LIGHT,SOFT_DARK)}
.df-table tr.control.single td{opacity:1}
.df-table tr.single .df-bar{opacity:.65}
.df-name{white-space:normal;overflow-wrap:anywhere;width:max-content;max-width:min(24rem,30vw)}
.df-bar{position:relative;width:9rem;height:.9rem;background:linear-gradient(rgba(128,128,128,.25),
rgba(128,128,128,.25)) center/100% 1px no-repeat}
.df-bar .line{position:absolute;top:calc(50% - 1px);height:2px}
.df-bar .dot{position:absolute;top:calc(50% - .25rem);width:.5rem;height:.5rem;margin-left:-.25rem;border-radius:50%}
@media (max-width:640px){
.df-table{font-size:.8rem}
.df-table th,.df-table td{padding-left:.28rem;padding-right:.28rem}
}
</style>""".replace("SOFT_LIGHT", SOFT["light"]).replace("SOFT_DARK", SOFT["dark"])


@dataclass(frozen=True)
class Column:
    """A header, whether it holds numbers (right-aligned), and the explanation shown when one rests on it."""

    header: str
    numeric: bool = False
    help: str = ""


@dataclass(frozen=True)
class Html:
    """Markup made here; anything else in a cell is text and is escaped."""

    markup: str


def html_table(columns: Sequence[Column], rows: Sequence[Sequence[str | Html]], classes: Sequence[str] = ()) -> str:
    """The table as HTML with its style.

    Args:
        classes: CSS classes (or "") of each row: ``best``, ``control``, ``single`` (pale).
    """
    head = "".join(
        f'<th scope="col" class="{"num" if c.numeric else ""}" title="{html_text(c.help)}">{html_text(c.header)}</th>'
        if c.header
        else f'<td title="{html_text(c.help)}"></td>'  # an empty header is none
        for c in columns
    )
    body = []
    for i, row in enumerate(rows):
        cells = "".join(
            f'<td class="{"num" if c.numeric else ""}">{_markup(cell)}</td>'
            for c, cell in zip(columns, row, strict=True)
        )
        body.append(f'<tr class="{html_text(classes[i]) if classes else ""}">{cells}</tr>')
    table = f'<table class="df-table"><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'
    return f'{STYLE}<div class="df-wrap" tabindex="0">{table}</div>'


def interval_bar(value: Any, low: Any, high: Any, ends: tuple[float, float], control: str = "none") -> Html:
    """A dot at ``value`` on a line from ``low`` to ``high``, on an axis from ``ends[0]`` to ``ends[1]``."""
    if missing(value):
        return Html("")
    span = max(ends[1] - ends[0], 1e-9)

    def x(v: Any) -> float:
        return round(100 * (min(max(float(v), ends[0]), ends[1]) - ends[0]) / span, 1)

    colour = CONTROLS.get(control, CONTROLS["none"])
    parts = [f'<i class="dot" style="left:{x(value)}%;background:{colour}"></i>']
    if not missing(low) and not missing(high):
        parts.insert(
            0, f'<i class="line" style="left:{x(low)}%;width:{x(high) - x(low):.1f}%;background:{colour}"></i>'
        )
    return Html(f'<div class="df-bar">{"".join(parts)}</div>')


def _markup(cell: str | Html) -> str:
    return cell.markup if isinstance(cell, Html) else html_text(cell)
