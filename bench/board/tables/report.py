"""Tables as rich renderables, CSV, Markdown, JSON and LaTeX; every function returns, none prints."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import pandas as pd
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from bench.board.claims.judging import Verdict
from bench.board.index.columns import COLUMNS
from bench.board.tables.comparison import Beside, beside_grid
from bench.board.tables.dynamic import dynamic_grids, dynamic_table, equal_table
from bench.board.tables.grids import TIED, Cell, Grid, board_grids, image_set_grid
from bench.board.tables.means import rows_by_key
from bench.board.tables.pivots import metric_grids, pivot_grids
from bench.board.tables.verdict_grids import verdict_grid
from bench.board.tables.width_grids import width_grids
from bench.board.tables.widths import line_table, width_lines
from bench.board.tables.words import FORMATS as FORMATS
from bench.errors import BenchError, nearest
from bench.store.records import ResultRecord
from bench.text import visible


def to_rich(grids: Iterable[Grid]) -> RenderableType:
    """Grids one below the other; a column folds rather than loses text."""
    parts: list[RenderableType] = []
    for grid in grids:
        table = Table(title=_text(grid.title), title_justify="left", caption_justify="left")
        table.caption = _text("\n".join(grid.notes)) if grid.notes else None
        for index, header in enumerate(grid.headers):
            if index in grid.text:
                table.add_column(_text(header), overflow="fold")
                continue
            width = max((len(row[index].text) for row in grid.rows), default=0)
            table.add_column(
                _text(header), justify="right", overflow="fold", min_width=width if width <= _UNBROKEN else None
            )
        for row in grid.rows:
            table.add_row(*(_text(cell.text, "bold" if cell.bold else "") for cell in row))
        parts.append(table)
    return Group(*parts)


def _text(text: str, style: str = "") -> Text:
    """Text that is taken as it stands: no markup, no escape codes."""
    return Text(visible(text), style=style)


def to_text(grids: Iterable[Grid], width: int = 160) -> str:
    """The rich tables as plain text of a fixed width."""
    console = Console(width=width, color_system=None, file=io.StringIO())
    with console.capture() as capture:
        console.print(to_rich(grids))
    return capture.get()


def to_markdown(grids: Iterable[Grid]) -> str:
    """GitHub tables, a heading line in bold above each, notes as a list below."""
    blocks, style = [], _Style("**{}**", "<sup>{}</sup>", _md)
    for grid in grids:
        lines = [f"**{_md(grid.title)}**", "", _md_line(map(_md, grid.headers))]
        lines.append(_md_line([":--" if i in grid.text else "--:" for i in range(len(grid.headers))]))
        lines += [_md_line(map(style.cell, row)) for row in grid.rows]
        notes = _print_notes(grid)
        lines += ["", *(f"- {_md(note)}" for note in notes)] if notes else []
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def to_latex(grids: Iterable[Grid]) -> str:
    """``table`` environments with booktabs rules; needs ``\\usepackage{booktabs}`` and UTF-8 input."""
    blocks, style = [], _Style(r"\textbf{{{}}}", r"\textsuperscript{{{}}}", tex_text)
    for grid in grids:
        columns = "".join("l" if i in grid.text else "r" for i in range(len(grid.headers)))
        lines = [
            r"\\begin{table}"[1:],
            rf"\caption{{{tex_text(grid.title)}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
        ]
        lines.append(" & ".join(map(tex_text, grid.headers)) + r" \\")
        lines.append(r"\midrule")
        lines += [" & ".join(map(style.cell, row)) + r" \\" for row in grid.rows]
        lines += [r"\bottomrule", r"\end{tabular}"]
        lines += [rf"\par\footnotesize {tex_text(note)}" for note in _print_notes(grid)]
        blocks.append("\n".join([*lines, r"\end{table}"]))
    return "\n\n".join(blocks) + "\n"


def to_csv(table: pd.DataFrame) -> str:
    """The tidy frame as CSV with unrounded numbers; blanks are empty fields."""
    return table.to_csv(index=False)


def to_json(
    table: pd.DataFrame,
    verdicts: Sequence[Verdict] = (),
    found: Beside | None = None,
    records: Sequence[ResultRecord] = (),
) -> str:
    """``{"rows": [...], "claims": [...]}`` with unrounded numbers; blanks are null.  With printed numbers beside them
    also ``"published": {"reference": …, "notes": [...], "rows": [...]}``; where bits depend on the image also
    ``"dynamic": {"rows": [...], "against_static": [...]}``, the tables of :mod:`tables.dynamic`; where networks
    have several bit-widths also ``"widths": [...]``, the table of :func:`bench.board.tables.widths.line_table`."""
    answer: dict[str, Any] = {"rows": _json_rows(table), "claims": [asdict(v) for v in verdicts]}
    moving, equal = _dynamic(table, records)
    if len(moving):
        answer["dynamic"] = {"rows": _json_rows(moving), "against_static": _json_rows(equal)}
    lines = line_table(width_lines(_fresh(table, records)))
    if len(lines):
        answer["widths"] = _json_rows(lines)
    if found is not None:
        answer["published"] = {"reference": found.reference, "notes": found.notes, "rows": _json_rows(found.table)}
    return json.dumps(answer, indent=1, ensure_ascii=False, allow_nan=False)


def _dynamic(table: pd.DataFrame, records: Sequence[ResultRecord]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows whose bits depend on the image, and these against static ones; of what is not stale in ``table``."""
    kept = _fresh(table, records)
    if all(record.image_bits is None for record in kept):
        kept = []  # before any row is formed anew
    return dynamic_table(kept), equal_table(kept)


