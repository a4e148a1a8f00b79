"""Bits per layer: the list of a record, its averages, the bars, and rows whose record holds no list."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from bench.store.records import ResultRecord
from dashboard.figures.bits import (
    CEILING,
    alone,
    by_kind,
    differing,
    kept,
    layer_bits,
    layer_figure,
    mean_bits,
    protocol_bits,
    protocol_figure,
    resized,
    sentence,
)
from tests.board.make import record
from tests.dashboard.fixtures_pages2 import AWKWARD, Pages, charts, check_awkward, made, measured, pages, text_of

__all__ = ["measured", "pages"]

LAYERS = [
    ("stem", "convolution", 8, 8, 100, 10),
    ("mid.1", "convolution", 2, 8, 300, 40),
    ("mid.2", "depthwise convolution", 3, 4, 500, 30),
    ("head", "linear", 32, 32, 20, 20),
]
NAMES = ("name", "kind", "weight_bits", "activation_bits", "macs", "parameters")
PROTOCOL = {"weight_bits": 2, "activation_bits": 4, "first_last_weight_bits": 8, "logit_bits": 32, "path": "graph"}


def _layers(rows: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
    return [dict(zip(NAMES, row, strict=True)) for row in rows]


def _record(rows: list[tuple[Any, ...]] = LAYERS, **fields: Any) -> ResultRecord:
    return made(0.7, report={"layers": _layers(rows)}, **fields)


def test_layers_keep_order_and_numbers() -> None:
    table = layer_bits(_record())
    assert list(table.itertuples(index=False, name=None)) == LAYERS
    assert list(table.columns) == ["layer", *NAMES[1:]]


@pytest.mark.parametrize("report", [{}, {"layers": None}, {"layers": [1, "x"]}, {"layers": [{"name": "a"}]}])
def test_a_record_without_a_list_gives_an_empty_table(report: dict[str, Any]) -> None:
    assert layer_bits(record(0.7, report=report)).empty


def test_mean_bits_by_hand() -> None:
    weights, inputs = mean_bits(layer_bits(_record()))
    assert weights == pytest.approx((8 * 10 + 2 * 40 + 3 * 30 + 32 * 20) / 100)
    assert inputs == pytest.approx((8 * 100 + 8 * 300 + 4 * 500 + 32 * 20) / 920)


def test_bars_are_the_layers() -> None:
    figure = layer_figure(layer_bits(_record()), "row")
    strips: dict[str, dict[int, float]] = {}
    for trace in figure.data:
        strips.setdefault(trace.yaxis, {}).update(zip(trace.x, trace.y, strict=True))
    assert strips["y"] == {1: 8, 2: 2, 3: 3, 4: CEILING}  # floating point is cut at the ceiling, and its tick says 32
    assert strips["y2"] == {1: 8, 2: 8, 3: 4, 4: CEILING}
    assert strips["y3"] == pytest.approx({1: 100 / 9.2, 2: 300 / 9.2, 3: 500 / 9.2, 4: 20 / 9.2})
    assert figure.layout.yaxis.ticktext[-1] == "32"
    eight = {t.marker.color for t in figure.data if t.name == "8 bits"}
    assert len(eight) == 1  # one colour for one number of bits, in both strips


def test_kinds_and_differences() -> None:
    table = by_kind(layer_bits(_record()))
    assert table["macs"].sum() == 920
    assert table["kind"].iloc[0] == "depthwise convolution"
    other = layer_bits(_record([*LAYERS[:2], ("mid.2", "depthwise convolution", 3, 8, 500, 30), LAYERS[3]]))
    assert differing(layer_bits(_record()), other) == ["mid.2"]
    assert differing(other, other) == []


def _pruned(left: dict[str, int], **fields: Any) -> ResultRecord:
    """A row whose layers keep these many weights; of the others it says nothing."""
    layers = [row | ({"nonzero": left[row["name"]]} if row["name"] in left else {}) for row in _layers(LAYERS)]
    return made(0.7, report={"layers": layers}, **fields)


def test_what_a_pruned_row_keeps() -> None:
    table = layer_bits(_pruned({"mid.1": 10, "mid.2": 0}))
    assert list(table["nonzero"]) == [10, 10, 0, 20]
    left = kept(table)
    assert left is not None
    assert list(left) == [100, 25, 0, 100]
    assert kept(layer_bits(_record())) is None
    kinds = by_kind(table).set_index("kind")
    assert kinds["nonzero"].sum() == 40
    assert kinds.loc["depthwise convolution", "nonzero"] == 0
    figure = layer_figure(table, "row")
    strips = {trace.yaxis: trace for trace in figure.data}
    assert list(strips["y3"].y) == [100, 25, 0, 100]
    assert list(strips["y4"].y) == pytest.approx([100 / 9.2, 300 / 9.2, 500 / 9.2, 20 / 9.2])
    assert figure.layout.xaxis.anchor == "y4"
    ends = [figure.layout[f"yaxis{i or ''}"].domain for i in ("", 2, 3, 4)]
    assert ends[0][1] == 1
    assert ends[-1][0] == pytest.approx(0)
    assert all(upper[0] > lower[1] for upper, lower in itertools.pairwise(ends))


def test_rows_of_the_same_bits_may_keep_other_weights() -> None:
    half, fifth = layer_bits(_pruned({"mid.1": 20})), layer_bits(_pruned({"mid.1": 32}))
    assert differing(half, fifth) == []
    assert resized(half, fifth) == ["mid.1: 20 and 32 weights"]
    assert resized(half, layer_bits(_record())) == ["mid.1: 20 and 40 weights"]
    narrow = layer_bits(_record([*LAYERS[:2], ("mid.2", "depthwise convolution", 3, 4, 250, 15), LAYERS[3]]))
    assert resized(narrow, layer_bits(_record())) == ["mid.2: 15 and 30 weights"]
    assert resized(half, half) == []
    assert alone(half, half.iloc[:2]) == 2


def test_protocol_in_words_and_bars() -> None:
    found = protocol_bits(record(0.5, protocol=PROTOCOL))
    assert found == {"activation": 4, "weight": 2, "first last weight": 8, "logit": 32}
    assert sentence(found) == "2 bits: weight; 4 bits: activation; 8 bits: first last weight; floating point: logit"
    (bars,) = protocol_figure(found).data
    assert dict(zip(bars.y, bars.x, strict=True)) == {
        "activation": 4,
        "weight": 2,
        "first last weight": 8,
        "logit": CEILING,
    }


@pytest.mark.parametrize("name", AWKWARD)
def test_page_answers_awkward_stores(pages: Pages, name: str) -> None:
    check_awkward(pages, "bits", name)


def test_page_shows_two_rows_and_what_differs(pages: Pages) -> None:
    mixed = [("stem", "convolution", 8, 8, 100, 10), ("mid.1", "convolution", 4, 8, 300, 40), *LAYERS[2:]]
    pages.write([_record(source="one"), _record(mixed, source="two"), made(0.5, source="old", protocol=PROTOCOL)])
    name = "{} · brecq · W4A4 · 256 images"
    app = pages.open("bits", row=name.format("one"), beside=name.format("two"))
    assert not app.exception
    assert len(charts(app)) == 2
    assert "1 layer with other bits" in [e.label for e in app.expander]
    assert "mid.1" in [e.value for e in app.text]
    assert "a weight takes 8.90 bits on average, an input 6.35" in text_of(app)
    old = pages.open("bits", row=name.format("old"))
    assert any("before records listed their layers" in e.value for e in old.info)
    assert len(charts(old)) == 1


def test_page_says_what_pruned_rows_keep(pages: Pages) -> None:
    pages.write(
        [
            _pruned({"mid.1": 20}, setting_label="S50", protocol_id="p5"),
            _pruned({"mid.1": 32}, setting_label="S20", protocol_id="p2"),
            _record(LAYERS[:2], source="small"),
        ]
    )
    name = "mixmix · brecq · {} · 256 images"
    app = pages.open("bits", row=name.format("S50"), beside=name.format("S20"))
    assert not app.exception
    text = text_of(app)
    assert "kept %</th>" in text
    assert ">50.0</td>" in text
    assert "4 layers of 100 weights · 80.0 % of them are not zero" in text
    assert "the same bits, but not the same weights." in text
    assert "1 layer with another number of weights or of MACs" in [e.label for e in app.expander]
    assert "mid.1: 20 and 32 weights" in [e.value for e in app.text]
    unlike = pages.open("bits", row=name.format("S50"), beside="small · brecq · W4A4 · 256 images")
    assert "2 layers only one of them has" in text_of(unlike)
    assert "the same bits" not in text_of(unlike)


def test_page_draws_the_protocol_of_measured_rows(measured: Pages) -> None:
    app = measured.open("bits", suite="ablation_mixing")
    assert not app.exception
    assert len(charts(app)) == 1
    assert any("run the suite again" in e.value for e in app.info)


def test_a_row_without_a_list_takes_that_of_its_protocol(measured: Pages) -> None:
    """The package's records of other sources are older than the list of layers."""
    app = measured.open("bits", suite="ptq_bits", target="resnet18_w10", row="noise · brecq · W2A4 · 256 images")
    assert not app.exception
    assert not app.info
    assert any("of the same network and protocol" in e.value for e in app.caption)
    assert any(e.value.startswith("22 layers") for e in app.caption)
