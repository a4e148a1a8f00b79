"""The board as a file: formats by name, Parquet read back, ± and letters in print."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest

from bench.board.index.frame import frame
from bench.board.stats.letters import short_letters
from bench.board.tables.export import FILE_FORMATS, chosen_format, to_bytes, to_parquet
from bench.board.tables.grids import Cell, Grid, tie_letters
from bench.board.tables.pivots import pivot_grids
from bench.board.tables.report import report, to_latex, to_markdown
from bench.errors import BenchError

from .make import seeds


def _table() -> pd.DataFrame:
    rows = [
        *seeds([0.8, 0.8], source="a"),
        *seeds([0.799, 0.8], source="b"),
        *seeds([0.6, 0.61], source="c"),
        *seeds([0.9, 0.9], source="real", control="upper"),
    ]
    return frame(rows)


@pytest.mark.parametrize(
    ("form", "name", "chosen"),
    [
        (None, None, "table"),
        ("md", None, "md"),
        (None, "b.csv", "csv"),
        (None, "b.tex", "latex"),
        (None, "b.parquet", "parquet"),
        (None, "b.txt", "table"),
        ("json", "b.dat", "json"),
    ],
)
def test_the_format_asked_for(form: str | None, name: str | None, chosen: str) -> None:
    assert chosen_format(form, Path(name) if name else None) == chosen
    assert chosen in FILE_FORMATS


@pytest.mark.parametrize(
    ("form", "name", "said"),
    [
        ("parquet", None, "needs a file"),
        ("latx", None, "did you mean: latex"),
        (None, "b.parqet", "did you mean: .parquet"),
        (None, "b", "does not say the format"),
    ],
)
def test_what_is_no_format(form: str | None, name: str | None, said: str) -> None:
    with pytest.raises(BenchError, match=said):
        chosen_format(form, Path(name) if name else None)


def test_parquet_is_the_frame() -> None:
    table = _table()
    table.loc[0, "top1_low"] = pd.NA
    read = pd.read_parquet(io.BytesIO(to_parquet(table)))
    pd.testing.assert_frame_equal(read, table, check_dtype=False)
    assert pd.isna(read.loc[0, "top1_low"])
    assert to_parquet(frame([]))  # an empty board is a file, too


def test_text_is_whole() -> None:
    assert to_bytes(report(_table(), "csv")).decode() == report(_table(), "csv")
    assert "80.00" in to_bytes(report(_table(), "table")).decode()


def test_plus_minus_and_letters_in_print() -> None:
    (grid,) = pivot_grids(_table())
    row = _table().set_index("source").loc["b"]
    half = f"{(row['top1_high'] - row['top1_low']) / 2:.2f}"
    assert f"| b | 79.95 ± {half}<sup>a</sup> |" in to_markdown([grid])
    assert rf"b & 79.95 $\pm$ {half}\textsuperscript{{a}} " in to_latex([grid])
    assert r"\textbf{80.00} $\pm$" in to_latex([grid])
    line = next(line for line in to_markdown([grid]).splitlines() if line.startswith("| c "))
    assert "<sup>b</sup>" in line  # differs from both: shares no letter with them
    for text in (to_markdown([grid]), to_latex([grid])):
        assert "share a letter" in text
        assert "half of the 95" in text
        assert "80.00=" not in text


def test_the_frames_own_letters_win() -> None:
    table = _table()
    table["letters"] = ["a", "ab", "b", pd.NA]
    (grid,) = pivot_grids(table)
    printed = to_markdown([grid])
    assert "<sup>ab</sup>" in printed
    assert "<sup>b</sup>" in printed
    assert printed.count("<sup>") == 3


def test_runs_of_letters_are_printed_by_their_ends() -> None:
    table = _table()
    table["letters"] = ["abcdefgh", "a,b,z,aa,ab", "b", pd.NA]
    (grid,) = pivot_grids(table)
    assert "<sup>a–h</sup>" in to_markdown([grid])
    assert "<sup>a,b,z–ab</sup>" in to_markdown([grid])
    assert r"\textsuperscript{a--h}" in to_latex([grid])
    for text in (to_markdown([grid]), to_latex([grid])):
        assert "each letter from a to d" in text
    assert "each letter" not in to_markdown(pivot_grids(_table()))  # where none is shortened, nothing is explained
    assert table["letters"].iloc[0] == "abcdefgh"  # CSV, JSON and Parquet keep every letter


@pytest.mark.parametrize(
    ("letters", "short"),
    [("", ""), ("ab", "ab"), ("ac", "ac"), ("abc", "a–c"), ("cdfghi", "c,d,f–i"), ("y,z,aa", "y–aa"), ("a,ba", "a,ba")],
)
def test_short_letters(letters: str, short: str) -> None:
    assert short_letters(letters) == short


def test_letters_by_rank() -> None:
    def row(rank: int | None, tied: bool = True) -> dict[str, object]:
        return {"rank": rank, "tied": tied}

    assert [tie_letters(row(r)) for r in (1, 2, 26, 27, 28, 53)] == ["a", "b", "z", "aa", "ab", "ba"]
    assert tie_letters(row(1, tied=False)) == ""
    assert tie_letters(row(None)) == ""


def test_a_terminals_mark_stays_where_no_letter_replaces_it() -> None:
    grid = Grid("t", ("x",), frozenset(), ((Cell("1="),), (Cell("2=", letters="a"),)), ("= no difference",))
    assert "= no difference" in to_markdown([grid])
    assert "| 1= |" in to_markdown([grid])
    assert "| 2<sup>a</sup> |" in to_markdown([grid])
