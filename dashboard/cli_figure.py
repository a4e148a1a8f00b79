"""`bench figure`: a suite's figure for a paper, with its caption, its LaTeX table and its BibTeX entry."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from bench.cli.options import STORE, Only, Plugins, Seeds, StoreOpt, SuiteArg, err
from bench.errors import BenchError, nearest

KINDS = ("ranks", "map", "ablation", "front", "claims")
FORMATS = ("pdf", "svg", "png")


def figure(
    suite: SuiteArg,
    kind: Annotated[
        str, typer.Option("--kind", "-k", metavar="KIND", help="ranks | map | ablation | front | claims.")
    ] = "ranks",
    file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", "-o", metavar="FILE", help="A .pdf, .svg or .png. Default: SUITE-KIND.pdf."),
    ] = None,
    width: Annotated[
        str, typer.Option("--width", metavar="WIDTH", help="column (3.3 in) | page (6.9 in) | millimetres, as 120mm.")
    ] = "page",
    only: Only = None,
    seeds: Seeds = None,
    store: StoreOpt = STORE,
    plugin: Plugins = None,
) -> None:
    """Draw a suite's figure for a paper, and write its LaTeX table and BibTeX entry beside it; prints the caption.

    ranks: accuracy and the ranks not ruled out · map: sources by networks · ablation: paired differences of levels ·
    front: accuracy against CPU minutes · claims: differences with their verdicts.

    Examples: `bench figure ptq_w4a4 --kind ranks --out ranks.pdf` ·
    `bench figure ptq_w4a4 --kind map --only "compressor=brecq" --out map.svg` ·
    `bench figure ablation_mixing --kind ablation --width column --out mixing.pdf`
    """
    place = file or Path(f"{Path(suite).stem}-{kind}.pdf")
    form = place.suffix.lower().removeprefix(".")
    if kind not in KINDS:
        raise BenchError("no such figure", where="--kind", got=kind, expected=KINDS, nearest=nearest(kind, KINDS))
    if form not in FORMATS:
        raise BenchError("a figure is PDF, SVG or PNG", where="--out", got=str(place), expected=FORMATS)
    from dashboard.cli_figure_files import Request, write_figure

    caption, notes = write_figure(Request(suite, kind, place, form, width, only, seeds, store, tuple(plugin or ())))
    for note in notes:
        err.print(note, highlight=False, soft_wrap=True)
    typer.echo(caption)
