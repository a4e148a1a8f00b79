"""The command line. Heavy imports stay inside the commands, so that --help and bad input answer at once.

Exit codes: 0 all cells stand, 1 some failed, 2 bad input.
"""

from __future__ import annotations

from typing import Annotated, Any, Optional

import typer

from bench.cli.advise import advising
from bench.cli.calibrate import calibrate_cost
from bench.cli.choose import choose
from bench.cli.edge import all_resumable, at_the_edge, command_line, resumable
from bench.cli.export import exporting
from bench.cli.history import history
from bench.cli.new import new
from bench.cli.options import (
    STORE,
    DataRoot,
    DatasetOpt,
    Format,
    Json,
    Only,
    OutOpt,
    Plugins,
    PresetOpt,
    Seeds,
    Sets,
    StoreOpt,
    SuiteArg,
    err,
    options_of,
    out,
)
from bench.cli.plan import plan
from bench.cli.policy import policy
from bench.cli.stores import data, measured, mlflow
from bench.cli.submit import submission
from bench.cli.zoo import zoo
from bench.text import visible

HELP = """The reference benchmark for compressing neural networks without their training data.

Examples: `bench run suites/quickstart.yaml` · `bench ls suites` · `bench board ptq_w4a4 --published`"""


app = command_line(HELP)


