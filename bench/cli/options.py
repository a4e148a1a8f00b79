"""Arguments and options that several commands take, and where they print."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from bench.text import visible

PLAIN_WIDTH = 140  # columns where no terminal tells its own


class Terminal(Console):
    """A console on which text is text: what comes from suites, records and addresses brings no markup, no emoji names
    and no escape codes of its own; style is given by ``rich.text.Text``."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(visible(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


out = Terminal()
if not out.is_terminal and "COLUMNS" not in os.environ:
    out = Terminal(width=PLAIN_WIDTH)
err = Terminal(stderr=True)

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
Plugins = Annotated[
    Optional[list[Path]],  # noqa: UP045
    typer.Option("--plugin", metavar="FILE", help="A source, compressor or policy search in a file; repeatable."),
]
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


def options_of(suite: str, **given: Any) -> Any:
    """What a command that takes a suite was asked for, as ``bench.run.session`` has it.

    Raises:
        BenchError: no such preset.
    """
    from bench.run.session import Options

    preset = given.get("preset")
    if preset not in (None, "mini", "thorough", "paper"):
        from bench.errors import BenchError, nearest

        allowed = ("mini", "thorough", "paper")
        raise BenchError(
            "unknown preset", where="--preset", got=preset, expected=allowed, nearest=nearest(preset, allowed)
        )
    given["overrides"] = tuple(given.pop("sets", None) or ())
    given["plugins"] = tuple(given.pop("plugin", None) or ())
    return Options(suite=suite, **given)
