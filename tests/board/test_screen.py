"""A board on one screen: claims first, nothing split or cut, as many lines as fit."""

from __future__ import annotations

import io
from itertools import product

import pytest
from rich.console import Console

from bench.board.claims.judging import Part, Verdict
from bench.board.index.rows import make_rows
from bench.board.stats.paired import Interval
from bench.board.tables.answers import Line, SourceTable
from bench.board.tables.layout import WIDTH, Column, aligned, total
from bench.board.tables.measures import MeasureTable, measure_tables
from bench.board.tables.screen import SCREEN, View, screen

from .make import record

LONG = "inversion(mix=1, data_mixing=false, bn=false, weights=fixed) [zoo:resnet50d_w8+seresnet18_w10+densenet_g8]"
CLAIMS = (
    Verdict("what is not known yet stands after what is, however long its sentence is and however narrow", "open"),
    Verdict("one serves better than two", "supported", 1.5, 0.5, 2.5, seeds=3, pairs=2),
    Verdict("three serves better", "one seed", 0.5, -0.5, 1.5, seeds=1, pairs=2),
    Verdict(
        "bits matter", "depends", 0.1, -1.0, 1.2, seeds=3, depends_on="bits", above=("W2A4",), below=("W4A4",),
        parts=(Part("bits", "W2A4", 3.0, 2.0, 4.0, 1), Part("bits", "W4A4", -3.0, -4.0, -2.0, 1)),
    ),
)  # fmt: skip


def line(name: str, place: int, control: str = "none") -> Line:
    mean = 90.0 - place
    ranked = {} if control != "none" else {"rank": place + 1, "ranks": (max(1, place), place + 2)}
    return Line(name, control, mean, Interval(mean - 0.5, mean + 0.5), behind=(-1.0, -2.0, 0.0), minutes=12.5, **ranked)  # type: ignore[arg-type]


def table(lines: int, compressor: str = "brecq", setting: str = "W4A4", name: str = "source") -> SourceTable:
    found = [line(f"{name}{i} [mobilenetv2_w035]", i) for i in range(lines)]
    found += [line("real", 0, "upper"), line("noise", 30, "lower")]
    return SourceTable("d", "mini", compressor, setting, ("a", "b"), (256,), 91.0, tuple(found))


def view(tables: int = 2, lines: int = 10, **given: object) -> View:
    made = [table(lines, f"c{i}") for i in range(tables)]
    return View(**{"title": "suite · d", "verdicts": CLAIMS, "tables": made, "further": ["more: --all"], **given})  # type: ignore[arg-type]


def shown(view: View, width: int = WIDTH) -> list[str]:
    console = Console(width=width, color_system=None, file=io.StringIO())
    with console.capture() as capture:
        console.print(screen(view, width), crop=False)
    return [text.rstrip() for text in capture.get().splitlines()]


@pytest.mark.parametrize(("tables", "lines"), [(1, 8), (2, 10), (3, 30), (6, 12), (12, 20)])
def test_it_fits_a_screen(tables: int, lines: int) -> None:
    found = shown(view(tables, lines))
    assert len(found) <= SCREEN
    assert max(map(len, found)) <= WIDTH
    for i in range(tables):
        assert any(text.split()[0] == f"c{i}" for text in found if text)  # every table is there, whole or in one line


def test_claims_come_first_the_known_ones_at_their_head_and_those_of_few_seeds_apart() -> None:
    found = shown(view())
    places = [
        next(i for i, text in enumerate(found) if word in text) for word in ("supported", "✓", "± ", "? ", "1 one")
    ]
    assert places == sorted(places)
    assert places[-1] < next(i for i, text in enumerate(found) if "top-1" in text)
    assert found[1] == "claims: 1 supported, 1 depends, 1 open"
    assert "too few seeds for a verdict: 1 one seed" in found


def test_what_is_left_out_is_counted_and_all_shows_it() -> None:
    names = {f"source{i}" for i in range(30)}
    short, whole = shown(view(3, 30)), shown(view(3, 30, whole=True))
    kept = sum(text.count("source") for text in short if "[mobilenetv2_w035]" in text)
    left_out = sum(int(text.split()[1]) for text in short if text.startswith("and "))
    assert kept + left_out == 90
    for name, _ in product(names, range(3)):
        assert sum(f"{name} " in text for text in whole) == 3
    assert any("W2A4: +3.00 [2.00, 4.00]" in text for text in whole)


