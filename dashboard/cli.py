"""The command line ``bench``: the engine's commands, and those that show what was measured in a browser or a file.

The engine (``bench.cli.app``) knows no user interface and works without this package; here the two are put together.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

import bench.cli.app
from bench.cli.edge import command_line
from bench.cli.options import STORE, StoreOpt
from dashboard.cli_diagnose import diagnose
from dashboard.cli_figure import figure
from dashboard.cli_serve import dashboard

own = typer.Typer()
own.command()(dashboard)
own.command()(diagnose)
own.command()(figure)


@own.command()
def report(
    suites: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(metavar="[SUITE]...", help="Default: every suite there are records of."),
    ] = None,
    file: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The HTML file.")] = Path("report.html"),
    store: StoreOpt = STORE,
) -> None:
    """Write one self-contained HTML file: boards, plots, claims, printed numbers, how to repeat. No network needed.

    Examples: `bench report` · `bench report ptq_w4a4 ptq_w2a4 --out report.html` · `bench report mine.yaml`
    """
    from dashboard.cli_report import write_report

    write_report(tuple(suites or ()), file, store)


app = command_line(f"{bench.cli.app.HELP} · `bench report --out report.html`")
for part in (bench.cli.app.app, own):
    app.add_typer(part)  # without a name: its commands stand on the first level


def main() -> None:
    """The console script."""
    bench.cli.app.main(app)
