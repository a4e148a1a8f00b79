"""Text from suites, records, file names and arguments is shown as text: no markup, no escape codes, no links."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path

import pytest
from rich.logging import RichHandler
from rich.progress import Progress, TextColumn
from rich.table import Table
from rich.text import Text
from typer.testing import CliRunner

from bench.board.index.frame import frame
from bench.board.tables.report import report
from bench.cli.app import app
from bench.cli.board import echo
from bench.cli.options import Terminal
from bench.errors import BenchError
from bench.store.record_store import RecordStore
from bench.text import cut, visible
from tests.board.make import record
from tests.dashboard.conftest import stored

EVIL = "\x1b[31m[red]x[/red]\x1b]8;;http://a.example\x07y\x9b2J\u202ez :boom: ![p](http://a.example/p.png)"
SHOWN = r"\u001b[31m[red]x[/red]\u001b]8;;http://a.example\u0007y\u009b2J\u202ez :boom: ![p](http://a.example/p.png)"
RAW = "\x1b\x07\x9b\u202e\r"


def test_what_is_made_visible() -> None:
    assert visible(EVIL) == SHOWN
    assert visible("größer → 1\n\t✓ 日本") == "größer → 1\n\t✓ 日本"
    assert visible(visible(EVIL)) == SHOWN
    assert json.loads(visible(json.dumps({"a": EVIL}, ensure_ascii=False))) == {"a": EVIL}
    assert cut("x" * 1000, 10) == "xxxxxxxxxx… (1,000 characters)"


@pytest.mark.parametrize("terminal", [True, False])
def test_a_console_takes_text_as_it_stands(terminal: bool) -> None:
    file = io.StringIO()
    console = Terminal(file=file, force_terminal=terminal, color_system=None, width=200)
    console.print(EVIL)
    table = Table(EVIL, title=EVIL)
    table.add_row(EVIL)
    table.add_row(Text(EVIL))
    console.print(table)
    with Progress(TextColumn("{task.description}", markup=False), console=console, transient=False) as bar:
        bar.add_task(EVIL)
        bar.refresh()
    logger = logging.getLogger("tests.text")
    logger.addHandler(RichHandler(console=console, show_path=False))
    logger.warning("%s", EVIL)
    text = file.getvalue()
    assert text.replace("\n", "").count(SHOWN.replace(" ", "")[:20]) >= 6
    ours = text.replace("\x1b[?25l", "").replace("\x1b[?25h", "").replace("\x1b[2K", "").replace("\x1b[1A", "")
    assert not set("\x1b\x07\x9b\u202e") & set(ours)
    assert SHOWN in text


def test_an_error_shows_what_it_got() -> None:
    said = str(BenchError("no such thing", where=EVIL, got=EVIL, expected=[EVIL], nearest=EVIL, hint="h"))
    assert said.count(SHOWN) == 4
    assert not set(RAW) & set(said)


@pytest.mark.parametrize("form", ["table", "md", "csv", "json", "latex"])
def test_a_board_of_records_with_such_names(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    names = {"source": EVIL, "target": EVIL, "compressor": EVIL, "dataset": EVIL, "setting_label": EVIL}
    records = [record(0.5, **names), record(None, seed=1, reason=EVIL, **names)]
    file = io.StringIO()
    echo(report(frame(records), form, records=records), Terminal(file=file, width=300))
    said = file.getvalue() + capsys.readouterr().out
    assert r"\u001b" in said or "textbackslash" in said
    assert not set(RAW) & set(said)
    if form == "json":
        assert EVIL in {row["source"] for row in json.loads(said)["rows"]}


def test_markdown_makes_no_link() -> None:
    text = report(frame([record(0.5, source="![p](http://a.example)")]), "md")
    assert "](" not in str(text)


@pytest.mark.parametrize("arguments", [["check"], ["board"], ["ls"]])
def test_names_from_the_command_line(arguments: list[str], tmp_path: Path) -> None:
    found = CliRunner().invoke(app, [*arguments, EVIL])
    assert isinstance(found.exception, BenchError)
    assert not set(RAW) & set(str(found.exception))


def test_refused_records_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = RecordStore(tmp_path)
    paths = [store.write(item) for item in stored([record(0.5, seed=seed) for seed in range(3)])]
    raw = json.loads(paths[0].read_bytes())
    paths[0].write_text(json.dumps({**raw, "metrics": {**raw["metrics"], "top1": 99.0}}))
    paths[1].write_text("{")

    listed = CliRunner().invoke(app, ["ls", "records", "--store", str(tmp_path)])
    assert "2 records are refused and measured again by the next run:" in listed.output.replace("\n", " ")
    assert {path.name in listed.output.replace("\n", "") for path in paths[:2]} == {True}
    answer = json.loads(CliRunner().invoke(app, ["ls", "records", "--store", str(tmp_path), "--json"]).output)
    assert {"suite": "s@1", "where": "store", "refused": 2, "ok": 1} in answer["records"]
    assert len(answer["refused"]) == 2
    caplog.clear()
    assert len(RecordStore(tmp_path).all()) == 1
    assert "2 records are refused" in caplog.text
    assert paths[0].name in caplog.text
    assert "digest" in caplog.text
