"""`bench zoo …`: training with a live bar, verification, weights brought for a library's network."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from bench.cli_options import DataRoot, Json, out
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
    network: Annotated[str, typer.Argument(help="timm:NAME or torchvision:NAME")],
    weights: Annotated[Path, typer.Argument(help="Its state dict: safetensors, or .pth (tensors only).")],
    classes: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--classes", min=2, help="Size of the head, where it is not the library's."),
    ] = None,
    data: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--data",
            metavar="FOLDER[@SIZE]",
            help="Measure on FOLDER/test/CLASS; SIZE: the network's own. Or a data set of videos by its name.",
        ),
    ] = None,
    mean: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--mean", metavar="R,G,B", help="Mean of the training's normalisation, where not the library's."),
    ] = None,
    std: Annotated[Optional[str], typer.Option("--std", metavar="R,G,B", help="Its standard deviation.")] = None,  # noqa: UP045
    data_root: DataRoot = None,
) -> None:
    """Bring weights for a library's network; measured on the folder's test images, else on ImageNet's validation images
    where they are at hand.

    Examples: `bench zoo add timm:resnet18 resnet18.safetensors --data-root /data/imagenet`,
    `bench zoo add timm:resnet18 birds.pth --classes 20 --data /data/birds@128`,
    `bench zoo add timm:resnet18 sports.pth --classes 200 --data activitynet --data-root /data/activitynet`
    """
    from bench.zoo.brought import Own, bring

    own = Own(classes, data, _constants("--mean", mean), _constants("--std", std))
    made = bring(network, weights, data_root, own)
    top1 = "not measured: no test images" if made["top1"] is None else f"{made['top1']:.2f}"
    size = "×".join(map(str, made["shape"]))
    line = f"{network}: top-1 {top1}, {made['classes']} classes, images of {size}, digest {made['digest'][:16]}"
    cast = f", cast from {' and '.join(made['cast_from'])} to float32" if made["cast_from"] else ""
    out.print(line + cast, highlight=False)


def _constants(option: str, text: str | None) -> tuple[float, ...] | None:
    """Three numbers separated by commas, of pixels in [0, 1].

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
    if len(found) != 3 or not all(0 < value <= 1 or (zero and value == 0) for value in found):
        allowed = f"three numbers from 0{'' if zero else ' (not 0)'} to 1, as 0.485,0.456,0.406"
        raise BenchError("no constants of three channels", where=option, got=text, expected=allowed)
    return found
