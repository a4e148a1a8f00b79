"""`bench choose`: which source and which compressor for a network that is measured, on one screen."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from rich.console import Console
from rich.table import Table as Printed
from rich.text import Text

from bench.cli.options import STORE, Json, StoreOpt, err, out
from bench.text import visible

if TYPE_CHECKING:
    from bench.board.choose.answer import Answer, Table
    from bench.board.choose.joined import Choice

SHOWN = 9
"""Rows not told apart that are printed; all are in the JSON."""
REFERENCES = 3
"""Controls that are printed."""
WIDTH = 100


def choose(
    network: Annotated[
        str, typer.Option("--network", help="A network that is measured, or a pattern: means over those that fit.")
    ] = "mobilenetv2_w035",
    bits: Annotated[str, typer.Option("--bits", help="A setting that is measured: W4A4, S50.")] = "W4A4",
    minutes: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--minutes", help="CPU minutes of an image set, at most."),
    ] = None,
    images: Annotated[Optional[int], typer.Option("--images", help="Images, at most.")] = None,  # noqa: UP045
    tier: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--tier", help="What the source may look at, at most: T0 nothing … T6 the training set."),
    ] = None,
    per_layer: Annotated[
        bool, typer.Option("--bits-per-layer", help="Bits by layer, by image or at several widths; not equal bits.")
    ] = False,
    dataset: Annotated[str, typer.Option("--dataset", help="Data set of the network.")] = "fashion_mnist",
    store: StoreOpt = STORE,
    as_json: Json = False,
) -> None:
    """Answer which source and which compressor to use for a measured network: one sentence, and what is tied with it.

    Examples: `bench choose` · `bench choose --network mobilenetv2_w035 --bits W4A4 --minutes 5 --images 256 --tier T2`
    · `bench choose --network "resnet*" --bits W2A4 --json` · `bench choose --bits W3A3 --bits-per-layer`
    """
    from bench.board.choose.answer import choose as answer_of
    from bench.board.choose.asked import Question, checked
    from bench.board.choose.text import to_json
    from bench.board.index.board_index import BoardIndex
    from bench.store.files import check_layout

    index = BoardIndex(store.resolve() if check_layout(store) else None)
    with err.status("reading the index …"):
        found = index.snapshot()
        question = checked(Question(dataset, network, bits, minutes, images, tier, per_layer), found.table)
        answer = answer_of(question, found.table, found.cells, index.records)
    if as_json:
        typer.echo(json.dumps(to_json(answer), indent=1))
    else:
        show(answer, out)


def show(answer: Answer, console: Console) -> None:
    """Print the answer within :data:`WIDTH` columns."""
    from bench.board.choose.text import advise_command, command, elsewhere, export_command, sentence, sure

    width = min(WIDTH, console.width)
    console.print(Text(visible(sentence(answer)), style="bold"), width=width)
    if answer.main is not None:
        console.print(_rows(answer.main), width=width)
    if said := sure(answer):
        console.print(Text(visible("How sure: " + "; ".join(said) + ".")), width=width)
    for line in elsewhere(answer)[:2]:
        console.print(Text(visible(f"Not compared with it: {line}")), width=width, overflow="ellipsis", no_wrap=True)
    for label, text in (("run it", command(answer)), ("as a file", export_command(answer))):
        if text:
            console.print(f"{label}: {text}", highlight=False, soft_wrap=True)
    console.print(f"a network of your own: {advise_command(answer.question)}", highlight=False, soft_wrap=True)


def _rows(main: Table) -> Printed:
    """The pick, what is tied with it, and the controls beside them."""
    table = Printed(box=None, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("source", no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column("compressor", no_wrap=True, overflow="ellipsis", min_width=10, max_width=24)
    for name, least in (("images", 6), ("top-1 %", 7), ("95 % interval", 13), ("CPU", 7), ("seeds", 5), ("suites", 6)):
        table.add_column(name, justify="right", no_wrap=True, min_width=least)
    for one in (main.pick, *main.tied[:SHOWN]):
        if one is not None:
            table.add_row(*_cells(one), style="bold" if one is main.pick else "")
    if len(main.tied) > SHOWN:
        table.add_row(f"… and {len(main.tied) - SHOWN} more (--json has all)", *[""] * 7, style="dim")
    for one in main.references[:REFERENCES]:
        table.add_row(*_cells(one, "control: "), style="italic")
    return table


def _cells(one: Choice, before: str = "") -> list[Text]:
    from bench.board.choose.text import cpu, interval
    from bench.board.tables.grids import number

    compressor = f"{one.compressor} · {one.head.policy}" if one.head.policy else one.compressor
    texts = [f"{before}{one.source}", compressor, str(one.n), number(one.top1, 1), interval(one)]
    texts += [cpu(one.cpu_s), str(len(one.seeds)), str(len(one.suites))]
    return [Text(visible(text)) for text in texts]
