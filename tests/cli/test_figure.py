"""`bench figure` and `bench history` on the shipped records: the files, the caption, and errors that help."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.errors import BenchError
from bench.store.measured import measured_folder, read_measured
from dashboard.cli import app
from tests import pick

SUITE = "seam_proxy"
"""A small one of several searches, with claims."""

EDMIPS = "seam_on_edmips"
"""One that was measured on two days, seed by seed."""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without a store, so that the shipped records are all there is."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def bench(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=True)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


@pick.needs(SUITE)
def test_a_figure_its_table_its_citation_and_its_caption(here: Path) -> None:
    said = bench("figure", SUITE, "--kind", "claims", "--width", "column", "--out", "sub/f.svg")
    assert sorted(path.name for path in (here / "sub").iterdir()) == ["f.bib", "f.svg", "f.tex"]
    assert r"Suite seam\_proxy (version 1)" in said
    assert (here / "sub" / "f.tex").read_text().count(r"\begin{table}") == 1
    first = {path.name: path.read_bytes() for path in (here / "sub").iterdir()}
    assert bench("figure", SUITE, "--kind", "claims", "--width", "column", "--out", "sub/f.svg") == said
    assert {path.name: path.read_bytes() for path in (here / "sub").iterdir()} == first


@pick.needs(SUITE)
def test_without_a_name_the_figure_is_called_by_suite_and_kind(here: Path) -> None:
    bench("figure", SUITE)
    assert {path.name for path in here.iterdir()} == {f"{SUITE}-ranks.{form}" for form in ("pdf", "tex", "bib")}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--kind", "rank"), "no such figure"),
        (("--out", "f.jpg"), "PDF, SVG or PNG"),
        (("--width", "narrow"), "no width of a figure"),
        (("--only", "sourc=a"), "sourc"),
    ],
)
@pick.needs(SUITE)
def test_bad_input_ends_with_what_is_allowed_and_leaves_no_file(
    arguments: tuple[str, str], words: str, here: Path
) -> None:
    with pytest.raises(BenchError) as error:
        bench("figure", SUITE, *arguments)
    assert words in str(error.value)
    assert not list(here.iterdir())


@pick.needs(EDMIPS)
def test_the_history_of_a_suite_is_that_of_its_records() -> None:
    records = read_measured(suite=EDMIPS)
    answer = json.loads(bench("history", EDMIPS, "--json"))
    assert sum(day["records"] for day in answer["days"]) == len(records)
    assert len(answer["days"]) > 1
    first, last = answer["days"][0]["day"], answer["days"][-1]["day"]
    said = bench("history", EDMIPS)
    assert len(said.splitlines()) <= 45
    assert said.index(last) < said.index(first)  # the newest on top
    later = json.loads(bench("history", EDMIPS, "--since", last, "--json"))
    assert [day["day"] for day in later["days"]] == [last]
    assert later["before"] == answer["rows"]


@pick.needs(EDMIPS)
def test_the_overview_counts_every_suite_once() -> None:
    said = bench("history", "--since", "2026-11-28")
    named = re.findall(r"^(\w+) +2026-", said, re.MULTILINE)
    silent = re.search(r"in (\d+) suites", said)
    shipped = {file.name.partition(".")[0] for file in measured_folder().iterdir() if file.is_file()}
    assert EDMIPS in named
    assert len(named) == len(set(named))
    assert len(named) + int(silent[1] if silent else 0) == len(shipped)


def test_a_wrong_day_is_refused() -> None:
    with pytest.raises(BenchError, match="no day and no version"):
        bench("history", SUITE, "--since", "soon")
