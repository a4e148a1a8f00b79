"""Accuracy over bit-width: the drawn marks against the rows, in the report and on the page of trade-offs."""

from __future__ import annotations

from typing import Any

import pytest

from bench.board.index.frame import frame
from bench.board.tables.widths import point_table, width_lines
from bench.store.records import ResultRecord
from dashboard.figures.widths import SHIFT, accuracy_over_widths, line_names
from dashboard.report.page import Part, build
from dashboard.theme import GREY
from tests import pick
from tests.dashboard.fixtures_pages2 import Pages, charts, made, pages, raw_of, text_of

__all__ = ["pages"]

ALONE = pick.first("compressors", offers="alone")
pytestmark = pytest.mark.skipif(not ALONE, reason="no installed compressor trains each network alone")
ACCURACY = {"W8A8": 0.9, "W4A4": 0.8, "W2A2": 0.6}


def network(accuracy: float | None, width: str, compressor: str, *, trained: bool = True, **more: Any) -> ResultRecord:
    """A network at this width of one training at 8, 4 and 2 bits, or of one at this width alone."""
    widths = [width] if more.get("compressor_method") == ALONE else list(ACCURACY)
    told = {"widths": widths, "zero_shot": not trained, "calibrated": more.pop("calibrated", False)}
    same = {
        "source": "s",
        "variant": f"{width} of W8A8",
        "setting_label": width,
        "protocol": told,
        "job_id": compressor,
    }
    return made(accuracy, compressor=compressor, protocol_id=f"{compressor} {width}", **(same | more))


def suite(name: str = "one", **more: Any) -> list[ResultRecord]:
    """One network, at 3 bits calibrated and at 5 not, and networks alone."""
    found = [network(accuracy, width, name, **more) for width, accuracy in ACCURACY.items()]
    found += [network(0.7, "W3A3", name, trained=False, calibrated=True, **more)]
    found += [network(0.75, "W5A5", name, trained=False, **more)]
    return found + [
        network(accuracy + 0.02, width, ALONE, compressor_method=ALONE, **more) for width, accuracy in ACCURACY.items()
    ]


def test_marks_are_the_rows_filled_where_trained() -> None:
    points = point_table(width_lines(suite()))
    figure = accuracy_over_widths(points)
    own = next(trace for trace in figure.data if trace.name == "one")
    assert [round(x) for x in own.x] == [2, 3, 4, 5, 8]
    assert list(own.y) == pytest.approx([60, 70, 80, 75, 90])
    assert list(own.marker.symbol) == ["circle", "circle-open", "circle", "diamond-open", "circle"]
    mine = points[points["compressor"] == "one"].sort_values("bits")
    assert list(own.y + own.error_y.array) == pytest.approx(list(mine["top1_high"]))
    assert list(own.y - own.error_y.arrayminus) == pytest.approx(list(mine["top1_low"]))
    theirs = next(trace for trace in figure.data if trace.name == ALONE)
    assert theirs.line.color == GREY != own.line.color
    assert set(theirs.marker.symbol) == {"square"}
    assert theirs.x[0] - own.x[0] == pytest.approx(SHIFT)
    assert list(figure.layout.xaxis.ticktext) == ["W2A2", "W3A3", "W4A4", "W5A5", "W8A8"]
    meant = {trace.name for trace in figure.data if trace.x[0] is None}
    assert meant == {"trained at this bit-width", "not trained, calibrated", "not trained, not calibrated"}


def test_two_lines_of_one_label_have_two_names_and_labels_are_escaped() -> None:
    narrow = network(0.5, "W8A8", "<b>x</b>").model_copy(update={"protocol": {"widths": ["W8A8"], "zero_shot": False}})
    rows = [network(0.9, "W8A8", "<b>x</b>"), narrow.model_copy(update={"cell_id": "1" * 16, "row_id": "other"})]
    points = point_table(width_lines(rows))
    assert sorted(set(line_names(points))) == ["<b>x</b> at W8A8", "<b>x</b> at W8A8, W4A4, W2A2"]
    names = [trace.name for trace in accuracy_over_widths(points).data]
    assert all("&lt;b&gt;" in name for name in names)
    shown = [text for trace in accuracy_over_widths(points).data for text in trace.text]
    assert not any("<b>x" in text for text in shown)


def test_the_report_has_the_curve_and_the_definition() -> None:
    records = suite()
    html = build([Part("s", "", "", frame(records), [], records, None, (), ())])
    assert "Accuracy over bit-width" in html
    assert "sum over the bit-widths b in B" in html
    plain = [made(0.8), made(0.7, source="kw")]
    assert "Accuracy over bit-width" not in build([Part("s", "", "", frame(plain), [], plain, None, (), ())])


def test_the_page_shows_curve_and_delta_b(pages: Pages) -> None:
    pages.write(suite("<script>x"))
    app = pages.open("trade_offs")
    assert not app.exception, [e.value for e in app.exception]
    drawn = [chart for chart in charts(app) if "bits of weights" in str(chart["layout"]["xaxis"].get("title"))]
    assert len(drawn) == 1
    said = text_of(app)
    assert "Accuracy over bit-width" in [e.value for e in app.header]
    assert "sum over the bit-widths b in B" in said
    assert "<script>" not in raw_of(app)


def test_the_page_with_a_seed_missing(pages: Pages) -> None:
    rows = suite() + [one for one in suite(seed=1) if one.setting_label != "W2A2" or one.compressor != ALONE]
    pages.write(rows)
    app = pages.open("trade_offs")
    assert not app.exception, [e.value for e in app.exception]
    assert f"{ALONE} W2A2: 1 of 2 seeds" in text_of(app)


def test_a_page_without_such_networks_has_no_such_part(pages: Pages) -> None:
    pages.write([made(0.8), made(0.7, source="kw")])
    app = pages.open("trade_offs")
    assert not app.exception
    assert "Accuracy over bit-width" not in [e.value for e in app.header]
