"""The command line. Heavy imports stay inside the commands, so that --help and bad input answer at once.

Exit codes: 0 all cells stand, 1 some failed, 2 bad input.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rich.logging import RichHandler

from bench.cli_dashboard import dashboard
from bench.cli_options import (
    STORE,
    DataRoot,
    DatasetOpt,
    Format,
    Json,
    Only,
    PresetOpt,
    Seeds,
    Sets,
    StoreOpt,
    SuiteArg,
    err,
    out,
)
from bench.cli_zoo import zoo
from bench.errors import BenchError

app = typer.Typer(
    help="The reference benchmark for compressing neural networks without their training data.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


def _options(suite: str, **given: Any) -> Any:
    from bench.run.session import Options

    preset = given.get("preset")
    if preset not in (None, "mini", "thorough", "paper"):
        from bench.errors import nearest

        allowed = ("mini", "thorough", "paper")
        raise BenchError(
            "unknown preset", where="--preset", got=preset, expected=allowed, nearest=nearest(preset, allowed)
        )
    given["overrides"] = tuple(given.pop("sets", None) or ())
    return Options(suite=suite, **given)


@app.command()
def run(
    suite: SuiteArg,
    only: Only = None,
    sets: Sets = None,
    dataset: DatasetOpt = None,
    preset: PresetOpt = None,
    seeds: Seeds = None,
    workers: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--workers", min=0, help="Worker processes; 0 runs in this one. Default: cores / threads."),
    ] = None,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads per worker; part of equal results.")] = 1,
    device: Annotated[str, typer.Option("--device", help="cpu | cuda | auto.")] = "cpu",
    tracker: Annotated[str, typer.Option("--tracker", help="mlflow | none.")] = "mlflow",
    store: StoreOpt = STORE,
    data_root: DataRoot = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again what is measured already.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and plan, do nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Run a suite; the same command again resumes.

    Examples: `bench run suites/quickstart.yaml` · `bench run ptq_w4a4 --seeds 1` ·
    `bench run ptq_w4a4 --only "source=mixmix,target=resnet18*"` · `bench run ptq_bits --set images=64 --tracker none`
    """
    from bench.cli_board import board_of
    from bench.run import session

    options = _options(
        suite,
        only=only,
        sets=sets,
        dataset=dataset,
        preset=preset,
        seeds=seeds,
        workers=workers,
        threads=threads,
        device=device,
        tracker=tracker,
        store=store,
        data_root=data_root,
        fresh=fresh,
    )
    if dry_run:
        from bench.cli_info import show_plan

        show_plan(options, out, as_json)
        return
    found, records = session.run(options, err if as_json else out)
    if as_json:
        typer.echo(board_of(records, "json", found))
    else:
        out.print(board_of(records, "table", found))
        _where_everything_is(options, records)
    raise typer.Exit(0 if session.succeeded(records) else 1)


def _where_everything_is(options: Any, records: Any) -> None:
    from bench.run.session import summary
    from bench.run.tracking import tracking_uri, ui_command

    counts = ", ".join(f"{n} {status}" for status, n in sorted(summary(records).items()))
    out.print(f"\n{len(records)} cells: {counts}", highlight=False)
    out.print(f"records and image sets: {options.store}   board again: bench board {options.suite}", highlight=False)
    if options.tracker == "mlflow":
        out.print(f"compare runs: {ui_command(tracking_uri())}", highlight=False)


@app.command()
def plan(
    suite: SuiteArg,
    only: Only = None,
    sets: Sets = None,
    dataset: DatasetOpt = None,
    preset: PresetOpt = None,
    seeds: Seeds = None,
    store: StoreOpt = STORE,
    data_root: DataRoot = None,
    as_json: Json = False,
) -> None:
    """Show what a suite would do: image sets, cells, what stands already, disk."""
    from bench.cli_info import show_plan

    options = _options(
        suite, only=only, sets=sets, dataset=dataset, preset=preset, seeds=seeds, store=store, data_root=data_root
    )
    show_plan(options, out, as_json)


