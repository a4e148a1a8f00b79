"""`bench advise`: which source and which compressor for a float network whose data is not at hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from rich.console import Console
from rich.table import Table

from bench.cli.options import STORE, DataRoot, Plugins, StoreOpt, err, out
from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.advise.answer import Answer, Line
    from bench.advise.ask import Request

SHOWN = 12
"""Candidates in the printed table; all are in the JSON."""

LEFT = 6
"""Methods left out that are named; all are in the JSON."""

advising = typer.Typer()


@advising.command()
def advise(
    network: Annotated[
        str, typer.Argument(help="A network of the zoo, or one that `bench zoo add` registered: timm:NAME.")
    ],
    bits: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--bits", metavar="W4A4[,W8A8]", help="Bits of weights and activations; several: any of them."),
    ] = None,
    size: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--size", min=1, metavar="BYTES", help="The weights must fit: the widest bits that do are taken."),
    ] = None,
    minutes: Annotated[float, typer.Option("--minutes", help="Time for all rounds.")] = 30.0,
    test: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--test", metavar="DIR", help="Labelled images, DIR/CLASS/*.jpg: candidates rank by accuracy."),
    ] = None,
    images: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--images", metavar="DIR", help="Images without labels: rank by agreement with the network."),
    ] = None,
    blind: Annotated[bool, typer.Option("--blind", help="Look at no label even where there are some.")] = False,
    dataset: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--dataset", help="What the network was trained on, where its name does not say."),
    ] = None,
    only: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--only", help="Candidates: `source=NAME|NAME,compressor=NAME`."),
    ] = None,
    workers: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--workers", min=0, help="Worker processes; 0 runs in this one. Default: cores."),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="cpu | cuda | auto.")] = "cpu",
    store: StoreOpt = STORE,
    data_root: DataRoot = None,
    plugin: Plugins = None,
    suite: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--suite", metavar="FILE", help="Where to save the finalists' suite. Default: advise_NETWORK.yaml"
        ),
    ] = None,
    as_json: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--json", metavar="FILE", help="Write the whole answer as JSON."),
    ] = None,
) -> None:
    """Answer which source and compressor to use for a network whose data is not at hand; the same command resumes.

    A small grid that grows: all that applies with few images and iterations, the better half with more, the finalists
    with whole presets and several seeds. Without labels candidates rank by agreement with the float network, which is
    not accuracy.

    Examples: `bench advise resnet18_w10 --bits W4A4 --minutes 5` · `bench advise resnet18_w10 --size 60000 --blind` ·
    `bench advise timm:resnet18 --bits W4A8 --images DIR` ·
    `bench advise timm:resnet18 --bits W4A4 --test DIR --json answer.json`
    """
    from bench.advise.ask import Request, ask

    request = Request(
        network=network,
        bits=tuple(part.strip() for part in bits.split(",")) if bits else (),
        size=size,
        seconds=_seconds(minutes),
        test=test,
        images=images,
        blind=blind,
        dataset=dataset,
        only=only,
        workers=workers,
        device=device,
        store=store,
        data_root=data_root,
        plugins=tuple(plugin or ()),
        suite=suite,
    )
    found, file = ask(request, err)
    show(found, out)
    out.print(f"the finalists again: bench run {file}{_more(request)}", highlight=False)
    if as_json is not None:
        _write(as_json, {**found.to_json(), "suite": str(file)})


def _seconds(minutes: float) -> float:
    if not (math.isfinite(minutes) and minutes > 0):
        raise BenchError("is no duration", where="--minutes", got=minutes, expected="minutes, above 0")
    return 60 * minutes


def _more(request: Request) -> str:
    words = [f"--store {request.store}"] if request.store != STORE else []
    words += [f"--data-root {request.data_root}"] if request.data_root else []
    return "".join(f" {word}" for word in (*words, *(f"--plugin {file}" for file in request.plugins)))


def _write(file: Path, answer: dict[str, object]) -> None:
    from bench.atomic import replace_file

    try:
        replace_file(file, json.dumps(answer, indent=1, allow_nan=False).encode())
    except OSError as error:
        raise BenchError("cannot be written", where=str(file), got=error.strerror) from error


def show(found: Answer, console: Console) -> None:
    """Print the sentences, the table, and what was left out."""
    from bench.run.progress import clock

    for sentence in found.sentences():
        console.print(sentence, highlight=False)
    console.print(_table(found))
    console.print(f"took {clock(found.used)}; bytes and seconds are of one network and one image set", highlight=False)
    for one in found.left_out[:LEFT]:
        console.print(f"left out: {one.name}: {one.why}", highlight=False)
    if len(found.left_out) > LEFT:
        console.print(f"left out besides: {', '.join(one.name for one in found.left_out[LEFT:])}", highlight=False)


def _table(found: Answer) -> Table:
    word = "top-1 %" if found.field.exam.kind == "accuracy" else "agree %"
    table = Table("", "source", "compressor", "bits")
    for header in (word, "95 %", "behind", "KiB", "seconds"):
        table.add_column(header, justify="right")
    table.add_column("")
    candidates = [line for line in found.lines if not line.reference]
    shown = [*candidates[:SHOWN], *(line for line in found.lines if line.reference)]
    for rank, line in enumerate(shown, 1):
        table.add_row("" if line.reference else str(rank), *_cells(line, found))
    return table


def _cells(line: Line, found: Answer) -> tuple[str, ...]:
    note = "reference" if line.reference else "pick" if line is found.pick else "not told apart" if line.tied else ""
    return (
        line.cell.source,
        line.cell.compressor,
        line.cell.bits,
        f"{line.percent:.2f}",
        f"{line.interval.low:.2f}–{line.interval.high:.2f}",
        "" if line is found.pick else f"{line.behind:.2f}",
        f"{line.size / 1024:.0f}",
        f"{line.seconds:.0f}",
        note,
    )
