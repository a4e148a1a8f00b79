"""`bench zoo …`: training with a live bar, verification, weights brought for a network from outside."""

from __future__ import annotations

import json
import os
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from bench.cli.edge import resumable
from bench.cli.options import DataRoot, Json, out
from bench.errors import BenchError

zoo = typer.Typer(
    help="The small networks: train and verify.  Example: `bench zoo verify fashion_mnist`", no_args_is_help=True
)


@zoo.command()
def train(
    dataset: Annotated[str, typer.Argument()] = "fashion_mnist",
    only: Annotated[Optional[str], typer.Option("--only", help="Names, separated by commas.")] = None,  # noqa: UP045
    threads: Annotated[int, typer.Option("--threads", min=1)] = os.cpu_count() or 1,
    data_root: DataRoot = None,
    to: Annotated[Optional[Path], typer.Option("--to", help="Folder of the weights.")] = None,  # noqa: UP045
    epochs: Annotated[Optional[int], typer.Option("--epochs", min=1, help="Instead of the recipe's.")] = None,  # noqa: UP045
    view_epochs: Annotated[
        int | None, typer.Option("--view-epochs", min=1, help="Of the second cycle, on augmented views.")
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option("--start", exists=True, file_okay=False, help="Folder of weights after the first cycle."),
    ] = None,
    holdout: Annotated[
        int,
        typer.Option("--holdout", min=0, help="Tune: keep so many training images, measure on them, write nothing."),
    ] = 0,
) -> None:
    """Train the zoo by its recipe; interrupted training resumes with the same command.

    Examples: `bench zoo train fashion_mnist --only resnet18_w10 --holdout 5000`,
    `bench zoo train cifar10 --data-root DIR --epochs 30`.
    """
    from bench import runtime
    from bench.zoo import recipe
    from bench.zoo.checkpoints import weights_folder

    runtime.set_threads(threads)
    folder = to or weights_folder(dataset)
    names = [name for name in (only or "").split(",") if name]
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[loss]}"), console=out) as bar:
        lines: dict[str, Any] = {}

        def log(name: str, step: int, total: int, loss: float) -> None:
            if name not in lines:
                lines[name] = bar.add_task(name, total=total, loss="")
            bar.update(lines[name], completed=step, loss=f"loss {loss:.3f}")

        count = 0
        with nullcontext() if holdout else resumable():
            for fact in recipe.train(
                dataset, names, folder, log, root=data_root, holdout=holdout, epochs=(epochs, view_epochs), start=start
            ):
                count += 1
                found = f"{fact['holdout_top1']:.2f} on held-out images" if holdout else f"{fact['top1']:.2f}"
                bar.console.print(f"{fact['name']}: top-1 {found}", highlight=False)
    where = "nothing was written (tuning)" if holdout else f"weights in {folder}"
    out.print(f"{count} networks trained, {where}", highlight=False)


@zoo.command()
def verify(
    dataset: Annotated[str, typer.Argument()] = "fashion_mnist", data_root: DataRoot = None, as_json: Json = False
) -> None:
    """Re-measure a data set's networks on the test set; exit code 1 where one differs.

    Examples: `bench zoo verify fashion_mnist --json` · `bench zoo verify fashion_clips`, after `bench data clips`
    """
    from bench.zoo import recipe
    from bench.zoo.checkpoints import weights_folder

    began = time.perf_counter()
    rows = recipe.verify(dataset, weights_folder(dataset), data_root)
    if as_json:
        typer.echo(json.dumps(rows))
    else:
        table = Table("network", "family", "parameters", "MMACs", "registered", "measured", "")
        for row in rows:
            numbers = (f"{row['parameters']:,}", f"{row['macs'] / 1e6:.2f}")
            top1 = (f"{row['top1']:.2f}", f"{row['measured']:.2f}")
            table.add_row(row["name"], row["family"], *numbers, *top1, "ok" if row["ok"] else "differs")
        out.print(table)
        out.print(f"{len(rows)} networks in {time.perf_counter() - began:.0f} s", highlight=False)
    raise typer.Exit(0 if all(row["ok"] for row in rows) else 1)