@app.command()
def check(suite: SuiteArg, sets: Sets = None, dataset: DatasetOpt = None, data_root: DataRoot = None) -> None:
    """Check a suite file: every name, type and combination; no compute."""
    from bench.run.session import plan_of

    found = plan_of(_options(suite, sets=sets, dataset=dataset, data_root=data_root))
    out.print(
        f"{found.suite.suite}@{found.suite.version}: {len(found.cells)} cells, {len(found.synths)} image sets, ok",
        highlight=False,
    )


@app.command()
def ls(
    kind: Annotated[str, typer.Argument(help="sources | compressors | targets | datasets | suites")],
    units: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--units", metavar="NAME", help="Reconstruction units of a network (with `targets`)."),
    ] = None,
    dataset: Annotated[str, typer.Option("--dataset", help="Data set of the targets.")] = "fashion_mnist",
    as_json: Json = False,
) -> None:
    """List what there is. `bench ls targets --units timm:resnet18` prints a network's reconstruction units."""
    from bench.cli_info import list_kind

    list_kind(kind, units, dataset, out, as_json)


@app.command()
def board(
    suite: Annotated[Optional[str], typer.Argument(metavar="[SUITE]")] = None,  # noqa: UP045
    form: Format = "table",
    store: StoreOpt = STORE,
    seeds: Seeds = None,
    details: Annotated[bool, typer.Option("--details/--pivots", help="Ranked table per target besides.")] = True,
) -> None:
    """Show the board of a suite (or of all) from the store and the measured records that came with the package."""
    from bench.cli_info import show_board

    show_board(suite, form, store, seeds, details, out)


@app.command()
def diff(first: str, second: str, store: StoreOpt = STORE) -> None:
    """Print what differs between two cells (their ids or unique beginnings of them)."""
    from bench.cli_info import show_diff

    show_diff(first, second, store, out)


@app.command()
def repro(cell: str, store: StoreOpt = STORE) -> None:
    """Print the one command that measures a cell again."""
    from bench.cli_info import repro_command

    typer.echo(repro_command(cell, store))


@app.command()
def doctor(store: StoreOpt = STORE) -> None:
    """Check this machine: versions, threads, disk, weights, data, MLflow."""
    from bench.cli_info import show_doctor

    raise typer.Exit(0 if show_doctor(store, out) else 1)


app.command()(dashboard)

measured = typer.Typer(help="Measured records that travel with the package.", no_args_is_help=True)
mlflow = typer.Typer(help="The MLflow experiment.", no_args_is_help=True)
data = typer.Typer(help="Data sets: fetch.", no_args_is_help=True)
for name, sub in (("measured", measured), ("mlflow", mlflow), ("zoo", zoo), ("data", data)):
    app.add_typer(sub, name=name)


@measured.command("add")
def measured_add(
    suite: SuiteArg,
    store: StoreOpt = STORE,
    to: Annotated[Path, typer.Option("--to", help="Folder of measured records.")] = Path("suites/measured"),
) -> None:
    """Pack a suite's finished records, with one image grid per image set, into suites/measured/."""
    from bench.cli_info import add_measured

    path = add_measured(suite, store, to)
    out.print(f"packed into {path}", highlight=False)


@mlflow.command("sync")
def mlflow_sync(suite: SuiteArg, store: StoreOpt = STORE) -> None:
    """Log the store's records of a suite that MLflow does not hold yet."""
    from bench.cli_info import sync_mlflow

    out.print(sync_mlflow(suite, store), highlight=False)


@data.command("fetch")
def data_fetch(
    dataset: Annotated[str, typer.Argument()] = "fashion_mnist",
    source: Annotated[Optional[Path], typer.Option("--from", help="Folder that holds the files.")] = None,  # noqa: UP045
) -> None:
    """Get a data set's full files: from a folder, Debian's package, or torchvision's download."""
    from bench.data.fetch import fetch

    out.print(f"{dataset}: {fetch(dataset, source)}", highlight=False)


def main() -> None:
    """The outer edge: errors a user can act on are printed without a traceback and exit with 2."""
    logging.basicConfig(
        level=logging.WARNING, format="%(message)s", handlers=[RichHandler(console=err, show_path=False)]
    )
    try:
        app()
    except BenchError as error:
        err.print(f"[red]error:[/] {_escape(str(error))}", highlight=False)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        err.print("interrupted; the same command resumes", highlight=False)
        raise SystemExit(130) from None


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
