"""`bench board` to files and beside printed numbers, on the measured records that came with the package; every help."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from bench.board.tables.export import FILE_FORMATS
from bench.errors import BenchError
from bench.spec.suite import suite_names
from bench.store.measured import measured_folder
from dashboard.cli import app
from tests import pick

UNMEASURED = next((name for name in suite_names() if not (measured_folder() / f"{name}.json.xz").is_file()), "")


def bench(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=True)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without a store, so that the shipped records are all there is."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pick.needs("ptq_bits")
def test_every_format_as_a_file(here: Path) -> None:
    for form, suffix in zip(FILE_FORMATS, ("txt", "csv", "md", "json", "tex", "parquet"), strict=True):
        bench("board", "ptq_bits", "--out", f"sub/b.{suffix}")
        assert (here / "sub" / f"b.{suffix}").stat().st_size > 1000, form
    table = pd.read_parquet(here / "sub" / "b.parquet")
    read = pd.read_csv(here / "sub" / "b.csv")
    assert len(table) == len(read) == 40
    assert table["top1_mean"].astype(float).tolist() == pytest.approx(read["top1_mean"].tolist())
    assert "tabular" in (here / "sub" / "b.tex").read_text()
    assert not list((here / "sub").glob(".*"))  # nothing half-written stays


@pick.needs("ptq_w4a4")
def test_published_numbers_stand_beside_ours(here: Path) -> None:
    said = bench("board", "ptq_w4a4", "--published", "--pivots", "-f", "md")
    assert "mixmix/T6" in said
    assert "data set: fashion_mnist measured, ImageNet claimed" in said
    assert "image size: 32×32 pixels measured, 224×224 claimed" in said
    answer = json.loads(bench("board", "ptq_w4a4", "--published", "-f", "json"))
    rows = answer["published"]["rows"]
    both = [row for row in rows if row["provenance"] == "measured, claimed"]
    assert len(both) == 48  # every printed number of Table 6 has a measured row
    assert sum(row["provenance"] == "measured" for row in rows) == len(answer["rows"]) - 48
    assert all(row["gap"] is None for row in rows)
    bench("board", "ptq_w4a4", "--published", "-o", "p.parquet")
    table = pd.read_parquet(here / "p.parquet")
    assert set(table["provenance"]) == {"measured", "measured, claimed"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("board", "--published"), "printed numbers belong to one suite"),
        (("board", "ptq_bits", "--published"), "ptq_bits: names no published table"),
        (("board", "synthesis_ce_only", "--published"), "names a figure"),
        (("board", "ptq_bits", "-f", "parquet"), "--out FILE.parquet"),
        (("board", "ptq_bits", "-f", "parqet"), "did you mean: parquet"),
        (("board", "ptq_bits", "-o", "b.xlsx"), "does not say the format"),
        (("board", "ptq_bitz"), "did you mean: ptq_bits"),
        (("report", "ptq_bitz"), "did you mean: ptq_bits"),
        (("report", UNMEASURED), f"{UNMEASURED}: nothing measured yet"),
        (("report", "--out", "r.pdf"), "a report is HTML"),
    ],
)
def test_errors_help(arguments: tuple[str, ...], said: str, here: Path) -> None:
    for word in set(arguments) & set(suite_names()):
        if pick.lacking(word):
            pytest.skip(f"not installed: {pick.lacking(word)}")
    with pytest.raises(BenchError, match=said):
        bench(*arguments)
    assert list(here.iterdir()) == []


@pick.needs("ptq_bits")
def test_a_file_that_cannot_be_written(here: Path) -> None:
    (here / "taken.csv").mkdir()
    with pytest.raises(BenchError, match="Choose another file with --out"):
        bench("board", "ptq_bits", "--out", "taken.csv")
    assert [path.name for path in here.iterdir()] == ["taken.csv"]


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


@pytest.mark.parametrize("path", list(commands(typer.main.get_command(app))), ids=" ".join)
def test_every_help_shows_an_example(path: tuple[str, ...]) -> None:
    said = bench(*path, "--help")
    assert "Example" in said
    assert f"bench {' '.join(path)}" in " ".join(said.replace("│", " ").split())
