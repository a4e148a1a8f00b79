"""The board on one screen: what was found, then who comes first, then where the rest is.

Lines of plain text that fit a width; no name of a method is ever cut or split, whatever the width.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rich.console import Group
from rich.text import Text

from bench.board.claims.judging import Verdict
from bench.board.claims.lines import claim_lines
from bench.board.tables.answers import Line, SourceTable
from bench.board.tables.layout import WIDTH, Column, aligned, bold, total
from bench.board.tables.measures import MeasureTable
from bench.board.tables.signs import SIGNS
from bench.board.tables.words import BLANK, TIED

SCREEN = 45
"""Lines of a terminal that a board is made for."""

FEWEST = 3
"""Ranked lines of a table at least; where not even these fit, a table's first line stands for it."""


@dataclass(frozen=True)
class View:
    """What a board shows of one suite.  ``title`` says what was measured, ``further`` where more stands.  ``narrowed``:
    ``verdicts`` are those of the whole suite, of which a part is shown.  ``whole``: every line of every table, and
    what claims are made of; ``brief``: the first line of each table alone."""

    title: str
    verdicts: Sequence[Verdict]
    tables: Sequence[SourceTable]
    measures: Sequence[MeasureTable] = ()
    further: Sequence[str] = ()
    narrowed: bool = False
    whole: bool = False
    brief: bool = False


def screen(view: View, width: int = WIDTH, most: int = SCREEN) -> Group:
    """The board of ``view``, at most ``most`` lines unless it is whole or has more tables and claims than that.

    Tables are shortened alike until all fit; where not even :data:`FEWEST` lines of each do, one line stands for each.
    """
    head = [bold(view.title), *claim_lines(view.verdicts, width, narrowed=view.narrowed, whole=view.whole)]
    measures = [line for table in view.measures for line in ("", *_measures(table, width))]
    room = most - len(head) - len(measures) - len(view.further) - 1
    body: list[str | Text] = []
    legend: list[str] = []
    for body, shown in _bodies(view, width):
        legend = _legend(shown, view.measures, width)
        if view.whole or len(body) + len(legend) <= room:
            break
    foot = [*legend, *view.further]
    lines = [*head, *body, *measures, *([""] if foot else []), *foot]
    texts = [line if isinstance(line, Text) else Text(line) for line in lines]
    for text in texts:
        text.no_wrap, text.overflow = True, "ignore"
    return Group(*texts)


def _bodies(view: View, width: int) -> Iterator[tuple[list[str | Text], list[Line]]]:
    """All tables and the lines they show, at full length and ever shorter; at last a line per table."""
    if not view.tables:
        yield [], []
        return
    most = max(sum(line.shown and line.control == "none" for line in table.lines) for table in view.tables)
    for length in () if view.brief else (most, *range(most - 1, FEWEST - 1, -1)):
        kept = [_kept(table, length) for table in view.tables]
        pairs = zip(view.tables, kept, strict=True)
        yield (
            [line for table, lines in pairs for line in ("", *_table(table, lines, width))],
            [line for lines in kept for line in lines],
        )
    first = [next((line for line in table.lines if line.shown), Line("", "none")) for table in view.tables]
    yield ["", *_firsts(view.tables, first, width)], [replace(line, tied=False) for line in first]  # no rank is shown


def _kept(table: SourceTable, most: int) -> list[Line]:
    """The selected lines: the first ``most`` and the controls."""
    shown = [line for line in table.lines if line.shown]
    methods = {id(line) for line in [line for line in shown if line.control == "none"][:most]}
    return [line for line in shown if line.control != "none" or id(line) in methods]


def _table(table: SourceTable, lines: Sequence[Line], width: int) -> list[str | Text]:
    """A table's title, those of its lines that are kept, and how many are left out."""
    left_out = sum(line.shown for line in table.lines) - len(lines)
    more = [f"and {left_out} more: --all"] if left_out else []
    return [bold(_title(table)), *aligned(_columns(lines), width), *more]


def _title(table: SourceTable) -> str:
    over = table.targets[0] if len(table.targets) == 1 else f"mean over {len(table.targets)} networks"
    words = [table.compressor or "compressors compared", table.setting, over]
    if table.fp_top1 is not None:
        words.append(f"FP32 {table.fp_top1:.2f} %")
    ranked = table.ranked
    if len(ranked) > 1:
        best = sum(line.ranks is not None and line.ranks[0] == 1 for line in ranked)
        words.append(f"{best} of {len(ranked)} not told from the best")
    return " · ".join([*filter(None, words), *([f"protocol {table.protocol}"] if table.protocol else [])])


