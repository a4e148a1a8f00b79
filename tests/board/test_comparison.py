"""Measured beside published: every number on its own side, the scale in words, nothing claimed in any mean."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pandas as pd
import pytest

from bench.board.claims.judging import judge
from bench.board.index.frame import frame
from bench.board.tables import published as module
from bench.board.tables.comparison import beside, beside_grid
from bench.board.tables.report import FORMATS, report
from bench.errors import DataError
from bench.store.records import ResultRecord

from .make import record, seeds

BOARD = Path(module.__file__).parents[1]
NET = "resnet50_w8"


def _records() -> list[ResultRecord]:
    same = {"target": NET, "dataset": "fashion_mnist"}
    return [
        *seeds([0.88, 0.89], source="real", control="upper", **same),
        *seeds([0.80, 0.81], source="mixmix", model="zoo:full", **same),
        *seeds([0.70, 0.72], source="mixmix", model="zoo:full", compressor="rtn", **same),
    ]


def test_every_line_says_what_it_holds() -> None:
    found = beside(frame(_records()), "mixmix/T6").table
    assert found["provenance"].value_counts().to_dict() == {"claimed": 38, "measured, claimed": 2, "measured": 1}
    both = found[found["provenance"] == "measured, claimed"].set_index("source")
    assert both.loc["mixmix", ["measured_top1", "claimed_value", "claimed_printed"]].tolist() == [80.5, 74.58, "74.58"]
    assert both.loc["mixmix", ["claimed_selection", "claimed_verified", "ladder"]].tolist() == [
        "last",
        "no",
        "self_reported",
    ]
    assert both.loc["real", "claimed_value"] == 74.72
    claimed = found[found["provenance"] == "claimed"]
    assert claimed["measured_top1"].isna().all()
    assert claimed[["paper", "table"]].drop_duplicates().values.tolist() == [["mixmix", "T6"]]
    assert found[found["provenance"] == "measured"]["claimed_value"].isna().all()
    assert found["gap"].isna().all()
    # of 48 printed numbers the 40 at W4A4, each exactly once; the rest are W4A8, which this suite lacks
    printed = module.published("mixmix/T6")
    assert sorted(found["claimed_value"].dropna()) == sorted(printed.loc[printed["bits"] == "W4A4", "value"])


def test_the_scale_is_said_in_words() -> None:
    notes = "\n".join(beside(frame(_records()), "mixmix/T6", sizes={"fashion_mnist": 32}).notes)
    for words in (
        "data set: fashion_mnist measured, ImageNet claimed",
        "image size: 32×32 pixels measured, 224×224 claimed",
        f"narrowed ones measured ({NET})",
        "uncompressed top-1: resnet50_w8 90.00 measured, ResNet-50 77.00 claimed",
        "images the compressor sees: 256 measured, 1,024 claimed",
        "preset mini",
        "seeds: 2 measured, the paper states none",
    ):
        assert words in notes
    full = record(
        0.7, source="real", control="upper", target="timm:resnet50", dataset="imagenet", preset="paper", n=1024
    )
    alike = "\n".join(beside(frame([full]), "mixmix/T6", sizes={"imagenet": 224}).notes)
    for words in ("image size", "narrowed", "preset"):
        assert words not in alike


def test_other_tables() -> None:
    listed = beside(frame(_records()), "mixmix/T8")  # pruning: no such bits here, so all are listed
    assert (listed.table["provenance"] == "claimed").sum() == 8
    cut = beside(frame(_records()), "mixmix/T3")
    assert "4 printed numbers at settings this suite does not measure are left out" in cut.notes  # ResNet-50's W2A4
    measures = beside(frame([record(0.5, compressor="", setting_label="")]), "mixmix/T2")
    assert set(measures.table["provenance"]) == {"claimed"}
    assert len(measures.table) == 11
    with pytest.raises(DataError, match="no such table"):
        beside(frame(_records()), "mixmix/T66")


def test_every_format_shows_both() -> None:
    table = frame(_records())
    found = beside(table, "mixmix/T6")
    for form in FORMATS:
        text = report(table, form, found=found)
        if isinstance(text, str):
            assert "74.58" in text
            assert "80.5" in text
    answer = json.loads(str(report(table, "json", found=found)))["published"]
    assert len(answer["rows"]) == 41
    assert answer["notes"]
    grid = beside_grid(found)
    shown = next(row for row in grid.rows if row[0].text == "mixmix")
    assert shown[6].text.startswith("80.50 ± ")
    assert shown[7].text == "74.58"
    assert any("no gap is formed where the scale differs: measured on fashion_mnist" in note for note in grid.notes)


def test_numbers_on_several_data_sets_say_which() -> None:
    """Printed rows that agree in every other column would otherwise stand there twice with two numbers."""
    rows = [record(0.7, setting_label=width) for width in ("W7A7", "W5A5", "W3A3")]
    grid = beside_grid(beside(frame(rows), "coquant/S-T3"))
    place = grid.headers.index("claimed on")
    assert {row[place].text for row in grid.rows} == {"ActivityNet", "Mini-Kinetics"}
    number = grid.headers.index("claimed")
    known = [tuple(cell.text for i, cell in enumerate(row) if i != number) for row in grid.rows]
    assert len(set(known)) == len(known)
    printed = module.published("coquant/S-T3")
    shown = {(row[place].text, row[3].text, row[4].text, row[number].text) for row in grid.rows}
    columns = ("dataset", "method", "bits", "printed")
    assert shown == set(printed[list(columns)].itertuples(index=False, name=None))
    one = beside_grid(beside(frame(_records()), "mixmix/T6"))
    assert "claimed on" not in one.headers


def test_a_table_that_names_no_network_is_said_to() -> None:
    notes = "\n".join(beside(frame([record(0.7, target=NET)]), "coquant/S-T5").notes)
    assert f"narrowed ones measured ({NET}), full ones claimed (the table names none)" in notes


def test_a_gap_is_printed_with_its_interval() -> None:
    full = record(0.7, source="real", control="upper", target="timm:resnet50", dataset="imagenet")
    full = full.model_copy(update={"metrics": full.metrics | {"fp_top1": 77.0}})
    grid = beside_grid(beside(frame([full]), "mixmix/T6"))
    row = next(row for row in grid.rows if row[2].text == "timm:resnet50")
    assert row[-1].text.startswith("4.72 [")
    assert any(note.startswith("gap: claimed minus measured") for note in grid.notes)


def _outcome() -> tuple[list[dict[str, object]], object, str]:
    records = _records()
    claims = [{"says": "x", "better": {"source": "mixmix", "compressor": "brecq"}, "worse": {"source": "real"}}]
    table, verdicts = frame(records), judge(claims, records)
    found = beside(table, "mixmix/T6")
    board = str(report(table, "md", verdicts=verdicts, records=records))
    measured = found.table[[name for name in found.table.columns if not name.startswith(("claimed", "gap"))]]
    return json.loads(table.to_json(orient="records")), json.loads(measured.to_json(orient="records")), board


def test_no_published_number_enters_a_measured_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were every printed number another, not one measured number, mean, rank or verdict would change."""
    before = _outcome()
    real = module._read

    def altered(name: str) -> pd.DataFrame:
        return real(name).assign(value="12345.5")

    monkeypatch.setattr(module, "_read", altered)
    assert beside(frame(_records()), "mixmix/T6").table["claimed_value"].dropna().eq(12345.5).all()
    assert _outcome() == before


def test_nothing_that_measures_knows_of_published_numbers() -> None:
    """frame, statistics, pivots and claims import neither the printed numbers nor what sets them beside ours."""
    may = {"gap.py", "published.py", "comparison.py", "report.py"}
    files = list(BOARD.rglob("*.py"))
    assert may <= {file.name for file in files}
    for file in files:
        names = {
            node.module
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            if isinstance(node, ast.ImportFrom) and node.module
        }
        if names & {"bench.board.tables.published", "bench.board.tables.comparison"}:
            assert file.name in may


def test_numbers_chosen_on_the_test_set_are_named() -> None:
    said = "the one best on the test set behind 4 claimed numbers"
    assert [note for note in beside(frame(_records()), "mixmix/T7").notes if said in note]
    assert not [note for note in beside(frame(_records()), "mixmix/T6").notes if "best on the test set" in note]
