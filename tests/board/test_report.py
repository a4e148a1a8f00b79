"""Printed tables: what stands out, what is marked, that every format parses."""

from __future__ import annotations

import io
import json

import pandas as pd
import pytest

from bench.board.claims.judging import Verdict, judge
from bench.board.index.columns import COLUMNS
from bench.board.index.frame import frame
from bench.board.tables.grids import BLANK, RANKS, Grid, board_grids, image_set_grid
from bench.board.tables.pivots import metric_grids, pivot_grids
from bench.board.tables.report import FORMATS, report, to_json, to_latex, to_markdown, to_text
from bench.board.tables.signs import FLAGGED
from bench.board.tables.verdict_grids import verdict_grid
from bench.errors import BenchError
from bench.store.image_gate import MEANING
from bench.store.records import ResultRecord, StageCost
from dashboard.report.html import ranked_html

from .make import gate, record, seeds

A, B = "resnet18_w10", "vgg_w8"


def _records() -> list[ResultRecord]:
    records = []
    for target in (A, B):
        same = {"target": target, "target_digest": target, "protocol_id": f"p-{target}"}
        records += seeds([0.88] * 3, source="real", control="upper", **same)
        records += seeds([0.20] * 3, source="noise", control="lower", **same)
        records += seeds([0.80] * 3, source="mixmix", model="zoo:full", **same)
        records += seeds([0.70] * 3, source="zeroq", model=target, **same)
        records += seeds([0.75] * 3, source="kw", model=A, **same)
    return [*records, *seeds([0.6], source="kw", model=B, target=B, target_digest=B, protocol_id=f"p-{B}")]


def _text(grid: Grid, name: str) -> list[str]:
    return next([cell.text for cell in row[1:]] for row in grid.rows if row[0].text == name)


def test_pivot_as_table_six() -> None:
    (grid,) = pivot_grids(frame(_records()))
    assert grid.headers == ("source", A, B, "mean")
    names = [row[0].text for row in grid.rows]
    assert names[:3] == ["FP32", "real", "noise"]
    assert set(names[3:]) == {"mixmix [zoo:full]", "zeroq [self]", f"kw [{A}]", f"kw [{B}]"}
    assert _text(grid, "FP32") == ["90.00", "90.00", "90.00"]
    assert _text(grid, "zeroq [self]") == ["70.00", "70.00", "70.00"]
    # one seed of three: no mean of it, and none over the columns
    assert _text(grid, f"kw [{B}]") == ["", f"{BLANK} 1 of 3", f"{BLANK} 0 of 2"]
    bold = {(row[0].text, cell.text) for row in grid.rows for cell in row if cell.bold}
    assert bold == {("mixmix [zoo:full]", "80.00")}  # the best that is no control
    assert any(f"p-{A}, p-{B}" in note for note in grid.notes)
    assert "W4A4" in grid.title


def test_pivots_of_several_image_counts_begin_with_the_fewest() -> None:
    records = [r for n, top1 in ((1024, 0.8), (64, 0.6), (256, 0.7)) for r in seeds([top1], source="a", n=n)]
    titles = [grid.title for grid in pivot_grids(frame(records))]
    assert [title.split(" · ")[3] for title in titles] == ["64 images", "256 images", "1024 images"]