def _columns(lines: Sequence[Line]) -> list[Column]:
    spans = [f"{line.ranks[0]}–{line.ranks[1]}" if line.ranks else "" for line in lines]
    columns = [
        Column("rank", tuple(map(_rank, lines))),
        Column("ranks", tuple(spans), spare=2),
        Column("source", tuple(line.name + line.marks for line in lines), right=False),
        Column("top-1 %", tuple(BLANK if line.mean is None else f"{line.mean:.2f}" for line in lines)),
        Column("95 % interval", tuple(map(_interval, lines))),
        Column("to the first", tuple(map(_behind, lines)), spare=1),
        Column("CPU min", tuple("" if line.minutes is None else f"{line.minutes:.1f}" for line in lines), spare=3),
    ]
    return [column for column in columns if not column.spare or any(column.texts)]


def _rank(line: Line) -> str:
    if line.rank is None:
        return "" if line.control == "none" else line.control
    return f"{line.rank}{TIED if line.tied else ''}"


def _interval(line: Line) -> str:
    if line.mean is None:
        return line.why
    return BLANK if line.interval is None else f"[{line.interval.low:.2f}, {line.interval.high:.2f}]"


def _behind(line: Line) -> str:
    if line.behind is None:
        return ""
    return "{:+.2f} [{:.2f}, {:.2f}]".format(*line.behind)


def _firsts(tables: Sequence[SourceTable], first: Sequence[Line], width: int) -> list[str | Text]:
    """One line per table: its first line, how many are not told from it, and the controls."""
    tied = [[line for line in table.ranked if line.ranks and line.ranks[0] == 1] for table in tables]
    counts = [f"{len(t)} of {len(table.ranked)}" if table.ranked else "" for t, table in zip(tied, tables, strict=True)]
    columns = [
        Column("compressor", tuple(table.compressor or "compared" for table in tables), right=False),
        Column("setting", tuple(table.setting for table in tables), right=False),
        Column("networks", tuple(_networks(table) for table in tables), right=False, spare=6),
        Column("first", tuple(line.name + line.marks for line in first), right=False),
        Column("top-1 %", tuple(BLANK if line.mean is None else f"{line.mean:.2f}" for line in first)),
        Column("95 % interval", tuple(map(_interval, first)), spare=4),
        Column("not told from it", tuple(counts), spare=5),
        Column("upper", tuple(_control(table, "upper") for table in tables), spare=2),
        Column("lower", tuple(_control(table, "lower") for table in tables), spare=1),
    ]
    body = aligned([column for column in columns if any(column.texts)], width)
    return [bold(body[0]), *body[1:]]


def _networks(table: SourceTable) -> str:
    return table.targets[0] if len(table.targets) == 1 else str(len(table.targets))


def _control(table: SourceTable, which: str) -> str:
    found = [line.mean for line in table.lines if line.control == which and line.mean is not None]
    return f"{found[0]:.2f}" if len(found) == 1 else ""


def _measures(table: MeasureTable, width: int) -> list[str | Text]:
    """Blocks of as many measures as a line holds."""
    several = len(table.networks) > 1
    over = f"mean over {len(table.networks)} networks" if several else table.networks[0]
    held = f", whose architecture{'s' * several} took no part in any images" if table.held_out else ""
    lines: list[str | Text] = [bold(f"image measures · {over}{held}")]
    names = Column("source", tuple(name for name, _ in table.lines), right=False)
    left = [Column(name, tuple(texts[i] for _, texts in table.lines)) for i, name in enumerate(table.measures)]
    while left:
        block = [names, left.pop(0)]
        while left and total([*block, left[0]]) <= width:
            block.append(left.pop(0))
        lines += aligned(block, width)
    return lines


def _legend(lines: Sequence[Line], measures: Sequence[MeasureTable], width: int) -> list[str]:
    """What the signs in use and the ranks mean."""
    said = []
    if any(line.tied for line in lines):
        said.append(f"{TIED} no difference to the first of that rank was shown (paired by image and seed, Holm)")
    used = "".join(line.marks for line in lines) + "".join(name for table in measures for name, _ in table.lines)
    said += [sign.line for sign in SIGNS if sign.text in used]
    return [part for line in said for part in textwrap.wrap(line, width, subsequent_indent="  ")]
