"""Cell: what a record holds is shown, its command repeats it, its seeds stand beside it."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from bench.board.index.cells import mlflow_run, repro_command
from bench.board.stats.intervals import accuracy_interval
from bench.store.bitmaps import unpack_bits
from bench.store.record_store import RecordStore
from dashboard.facts import listing, plain
from dashboard.figures.cell import FEW, curve_groups, curves_figure
from tests.board.make import bits, record, seeds
from tests.dashboard.conftest import shown, stored

App = Callable[..., AppTest]
EVIL = "<script>alert(1)</script>"


def test_curves_are_grouped_and_drawn() -> None:
    groups = curve_groups({"fit/a": [(1, 2.0)], "fit/b": [(1, 3.0), (2, 4.0)], "loss": [(0, 1.0)], "none": []})
    assert groups == {"fit": {"a": [(1, 2.0)], "b": [(1, 3.0), (2, 4.0)]}, "loss": {"loss": [(0, 1.0)]}}
    figure = curves_figure("fit", groups["fit"])
    assert [(list(t.x), list(t.y)) for t in figure.data] == [([1], [2.0]), ([1, 2], [3.0, 4.0])]


@pytest.mark.parametrize(("values", "kind"), [((0.01, 1.0), "log"), ((0.02, 1.0), None), ((0.0, 9.0), None)])
def test_two_positive_decades_make_a_logarithmic_axis(values: tuple[float, float], kind: str | None) -> None:
    assert curves_figure("x", {"x": list(enumerate(values))}).layout.yaxis.type == kind


def test_many_curves_have_a_colour_each_and_no_legend() -> None:
    many = {str(i): [(0, 1.0), (1, 2.0)] for i in range(FEW + 5)}
    figure = curves_figure("x", many)
    assert len({trace.line.color for trace in figure.data}) == FEW + 5
    assert not figure.layout.showlegend


def test_the_command_survives_the_shell() -> None:
    found = record(0.5, source="mixmix(mix=1, data_mixing=false)", model="zoo:full", seed=3)
    words = shlex.split(repro_command(found, Path("a folder")))
    only = words[words.index("--only") + 1]
    assert only == (
        "source=mixmix(mix=1, data_mixing=false),model=zoo:full,target=resnet18_w10,compressor=brecq,"
        "setting=W4A4,seed=3"
    )
    assert words[-2:] == ["--store", "a folder"]
    assert "--store" not in repro_command(found)


def test_the_run_is_searched_by_its_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    found = record(0.5)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert mlflow_run(found).command == "mlflow ui"
    assert mlflow_run(found).search == f"tags.bench_cell = '{found.cell_id}'"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@example.org:5000/mlflow")
    run = mlflow_run(found)
    assert run.server == "https://example.org:5000/mlflow"
    assert "secret" not in str(run)


def test_facts_in_words() -> None:
    assert [plain(v) for v in (True, None, 0.123456, 7, [1, 2], [], {"a": 1.5})] == [
        *("yes", "–", "0.1235", "7", "1, 2", "none", "a 1.5"),
    ]
    body = listing([{"error": 0.5, "unit": EVIL}, {"unit": "b", "kept": True}])
    assert EVIL not in body
    assert body.index("unit") < body.index("error")  # names first
    assert body.count("<tr") == 3
    assert plain(list(range(100))).endswith("58, 59, … 40 more")
    assert "more" not in plain(list(range(60)))


# --- the page ---


def test_everything_the_record_holds(alone: RecordStore, app: App) -> None:
    fields = {
        "protocol": {"weight_bits": 4, "note": EVIL},
        "audit": [{"read": "train", "count": 128, "denied": False}],
        "curves": {"fit/a": [(0, 1.0), (1, 0.5)], "loss": [(0, 3.0)]},
        "report": {"kept": 2, "units": [{"unit": "stem", "error": 0.25}], "per_layer": {"head": 0.125}},
        "provenance": {"torch": "2.9", "date": "2026-01-01", "threads": 3},
        "metrics": {"further": 0.75},
    }
    found = stored(seeds([0.7, 0.8], **fields))
    for one in found:
        alone.write(one)
    test = app("cell", suite="s", cell=found[1].cell_id)
    assert not test.exception
    said = shown(test)
    _, ends = accuracy_interval(unpack_bits(found[1].correct or "", found[1].test_count)[None])
    for part in (
        "80.00",
        f"{ends.low:.1f}",
        "weight bits",
        "stem",
        "0.25",
        "0.125",
        "train",
        "128",
        "2026-01-01",
        "0.75",
    ):
        assert part in said
    assert EVIL not in said
    assert f"cell={found[0].cell_id}" in said  # the other seed
    assert "this one" in said
    assert repro_command(found[1], alone.root) in said
    assert f"tags.bench_cell = '{found[1].cell_id}'" in said
    assert len(test.get("plotly_chart")) == 2


def test_a_failure_shows_its_traceback_as_code(alone: RecordStore, app: App) -> None:
    found = stored([record(status="failed", reason="no **memory**", traceback=f"Traceback\n  {EVIL}")])[0]
    alone.write(found)
    test = app("cell", suite="s", cell=found.cell_id)
    assert not test.exception
    assert any(EVIL in block.value for block in test.code)
    assert any(text.value == "no **memory**" for text in test.text)
    assert EVIL not in "".join(element.proto.body for element in test.get("html"))


def test_a_box_leads_to_the_nearest_cell(alone: RecordStore, app: App) -> None:
    found = stored(
        [
            *seeds([0.7, 0.8], source="one"),
            *seeds([0.5, 0.6], source="two"),
            *seeds([0.4], source="one", setting_label="W2A4"),
        ]
    )
    for one in found:
        alone.write(one)
    test = app("cell", suite="s", cell=found[1].cell_id)
    boxes = {box.label: box for box in test.selectbox}
    assert set(boxes) == {"Suite", "Source", "Bits", "Seed"}
    boxes["Source"].set_value("two").run()
    assert "".join(test.query_params["cell"]) == found[3].cell_id  # the same seed of the other source
    {box.label: box for box in test.selectbox}["Bits"].set_value("W2A4").run()
    assert "".join(test.query_params["cell"]) == found[4].cell_id
    assert not test.exception


@pytest.mark.parametrize("cell", ["0000000000000000", "../../../etc/passwd", "<b>"])
def test_an_unknown_cell_is_named_and_another_shown(alone: RecordStore, app: App, cell: str) -> None:
    found = stored([record(0.7)])[0]
    alone.write(found)
    test = app("cell", cell=cell)
    assert not test.exception
    assert "no cell of this id" in test.info[0].value
    assert found.cell_id in shown(test)


def test_an_image_measure_has_no_tile_of_accuracy(store: RecordStore, app: App) -> None:
    test = app("cell", suite="synthesis_quality")
    assert not test.exception
    assert not test.metric
    assert "mmd kid" in shown(test)


def test_bits_of_the_interval_are_those_of_the_record() -> None:
    assert unpack_bits(record(bits(0.5)).correct or "", 2000).sum() == 1000
