"""The static report's figures, checked by their data against small independent computations."""

from __future__ import annotations

import pytest

from bench.board.claims.judging import judge
from bench.board.index.frame import frame
from bench.store.records import StageCost
from dashboard.report.figures import (
    claims_forest,
    cross_validation,
    cross_validation_parts,
    marker_sizes,
    trade_off,
    trade_off_points,
)
from dashboard.report.page import Part, build
from tests.board.make import record, seeds

A, B = "resnet18_w10", "vgg_bn_w12"


def _rows() -> list[object]:
    rows = []
    for target in (A, B):
        same = {"target": target, "target_digest": target}
        rows += seeds([0.88, 0.88], source="real", control="upper", **same)
        rows += seeds([0.20, 0.20], source="noise", control="lower", **same)
        rows += seeds([0.70, 0.80], source="one", model=A, **same)
        rows += seeds([0.60, 0.60], source="own", model=target, **same)
    return [*rows, *seeds([0.5], source="part", target=A, target_digest=A)]


def test_the_heat_map_holds_the_drops_and_frames_the_diagonal() -> None:
    figure = cross_validation(frame(_rows()))
    heat = figure.data[0]
    assert list(heat.x) == [A, B]
    assert list(heat.y) == ["real", "noise", f"one [{A}]", "own [self]", "part"]
    assert [list(line) for line in heat.z] == [
        pytest.approx([2.0, 2.0]),  # 90 uncompressed minus 88
        pytest.approx([70.0, 70.0]),
        pytest.approx([15.0, 15.0]),
        pytest.approx([30.0, 30.0]),
        [None, None],  # one seed of two; and a cell that is not in the grid
    ]
    assert list(heat.text[2]) == ["75.00", "75.00"]
    assert "seeds 2 of 2" in heat.customdata[0][0]
    assert "1 of 2" in heat.customdata[4][0]
    assert heat.customdata[4][1] == "no such cell"
    assert heat.zmax == pytest.approx(30.0)  # not noise's 70
    framed = {(round(s.x0 + 0.47), round(s.y0 + 0.44)) for s in figure.layout.shapes}
    assert framed == {(0, 2), (0, 3), (1, 3)}


def test_labels_are_escaped() -> None:
    rows = [record(0.8, source="<b>x</b>", target=t, target_digest=t, model=m) for t in (A, B) for m in (A, B)]
    figure = cross_validation(frame(rows))
    assert list(figure.data[0].y) == [f"&lt;b&gt;x&lt;/b&gt; [{name}]" for name in (A, B)]
    assert "<b>" not in trade_off(frame(rows)).to_json()


def test_the_trade_off_means_over_all_targets_or_says_nothing() -> None:
    slow = record(0.9, source="slow", target=A, target_digest=A)
    slow = slow.model_copy(update={"costs": {"synthesis": StageCost(seconds=100), "compress": StageCost(seconds=1)}})
    points = {p["label"]: p for p in trade_off_points(frame([*_rows(), slow]))}
    # "part" and "slow" lack a target or a seed, so they have no mean
    assert set(points) == {f"{name} · brecq" for name in ("real", "noise", f"one [{A}]", "own [self]")}
    one = points[f"one [{A}] · brecq"]
    assert (one["top1"], one["seconds"], one["control"]) == (pytest.approx(75.0), pytest.approx(15.0), False)
    assert points["real · brecq"]["control"]
    figure = trade_off(frame(_rows()))
    assert sorted(figure.data[0].y) == pytest.approx([20.0, 60.0, 75.0, 88.0])
    assert figure.layout.xaxis.type == "log"


def test_bits_are_not_mixed_where_a_target_has_several() -> None:
    rows = [record(v, source=s, setting_label=b) for s, v in (("x", 0.8), ("y", 0.6)) for b in ("W2A4", "W4A4")]
    points = trade_off_points(frame(rows))
    assert {point["setting"] for point in points} == {"W2A4", "W4A4"}
    own = [record(0.8, target=t, setting_label=b, target_digest=t) for t, b in ((A, "W4A4"), (B, "W4A8"))]
    (point,) = trade_off_points(frame(own))  # each target at its own bits: one mean over both
    assert point["setting"] == ""


