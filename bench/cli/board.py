"""Records → board, for the commands that print one or write one to a file.

What needs pandas is imported where it is used: a board that fits a screen needs none, and loads in half the time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console, RenderableType

from bench.board.claims.judging import Verdict, judge
from bench.board.index.listing import STANDARD, sound
from bench.board.index.rows import Versions
from bench.board.index.selected import Selected, select
from bench.board.index.versions import noted_versions
from bench.board.tables.export import PARQUET, chosen_format, to_bytes, to_parquet
from bench.board.tables.layout import WIDTH
from bench.board.tables.screen import screen
from bench.board.tables.view import Extent, view_of
from bench.cli.options import Terminal
from bench.errors import BenchError, StoreError
from bench.run import session
from bench.spec.plan import Plan
from bench.spec.suite import load_suite, suite_names
from bench.store.exports import parities, with_parity
from bench.store.files import write_atomic
from bench.store.measured import measured_folder
from bench.store.records import ResultRecord
from bench.store.verifications import SUBMISSIONS, Answers, Outcome, outcomes_of_folders
from bench.text import visible

if TYPE_CHECKING:
    import pandas as pd

    from bench.board.tables.comparison import Beside

_WIDE = 200
"""Columns of a board that shows all of them: more than a terminal has, so that no name is broken."""


@dataclass(frozen=True)
class BoardRequest:
    """The options of ``bench board``; see its help. ``form`` None: what the file's name says, else a table."""

    suite: str | None
    form: str | None
    store: Path
    seeds: int | None = None
    details: bool = True
    published: bool = False
    out: Path | None = None
    plugins: Sequence[Path] = ()
    only: str | None = None
    extent: Extent = "screen"


def all_records(store: Path, suite: str | None = None, version: int | None = None) -> list[ResultRecord]:
    """The store's records and those shipped with the package (of one suite, of one version of it); only the latter
    where there is no store.  Those of cells that were exported have their parity among the metrics.

    Damaged ones are left out, and it is said.

    Raises:
        StoreError: a record is of a newer schema.
    """
    return with_parity(sound(session.read_records(store).all(suite, version)), parities(store))


def records_of(
    suite: str, records: Sequence[ResultRecord], seeds: int | None, plugins: Sequence[Path] = ()
) -> tuple[Plan, list[ResultRecord], str]:
    """A suite's plan, its records among ``records``, and a note when not all its seeds were begun (else empty).

    A suite is measured seed by seed: the plan is cut to the seeds that stand, instead of blanks everywhere.

    Raises:
        BenchError: what is wrong with the suite.
    """
    plan = session.plan_of(session.Options(suite, seeds=seeds, plugins=plugins))
    spec = plan.suite
    return _begun(plan, [r for r in records if (r.suite, r.suite_version) == (spec.suite, spec.version)], seeds)


def stored_of(
    suite: str, store: Path, seeds: int | None, plugins: Sequence[Path] = ()
) -> tuple[Plan, list[ResultRecord], str]:
    """As :func:`records_of`, from the store and the package; no other suite's records are opened."""
    plan = session.plan_of(session.Options(suite, seeds=seeds, plugins=plugins))
    return _begun(plan, all_records(store, plan.suite.suite, plan.suite.version), seeds)


def _begun(plan: Plan, found: Sequence[ResultRecord], seeds: int | None) -> tuple[Plan, list[ResultRecord], str]:
    wanted = {cell.seed for cell in plan.cells}
    begun = wanted & {r.seed for r in found}
    note = ""
    if seeds is None and begun and begun != wanted:
        plan = _cut(plan, begun)
        lacking = ", ".join(str(seed) for seed in sorted(wanted - begun))
        note = f"seed {lacking} not measured yet: this is the board of seed {', '.join(map(str, sorted(begun)))}"
        wanted = begun
    return plan, [r for r in found if r.seed in wanted], note


