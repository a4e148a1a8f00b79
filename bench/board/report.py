"""Tables as rich renderables, CSV, Markdown, JSON and LaTeX; every function returns, none prints."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table

from bench.board.claims import Verdict
from bench.board.frame import COLUMNS
from bench.board.grids import Cell, Grid, board_grids, image_set_grid, verdict_grid
from bench.board.pivots import metric_grids, pivot_grids
from bench.errors import BenchError, nearest
from bench.store.records import ResultRecord


def to_rich(grids: Iterable[Grid]) -> RenderableType:
    """Grids one below the other; a column folds rather than loses text."""
    parts: list[RenderableType] = []
    for grid in grids:
        table = Table(title=escape(grid.title), title_justify="left", caption_justify="left")
        table.caption = escape("\n".join(grid.notes)) or None
        for index, header in enumerate(grid.headers):
            if index in grid.text:
                table.add_column(escape(header), overflow="fold")
                continue
            width = max((len(row[index].text) for row in grid.rows), default=0)
            table.add_column(escape(header), justify="right", overflow="fold", min_width=min(width, _UNBROKEN))
        for row in grid.rows:
            table.add_row(*(f"[bold]{escape(c.text)}[/bold]" if c.bold else escape(c.text) for c in row))
        parts.append(table)
    return Group(*parts)


def to_text(grids: Iterable[Grid], width: int = 160) -> str:
    """The rich tables as plain text of a fixed width."""
    console = Console(width=width, color_system=None, file=io.StringIO())
    with console.capture() as capture:
        console.print(to_rich(grids))
    return capture.get()


def to_markdown(grids: Iterable[Grid]) -> str:
    """GitHub tables, a heading line in bold above each, notes as a list below."""
    blocks = []
    for grid in grids:
        lines = [f"**{_md(grid.title)}**", "", _md_line(map(_md, grid.headers))]
        lines.append(_md_line([":--" if i in grid.text else "--:" for i in range(len(grid.headers))]))
        lines += [_md_line([_bold(c, "**", "**", _md) for c in row]) for row in grid.rows]
        lines += ["", *(f"- {_md(note)}" for note in grid.notes)] if grid.notes else []
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def to_latex(grids: Iterable[Grid]) -> str:
    """``table`` environments with booktabs rules; needs ``\\usepackage{booktabs}`` and UTF-8 input."""
    blocks = []
    for grid in grids:
        columns = "".join("l" if i in grid.text else "r" for i in range(len(grid.headers)))
        lines = [
            r"\\begin{table}"[1:],
            rf"\caption{{{_tex(grid.title)}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
        ]
        lines.append(" & ".join(map(_tex, grid.headers)) + r" \\")
        lines.append(r"\midrule")
        lines += [" & ".join(_bold(c, r"\textbf{", "}", _tex) for c in row) + r" \\" for row in grid.rows]
        lines += [r"\bottomrule", r"\end{tabular}"]
        lines += [rf"\par\footnotesize {_tex(note)}" for note in grid.notes]
        blocks.append("\n".join([*lines, r"\end{table}"]))
    return "\n\n".join(blocks) + "\n"


def to_csv(table: pd.DataFrame) -> str:
    """The tidy frame as CSV with unrounded numbers; blanks are empty fields."""
    return table.to_csv(index=False)


def to_json(table: pd.DataFrame, verdicts: Sequence[Verdict] = ()) -> str:
    """``{"rows": [...], "claims": [...]}`` with unrounded numbers; blanks are null."""
    rows = [
        {str(k): None if pd.isna(v) else v.item() if hasattr(v, "item") else v for k, v in row.items()}
        for row in table.to_dict("records")
    ]
    return json.dumps(
        {"rows": rows, "claims": [asdict(v) for v in verdicts]}, indent=1, ensure_ascii=False, allow_nan=False
    )


_GRIDS: Mapping[str, Callable[[Iterable[Grid]], Any]] = {"table": to_rich, "md": to_markdown, "latex": to_latex}
_UNBROKEN = 8  # characters that a column of numbers keeps in one line on a narrow terminal
_KNOWN = {column.name for column in COLUMNS}
FORMATS = ("table", "csv", "md", "json", "latex")


def report(
    table: pd.DataFrame,
    form: str = "table",
    *,
    verdicts: Sequence[Verdict] = (),
    records: Iterable[ResultRecord] = (),
    details: bool = True,
) -> RenderableType:
    """The whole board in one of :data:`FORMATS`: pivots, image measures, ranked tables, image sets, claims.

    Args:
        table: from :func:`bench.board.frame.frame`.
        records: to list the image sets with their cost; none, no list.
        details: with the ranked table of each target and the claims' breakdown, besides the pivots.

    Returns:
        A rich renderable for "table", else a string.

    Raises:
        BenchError: unknown format.
    """
    if form == "csv":
        return to_csv(table)
    if form == "json":
        return to_json(table, verdicts)
    if form not in _GRIDS:
        raise BenchError("unknown format", got=form, expected=FORMATS, nearest=nearest(form, FORMATS))
    extra = [str(name) for name in table.columns if name not in _KNOWN]
    grids = [*pivot_grids(table), *metric_grids(table, extra), *(board_grids(table) if details else [])]
    sets = image_set_grid(records)
    grids += [sets] if sets.rows else []
    grids += [verdict_grid(verdicts, details)] if verdicts else []
    rendered: RenderableType = _GRIDS[form](grids)
    return rendered


def _bold(cell: Cell, before: str, after: str, clean: Callable[[str], str]) -> str:
    text = clean(cell.text)
    return f"{before}{text}{after}" if cell.bold and text else text


def _md(text: str) -> str:
    for sign in "\\|*`<>":  # an underscore within a word is plain text
        text = text.replace(sign, "\\" + sign)
    return text.replace("\n", " ")


def _md_line(texts: Iterable[str]) -> str:
    return "| " + " | ".join(texts) + " |"


_TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "_": r"\_", "&": r"\&", "%": r"\%", "#": r"\#", "$": r"\$",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "†": r"$\dagger$", "→": r"$\rightarrow$", "–": "--",
    "<": "$<$", ">": "$>$", "|": "$|$", "×": r"$\times$", "·": r"$\cdot$", "²": "$^2$", "±": r"$\pm$",
}  # fmt: skip


def _tex(text: str) -> str:
    return "".join(_TEX.get(sign, sign) for sign in text)
