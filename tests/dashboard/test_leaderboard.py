"""Leaderboard: the figure's numbers, columns by what the board has, means over targets, and every state of a store."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from bench.board.index.frame import frame
from bench.board.tables.means import rows_by_key, setting_groups
from bench.board.tables.signs import MIXED
from bench.machine import machine_key
from bench.store.record_store import RecordStore
from bench.store.records import ResultRecord
from dashboard.crosstable import cross_table, mean_of, value_text
from dashboard.figures.leaderboard import REFERENCE, leaderboard_bars
from dashboard.links import address, with_cells
from dashboard.target_means import means_table
from dashboard.text import interval
from dashboard.views.leaderboard import ALL_TARGETS
from tests.board.make import record, seeds
from tests.dashboard.conftest import shown, stored

A, B = "resnet18_w10", "vgg_w8"
SAME = {"target": A, "target_digest": A, "protocol_id": f"p-{A}-W4A4", "compressor": "fit"}
App = Callable[..., AppTest]


def ranked_rows(target: str = A, bits: str = "W4A4", **accuracies: float) -> list[ResultRecord]:
    same = {
        "target": target,
        "target_digest": target,
        "setting_label": bits,
        "protocol_id": f"p-{target}-{bits}",
        "compressor": "fit",
    }
    found = seeds([0.88, 0.86], source="upper", control="upper", **same)
    found += seeds([0.20, 0.22], source="lower", control="lower", **same)
    for source, accuracy in accuracies.items():
        found += seeds([accuracy, accuracy + 0.02], source=source, **same)
    return found


def test_bars_hold_means_and_intervals_and_the_reference() -> None:
    table = frame(ranked_rows(one=0.7, two=0.5))
    figure = leaderboard_bars(table)
    traces = {trace.name: trace for trace in figure.data}
    assert dict(zip(traces["methods"].y, traces["methods"].x, strict=True)) == pytest.approx({"one": 71, "two": 51})
    row = table[table["source"] == "one"].iloc[0]
    bars = dict(zip(traces["methods"].y, traces["methods"].error_x.array, strict=True))
    assert bars["one"] == pytest.approx(row["top1_high"] - 71)
    assert set(traces[REFERENCE].x) == {90.0}
    assert len(traces[REFERENCE].x) == 4
    assert figure.layout.yaxis.categoryarray[-1] == "upper"  # the best is on top


def test_names_bear_the_compressor_only_where_it_tells_rows_apart() -> None:
    names = leaderboard_bars(frame(ranked_rows(one=0.7) + seeds([0.6], source="one", compressor="other"))).data[0].y
    assert set(names) == {"one · fit", "one · other"}


def test_means_of_common_seeds_and_images_bear_an_interval() -> None:
    records = ranked_rows(A, one=0.7) + ranked_rows(B, one=0.6)
    table = frame(records)
    crossed = cross_table(with_cells(table, table.assign(cell_id="c", seed=0, suite_version=1)))
    found = rows_by_key(records)
    line = dict(zip(crossed.lines, crossed.squares, strict=True))["one"]
    ends = mean_of(line, found).interval.interval
    assert ends is not None
    assert ends.low < 66 < ends.high
    assert interval(ends.low, ends.high) in means_table(crossed, found)
    other = [r.model_copy(update={"seed": r.seed + 5}) if r.target == B else r for r in records]
    unlike = cross_table(frame(other, seeds={"s": []}))
    lines = dict(zip(unlike.lines, unlike.squares, strict=True))
    got = mean_of(lines["one"], rows_by_key(other)).interval
    assert got.interval is None


def test_a_mean_over_targets_is_blank_while_a_cell_is_missing() -> None:
    table = frame(ranked_rows(A, one=0.7, two=0.5) + ranked_rows(B, one=0.6))
    crossed = cross_table(table, (B, A))
    assert [target for target, _ in crossed.columns] == [B, A]
    means = dict(zip(crossed.lines, map(mean_of, crossed.squares), strict=True))
    assert means["one"].value == pytest.approx((71 + 61) / 2)
    assert (means["two"].value, means["two"].measured, means["two"].asked) == (None, 1, 2)
    html = means_table(cross_table(with_cells(table, table.assign(cell_id="c", seed=0, suite_version=1))))
    lines = [re.sub("<[^>]+>", "|", line) for line in html.split("<tr")]
    assert any("two" in line and "1 of 2" in line for line in lines)


def test_bits_of_one_target_share_a_table_with_the_others_bits() -> None:
    own = [
        record(0.5, target=A, setting_label="W4A4"),
        record(0.5, target=B, setting_label="W4A8"),
        record(0.5, target=A, setting_label="W2A4"),
    ]
    assert setting_groups(frame(own)) == {"W2A4": ["W2A4"], "W4A4, W4A8": ["W4A4", "W4A8"]}
    every = [record(0.5, target=t, setting_label=b) for t in (A, B) for b in ("W4A4", "W4A8")]
    assert setting_groups(frame(every)) == {"W4A4": ["W4A4"], "W4A8": ["W4A8"]}


def test_a_source_that_looks_at_the_target_only_makes_one_line() -> None:
    found = [record(0.5, source="kw", model=m, target=t, target_digest=t) for m in (A, B) for t in (A, B)]
    found += [record(0.5, source="own", model=t, target=t, target_digest=t) for t in (A, B)]
    assert cross_table(frame(found)).lines == ("own [self]", f"kw [{A}]", f"kw [{B}]")


def test_an_unfinished_row_says_k_of_n() -> None:
    found = frame([*seeds([0.5, 0.6], source="one"), record(0.5, source="two")], seeds={"s": [0, 1]})
    crossed = cross_table(found)
    texts = {name: value_text(line[0]) for name, line in zip(crossed.lines, crossed.squares, strict=True)}
    assert texts["two"] == "1 of 2"
    assert float(texts["one"]) == pytest.approx(55, abs=0.5)


def test_an_address_quotes_what_a_record_holds() -> None:
    assert address("cell", suite="a&b", cell="<x>") == "./cell?suite=a%26b&cell=%3Cx%3E"


# --- the page ---


def test_the_page_ranks_and_escapes(alone: RecordStore, app: App) -> None:
    evil = "<img src=x onerror=alert(1)>"
    same = {"protocol_id": f"p-{A}-W4A4", "target_digest": A}
    for one in stored(ranked_rows(one=0.7) + seeds([0.6, 0.6], source=evil, compressor=evil, **same)):
        alone.write(one)
    test = app("leaderboard")
    assert not test.exception
    tables = "".join(element.proto.body for element in test.get("html"))
    assert evil not in tables
    assert "&lt;img src=x" in tables
    assert all(evil not in chart.proto.spec for chart in test.get("plotly_chart"))
    assert "./cell?suite=s&amp;cell=" in tables


def test_machines_that_differ_have_a_column_and_a_legend(alone: RecordStore, app: App) -> None:
    machines = ({"aten": "AVX512", "threads": 1}, {"aten": "AVX2", "threads": 1})
    for one in stored(ranked_rows(one=0.7)):
        alone.write(one.model_copy(update={"provenance": machines[0]}))
    said = shown(app("leaderboard"))
    assert machine_key(machines[0]) in said
    assert MIXED.text not in said
    same = {"protocol_id": f"p-{A}-W4A4", "target_digest": A, "compressor": "fit"}
    for one in stored(seeds([0.5, 0.5], source="elsewhere", **same)):
        alone.write(one.model_copy(update={"provenance": machines[1]}))
    said = shown(app("leaderboard"))
    assert f"elsewhere {MIXED.text}" in said
    assert machine_key(machines[1]) in said
    assert MIXED.line in said


def test_sorting_and_all_targets(alone: RecordStore, app: App) -> None:
    cheap = {"metrics": {"size_bytes": 1.0}, "target_digest": A, "protocol_id": f"p-{A}-W4A4", "compressor": "fit"}
    for one in stored(
        [*ranked_rows(A, one=0.7), *ranked_rows(B, one=0.6), *seeds([0.5, 0.5], source="small", **cheap)]
    ):
        alone.write(one)
    body = shown(app("leaderboard", target=A, sort="size"))
    assert body.index("small") < body.index(">one<")
    test = app("leaderboard", target=ALL_TARGETS)
    assert not test.exception
    said = shown(test)
    assert f"p-{A}-W4A4" in said
    assert f"p-{B}-W4A4" in said
    said = re.sub("(<[^>]+>)+", "|", said)
    assert re.search(
        r"one\|66\.0\|\[[\d.]+, [\d.]+\]\|71\.0\|61\.0", said
    )  # the mean of 71 and 61, rounded to its uncertainty


def test_the_comparison_is_in_the_address(alone: RecordStore, app: App) -> None:
    for one in stored(ranked_rows(A, one=0.7, two=0.5)):
        alone.write(one)
    test = app("leaderboard")
    assert not test.toggle[0].value
    test.toggle[0].set_value(True).run()
    name = test.query_params["compare"]
    assert "better" in shown(test)
    again = app("leaderboard", compare=name)
    assert again.toggle[0].value
    again.toggle[0].set_value(False).run()
    assert "compare" not in again.query_params
    assert not again.toggle[0].value
    assert not app("leaderboard", compare="../x").toggle[0].value


@pytest.mark.parametrize("view", ["leaderboard", "cross_validation", "cell", "claims"])
def test_an_empty_store_is_a_sentence(alone: RecordStore, app: App, view: str) -> None:
    test = app(view)
    assert not test.exception
    assert "bench run suites/quickstart.yaml" in shown(test)


@pytest.mark.parametrize("view", ["leaderboard", "cross_validation", "cell", "claims"])
def test_one_row_and_rows_without_a_value(alone: RecordStore, app: App, view: str) -> None:
    alone.write(stored([record(0.7)])[0])
    assert not app(view).exception
    for one in stored(
        [record(source="f", status="failed", reason="boom"), record(source="n", status="not_applicable")]
    ):
        alone.write(one)
    test = app(view)
    assert not test.exception
    if view in ("leaderboard", "cross_validation"):
        assert "failed" in shown(test)


def test_an_equal_budget_keeps_the_controls_of_its_image_counts(alone: RecordStore, app: App) -> None:
    cells = [("one", "none", 64), ("two", "none", 64), ("one", "none", 1024)]
    cells += [(source, control, n) for source, control in (("up", "upper"), ("low", "lower")) for n in (64, 1024)]
    for one in stored([record(0.7, source=s, control=c, n=n, compressor="c") for s, c, n in cells]):
        alone.write(one)

    def listed(**filters: str) -> list[str]:
        return sorted(re.findall(r"cell=[^>]*>(\w+)</a>", shown(app("leaderboard", **filters))))

    assert listed() == ["low", "low", "one", "one", "two", "up", "up"]
    assert listed(budget="equal within 2×") == ["low", "one", "two", "up"]


@pytest.mark.parametrize("view", ["leaderboard", "cross_validation", "cell", "claims"])
def test_controls_only(alone: RecordStore, app: App, view: str) -> None:
    same = {"source": "real", "control": "upper"}
    for one in stored(
        [record(0.8, setting_label=b, compressor=c, **same) for b in ("W2A4", "W4A4") for c in ("p", "q")]
    ):
        alone.write(one)
    test = app(view)
    assert not test.exception
    assert len(shown(test)) > 40


@pytest.mark.parametrize("view", ["leaderboard", "cross_validation", "cell", "claims"])
def test_only_rows_without_a_value(alone: RecordStore, app: App, view: str) -> None:
    for one in stored([record(status="failed", reason="boom", traceback="Traceback: x"), record(source="b")]):
        alone.write(one)
    test = app(view)
    assert not test.exception
    assert len(shown(test)) > 40


@pytest.mark.parametrize("view", ["leaderboard", "cross_validation", "cell", "claims"])
def test_half_written_and_newer_files_are_named(alone: RecordStore, app: App, view: str) -> None:
    path = alone.write(stored([record(0.7)])[0])
    raw = json.loads(path.read_text())
    path.with_name("aaaaaaaaaaaaaaaa.json").write_text(path.read_text()[:200])
    path.with_name("bbbbbbbbbbbbbbbb.json").write_text(json.dumps(raw | {"schema_version": 99}))
    test = app(view)
    assert not test.exception
    said = shown(test)
    assert "aaaaaaaaaaaaaaaa" in said
    assert "newer version of datafree-bench" in said


def test_a_newer_store_is_an_error_in_words(alone: RecordStore, app: App) -> None:
    alone.write(stored([record(0.7)])[0])
    layout = alone.root / "store.json"
    layout.write_text(json.dumps(dict.fromkeys(json.loads(layout.read_text()), 99)))
    test = app()
    assert not test.exception
    assert test.error
    assert "Traceback" not in shown(test)