def test_pivot_marks_ties_stale_rows_and_several_bits() -> None:
    records = [
        *seeds([0.8, 0.8], source="a"),
        *seeds([0.799, 0.8], source="b"),
        *seeds([0.9, 0.9], source="c", source_version=0),
        *seeds([0.9, 0.9], source="a", setting_label="W8A8", protocol_id="p8"),
    ]
    (grid,) = pivot_grids(frame(records, versions={("sources", "c"): 1}))
    assert grid.headers == ("source", f"{A} W4A4", f"{A} W8A8")  # nothing to average
    assert _text(grid, "a")[0] == "80.00="
    assert _text(grid, "b")[0] == "79.95="
    assert _text(grid, "c")[0] == "90.00†"
    other = {"target": B, "target_digest": B, "protocol_id": "pB"}
    wide = [*records, *(r for name in "abc" for r in seeds([0.6, 0.6], source=name, **other))]
    (grid_of_two,) = pivot_grids(frame(wide, versions={("sources", "c"): 1}))
    assert grid_of_two.headers == ("source", f"{A} W4A4", f"{A} W8A8", f"{B} W4A4", "mean W4A4")
    assert _text(grid_of_two, "a")[-1] == "70.00"  # W8A8 does not enter
    assert _text(grid_of_two, "FP32")[-1] == "90.00"
    assert _text(grid_of_two, "c")[-1] == f"{BLANK} 1 of 2"  # a stale value enters no mean
    assert any("stale" in note for note in grid.notes)
    # a fresh row takes the stale one's place in the pivot; the ranked table shows both
    both = frame([*records, *seeds([0.5, 0.5], source="c", source_version=1)], versions={("sources", "c"): 1})
    assert _text(pivot_grids(both)[0], "c")[0] == "50.00"
    (source,) = (i for i, name in enumerate(board_grids(both)[0].headers) if name == "source")
    listed = [row[source].text for row in board_grids(both)[0].rows]
    assert listed == ["a", "b", "c", "c†"]


def _lines(grid: Grid) -> list[dict[str, str]]:
    return [dict(zip(grid.headers, (cell.text for cell in row), strict=True)) for row in grid.rows]


def test_board_rows() -> None:
    records = [
        *_records(),
        record(None, source="di", target=A, target_digest=A, status="not_applicable", reason="no BN"),
    ]
    grids = board_grids(frame(records))
    assert [g.title.split(" · ")[1] for g in grids] == [f"d/{A}", f"d/{B}"]
    heads = grids[0].headers
    assert "compressor" not in heads  # one value for all rows: it stands in the title
    assert "compressor brecq" in grids[0].title
    assert "target in source" not in heads  # blank everywhere
    first = {line["source"]: line for line in _lines(grids[0])}
    assert first["mixmix"]["rank"] == "1"
    assert first["real"]["rank"] == "upper"
    table = frame(records)
    row = table[(table["source"] == "mixmix") & (table["target"] == A)].iloc[0]
    assert (row["rank_low"], row["rank_high"]) == (1, 1)
    assert [first[name][RANKS] for name in ("mixmix", "real", "di")] == ["1", "", ""]
    assert any(note.startswith(f"{RANKS}: ") for note in grids[0].notes)
    wider = {line["source"]: line for line in _lines(board_grids(table.assign(rank_high=table["rank_low"] + 2))[0])}
    assert wider["mixmix"][RANKS] == "1–3"
    assert first["di"]["remarks"] == "not_applicable: no BN"
    assert first["di"]["top-1 %"] == BLANK
    assert (first["mixmix"]["seeds"], first["di"]["seeds"]) == ("3 of 3", "0 of 3")
    assert first["mixmix"]["synth s"] == "10.0"
    assert {grids[0].headers[i] for i in grids[0].text} == {"source", "from", "remarks"}
    assert any("charged in full" in note for note in grids[0].notes)
    one_seed = board_grids(frame([record(0.8)]))[0]
    assert any("one seed" in note for note in one_seed.notes)


