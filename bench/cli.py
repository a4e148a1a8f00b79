"""The command line. Heavy imports stay inside the commands, so that --help and bad input answer at once.

Exit codes: 0 all cells stand, 1 some failed, 2 bad input.
"""

from __future__ import annotations

from typing import Annotated, Any, Optional

import typer

from bench.cli_edge import at_the_edge, command_line
from bench.cli_export import exporting
from bench.cli_new import new
from bench.cli_options import (
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
    out,
)
from bench.cli_policy import policy
from bench.cli_stores import data, measured, mlflow
from bench.cli_submit import submission
from bench.cli_zoo import zoo
from bench.errors import BenchError
from bench.text import visible

HELP = """The reference benchmark for compressing neural networks without their training data.

Examples: `bench run suites/quickstart.yaml` · `bench ls suites` · `bench board ptq_w4a4 --published`"""


app = command_line(HELP)


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
    given["plugins"] = tuple(given.pop("plugin", None) or ())
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
    again = " ".join(["bench board", options.suite, *(f"--plugin {file}" for file in options.plugins)])
    out.print(f"records and image sets: {options.store}   board again: {again}", highlight=False)
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
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Show what a suite would do: image sets, cells, what stands already, disk.

    Examples: `bench plan ptq_w4a4 --seeds 1` · `bench plan suites/quickstart.yaml --json`
    """
    from bench.cli_info import show_plan

    options = _options(
        suite,
        only=only,
        sets=sets,
        dataset=dataset,
        preset=preset,
        seeds=seeds,
        store=store,
        data_root=data_root,
        plugin=plugin,
    )
    show_plan(options, out, as_json)


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
    from bench.cli_info import refused_records
    from bench.run.session import plan_of

    found = plan_of(_options(suite, sets=sets, dataset=dataset, data_root=data_root, plugin=plugin))
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
    from bench.cli_info import list_kind, list_records

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
    details: Annotated[bool, typer.Option("--details/--pivots", help="Ranked table per target besides.")] = True,
    plugin: Plugins = None,
) -> None:
    """Show the board of a suite (or of all) from the store and the measured records that came with the package.

    Examples: `bench board ptq_w4a4` · `bench board ptq_w4a4 --published` · `bench board ptq_w4a4 --pivots -f latex` ·
    `bench board --out board.parquet`
    """
    from bench.cli_board import BoardRequest, show_board

    show_board(BoardRequest(suite, form, store, seeds, details, published, file, tuple(plugin or ())), out)


@app.command()
def diff(first: str, second: str, store: StoreOpt = STORE) -> None:
    """Print what differs between two cells (their ids or unique beginnings of them).

    Example: `bench diff ff304265 1c0a91b2`; the ids: `bench plan ptq_w4a4 --json`
    """
    from bench.cli_info import show_diff

    show_diff(first, second, store, out)


@app.command()
def repro(cell: str, store: StoreOpt = STORE) -> None:
    """Print the one command that measures a cell again.

    Example: `bench repro ff304265`; the ids: `bench plan ptq_w4a4 --json`
    """
    from bench.cli_info import repro as command_of

    typer.echo(visible(command_of(cell, store)))


@app.command()
def doctor(store: StoreOpt = STORE) -> None:
    """Check this machine: versions, instruction sets, kernels, disk, weights, data; whose packs were measured on one
    like it.

    Example: `bench doctor --store /data/bench`
    """
    from bench.cli_doctor import show_doctor

    raise typer.Exit(0 if show_doctor(store, out) else 1)


for name, sub in (("measured", measured), ("mlflow", mlflow), ("zoo", zoo), ("data", data), ("policy", policy)):
    app.add_typer(sub, name=name)
app.add_typer(exporting)
app.command()(new)
app.add_typer(submission)  # without a name: its commands stand on the first level


def main(commands: typer.Typer = app) -> None:
    """The command line; ``commands`` may be these and an installed user interface's own."""
    at_the_edge(commands)