def _cut(plan: Plan, seeds: set[int]) -> Plan:
    """The part of ``plan`` that is of ``seeds``."""
    return replace(
        plan,
        cells=tuple(cell for cell in plan.cells if cell.seed in seeds),
        synths=tuple(job for job in plan.synths if job.seed in seeds),
        searches=tuple(job for job in plan.searches if job.seed in seeds),
        idle=tuple(job for job in plan.idle if job.seed in seeds),
    )


def _asked(plan: Plan) -> dict[str, list[int]]:
    """The seeds that the plan asks of its suite."""
    return {plan.suite.suite: sorted({cell.seed for cell in plan.cells})}


def verdicts_of(plan: Plan, records: Sequence[ResultRecord], known: Versions) -> list[Verdict]:
    """What ``records`` of the plan's suite say to its claims; ``known``: versions of methods and weights."""
    claims = plan.suite.claims
    return judge(claims, records, versions=known, seeds=_asked(plan)) if claims else []


def tabled(
    records: Sequence[ResultRecord], plan: Plan | None, rerun: Mapping[Answers, Outcome] | None = None
) -> tuple[pd.DataFrame, list[Verdict]]:
    """The tidy frame of ``records`` and the verdicts on the claims of the plan's suite; ``rerun``: what re-runs of
    cells found."""
    from bench.board.index.frame import Ranked, frame

    known = noted_versions(plan.plugins if plan is not None else ())
    ranked: Ranked = {} if plan is None else {plan.suite.suite: plan.suite.rank_within}
    seeds = None if plan is None else _asked(plan)
    extra = sorted({name for r in records for name in r.metrics} - STANDARD)
    table = frame(records, versions=known, seeds=seeds, extra=extra, ranked=ranked, rerun=rerun)
    return table, [] if plan is None else verdicts_of(plan, records, known)


def reruns(store: Path) -> Mapping[Answers, Outcome]:
    """What re-runs of the package's and the store's submissions found, by the reports that lie beside them."""
    return outcomes_of_folders(Path(str(measured_folder())), store / SUBMISSIONS)


def board_of(records: Sequence[ResultRecord], form: str, plan: Plan, width: int = WIDTH) -> Any:
    """The board of ``records`` in ``form`` (table, csv, md, json, latex), with the claims of the plan's suite; a table
    fits a screen."""
    if form == "table":
        return _screen(plan, records, select(records, None), "screen", width)
    from bench.board.tables.report import report

    table, verdicts = tabled(records, plan)
    return report(table, form, verdicts=verdicts, records=records, details=False)


def _screen(
    plan: Plan, records: Sequence[ResultRecord], selected: Selected, extent: Extent, width: int
) -> RenderableType:
    """What was found and who comes first, on a screen of at least :data:`WIDTH` columns."""
    known = noted_versions(plan.plugins)
    view = view_of(plan, records, selected, verdicts_of(plan, records, known), known, extent)
    return screen(view, max(width, WIDTH))


def published_of(plan: Plan, table: pd.DataFrame) -> Beside:
    """The printed numbers the plan's suite refers to, beside its rows.

    Raises:
        BenchError: the suite refers to none, or to a figure.
    """
    from bench.board.tables.comparison import beside
    from bench.data.table import SPECS

    reference = plan.suite.reproduces
    if reference is None or not prints_a_table(reference):
        what = "names no published table" if reference is None else "names a figure, which prints no numbers"
        raise BenchError(what, where=plan.suite.suite, got=reference, expected=_with_tables(), hint="Drop --published.")
    return beside(table, reference, sizes={name: spec.shape[-1] for name, spec in SPECS.items()})


def prints_a_table(reference: str | None) -> bool:
    """Whether a suite's reference is a printed table; a figure (F4) prints no numbers."""
    return reference is not None and not reference.partition("/")[2].startswith("F")


def _with_tables() -> list[str]:
    """The shipped suites that reproduce a printed table."""
    return [name for name in suite_names() if prints_a_table(load_suite(name).reproduces)]


