"""`bench choose` on a store of the test's own: within 100 columns and a screen, JSON, wrong words; the theme."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.cli import options as cli_options
from bench.cli.app import app
from bench.errors import BenchError
from bench.store.record_store import RecordStore
from dashboard.cli_serve import FLAGS
from tests.board.make import bits, record
from tests.dashboard.conftest import stored

LINES = 34
"""Rows of a small window."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    same = {"model": "zoo:full", "compressor": "c"}
    records = [
        record(bits(0.9 - k / 1000, seed=seed), source=f"source_of_a_long_name(k={k})", seed=seed, **same)
        for k in range(15)
        for seed in (0, 1)
    ]
    RecordStore(folder)
    for one in stored(records):
        RecordStore(folder).write(one)
    return folder


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No records of the package, a cache of the test's own."""
    (tmp_path / "none").mkdir()
    monkeypatch.setattr("bench.board.index.board_index.measured_folder", lambda: tmp_path / "none")
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr(cli_options.out, "width", 100)  # read once, at the import, from whatever ran the tests


def said(store: Path, *words: str) -> str:
    given = ["choose", "--store", str(store), "--dataset", "d", "--network", "resnet18_w10", *words]
    done = CliRunner().invoke(app, given, catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_the_answer_fits_a_screen_and_no_name_is_broken(store: Path) -> None:
    lines = said(store).splitlines()
    commands = [line for line in lines if line.partition(": ")[2].startswith("bench ")]
    assert len(lines) <= LINES
    assert max(len(line) for line in lines if line not in commands) <= 100
    assert lines[0].startswith("Use source_of_a_long_name(k=0) [zoo:full] with c")
    table = [line for line in lines if line.startswith("source_of")]
    assert all("[zoo:full]" in line for line in table)
    run = next(line for line in commands if line.startswith("run it: ")).removeprefix("run it: ")
    assert shlex.split(run)[:3] == ["bench", "run", "s"]


def test_json_has_all_of_it(store: Path) -> None:
    answer = json.loads(said(store, "--json"))
    table = answer["tables"][0]
    assert 1 + len(table["tied"]) + len(table["apart"]) == 15
    assert answer["sentence"].startswith("Use ")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--network", "resnet18_w11"], "did you mean: resnet18_w10"),
        (["--bits", "W4A5"], "did you mean: W4A4"),
        (["--tier", "T9"], "T2a, T2b"),
        (["--minutes", "-1"], "--minutes"),
        (["--dataset", "e"], "--dataset"),
    ],
)
def test_a_wrong_word(store: Path, words: list[str], expected: str) -> None:
    with pytest.raises(BenchError, match=expected):
        said(store, *words)


def test_both_modes_have_a_colour_of_their_own() -> None:
    """One colour for all modes would take the dark one away."""
    assert {name for name in FLAGS if name.endswith("primaryColor")} == {
        "theme.light.primaryColor",
        "theme.dark.primaryColor",
    }
