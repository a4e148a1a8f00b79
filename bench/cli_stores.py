"""`bench measured …`, `bench mlflow …`, `bench data …`: what comes into the package's folders and goes to MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from bench.cli_options import STORE, StoreOpt, SuiteArg, out

measured = typer.Typer(
    help="Measured records that travel with the package.  Example: `bench measured add ptq_w4a4`", no_args_is_help=True
)
mlflow = typer.Typer(help="The MLflow experiment.  Example: `bench mlflow sync ptq_w4a4`", no_args_is_help=True)
data = typer.Typer(help="Data sets: fetch.  Example: `bench data fetch fashion_mnist`", no_args_is_help=True)


@measured.command("add")
def measured_add(
    suite: SuiteArg,
    store: StoreOpt = STORE,
    to: Annotated[Path, typer.Option("--to", help="Folder of measured records.")] = Path("suites/measured"),
) -> None:
    """Pack a suite's finished records, with one image grid per image set, into suites/measured/.

    Example: `bench measured add ptq_w4a4`
    """
    from bench.cli_info import add_measured

    path = add_measured(suite, store, to)
    out.print(f"packed into {path}", highlight=False)


@mlflow.command("sync")
def mlflow_sync(suite: SuiteArg, store: StoreOpt = STORE) -> None:
    """Log the store's records of a suite that MLflow does not hold yet.

    Example: `bench mlflow sync ptq_w4a4`
    """
    from bench.cli_info import sync_mlflow

    out.print(sync_mlflow(suite, store), highlight=False)


@data.command("fetch")
def data_fetch(
    dataset: Annotated[str, typer.Argument()] = "fashion_mnist",
    source: Annotated[Optional[Path], typer.Option("--from", help="Folder that holds the files.")] = None,  # noqa: UP045
) -> None:
    """Get a data set's full files: from a folder, Debian's package, or torchvision's download.

    Example: `bench data fetch fashion_mnist --from /data/fashion`
    """
    from bench.data.fetch import fetch

    out.print(f"{dataset}: {fetch(dataset, source)}", highlight=False)