def test_the_first_lines_and_the_controls_are_those_that_stay() -> None:
    found = shown(view(3, 30))
    kept = [text for text in found if "source" in text and "[" in text]
    numbers = [int(text.split("source")[1].split()[0]) for text in kept]
    assert numbers == list(range(max(numbers) + 1)) * 3
    assert sum("upper" in text for text in found) == sum("lower" in text for text in found) == 3


def test_every_sign_in_use_is_explained_within_the_width() -> None:
    first, *rest = table(4).lines
    signed = Line(**{**vars(first), "marks": "‡§¶", "tied": True})
    found = shown(View("t", (), [SourceTable("d", "mini", "c", "W4A4", ("a",), (256,), None, (signed, *rest))]))
    assert max(map(len, found)) <= WIDTH
    assert {text[0] for text in found if text} >= set("‡§¶=")


def test_brief_has_a_line_per_table() -> None:
    found = shown(view(3, 10, brief=True))
    assert sum("source0" in text for text in found) == 3
    assert not any("source1" in text for text in found)
    assert len(found) < len(shown(view(3, 10)))


@pytest.mark.parametrize("width", [60, 80, 100, 140])
@pytest.mark.parametrize("lines", [4, 40])
def test_no_name_is_split_or_cut(width: int, lines: int) -> None:
    made = [table(lines, compressor, name=LONG) for compressor in ("c", "prune_structured+quantise(range=mse)")]
    for found in (shown(view(tables=0, whole=lines < 10)), shown(View("t", (), made), width)):
        assert "…" not in "".join(found)
        assert "..." not in "".join(found)
    for compressor in ("c", "prune_structured+quantise(range=mse)"):
        assert any(compressor in text for text in found)
    assert sum(LONG in text for text in found) >= 2


def test_a_part_of_a_suite_counts_the_claims_of_the_whole() -> None:
    found = shown(view(narrowed=True))
    assert found[1] == "claims of the whole suite: 1 supported, 1 depends, 1 open, 1 one seed"
    assert not any("serves better" in text for text in found)


def test_lines_that_were_not_selected_are_not_shown() -> None:
    hidden = table(4)
    lines = tuple(Line(one.name, one.control, one.mean, shown=i == 2) for i, one in enumerate(hidden.lines))
    found = shown(View("t", (), [SourceTable("d", "mini", "c", "W4A4", ("a",), (256,), None, lines)]))
    assert sum("source" in text and "[" in text for text in found) == 1
    assert any("source2" in text for text in found)


def test_columns_go_in_the_order_of_their_spare_numbers_until_the_rest_fits() -> None:
    columns = [
        Column("name", ("a" * 20,), right=False),
        Column("kept", ("1.00",)),
        Column("second", ("2.00",), spare=1),
        Column("first", ("3.00",), spare=2),
    ]
    whole = total(columns)
    assert "first" in aligned(columns, whole)[0]
    assert "first" not in aligned(columns, whole - 1)[0]
    assert "second" in aligned(columns, whole - 1)[0]
    narrow = aligned(columns, 12)
    assert any(text.strip() == "a" * 20 for text in narrow)  # on a line of its own, above its number
    assert "1.00" in narrow[-1]


def test_measures_are_means_over_the_networks_of_every_source() -> None:
    records = [
        record(None, status="ok", source=source, target=target, compressor="", metrics={"loss": value, "loss_low": 0.0})
        for source, values in {"one": (1.0, 3.0), "two": (5.0,)}.items()
        for target, value in zip(("a", "b"), values, strict=False)
    ]
    (found,) = measure_tables(make_rows(records), ["loss", "loss_low"])
    assert isinstance(found, MeasureTable)
    assert found.measures == ("loss",)  # ends of its interval are no measure
    assert dict(found.lines) == {"one": ("2.000",), "two": ("– 1 of 2",)}
    text = shown(View("t", (), (), [found]))
    assert any(one.split() == ["one", "2.000"] for one in text)
