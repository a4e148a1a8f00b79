"""Cross-validation: squares, frames, hover and clicks of the maps against the records; the published map against the
printed numbers."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from bench.board.index.frame import frame
from bench.board.tables.published import join, published
from bench.board.tables.signs import FLAGGED as SIGN
from bench.board.tables.signs import MIXED
from bench.store.image_gate import MEANING
from bench.store.measured import read_measured
from bench.store.record_store import RecordStore
from dashboard.crosstable import CrossTable, cross_table, value_text
from dashboard.figures.cross_validation import FP, cross_map, names_of, published_map
from tests.board.make import gate, record, seeds
from tests.dashboard.conftest import shown, stored

A, B = "resnet18_w10", "vgg_w8"
App = Callable[..., AppTest]


def _table() -> CrossTable:
    found = []
    for target, base in ((A, 0.6), (B, 0.4)):
        same = {"target": target, "target_digest": target, "protocol_id": target}
        for i, model in enumerate((A, B)):
            membership = "same checkpoint" if model == target else "held-out architecture"
            found += seeds(
                [base + 0.1 * i, base + 0.1 * i + 0.02], source="kw", model=model, membership=membership, **same
            )
        found += seeds([0.88, 0.88], source="photos", control="upper", **same)
    found.append(record(0.3, source="half", target=A, target_digest=A, protocol_id=A))
    table = frame(found).assign(cell_id="abc")
    return cross_table(table, (A, B))


def test_the_squares_hold_the_means() -> None:
    table = _table()
    figure = cross_map(table)
    assert table.lines == ("photos", f"kw [{A}]", f"kw [{B}]", "half")
    assert [list(row) for row in figure.data[0].z[1:3]] == [pytest.approx([61, 41]), pytest.approx([71, 51])]
    assert figure.data[0].text[1][0] == value_text(table.squares[1][0])
    assert math.isnan(figure.data[0].z[3][0])  # one seed of two: no mean


def test_the_drop_is_from_the_uncompressed_network() -> None:
    assert list(cross_map(_table(), "drop").data[0].z[1]) == pytest.approx([90 - 61, 90 - 41])


def test_frames_stand_around_the_diagonal() -> None:
    frames = [shape for shape in cross_map(_table()).layout.shapes if shape.name]
    places = {((shape.y0 + shape.y1) / 2, (shape.x0 + shape.x1) / 2) for shape in frames}
    assert {(round(y), round(x)) for y, x in places} == {(2, 0), (3, 1)}


def test_blanks_say_k_of_n_and_the_reference_has_its_line() -> None:
    blank = next(trace for trace in cross_map(_table()).data if trace.name == "without colour")
    said = dict(zip(zip(blank.y, blank.x, strict=True), blank.text, strict=True))
    assert said == {(0, 0): "90.0", (0, 1): "90.0", (4, 0): "1 of 2"}
    assert cross_map(_table()).layout.yaxis.ticktext[0] == FP


def test_hover_and_click_of_a_square() -> None:
    squares = next(trace for trace in cross_map(_table()).data if trace.name == "squares")
    place = list(zip(squares.y, squares.x, strict=True)).index((2, 1))
    text = squares.text[place]
    for part in ("41", "49.00 points", "256 images", "seeds 2 of 2", "synthesis 10.0 s", "compression 5.0 s"):
        assert part in text
    assert "held-out architecture" in text
    assert list(squares.customdata[place]) == ["s", "abc"]


@pytest.fixture(scope="module")
def real() -> pd.DataFrame:
    table = frame(read_measured(suite="ptq_w4a4"))
    return table[table["compressor"] == "brecq"]


def test_the_published_map_holds_the_printed_numbers(real: pd.DataFrame) -> None:
    printed = published("mixmix/T6")
    table = cross_table(join(real, "mixmix/T6"))
    figure = published_map(table)
    row, column = table.lines.index("mixmix [zoo:full]"), [t for t, _ in table.columns].index("mnasnet_w025")
    rows = printed[(printed["source"] == "MixMix") & (printed["target_model"] == "MNasNet")]
    assert figure.data[0].z[row][column] == float(rows["printed"].iloc[0])
    known = [value for line in figure.data[0].z for value in line if not math.isnan(value)]
    assert sorted(known) == sorted(printed.loc[printed["metric"] == "top1", "value"])
    assert len([shape for shape in figure.layout.shapes if shape.name]) == 6  # the diagonal of kw; zeroq is not in T6


def test_eight_bit_activations_stand_in_the_header(real: pd.DataFrame) -> None:
    headers = cross_table(real).headers
    assert "efficientnet_b0_w025\nW4A8" in headers
    assert "resnet50_w8\nW4A4" in headers


def test_names_in_a_sentence() -> None:
    assert names_of(["a", "b", "a"]) == "a, b"
    assert names_of(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"


# --- the page ---


def test_measured_beside_published(store: RecordStore, app: App) -> None:
    test = app("cross_validation", suite="ptq_w4a4", compressor="brecq")
    assert not test.exception
    assert len(test.get("plotly_chart")) == 2
    said = shown(test)
    assert "not on one scale" in said
    assert "ImageNet" in said
    assert "fashion_mnist" in said
    assert said.count('href="./cell?') == 60
    assert dict(test.query_params)["setting"] == ["W4A4, W4A8"] or test.query_params["setting"] == "W4A4, W4A8"


def test_rows_that_the_paper_lacks_stand_alone(store: RecordStore, app: App) -> None:
    test = app("cross_validation", suite="ptq_w4a4", compressor="rtn", colour="drop")
    assert not test.exception
    assert len(test.get("plotly_chart")) == 1
    assert "prints no value that corresponds to these rows" in shown(test)


def test_an_unknown_choice_in_the_address_is_named(alone: RecordStore, app: App) -> None:
    alone.write(stored([record(0.5)])[0])
    test = app("cross_validation", compressor="../../etc/passwd")
    assert not test.exception
    assert any("There is no compressor" in info.value for info in test.info)


def test_squares_of_images_that_do_not_invert_bear_the_sign(alone: RecordStore, app: App) -> None:
    rows = {"good": (0.5, gate(99)), "bad": (0.6, gate(50)), "noise": (0.3, None)}
    for made in stored([record(value, source=name, image_gate=one) for name, (value, one) in rows.items()]):
        alone.write(made)
    test = app("cross_validation")
    assert not test.exception
    (chart,) = (json.loads(element.proto.spec) for element in test.get("plotly_chart"))
    squares = next(trace for trace in chart["data"] if trace["name"] == "squares")
    hovers = {re.findall(r"<b>(\w+)", text)[0]: text for text in squares["text"]}
    assert {name for name, text in hovers.items() if f"{SIGN.text} {MEANING}" in text} == {"bad"}
    values = next(trace for trace in chart["data"] if trace["name"] == "values")["text"]
    assert [SIGN.text in line[0] for line in values] == [name == "bad" for name in hovers]
    said = shown(test)
    found = [(float(value), sign) for value, sign in re.findall(r">([\d.]+)(‡?)</a>", said)]
    assert found == [(60, SIGN.text), (50, ""), (30, "")]
    assert f"{SIGN.text} {MEANING}." in said


def test_squares_of_mixed_machines_bear_their_sign() -> None:
    table = frame([record(0.5, source="a"), record(0.6, source="b")]).assign(mixed=lambda rows: rows["source"] == "b")
    squares = cross_table(table)
    assert {
        name: value_text(line[0]).endswith(MIXED.text)
        for name, line in zip(squares.lines, squares.squares, strict=True)
    } == {name: name.startswith("b") for name in squares.lines}
    hovers = next(trace for trace in cross_map(squares).data if trace.name == "squares").text
    assert [MIXED.line in text for text in hovers] == [name.startswith("b") for name in squares.lines]


def test_no_sign_and_no_legend_where_all_images_invert(alone: RecordStore, app: App) -> None:
    alone.write(stored([record(0.5, image_gate=gate(99))])[0])
    test = app("cross_validation")
    assert not test.exception
    assert SIGN.text not in shown(test)
