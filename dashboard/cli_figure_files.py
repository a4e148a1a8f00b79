"""The files of `bench figure`: from a suite's records to a figure, its table and its BibTeX entry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.board.index.selected import select
from bench.board.index.versions import noted_versions
from bench.cli.board import stored_of, verdicts_of, write_file
from bench.errors import BenchError
from bench.text import visible
from dashboard.paper.cited import bibtex
from dashboard.paper.kinds import caption_text, drawn, table_text
from dashboard.paper.material import Material, material
from dashboard.paper.style import TALLEST, to_bytes, width_of


@dataclass(frozen=True)
class Request:
    """The options of ``bench figure``; see its help."""

    suite: str
    kind: str
    out: Path
    form: str
    width: str
    only: str | None
    seeds: int | None
    store: Path
    plugins: Sequence[Path] = ()


def write_figure(request: Request) -> tuple[str, list[str]]:
    """Write figure, table and BibTeX entry; answers the caption in LaTeX and what else is to be said.

    Raises:
        BenchError: bad input, nothing measured, nothing to draw, or a file that cannot be written.
    """
    width = width_of(request.width)
    found, note = material_of(request)
    drawing = drawn(request.kind, found, width)
    files = {
        request.out: to_bytes(drawing.figure, request.form),
        request.out.with_suffix(".tex"): table_text(drawing).encode(),
        request.out.with_suffix(".bib"): bibtex(found).encode(),
    }
    for path, content in files.items():
        write_file(path, content)
    inches = [float(side) for side in drawing.figure.get_size_inches()]
    notes = [note] if note else []
    notes.append(f"{', '.join(map(str, files))}: {inches[0]:.1f} × {inches[1]:.1f} in")
    if inches[1] > TALLEST:
        notes.append(f"taller than the {TALLEST} in of a page: --only draws a part of it")
    return visible(caption_text(drawing)), notes


def material_of(request: Request) -> tuple[Material, str]:
    """What the suite's figures are drawn from, and a note where not all its seeds were begun.

    Raises:
        BenchError: a wrong suite, nothing measured, or nothing selected.
    """
    plan, records, note = stored_of(request.suite, request.store, request.seeds, request.plugins)
    suite = plan.suite
    if not records:
        raise BenchError("nothing measured yet", where=suite.suite, hint=f"run it: bench run {request.suite}")
    selected, known = select(records, request.only), noted_versions(plan.plugins)
    asked = {suite.suite: sorted({cell.seed for cell in plan.cells} & {r.seed for r in selected.records})}
    verdicts = verdicts_of(plan, records, known)
    title = suite.title or ""
    return material(suite.suite, suite.version, title, suite.rank_within, selected, known, asked, verdicts), note