@zoo.command()
def add(
    network: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(help="timm:NAME, torchvision:NAME, or MODULE:FUNCTION, a function of yours that builds it."),
    ] = None,
    weights: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Argument(help="Its state dict: safetensors, or torch's file (tensors only), as a training leaves it."),
    ] = None,
    factory: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--network", metavar="MODULE:FUNCTION", help="The network, where the file alone is an argument."),
    ] = None,
    pretrained: Annotated[
        bool,
        typer.Option("--pretrained", help="No file: the weights in the library's cache, or that the function loads."),
    ] = False,
    classes: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--classes", min=2, help="Size of the head, where it is not the library's."),
    ] = None,
    data: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--data",
            metavar="NAME|FOLDER[@SIZE]",
            help="What it was trained on, by name (cifar10), or a folder, of which FOLDER/test/CLASS is measured on; "
            "SIZE: the network's own.",
        ),
    ] = None,
    mean: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--mean", metavar="R,G,B", help="Mean of the training's normalisation, where not the library's."),
    ] = None,
    std: Annotated[Optional[str], typer.Option("--std", metavar="R,G,B", help="Its standard deviation.")] = None,  # noqa: UP045
    top1: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            "--top1", min=0, max=100, help="What it should reach there, in percent; refused where it does not."
        ),
    ] = None,
    key: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--key", help="Which of several state dicts in the file, such as state_dict_ema."),
    ] = None,
    data_root: DataRoot = None,
) -> None:
    """Bring weights for a network from outside; measured on the data set's test images, without `--data` on ImageNet's
    validation images, where they are at hand.

    Examples: `bench zoo add timm:resnet18 resnet18.safetensors --data-root /data/imagenet`,
    `bench zoo add torchvision:resnet18 --pretrained --data-root /data/imagenet`,
    `bench zoo add timm:resnet18 birds.pth --classes 20 --data /data/birds@128`,
    `bench zoo add --network resnet20:build resnet20.th --data cifar10 --data-root /data/cifar10 --top1 91.7`,
    `bench zoo add timm:resnet18 sports.pth --classes 200 --data activitynet --data-root /data/activitynet`
    """
    from bench.zoo.bring import Own, bring

    name, file = _asked(network, weights, factory, pretrained)
    own = Own(classes, data, _constants("--mean", mean), _constants("--std", std), top1, key)
    made = bring(name, file, data_root, own)
    for words in made["said"]:
        out.print(f"  {words}", highlight=False)
    number = "not measured: no test images" if made["top1"] is None else f"{made['top1']:.2f}"
    if made["top1"] is not None and not made["measured"]:
        number += " as you say, not measured: no test images"
    size = "×".join(map(str, made["shape"]))
    line = f"{name}: top-1 {number}, {made['classes']} classes, images of {size}, digest {made['digest'][:16]}"
    cast = f", cast from {' and '.join(made['cast_from'])} to float32" if made["cast_from"] else ""
    out.print(line + cast, highlight=False)


def _asked(network: str | None, weights: Path | None, factory: str | None, pretrained: bool) -> tuple[str, Path | None]:
    """The network's name and its file, None for weights that need none.

    Raises:
        BenchError: one is missing, or there are two.
    """
    if factory is not None:
        if weights is not None:
            raise BenchError("a network is named twice", where="bench zoo add", got=f"{network} and {factory}")
        network, weights = factory, None if network is None else Path(network)
    if network is None:
        raise BenchError("no network is named", where="bench zoo add", expected="NETWORK FILE")
    if pretrained == (weights is not None):
        got = "a file and --pretrained" if pretrained else "neither"
        raise BenchError("weights come from one place", where=network, got=got, expected="a FILE, or --pretrained")
    return network, weights


def _constants(option: str, text: str | None) -> tuple[float, ...] | None:
    """Three numbers separated by commas, or a grey image's one, of pixels in [0, 1].

    Raises:
        BenchError: they are not.
    """
    if text is None:
        return None
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    zero = option == "--mean"
    if len(found) not in (1, 3) or not all(0 < value <= 1 or (zero and value == 0) for value in found):
        allowed = f"three numbers from 0{'' if zero else ' (not 0)'} to 1, as 0.485,0.456,0.406; one for grey images"
        raise BenchError("no constants of an image's channels", where=option, got=text, expected=allowed)
    return found
