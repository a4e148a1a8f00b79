"""`bench submit`, `bench verify`, `bench badge`, `bench publish`: results that others can check."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from bench.cli.options import (
    STORE,
    DataRoot,
    DatasetOpt,
    Json,
    Only,
    Plugins,
    PresetOpt,
    Seeds,
    Sets,
    StoreOpt,
    SuiteArg,
    err,
    out,
)
from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.board.index.ladder import Rung
    from bench.store.verifications import Verification
    from bench.submit.package import Submission

submission = typer.Typer()

FileArg = Annotated[Path, typer.Argument(metavar="FILE", help="A submission, as `bench submit` wrote it.")]


@submission.command()
def submit(
    suite: SuiteArg,
    file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", "-o", metavar="FILE", help="Default: STORE/submissions/SUITE@VERSION.json.xz."),
    ] = None,
    by: Annotated[str, typer.Option("--by", metavar="NAME", help="Who submits; stands in the file.")] = "",
    store: StoreOpt = STORE,
    only: Only = None,
    sets: Sets = None,
    dataset: DatasetOpt = None,
    preset: PresetOpt = None,
    seeds: Seeds = None,
    data_root: DataRoot = None,
    plugin: Plugins = None,
) -> None:
    """Pack what was measured of a suite into one file that others can check: records, environment, ids, bitmaps.

    Give the options that `bench run` was given. Examples: `bench submit quickstart` ·
    `bench submit mine.yaml --seeds 3 --by "A. Lovelace" --out mine.json.xz`
    """
    from bench.run.session import Options
    from bench.store.verifications import SUBMISSIONS
    from bench.submit.package import make_submission, write_submission

    options = Options(
        suite,
        only=only,
        overrides=tuple(sets or ()),
        dataset=dataset,
        preset=_preset(preset),
        seeds=seeds,
        store=store,
        data_root=data_root,
        plugins=tuple(plugin or ()),
    )
    made = make_submission(options, by)
    path = file or store / SUBMISSIONS / f"{made.name}.json.xz"
    made = write_submission(made, path)
    counts = ", ".join(f"{count} {status}" for status, count in made.header.counts.items())
    out.print(f"{path}: {made.name}, {counts}; {path.stat().st_size:,} bytes", highlight=False)
    out.print(f"sha256 of the content: {made.digest}", highlight=False)
    out.print(f"check it: bench verify {path}", highlight=False)


@submission.command()
def verify(
    file: FileArg,
    sample: Annotated[int, typer.Option("--sample", min=1, metavar="K", help="Cells to run again.")] = 5,
    seed: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--seed", min=0, max=2**31 - 1, help="Of the draw. Default: one nobody can foresee, printed."),
    ] = None,
    to: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--to", metavar="DIR", help="Folder of the report. Default: beside FILE."),
    ] = None,
    store: StoreOpt = STORE,
    workers: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--workers", min=0, help="Worker processes; 0 runs in this one. Default: cores / threads."),
    ] = None,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads per worker; part of equal results.")] = 1,
    device: Annotated[str, typer.Option("--device", help="cpu | cuda | auto.")] = "cpu",
    kernels: Annotated[str, typer.Option("--kernels", help="native | portable.")] = "native",
    data_root: DataRoot = None,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Check a submission, run some of its cells again and say whether they are inside what runs spread.

    Everything that follows from the rest is computed anew; a file that contradicts itself is refused (exit code 2). Of
    the cells, K are drawn at random and run in a fresh store. Exit code 0: all inside; 1: one is outside or failed.
    The report is written beside FILE. STORE holds your own records, which tell how far runs spread; it is only read.

    Examples: `bench verify quickstart@1.json.xz` · `bench verify mine.json.xz --sample 20 --seed 7`
    """
    from bench.cli.verified import show
    from bench.run.session import Options
    from bench.store.verifications import write_verification
    from bench.submit.package import read_submission
    from bench.submit.verify import fresh_seed
    from bench.submit.verify import verify as verified

    drawn = fresh_seed() if seed is None else seed
    found = read_submission(file)
    options = Options(
        str(file),
        workers=workers,
        threads=threads,
        device=device,
        kernels=kernels,
        tracker="none",
        store=store,
        data_root=data_root,
        plugins=tuple(plugin or ()),
    )
    console = err if as_json else out
    console.print(
        f"{found.name}: digest, form, arithmetic and ids are sound; seed of the draw: {drawn}", highlight=False
    )
    made = verified(found, options, console, sample=sample, seed=drawn, where=str(file))
    path = write_verification(made.report, file if to is None else to / file.name)
    if as_json:
        typer.echo(made.report.model_dump_json(indent=1))
    else:
        show(made, path)
    raise typer.Exit(0 if made.report.passed else 1)