@app.command()
@resumable()
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
    job_timeout: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--job-timeout", metavar="SECONDS", help="A job that takes longer is killed and its cells fail."),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="cpu | cuda | auto.")] = "cpu",
    kernels: Annotated[
        str, typer.Option("--kernels", help="native | portable: AVX2 everywhere, slower; what stands stays.")
    ] = "native",
    tracker: Annotated[str, typer.Option("--tracker", help="mlflow | none.")] = "mlflow",
    store: StoreOpt = STORE,
    data_root: DataRoot = None,
    plugin: Plugins = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again what is measured already.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and plan, do nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Run a suite; the same command again resumes.

    Examples: `bench run suites/quickstart.yaml` · `bench run ptq_w4a4 --seeds 1` ·
    `bench run ptq_w4a4 --only "source=mixmix,target=resnet18*"` · `bench run ptq_bits --set images=64 --tracker none` ·
    `bench run mine.yaml --plugin my_source.py`
    """
    from bench.cli.board import board_of, echo
    from bench.run import session

    options = options_of(
        suite,
        only=only,
        sets=sets,
        dataset=dataset,
        preset=preset,
        seeds=seeds,
        workers=workers,
        threads=threads,
        job_timeout=job_timeout,
        device=device,
        kernels=kernels,
        tracker=tracker,
        store=store,
        data_root=data_root,
        fresh=fresh,
        plugin=plugin,
    )
    if dry_run:
        from bench.cli.plan import show_plan

        show_plan(options, out, as_json)
        return
    from bench.cli.tracking import summary_of

    found, records = session.run(options, err if as_json else out, summarise=summary_of)
    if as_json:
        typer.echo(board_of(records, "json", found))
    else:
        echo(board_of(records, "table", found, out.width), out)
        _where_everything_is(options, records)
    raise typer.Exit(0 if session.succeeded(records) else 1)


def _where_everything_is(options: Any, records: Any) -> None:
    from bench.run.session import summary
    from bench.run.tracking import tracking_uri, ui_command

    counts = ", ".join(f"{n} {status}" for status, n in sorted(summary(records).items()))
    out.print(f"\n{len(records)} cells: {counts}", highlight=False)
    again = " ".join(["bench board", options.suite, *(f"--plugin {file}" for file in options.plugins)])
    out.print(f"records and image sets: {options.store}   board again: {again}", highlight=False)
    if options.tracker == "mlflow":
        out.print(f"compare runs: {ui_command(tracking_uri())}", highlight=False)


@app.command()
def check(
    suite: SuiteArg,
    sets: Sets = None,
    dataset: DatasetOpt = None,
    store: StoreOpt = STORE,
    data_root: DataRoot = None,
    plugin: Plugins = None,
) -> None:
    """Check a suite file: every name, type and combination; and the suite's records in the store. No compute.

    Examples: `bench check suites/quickstart.yaml` · `bench check mine.yaml --set images=64`
    """
    from bench.cli.info import refused_records
    from bench.run.session import plan_of

    found = plan_of(options_of(suite, sets=sets, dataset=dataset, data_root=data_root, plugin=plugin))
    out.print(
        f"{found.suite.suite}@{found.suite.version}: {len(found.cells)} cells, {len(found.synths)} image sets, ok",
        highlight=False,
    )
    if said := refused_records(found, store):
        out.print(said, highlight=False)


@app.command()
def ls(
    kind: Annotated[
        str, typer.Argument(help="sources | compressors | policies | targets | datasets | suites | records")
    ],
    units: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--units", metavar="NAME", help="Reconstruction units of a network (with `targets`)."),
    ] = None,
    dataset: Annotated[str, typer.Option("--dataset", help="Data set of the targets.")] = "fashion_mnist",
    store: StoreOpt = STORE,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """List what there is, or a network's reconstruction units.

    Examples: `bench ls sources` · `bench ls targets --units timm:resnet18` · `bench ls suites --json` ·
    `bench ls records --store DIR` · `bench ls sources --plugin my_source.py`
    """
    from bench.cli.info import list_kind, list_records

    if kind == "records":
        list_records(store, out, as_json)
        return
    list_kind(kind, units, dataset, out, as_json, tuple(plugin or ()))


@app.command()
def board(
    suite: Annotated[Optional[str], typer.Argument(metavar="[SUITE]")] = None,  # noqa: UP045
    form: Format = None,
    file: OutOpt = None,
    published: Annotated[
        bool, typer.Option("--published", help="The paper's printed numbers beside the measured ones.")
    ] = False,
    store: StoreOpt = STORE,
    seeds: Seeds = None,
    only: Only = None,
    brief: Annotated[bool, typer.Option("--brief", help="Claims and the first line of each table.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Every line, and what claims are made of.")] = False,
    wide: Annotated[bool, typer.Option("--wide", help="Every column and table; wider than a screen.")] = False,
    details: Annotated[
        Optional[bool],  # noqa: UP045
        typer.Option("--details/--pivots", help="Of --wide and files: with or without a ranked table per target."),
    ] = None,
    plugin: Plugins = None,
) -> None:
    """Show what a suite found, on one screen: its claims, then who comes first; without a suite, what there is.

    From the store and the measured records that came with the package. Files and formats other than a table hold every
    row.

    Examples: `bench board ptq_w4a4` · `bench board ptq_w4a4 --only "target=mobilenet*,compressor=brecq"` ·
    `bench board ptq_w4a4 --published` · `bench board ptq_w4a4 --pivots -f latex` · `bench board --out board.parquet`
    """
    from bench.board.tables.view import Extent
    from bench.cli.board import BoardRequest, show_board

    extent: Extent = "wide" if wide or details is not None else "all" if every else "brief" if brief else "screen"
    whole, plugins = details is not False, tuple(plugin or ())
    show_board(BoardRequest(suite, form, store, seeds, whole, published, file, plugins, only, extent), out)


@app.command()
def diff(first: str, second: str, store: StoreOpt = STORE) -> None:
    """Print how far apart the rows of two cells are, with interval and verdict, and every field that differs.

    Cells are named by their ids or unique beginnings of them.

    Example: `bench diff ff304265 1c0a91b2`; the ids: `bench plan ptq_w4a4 --json`
    """
    from bench.cli.diff import show_diff

    show_diff(first, second, store, out)


@app.command()
def repro(cell: str, store: StoreOpt = STORE) -> None:
    """Print the one command that measures a cell again.

    Example: `bench repro ff304265`; the ids: `bench plan ptq_w4a4 --json`
    """
    from bench.cli.info import repro as command_of

    typer.echo(visible(command_of(cell, store)))


@app.command()
def doctor(store: StoreOpt = STORE) -> None:
    """Check this machine: versions, instruction sets, kernels, disk, weights, data; whose packs were measured on one
    like it.

    Example: `bench doctor --store /data/bench`
    """
    from bench.cli.doctor import show_doctor

    raise typer.Exit(0 if show_doctor(store, out) else 1)


for name, sub in (("measured", measured), ("mlflow", mlflow), ("zoo", zoo), ("data", data), ("policy", policy)):
    app.add_typer(sub, name=name)
app.add_typer(exporting)
app.add_typer(all_resumable(advising))
app.command()(choose)
app.command()(history)
app.command()(new)
app.command()(plan)
app.command("calibrate-cost")(calibrate_cost)
app.add_typer(submission)  # without a name: its commands stand on the first level


def main(commands: typer.Typer = app) -> None:
    """The command line; ``commands`` may be these and an installed user interface's own."""
    at_the_edge(commands)