def test_measures_make_their_own_grids() -> None:
    fields = {
        "compressor": "",
        "compressor_method": "",
        "setting_label": "",
        "setting": {},
        "correct": None,
        "protocol_id": None,
    }
    records = []
    for target, value in ((A, 1.0), (B, 2.5)):
        for seed in (0, 1):
            membership = "same checkpoint" if target == A else "held-out architecture"
            made = record(0.5, source="di", model=A, target=target, seed=seed, membership=membership)
            metrics = {"bn_loss_u1": value + seed}
            records.append(made.model_copy(update={**fields, "metrics": metrics}))
    table = frame(records, extra=["bn_loss_u1", "nothing"])
    (grid,) = metric_grids(table, ["bn_loss_u1", "nothing"])
    assert grid.headers == ("network", f"di [{A}]")
    assert [cell.text for row in grid.rows for cell in row] == [
        *(A, "1.500", B, "3.000"),
        *("mean ± std", "2.250 ± 0.7500", "held out ± std", "3.000 ± 0.0000"),
    ]
    (holed,) = metric_grids(frame(records[:-1], extra=["bn_loss_u1"]), ["bn_loss_u1"])
    assert [row[1].text for row in holed.rows[1:]] == [f"{BLANK} 1 of 2", f"{BLANK} 1 of 2", f"{BLANK} 0 of 1"]
    # The held-out line averages the same networks for every source, controls included.
    values = {"metrics": {"bn_loss_u1": 9.0, "bn_loss_u1_low": 8.5, "bn_loss_u1_high": 9.25}}
    made = [record(0.5, source="real", model="", target=B, control="upper", seed=seed) for seed in (0, 1)]
    control = [one.model_copy(update=fields | values) for one in made]
    with_low = frame([*records, *control], extra=["bn_loss_u1", "bn_loss_u1_low", "bn_loss_u1_high"])
    (both,) = metric_grids(with_low, ["bn_loss_u1", "bn_loss_u1_low", "bn_loss_u1_high"])
    assert both.headers == ("network", "real", f"di [{A}]")
    assert [row[1].text for row in both.rows] == [
        BLANK,
        "9.000 [8.50, 9.25]",
        f"{BLANK} 1 of 2",
        "9.000 ± 0.0000",
    ]
    assert f"held out: {B}" in both.notes
    assert board_grids(table) == []
    assert pivot_grids(table) == []
    assert "bn_loss_u1" in str(report(table, "md"))


def test_image_sets_are_listed_once() -> None:
    grid = image_set_grid(_records())
    lines = {(row[0].text, row[1].text): [cell.text for cell in row[2:]] for row in grid.rows}
    three = lines["real", ""]  # three seeds, two targets
    assert three == ["mini", "256", "3", "10.0", "20.0", "100", BLANK, "50", "2", "5.0", "6"]
    assert lines["kw", B] == ["mini", "256", "1", "10.0", "20.0", "100", BLANK, "50", "1", "10.0", "1"]
    dearer = record(0.8, seed=1).model_copy(update={"costs": {"synthesis": StageCost(seconds=30)}})
    (row,) = image_set_grid([record(0.8), dearer]).rows
    assert [cell.text for cell in row[4:10]] == ["2", "20.0", "10.0", "50", BLANK, "50"]
    counted = record(0.8).model_copy(update={"costs": {"synthesis": StageCost(macs=5.5e11)}})
    assert image_set_grid([counted]).rows[0][8].text == "550.0"
    assert image_set_grid([counted, dearer]).rows[0][8].text == BLANK  # no mean over one that is not known
    unknown = image_set_grid([record(None)]).rows[0]
    assert [cell.text for cell in unknown[5:10]] == [BLANK] * 5


