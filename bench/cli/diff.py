"""`bench diff`: two cells, how far apart their rows are, and every field in which they differ."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.board.claims.difference import Difference, difference
from bench.board.claims.judging import SIGN
from bench.board.claims.pairing import describe
from bench.board.index.rows import Row, make_rows
from bench.board.tables.layout import GAP, WIDTH, Column, aligned, bold
from bench.board.tables.words import BLANK
from bench.cli.board import all_records
from bench.cli.info import cell_of
from bench.run import session
from bench.store.records import ResultRecord
from bench.text import visible

_APART = {"correct", "curves", "report", "traceback"}
"""What is no field to compare: bitmaps, curves, lists of layers."""

_WORDS = {
    "supported": "the first is better",
    "refuted": "the second is better",
    "open": "not told apart",
    "two seeds": "two seeds give no verdict",
    "one seed": "one seed gives no verdict",
}

_SHORT = 29
"""Characters of a value that stands in a column; longer ones get lines of their own."""


def show_diff(first: str, second: str, store: Path, console: Console) -> None:
    """Print how far apart the rows of two cells are, then the fields in which the cells differ: what is measured first,
    then how, then the outcome.

    Raises:
        BenchError: no cell, or several, begin so.
    """
    cells = [cell_of(prefix, store) for prefix in (first, second)]
    rows = _rows_of(cells, store)
    lines: list[Any] = []
    for name, cell, row in zip(("first ", "second"), cells, rows, strict=True):
        top1 = cell.metrics.get("top1")
        value = cell.status if top1 is None else f"{top1:.2f} %"
        lines.append(f"{name}{GAP}{cell.cell_id[:8]}{GAP}{describe(row)} · seed {cell.seed}: {value}")
    lines += [*_apart(rows[0], rows[1], cells[0].row_id == cells[1].row_id), ""]
    lines += _fields(*(_flat(cell.model_dump(exclude=_APART)) for cell in cells))
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def _rows_of(cells: Sequence[ResultRecord], store: Path) -> tuple[Row, Row]:
    """The cells' rows, with the variance between seeds that the rows of their suites say.

    A cell may be measured under several suites: one that has both is taken, that with the most seeds in common.
    """
    known = session.read_records(store).cells()
    places = [{key[:2] for key in known if key[2] == cell.cell_id} for cell in cells]
    made = {place: make_rows(all_records(store, *place)) for place in set().union(*places)}
    found = [[_row_in(made[place], cell) for place in sorted(at)] for cell, at in zip(cells, places, strict=True)]
    pairs: list[tuple[Row, Row]] = list(itertools.product(found[0], found[1]))
    return max(pairs, key=_common)


def _row_in(rows: Sequence[Row], cell: ResultRecord) -> Row:
    return next(row for row in rows if any(record.cell_id == cell.cell_id for record in row.records))


def _common(pair: tuple[Row, Row]) -> tuple[bool, int]:
    """Whether both rows are of one suite, and how many seeds they share."""
    first, second = ({record.seed for record in row.measured} for row in pair)
    return pair[0].head.suite == pair[1].head.suite, len(first & second)


def _apart(first: Row, second: Row, same: bool) -> list[Any]:
    """The rows' difference in words."""
    found = "they are of one row" if same else difference(first, second)
    if not isinstance(found, Difference):
        return [f"no difference is formed: {found}"]
    low, high = found.interval
    seeds = f"{found.seeds} seed{'s' * (found.seeds > 1)}"
    return [
        bold(f"{SIGN[found.verdict]} {_WORDS[found.verdict]}: {found.estimate:+.2f} [{low:.2f}, {high:.2f}] points"),
        f"  first minus second, paired by {seeds} and {found.images:,} test images; 95 % interval as on the board",
        f"  one such comparison finds {found.detectable:.2f} points with 80 % power",
    ]


def _fields(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """The fields that differ: short values in columns, then long ones on lines of their own."""
    names = [key for key in dict.fromkeys((*first, *second)) if first.get(key) != second.get(key)]
    values = {name: [_text(side.get(name, BLANK)) for side in (first, second)] for name in names}
    short = [name for name in names if max(map(len, values[name])) <= _SHORT and len(name) <= WIDTH - 2 * _SHORT - 4]
    columns = [Column("field", tuple(short), right=False)]
    columns += [
        Column(head, tuple(values[n][i] for n in short), right=False) for i, head in enumerate(("first", "second"))
    ]
    lines = aligned(columns, WIDTH) if short else []
    for name in names:
        if name in short:
            continue
        lines.append(name)
        for head, text in zip(("first", "second"), values[name], strict=True):
            before = f"  {head.ljust(6)}{GAP}"
            lines += textwrap.wrap(text, WIDTH, initial_indent=before, subsequent_indent=" " * len(before)) or [before]
    return lines


def _text(value: Any) -> str:
    return visible(f"{value:.6g}" if isinstance(value, float) else str(value))


def _flat(value: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, item in value.items():
        name = f"{before}{key}"
        found |= _flat(item, f"{name}.") if isinstance(item, dict) else {name: item}
    return found
