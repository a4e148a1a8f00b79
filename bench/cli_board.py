"""Records → board, for the commands that print one or write one to a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import typer
from rich.console import Console

from bench.board.beside import Beside, beside
from bench.board.claims import Verdict, judge
from bench.board.export import PARQUET, chosen_format, to_bytes, to_parquet
from bench.board.frame import Ranked, frame
from bench.board.listing import STANDARD, sound
from bench.board.report import report
from bench.board.versions import versions
from bench.errors import BenchError, StoreError
from bench.run import session
from bench.spec.plan import Plan
from bench.spec.suite import load_suite, suite_names
from bench.store.exports import parities, with_parity
from bench.store.files import write_atomic
from bench.store.measured import measured_folder
from bench.store.records import ResultRecord
from bench.store.verifications import SUBMISSIONS, Answers, Outcome, outcomes_beside
from bench.text import visible


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


def all_records(store: Path) -> list[ResultRecord]:
    """The store's records and those shipped with the package; only the latter where there is no store.  Those of cells
    that were exported have their parity among the metrics.

    Damaged ones are left out, and it is said.

    Raises:
        StoreError: a record is of a newer schema.
    """
    return with_parity(sound(session.read_records(store).all()), parities(store))


def records_of(
    suite: str, records: Sequence[ResultRecord], seeds: int | None, plugins: Sequence[Path] = ()
) -> tuple[Plan, list[ResultRecord], str]:
    """A suite's plan, its records among ``records``, and a note when not all its seeds were begun (else empty).

    A suite is measured seed by seed: the plan is cut to the seeds that stand, instead of blanks everywhere.

    Raises:
        BenchError: what is wrong with the suite.
    """
    plan = session.plan_of(session.Options(suite, seeds=seeds, plugins=plugins))
    wanted = {cell.seed for cell in plan.cells}
    found = [r for r in records if r.suite == plan.suite.suite and r.suite_version == plan.suite.version]
    begun = wanted & {r.seed for r in found}
    note = ""
    if seeds is None and begun and begun != wanted:
        only = "seed=" + "|".join(map(str, sorted(begun)))
        plan = session.plan_of(session.Options(suite, only=only, plugins=plugins))
        lacking = ", ".join(str(seed) for seed in sorted(wanted - begun))
        note = f"seed {lacking} not measured yet: this is the board of seed {', '.join(map(str, sorted(begun)))}"
        wanted = begun
    return plan, [r for r in found if r.seed in wanted], note


def tabled(
    records: Sequence[ResultRecord], plan: Plan | None, rerun: Mapping[Answers, Outcome] | None = None
) -> tuple[pd.DataFrame, list[Verdict]]:
    """The tidy frame of ``records`` and the verdicts on the claims of the plan's suite; ``rerun``: what re-runs of
    cells found."""
    known = versions(plan.plugins if plan is not None else ())
    seeds = None
    verdicts: list[Verdict] = []
    ranked: Ranked = {}
    if plan is not None:
        ranked = {plan.suite.suite: plan.suite.rank_within}
        seeds = {plan.suite.suite: sorted({cell.seed for cell in plan.cells})}
        verdicts = judge(plan.suite.claims, records, versions=known, seeds=seeds) if plan.suite.claims else []
    extra = sorted({name for r in records for name in r.metrics} - STANDARD)
    return frame(records, versions=known, seeds=seeds, extra=extra, ranked=ranked, rerun=rerun), verdicts


def reruns(store: Path) -> Mapping[Answers, Outcome]:
    """What re-runs of the package's and the store's submissions found, by the reports that lie beside them."""
    return outcomes_beside(Path(str(measured_folder())), store / SUBMISSIONS)


def board_of(records: Sequence[ResultRecord], form: str, plan: Plan | None = None, *, details: bool = False) -> Any:
    """The board of ``records`` in ``form`` (table, csv, md, json, latex), with the claims of the plan's suite."""
    table, verdicts = tabled(records, plan)
    return report(table, form, verdicts=verdicts, records=records, details=details)


def published_of(plan: Plan, table: pd.DataFrame) -> Beside:
    """The printed numbers the plan's suite refers to, beside its rows.

    Raises:
        BenchError: the suite refers to none, or to a figure.
    """
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
    """Print the board of one suite, or of every suite there are records of; or write it to a file.

    Raises:
        BenchError: unknown format, nothing measured, no published numbers, or a file that cannot be written.
    """
    form = chosen_format(request.form, request.out)
    if request.published and request.suite is None:
        raise BenchError("printed numbers belong to one suite", where="--published", expected=_with_tables())
    records = all_records(request.store)
    plan = None
    if request.suite is not None:
        plan, records, note = records_of(request.suite, records, request.seeds, request.plugins)
        if note:
            typer.echo(note, err=True)
    if not records:
        hint = f"run it: bench run {request.suite or 'SUITE'}"
        raise BenchError("nothing measured yet", where=request.suite or "all suites", hint=hint)
    table, verdicts = tabled(records, plan, reruns(request.store))
    found = published_of(plan, table) if request.published and plan is not None else None
    if form == PARQUET:
        content = to_parquet(table if found is None else found.table)
    else:
        board = report(table, form, verdicts=verdicts, records=records, details=request.details, found=found)
        if request.out is None:
            _echo(board, console)
            return
        content = to_bytes(board)
    if request.out is not None:
        write_file(request.out, content)
        typer.echo(f"{request.out}: {len(table)} rows, {form}, {len(content):,} bytes", err=True)


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


def _echo(board: Any, console: Console) -> None:
    if isinstance(board, str):
        typer.echo(visible(board), nl=not board.endswith("\n"))
    else:
        console.print(board)