@submission.command()
def badge(
    what: Annotated[str, typer.Argument(metavar="FILE|PAPER/TABLE", help="A submission, or a printed table.")],
    file: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The SVG file.")] = Path("badge.svg"),
) -> None:
    """Write the badge of a submission (self-reported, or reproduced ×N by the reports beside it) or of printed numbers.

    Examples: `bench badge quickstart@1.json.xz --out badge.svg` · `bench badge coquant/S-T1`
    """
    from bench.cli.board import write_file
    from bench.submit.badge import badge as drawn

    rung, told = _submitted(Path(what)) if Path(what).is_file() else _printed(what)
    write_file(file, drawn(rung, told).encode())
    out.print(f"{file}: {rung}", highlight=False)


def _submitted(path: Path) -> tuple[Rung, list[str]]:
    """The rung of a submission, and what the badge says of it."""
    found, reports = _with_reports(path)
    rung = _rung(found, reports)
    told = [found.name, f"{len(found.measured)} cells", f"sha256 {found.digest[:12]}"]
    return rung, [*told, *(f"{len(r.checked)} run again on {r.machine}" for r in reports if r.machine)]


def _printed(reference: str) -> tuple[Rung, list[str]]:
    from bench.board.index.ladder import Rung
    from bench.board.tables.published import papers, published

    if reference.partition("/")[0] not in papers():
        expected = ("a submission's file", *papers())
        raise BenchError("neither a file nor printed numbers", where="bench badge", got=reference, expected=expected)
    table = published(reference)
    selections = ", ".join(f"{count} {name}" for name, count in table["selection"].value_counts().items())
    verified = int((table["verified_implementation"] != "no").sum())
    return Rung(False), [reference, f"selection: {selections}", f"verified implementation: {verified} of {len(table)}"]


def _with_reports(path: Path) -> tuple[Submission, list[Verification]]:
    """A submission and the sound reports beside it; others are said."""
    from bench.submit.package import read_submission
    from bench.submit.reports import reports_of

    found = read_submission(path)
    reports, damaged = reports_of(path, found.digest)
    for error in damaged:
        err.print(f"left out: {error}", highlight=False)
    return found, reports


def _rung(found: Submission, reports: list[Verification]) -> Rung:
    from bench.board.index.ladder import rung_of_submission
    from bench.board.index.machines import machines_of

    return rung_of_submission(found.digest, reports, machines_of(found.measured))


@submission.command()
def publish(
    file: FileArg,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Folder to write into.")],
    form: Annotated[str, typer.Option("--form", help="every-eval-ever | eval-results.")] = "every-eval-ever",
    hub_dataset: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--hub-dataset", metavar="OWNER/NAME", help="The benchmark on the Hub (for eval-results)."),
    ] = None,
    task: Annotated[str, typer.Option("--task", help="The task's id there.")] = "default",
    source: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--source", metavar="URL", help="Where the submission can be had."),
    ] = None,
) -> None:
    """Write a submission's rows as Every Eval Ever JSON, or as Hugging Face `.eval_results` YAML.

    Examples: `bench publish mine.json.xz --to eee` ·
    `bench publish mine.json.xz --to hub --form eval-results --hub-dataset OWNER/NAME --task top1`
    """
    from bench.errors import nearest
    from bench.submit.exports import eval_results, every_eval_ever, write_all

    forms = ("every-eval-ever", "eval-results")
    if form not in forms:
        raise BenchError("no such form", where="--form", got=form, expected=forms, nearest=nearest(form, forms))
    if form == forms[1] and hub_dataset is None:
        hint = "Name the benchmark's data set on the Hub."
        raise BenchError("a result needs a benchmark", where="--hub-dataset", expected="OWNER/NAME", hint=hint)
    found, reports = _with_reports(file)
    rung = _rung(found, reports)
    made: Any = every_eval_ever(found, rung)
    if form == forms[1]:
        made = eval_results(found, rung, str(hub_dataset), task, source)
    count = write_all(to, made)
    out.print(f"{to}: {count} files of {found.name}, {form}, {rung}", highlight=False)


def _preset(name: str | None) -> Any:
    from bench.errors import nearest

    allowed = ("mini", "thorough", "paper")
    if name not in (None, *allowed):
        raise BenchError(
            "unknown preset", where="--preset", got=name, expected=allowed, nearest=nearest(str(name), allowed)
        )
    return name
