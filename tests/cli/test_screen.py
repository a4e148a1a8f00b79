"""`bench board` and `bench diff` in a terminal of 100 columns, on the measured records that came with the package."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.board.tables.screen import SCREEN
from bench.cli import options as cli_options
from bench.cli.app import app
from bench.errors import BenchError
from bench.store.measured import measured_folder, read_measured
from tests import pick

SUITE = "quickstart"
LINE = re.compile(r"^\s*(?P<rank>\d+)(?P<tied>=?)\s.*?(?P<mean>\d+\.\d\d)  \[")
Board = Callable[..., list[str]]


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    """``bench board …`` in a folder without a store → its lines."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli_options.out, "width", 100)

    def said(*arguments: str) -> list[str]:
        done = CliRunner().invoke(app, list(arguments))
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return [line.rstrip() for line in done.stdout.splitlines()]

    return said


def tables(lines: list[str]) -> list[list[tuple[int, float]]]:
    """The ranked lines of each table: rank and mean."""
    found: list[list[tuple[int, float]]] = []
    for line in lines:
        if "top-1 %" in line:
            found.append([])
        elif (match := LINE.match(line)) and found:
            found[-1].append((int(match["rank"]), float(match["mean"])))
    return found


def names() -> set[str]:
    """Sources of the suite, with the networks of their images as a board names them."""
    records = read_measured(suite=SUITE)
    return {record.source for record in records}


@pick.needs(SUITE)
def test_a_board_fits_a_screen_and_its_ranks_fall_with_the_means(board: Board) -> None:
    lines = board("board", SUITE)
    assert len(lines) <= SCREEN
    assert max(map(len, lines)) <= 100
    assert lines[0].startswith(SUITE)
    found = tables(lines)
    assert found
    assert any(found)
    for table in found:
        assert [rank for rank, _ in table] == sorted(rank for rank, _ in table)
        assert [mean for _, mean in table] == sorted((mean for _, mean in table), reverse=True)
    words = {word for line in lines for word in line.split()}
    assert names() <= words  # whole, on one line


@pick.needs("ptq_w4a4")
def test_a_board_of_many_rows_begins_with_what_was_found(board: Board) -> None:
    lines = board("board", "ptq_w4a4")
    assert len(lines) <= SCREEN
    assert max(map(len, lines)) <= 100
    claims = next(i for i, line in enumerate(lines) if line.startswith("claims: "))
    assert claims < next(i for i, line in enumerate(lines) if "top-1 %" in line)
    assert "…" not in "".join(lines)
    brief = board("board", "ptq_w4a4", "--brief")
    assert lines[: claims + 2] == brief[: claims + 2]
    assert len(brief) < len(lines)


@pick.needs(SUITE)
def test_a_selection_shows_what_was_asked_with_its_rank_among_all(board: Board) -> None:
    whole, records = board("board", SUITE), read_measured(suite=SUITE)
    target = records[0].target
    one = board("board", SUITE, "--only", f"target={target}")
    titles = [line for line in one if "FP32" in line]
    assert titles
    assert all(target in line for line in titles)
    assert any("mean over" in line for line in whole)
    source = next(r.source for r in records if r.control == "none")
    compressor = records[0].compressor
    few = board("board", SUITE, "--only", f"source={source},compressor={compressor}")
    ranked = [line for line in few if LINE.match(line)]
    assert ranked
    assert all(f" {source}" in line for line in ranked)
    assert [line.split()[0] for line in ranked] == [
        line.split()[0] for part in (whole,) for line in part[_title(part, compressor) :] if f" {source}" in line
    ][: len(ranked)]
    lone = board("board", SUITE, "--only", "seed=0")
    assert "seed 0" in lone[0]
    assert not any(tables(lone))  # one seed is no rank


def _title(lines: list[str], compressor: str) -> int:
    return next(i for i, line in enumerate(lines) if line.startswith(f"{compressor} ·"))


@pick.needs(SUITE)
def test_files_and_formats_hold_the_selected_rows_with_their_ranks_on_the_whole_board(board: Board) -> None:
    source = next(r.source for r in read_measured(suite=SUITE) if r.control == "none")
    every = json.loads("\n".join(board("board", SUITE, "-f", "json")))
    part = json.loads("\n".join(board("board", SUITE, "-f", "json", "--only", f"source={source}")))
    assert part["rows"] == [row for row in every["rows"] if row["source"] == source]
    assert part["claims"] == every["claims"]


@pick.needs(SUITE)
def test_wide_shows_every_column(board: Board) -> None:
    lines = board("board", SUITE, "--wide")
    assert any("amortised s" in line for line in lines)
    assert len(lines) > len(board("board", SUITE, "--all"))
    assert board("board", SUITE, "--details") == lines


def test_without_a_suite_there_is_a_line_per_suite(board: Board) -> None:
    lines = board("board")
    measured = {file.name.partition(".")[0] for file in measured_folder().iterdir() if file.name.endswith(".xz")}
    assert measured <= {line.split()[0] for line in lines if line}
    assert len(lines) <= SCREEN
    with pytest.raises(BenchError, match="a selection is made of one suite"):
        board("board", "--only", "seed=0")


@pick.needs(SUITE)
def test_a_screen_needs_neither_pandas_nor_torch() -> None:
    """Each of them takes longer to load than the board to form."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom rich.console import Console\n"
        "from bench.cli.board import BoardRequest, show_board\n"
        f"show_board(BoardRequest({SUITE!r}, None, Path('none')), Console(width=100))\n"
        "sys.exit(sum(name in sys.modules for name in ('pandas', 'torch', 'streamlit')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "top-1 %" in done.stdout


@pick.needs(SUITE)
def test_a_difference_of_two_cells_is_that_of_the_board(board: Board) -> None:
    records = [r for r in read_measured(suite=SUITE) if r.seed == 0]
    head = next(r for r in records if r.control == "none")
    same = [r for r in records if (r.target, r.compressor) == (head.target, head.compressor) and r.control == "none"]
    found = {r.source: r for r in same}
    only = f"target={head.target},compressor={head.compressor}"
    lines = [line for line in board("board", SUITE, "--only", only) if LINE.match(line)]
    first = next(name for name in found if f" {name}" in lines[0])
    other = next(name for name in found if f" {name}" in lines[1])
    said = board("diff", found[other].cell_id, found[first].cell_id)
    assert max(map(len, said)) <= 100
    behind = re.findall(r"[+-]\d+\.\d\d \[-?\d+\.\d\d, -?\d+\.\d\d\]", lines[1])
    assert behind
    assert f"{behind[0]} points" in said[2]
    assert said[2][0] in "✓✗?"
    assert any(line.split()[:1] == ["source"] for line in said)
    same_row = next(r for r in read_measured(suite=SUITE) if r.row_id == head.row_id and r.seed == 1)
    assert "they are of one row" in board("diff", head.cell_id, same_row.cell_id)[2]
