"""`bench history`: what changed on a suite's board, or on all, since a day or a version."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from rich.console import Console

from bench.cli.options import STORE, Json, StoreOpt, out
from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.store.record_store import RecordReader
    from bench.store.records import ResultRecord


def history(
    suite: Annotated[Optional[str], typer.Argument(metavar="[SUITE]")] = None,  # noqa: UP045
    since: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--since", metavar="VERSION|DAY", help="A version of the package (0.1.0) or a day (2026-11-27)."),
    ] = None,
    store: StoreOpt = STORE,
    as_json: Json = False,
) -> None:
    """Say what changed on a suite's board, day by day: rows added, on more seeds, measured again; verdicts that moved.

    From the dates in the records of the store and of the package; days are UTC. Without a suite: a line for each.

    Examples: `bench history ptq_w4a4` · `bench history ptq_w4a4 --since 2026-11-27` · `bench history --since 0.1.0`
    """
    from bench.run import session
    from bench.store.record_store import RecordReader

    reader, own = session.read_records(store), RecordReader(store)
    if suite is None:
        _show_all(reader, own, since, out, as_json)
    else:
        _show_one(reader, own, suite, since, out, as_json)


def _show_one(
    reader: RecordReader, own: RecordReader, name: str, since: str | None, console: Console, as_json: bool
) -> None:
    from bench.board.index.versions import noted_versions
    from bench.board.tables.history import history as history_of
    from bench.board.tables.history_lines import history_lines
    from bench.spec.suite import load_suite

    spec = load_suite(name)
    records = _records(reader, own, spec.suite)
    if not records:
        raise BenchError("nothing measured yet", where=spec.suite, hint=f"run it: bench run {name}")
    found = history_of(spec.suite, records, spec.claims, noted_versions(), since)
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=1, ensure_ascii=False, allow_nan=False))
        return
    for line in history_lines(found, max(console.width, 100) if console.width else 100):
        console.print(line, highlight=False, soft_wrap=True)


def _show_all(reader: RecordReader, own: RecordReader, since: str | None, console: Console, as_json: bool) -> None:
    from bench.board.tables.history import History
    from bench.board.tables.history import history as history_of
    from bench.board.tables.history_lines import overview_lines

    names = sorted({key[0] for key in (*reader.measured, *own.cells())})
    found: list[History] = [history_of(name, _records(reader, own, name), (), None, since) for name in names]
    if not found:
        raise BenchError("nothing measured yet", where="all suites", hint="run it: bench run SUITE")
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found], indent=1, ensure_ascii=False, allow_nan=False))
        return
    for line in overview_lines(found):
        console.print(line, highlight=False, soft_wrap=True)


def _records(reader: RecordReader, own: RecordReader, suite: str) -> list[ResultRecord]:
    """The package's records of a suite and the store's own, both of one cell where there are both."""
    from bench.board.index.listing import sound

    packed = [reader.measured[key] for key in reader.measured if key[0] == suite]
    return sound([*packed, *own.all(suite)])
