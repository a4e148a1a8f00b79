"""Arguments and options that several commands take, and where they print."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.console import Console

PLAIN_WIDTH = 140  # columns where no terminal tells its own

out = Console()
if not out.is_terminal and "COLUMNS" not in os.environ:
    out = Console(width=PLAIN_WIDTH)
err = Console(stderr=True)

SuiteArg = Annotated[str, typer.Argument(metavar="SUITE", help="A suite file, or the bare name of a shipped one.")]
Only = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--only", help="A part of the grid: `source=NAME|NAME,target=resnet*,seed=1`."),
]
Sets = Annotated[Optional[list[str]], typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the suite.")]  # noqa: UP045
DatasetOpt = Annotated[Optional[str], typer.Option("--dataset", help="Another data set (see `bench ls datasets`).")]  # noqa: UP045
PresetOpt = Annotated[Optional[str], typer.Option("--preset", help="mini | thorough | paper.")]  # noqa: UP045
Seeds = Annotated[Optional[int], typer.Option("--seeds", min=1, help="The first so many seeds of the suite.")]  # noqa: UP045
DataRoot = Annotated[Optional[Path], typer.Option("--data-root", help="Folder of the data set.")]  # noqa: UP045
StoreOpt = Annotated[Path, typer.Option("--store", help="Folder of image sets and records.")]
Json = Annotated[bool, typer.Option("--json", help="Answer as JSON.")]
Format = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--format", "-f", help="table | csv | md | json | latex | parquet. Default: as FILE ends, else table."
    ),
]
OutOpt = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--out", "-o", metavar="FILE", help="Write to a file, whole or not at all, instead of printing."),
]

STORE = Path(".bench")