def _counts() -> list[object]:
    """Three sources on two targets with 64 and 256 images; fewer images are better, to catch a mixed-up square."""
    rows = []
    for i, source in enumerate(("a", "b", "c")):
        for t in (A, B):
            for n, gain in ((64, 0.1), (256, 0.0)):
                rows.append(record(0.5 + i / 10 + gain, source=source, target=t, target_digest=t, n=n))
    return rows


def test_each_image_count_has_its_own_squares() -> None:
    parts = dict(cross_validation_parts(frame(_counts())))
    assert list(parts) == ["brecq, 64 images", "brecq, 256 images"]
    reverse = frame([record(0.5 + n / 999, n=n) for n in (64, 128, 256)])  # the best first: 256
    assert [name for name, _ in cross_validation_parts(reverse)] == [f"brecq, {n} images" for n in (64, 128, 256)]
    for name, lift in (("brecq, 64 images", 10.0), ("brecq, 256 images", 0.0)):
        heat = cross_validation(parts[name]).data[0]
        drops = dict(zip(heat.y, heat.z, strict=True))
        assert {k: list(v) for k, v in drops.items()} == {
            s: pytest.approx([90 - 50 - 10 * i - lift] * 2) for i, s in enumerate("abc")
        }
    assert [name for name, _ in cross_validation_parts(frame(_rows()))] == ["brecq"]
    two = [record(0.8, preset=p, compressor=c) for p in ("mini", "thorough") for c in ("p", "q")]
    assert {name for name, _ in cross_validation_parts(frame(two))} == {
        "p, mini",
        "p, thorough",
        "q, mini",
        "q, thorough",
    }


def test_image_counts_are_points_of_their_own() -> None:
    points = {p["label"]: p for p in trade_off_points(frame(_counts()))}
    assert set(points) == {f"{s} · brecq · {n} images" for s in "abc" for n in (64, 256)}
    assert points["b · brecq · 64 images"]["top1"] == pytest.approx(70)
    assert points["b · brecq · 256 images"]["top1"] == pytest.approx(60)
    (trace, *_) = trade_off(frame(_counts())).data
    drawn = dict(zip(trace.text, trace.marker.size, strict=True))
    assert drawn["a · brecq · 64 images"] < drawn["a · brecq · 256 images"]
    assert marker_sizes([5]) == {5: 11}
    assert marker_sizes([9, 1, 4, 4]) == {1: 7, 4: 11, 9: 15}


def test_the_report_of_several_image_counts() -> None:
    records = _counts()
    page = build([Part("s", "", "", frame(records), [], records, None, [], [])])
    assert page.count("<h3>Sources by targets, brecq, ") == 2
    assert "Accuracy against time" in page
    assert "larger markers: more images (64, 256)" in page


def test_the_forest_shows_each_verdicts_interval() -> None:
    records = _rows()
    claims = [
        {"says": "one beats noise", "better": {"source": "one"}, "worse": {"source": "noise"}},
        {"says": "no data", "better": {"source": "one"}, "worse": {"source": "nothing"}},
        {"says": "own beats one", "better": {"source": "own"}, "worse": {"source": "one"}},
    ]
    verdicts = judge(claims, records)
    figure = claims_forest(verdicts)
    first = verdicts[0]
    found = next(trace for trace in figure.data if any("one beats noise" in text for text in (trace.text or ())))
    at = next(i for i, text in enumerate(found.text) if "one beats noise" in text)
    assert found.x[at] == first.difference
    assert found.x[at] - found.error_x.arrayminus[at] == pytest.approx(first.low)
    assert found.x[at] + found.error_x.array[at] == pytest.approx(first.high)
    assert list(figure.layout.yaxis.ticktext) == ["one beats noise", "no data", "own beats one"]
    assert not figure.layout.template.layout.to_plotly_json()  # the page has no theme of Streamlit's