def show_board(request: BoardRequest, console: Console) -> None:
    """Print the board of one suite, or what there is of every suite; or write it to a file.

    Raises:
        BenchError: unknown format, nothing measured, no published numbers, nothing selected, or a file that cannot be
            written.
    """
    form = chosen_format(request.form, request.out)
    printed = form == "table" and request.out is None and request.extent != "wide"
    for given, name in ((request.published, "--published"), (request.only is not None, "--only")):
        if given and request.suite is None:
            expected = _with_tables() if name == "--published" else None
            what = "printed numbers belong to one suite" if expected else "a selection is made of one suite"
            raise BenchError(what, where=name, expected=expected, hint="Name the suite.")
    if request.suite is None and printed:
        _show_suites(request.store, console)
        return
    plan: Plan | None = None
    if request.suite is None:
        records, note = all_records(request.store), ""
    else:
        plan, records, note = stored_of(request.suite, request.store, request.seeds, request.plugins)
    if not records:
        hint = f"run it: bench run {request.suite or 'SUITE'}"
        raise BenchError("nothing measured yet", where=request.suite or "all suites", hint=hint)
    selected = select(records, request.only)
    if printed and plan is not None:
        echo(_screen(plan, records, selected, request.extent, console.width), console)
        if not request.published:
            return
    elif note:
        typer.echo(note, err=True)
    _show_whole(request, form, plan, records, selected, console)


def _show_whole(
    request: BoardRequest,
    form: str,
    plan: Plan | None,
    records: Sequence[ResultRecord],
    selected: Selected,
    console: Console,
) -> None:
    """Every row in ``form``, printed or written; below a board that fits a screen the printed numbers alone."""
    from bench.board.tables.comparison import beside_grid
    from bench.board.tables.report import report, to_rich

    own = plan
    if plan is not None and request.only is not None:
        own = _cut(plan, {record.seed for record in selected.records})
    table, verdicts = tabled(selected.records, own, reruns(request.store))
    if plan is not None and request.only is not None:
        table = table[table["row_id"].isin(selected.shown)].reset_index(drop=True)
        verdicts = verdicts_of(plan, records, noted_versions(plan.plugins))
    found = published_of(plan, table) if request.published and plan is not None else None
    if form == PARQUET:
        content = to_parquet(table if found is None else found.table)
    elif form == "table" and request.out is None and request.extent != "wide" and found is not None:
        echo(to_rich([beside_grid(found)]), console, _WIDE)
        return
    else:
        given = selected.records
        board = report(table, form, verdicts=verdicts, records=given, details=request.details, found=found)
        if request.out is None:
            echo(board, console, _WIDE)
            return
        content = to_bytes(board)
    if request.out is not None:
        write_file(request.out, content)
        typer.echo(f"{request.out}: {len(table)} rows, {form}, {len(content):,} bytes", err=True)


def _show_suites(store: Path, console: Console) -> None:
    """A line per suite there are records of, none of which is opened; BenchError where there is none."""
    from bench.board.tables.overview import overview

    found = overview(session.read_records(store))
    if not found:
        raise BenchError("nothing measured yet", where="all suites", hint="run it: bench run SUITE")
    for line in found:
        console.print(line, highlight=False, soft_wrap=True)


def write_file(path: Path, content: bytes) -> None:
    """Write a file the user named, whole or not at all.

    Raises:
        BenchError: it cannot be written.
    """
    try:
        write_atomic(path, content)
    except StoreError as error:
        hint = "Choose another file with --out."
        raise BenchError("cannot be written", where=f"--out {path}", got=error.got, hint=hint) from error


def echo(board: Any, console: Console, width: int | None = None) -> None:
    """Print a board; ``width``: columns of its tables at least, whatever the terminal has."""
    if isinstance(board, str):
        typer.echo(visible(board), nl=not board.endswith("\n"))
    else:
        if width and width > console.width:
            console = Terminal(file=console.file, width=width, force_terminal=console.is_terminal)
        console.print(board, crop=False)