def test_failed_syntheses_are_marked_and_shared_ones_amortised() -> None:
    bad, good = gate(50), gate(99)
    one = [record(0.8, source="kw", target=t, synth_id="z", image_gate=bad) for t in (A, B)]
    two = [record(0.7, source="di", target=t, synth_id=t, image_gate=good) for t in (A, B)]
    table = frame([*one, *two])
    grid = board_grids(table)[0]
    lines = {line["source"]: line for line in _lines(grid)}
    assert set(lines) == {f"kw{FLAGGED.text}", "di"}
    assert any(note == f"{FLAGGED.text} {MEANING}" for note in grid.notes)
    assert any(note.startswith("amortised ") for note in grid.notes)
    sets = {line["source"]: (line["targets"], line["amortised s"]) for line in _lines(image_set_grid([*one, *two]))}
    assert sets == {"kw": ("2", "5.0"), "di": ("1", "10.0")}
    html = [ranked_html(table[(table["target"] == A) & (table["source"] == name)]) for name in ("kw", "di")]
    assert [FLAGGED.text in page for page in html] == [True, False]
    assert ["amortised s" in page for page in html] == [True, False]  # each of di's sets serves one target
    (pivot,) = pivot_grids(table)
    marked = {line["source"]: [text for name, text in line.items() if name in (A, B)] for line in _lines(pivot)}
    assert all(text.endswith(FLAGGED.text) for text in marked["kw"])
    assert not any(FLAGGED.text in text for text in marked["di"])
    assert r"$\ddagger$" in str(report(table, "latex"))
    plain = board_grids(frame(two))[0]
    assert not any(FLAGGED.text in note or note.startswith("amortised") for note in plain.notes)


def test_every_format() -> None:
    records = _records()
    claims = [{"says": "mixmix beats kw | always", "better": {"source": "mixmix"}, "worse": {"source": "zeroq"}}]
    verdicts, table = judge(claims, records), frame(records)
    assert verdicts[0].verdict == "supported"
    for form in FORMATS:
        assert report(table, form, verdicts=verdicts, records=records)
    read = pd.read_csv(io.StringIO(str(report(table, "csv"))))
    assert list(read.columns) == [c.name for c in COLUMNS]
    assert read["top1_mean"].isna().sum() == 1
    parsed = json.loads(str(report(table, "json", verdicts=verdicts)))
    assert len(parsed["rows"]) == len(table)
    assert parsed["claims"][0]["verdict"] == "supported"
    blank = next(row for row in parsed["rows"] if row["seeds"] == "1 of 3")
    assert blank["top1_mean"] is None
    assert isinstance(parsed["rows"][0]["n"], int)
    with pytest.raises(BenchError, match="latex"):
        report(table, "latx")


def test_markdown_and_latex_escape() -> None:
    claims = [{"says": "a|b_c", "better": {"source": "mixmix"}, "worse": {"source": "zeroq"}}]
    grid = verdict_grid(judge(claims, _records()))
    markdown = to_markdown([grid])
    body = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in body}) == 1
    assert r"a\|b_c" in markdown
    assert "**supported**" in markdown
    latex = to_latex([*pivot_grids(frame(_records())), grid])
    assert latex.count(r"\begin{table}") == latex.count(r"\end{table}") == 2
    assert r"resnet18\_w10" in latex
    assert r"\textbf{80.00}" in latex
    assert not set("†–→·") & set(latex)


def test_terminal_tables_keep_brackets_and_bold() -> None:
    text = to_text(pivot_grids(frame(_records())))
    assert "mixmix [zoo:full]" in text  # not swallowed as markup
    assert f"kw [{A}]" in text
    for width in (100, 140):  # a narrow terminal folds names, loses nothing, and breaks no accuracy
        narrow = to_text([*pivot_grids(frame(_records())), *board_grids(frame(_records()))], width)
        assert max(map(len, narrow.splitlines())) <= width
        assert narrow.count("80.00") == 5
        assert all(line[0] == line[-1] for line in narrow.splitlines() if line[0] in "┃│")  # not cut off


def test_an_empty_board() -> None:
    for form in FORMATS:
        report(frame([]), form)
    assert verdict_grid([]).rows == ()


def test_a_claims_remarks_are_all_in_the_json_and_the_first_in_the_table() -> None:
    remarks = tuple(f"row {i} is missing" for i in range(5))
    verdict = Verdict("a claim", "open", remarks=remarks)
    assert json.loads(to_json(frame([]), [verdict]))["claims"][0]["remarks"] == list(remarks)
    shown = verdict_grid([verdict]).rows[0][-1].text
    assert "row 2 is missing; and 2 more like these" in shown
    assert "row 3" not in shown