def _fresh(table: pd.DataFrame, records: Sequence[ResultRecord]) -> list[ResultRecord]:
    """The records of what is not stale in ``table``."""
    fresh = set(table[~table["stale"].fillna(False).astype(bool)]["row_id"])
    return [record for record in records if record.row_id in fresh]


def _json_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {str(k): None if pd.isna(v) else v.item() if hasattr(v, "item") else v for k, v in row.items()}
        for row in table.to_dict("records")
    ]


_GRIDS: Mapping[str, Callable[[Iterable[Grid]], Any]] = {"table": to_rich, "md": to_markdown, "latex": to_latex}
_UNBROKEN = 8  # characters that a column of numbers keeps in one line on a narrow terminal
_KNOWN = {column.name for column in COLUMNS}


def report(
    table: pd.DataFrame,
    form: str = "table",
    *,
    verdicts: Sequence[Verdict] = (),
    records: Iterable[ResultRecord] = (),
    details: bool = True,
    found: Beside | None = None,
) -> RenderableType:
    """The whole board in one of :data:`FORMATS`: pivots, image measures, ranked tables, bits per image, Delta_B of
    networks of several bit-widths, image sets, claims, published.

    Args:
        table: from :func:`bench.board.index.frame.frame`.
        records: to list the image sets with their cost, to give means over targets their intervals, to say what
            images take where bits depend on them, and for Delta_B; none, none of these.
        details: with the ranked table of each target and the claims' breakdown, besides the pivots.
        found: printed numbers to set beside the measured ones; as CSV, their table takes the board's place.

    Returns:
        A rich renderable for "table", else a string.

    Raises:
        BenchError: unknown format.
    """
    if form == "csv":
        return to_csv(table if found is None else found.table)
    records = list(records)
    if form == "json":
        return to_json(table, verdicts, found, records)
    if form not in _GRIDS:
        raise BenchError("unknown format", got=form, expected=FORMATS, nearest=nearest(form, FORMATS))
    extra = [str(name) for name in table.columns if name not in _KNOWN]
    grids = [
        *pivot_grids(table, rows=rows_by_key(records)),
        *metric_grids(table, extra),
        *(board_grids(table) if details else []),
        *dynamic_grids(*_dynamic(table, records)),
        *width_grids(line_table(width_lines(_fresh(table, records)))),
    ]
    listed = set(table["row_id"])
    sets = image_set_grid(record for record in records if record.row_id in listed)
    grids += [sets] if sets.rows else []
    grids += [verdict_grid(verdicts, details)] if verdicts else []
    grids += [beside_grid(found)] if found is not None else []
    rendered: RenderableType = _GRIDS[form](grids)
    return rendered


class _Style(NamedTuple):
    """How a printed format writes bold text and superscripts, and what it escapes."""

    bold: str
    raised: str
    clean: Callable[[str], str]

    def cell(self, cell: Cell) -> str:
        """The cell's text, ± its half width, letters raised; the letters take the place of the terminal's tie mark."""
        text = self.clean(cell.text.removesuffix(TIED) if cell.letters else cell.text)
        text = self.bold.format(text) if cell.bold and text else text
        text += self.clean(f" ± {cell.half}") if cell.half else ""
        return text + self.raised.format(self.clean(cell.letters)) if cell.letters else text


def _print_notes(grid: Grid) -> tuple[str, ...]:
    """The grid's notes, with what ± and letters mean in place of what the terminal's tie mark does."""
    cells = [cell for row in grid.rows for cell in row]
    lettered = any(cell.letters for cell in cells)
    marked = any(cell.text.endswith(TIED) and not cell.letters for cell in cells)
    notes = [note for note in grid.notes if marked or not (lettered and note.startswith(f"{TIED} "))]
    if any(cell.half for cell in cells):
        notes.append("±: half of the 95 % interval over test images and seeds")
    if lettered:
        notes.append("rows of one column that share a letter: no difference was shown (paired by image and seed, Holm)")
    if any("–" in cell.letters for cell in cells):
        notes.append("a–d: each letter from a to d")
    return tuple(notes)


def _md(text: str) -> str:
    for sign in "\\|*`<>":  # an underscore within a word is plain text
        text = text.replace(sign, "\\" + sign)
    return visible(text.replace("](", "]\\(").replace("\n", " "))  # no link and no picture


def _md_line(texts: Iterable[str]) -> str:
    return "| " + " | ".join(texts) + " |"


_TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "_": r"\_", "&": r"\&", "%": r"\%", "#": r"\#", "$": r"\$",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "†": r"$\dagger$",
    "‡": r"$\ddagger$", "§": r"\S{}", "¶": r"\P{}", "→": r"$\rightarrow$", "–": "--",
    "<": "$<$", ">": "$>$", "|": "$|$", "×": r"$\times$", "·": r"$\cdot$", "²": "$^2$", "±": r"$\pm$",
    "✓": r"$\surd$", "✗": r"$\times$",
}  # fmt: skip


def tex_text(text: str) -> str:
    """Text as LaTeX that shows it as it is."""
    return "".join(_TEX.get(sign, sign) for sign in visible(text))
