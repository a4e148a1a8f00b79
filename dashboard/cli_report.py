"""`bench report`: gathers the suites' boards and writes one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from bench.cli.board import all_records, prints_a_table, published_of, records_of, tabled, write_file
from bench.cli.options import STORE
from bench.errors import BenchError
from bench.spec.suite import suite_names
from bench.store.records import ResultRecord
from dashboard.report.page import Part, build


def write_report(suites: Sequence[str], file: Path, store: Path) -> None:
    """Write the report of ``suites`` (or of every suite there are records of) to ``file``.

    Raises:
        BenchError: a wrong suite, nothing measured, or the file cannot be written.
    """
    if file.suffix not in (".html", ".htm"):
        raise BenchError("a report is HTML", where="--out", got=str(file), expected=".html, .htm")
    records = all_records(store)
    names = list(dict.fromkeys(suites)) or sorted({record.suite for record in records})
    parts = [_part(name, records, store, given=bool(suites)) for name in names]
    if not parts:
        hint = "run a suite: bench run suites/quickstart.yaml --seeds 1"
        raise BenchError("nothing measured yet", where=str(store), hint=hint)
    content = build(parts).encode()
    write_file(file, content)
    cells = sum(len(part.records) for part in parts)
    typer.echo(f"{file}: {len(parts)} suites, {cells} cells, {len(content) / 1e6:.1f} MB, opens without a network")


def _part(name: str, records: Sequence[ResultRecord], store: Path, *, given: bool) -> Part:
    """One suite of the report. A suite whose file is not at hand is shown without its claims, unless it was asked for.

    Raises:
        BenchError: the suite asked for is wrong, or nothing of it was measured.
    """
    if not given and name not in suite_names():
        own = [record for record in records if record.suite == name]
        table, verdicts = tabled(own, None)
        why = (f"the suite's file is not at hand, so its claims are not judged: bench report FILE.yaml for {name}",)
        return Part(name, "", "", table, verdicts, own, None, why, _commands(name, store, own))
    plan, own, note = records_of(name, records, None)
    if not own:
        raise BenchError("nothing measured yet", where=name, hint=f"run it: bench run {name}")
    suite = plan.suite
    table, verdicts = tabled(own, plan)
    notes = tuple(text for text in (note,) if text)
    found = published_of(plan, table) if prints_a_table(suite.reproduces) else None
    title, reference = suite.title or "", suite.reproduces or ""
    return Part(suite.suite, title, reference, table, verdicts, own, found, notes, _commands(name, store, own))


def _commands(suite: str, store: Path, records: Sequence[ResultRecord]) -> tuple[tuple[str, str], ...]:
    """What repeats it: the whole suite, one cell, the board, this report."""
    first = min((record.cell_id for record in records), default="CELL")
    at = "" if store == STORE else f" --store {store}"
    return (
        ("measures what is not measured yet", f"bench run {suite}{at}"),
        ("measures everything again", f"bench run {suite} --fresh --store fresh"),
        ("prints the command that measures one cell again", f"bench repro {first}{at}"),
        ("prints the board", f"bench board {suite}{at}"),
        ("writes this file", f"bench report {suite}{at} --out report.html"),
    )
