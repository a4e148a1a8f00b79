"""`bench diagnose`: prints what the engine finds, and draws it as one HTML file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Optional

import typer

from bench.cli.options import STORE, DataRoot, Json, StoreOpt, err, out
from bench.errors import BenchError

IMAGES = 2000


def diagnose(
    cell: str,
    images: Annotated[
        int, typer.Option("--images", min=1, metavar="N", help="At most so many test images, equally many of a class.")
    ] = IMAGES,
    html: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--html", metavar="FILE", help="Draw it, too: one HTML file that needs no network."),
    ] = None,
    suite: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--suite", metavar="SUITE", help="The cell's suite where it is a file of yours."),
    ] = None,
    store: StoreOpt = STORE,
    data_root: DataRoot = None,
    device: Annotated[str, typer.Option("--device", help="cpu | cuda | auto.")] = "cpu",
    as_json: Json = False,
) -> None:
    """Say which layer of a cell's network loses the accuracy. The network is made again, as `bench run` made it.

    Examples: `bench diagnose ff304265` · `bench diagnose ff304265 --images 500 --html why.html` ·
    `bench diagnose ff304265 --suite mine.yaml --json`; the ids: `bench plan ptq_w4a4 --json`
    """
    if html is not None and html.suffix not in (".html", ".htm"):
        raise BenchError("the page is HTML", where="--html", got=str(html), expected=".html, .htm")
    from bench.cli.diagnose import Request, diagnosed, show

    found, facts = diagnosed(Request(cell, store, images, suite, data_root, device), err)
    if html is not None:
        from bench.cli.board import write_file
        from dashboard.cli_diagnose_page import page

        write_file(html, page(found, facts).encode())
    if as_json:
        typer.echo(json.dumps(facts, indent=1))
        return
    show(found, facts, out)
    if html is not None:
        out.print(f"{html}: opens without a network", highlight=False)
