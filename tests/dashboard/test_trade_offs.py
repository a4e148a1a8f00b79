"""Trade-offs: the front against a search by hand, the drawn points against the rows, the page with awkward stores."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from bench.board.index.frame import frame
from bench.board.tables.signs import FLAGGED as SIGN
from bench.board.tables.signs import MIXED, REMADE
from bench.store.image_gate import MEANING
from dashboard.figures.costs import COSTS, LABELLED, contenders, front_labels, offered_costs, on_front, with_work
from dashboard.figures.front_line import WIDE
from dashboard.figures.markers import source_colours, source_fills
from dashboard.figures.scales import log_axis, short
from dashboard.figures.trade_offs import hover, trade_off
from tests.board.make import bits, gate, record
from tests.dashboard.fixtures_pages2 import AWKWARD, Pages, charts, check_awkward, made, measured, pages, text_of

__all__ = ["measured", "pages"]

COST = {cost.column: cost for cost in COSTS}


def _table(*rows: tuple[float, str, float, str]) -> pd.DataFrame:
    """(accuracy, source, bytes, control) → rows of the board."""
    records = [
        record(a, source=s, control=c, metrics={"size_bytes": b, "bitops_g": b / 1e3}, n=i + 1)
        for i, (a, s, b, c) in enumerate(rows)
    ]
    return frame(records)


def test_more_sources_than_colours_stay_apart() -> None:
    rows = pd.DataFrame({"source_method": [f"s{i:02}" for i in range(16)], "control": "none"})
    rows = pd.concat([rows, pd.DataFrame({"source_method": ["real"], "control": ["upper"]})])
    colours, fills = source_colours(rows), source_fills(rows)
    assert len({(colours[pair], fills[pair]) for pair in colours}) == len(colours) == 17
    assert fills["real", "upper"] == ""


def test_a_stream_has_its_methods_colour() -> None:
    rows = frame([record(0.5, source=source) for source in ("dafl", "dafl(stream)", "dafl(warmup=9, stream)", "kw")])
    assert set(source_colours(rows)) == {("dafl", "none"), ("kw", "none")}


def test_the_step_line_and_the_points_are_the_rows() -> None:
    table = _table(
        (0.5, "a", 1000, "none"), (0.7, "b", 5000, "none"), (0.6, "b(k=1)", 90000, "none"), (0.9, "r", 500, "upper")
    )
    figure = trade_off(table, COST["size_bytes"])
    line = next(t for t in figure.data if t.name == "Pareto front")
    assert line.line.shape == "hv"
    assert list(line.x) == [1, 5, 90]  # kB, drawn on to the dearest row; the control is on no front
    assert list(line.y) == [50, 70, 70]
    drawn = {(x, y) for t in figure.data if t.error_y.array is not None for x, y in zip(t.x, t.y, strict=True)}
    assert drawn > {(1, 50), (5, 70), (90, 60)}
    assert len(drawn) == 4  # and the control, within the axes
    assert figure.layout.xaxis.type == "log"


def test_error_bars_end_where_the_intervals_do() -> None:
    table = _table((0.5, "a", 1000, "none"))
    trace = next(t for t in trade_off(table, COST["bitops_g"]).data if t.error_y.array is not None)
    row = table.iloc[0]
    assert trace.y[0] + trace.error_y.array[0] == pytest.approx(row["top1_high"])
    assert trace.y[0] - trace.error_y.arrayminus[0] == pytest.approx(row["top1_low"])
    assert trade_off(table, COST["bitops_g"]).layout.xaxis.type is None  # one value spans no decade


def test_colour_says_the_source_and_marker_the_compressor() -> None:
    records = [record(0.5 + i / 50, source=s, compressor=c) for i, s in enumerate(("a", "b")) for c in ("p", "q")]
    figure = trade_off(frame(records), COST["size_bytes"])
    points = [t for t in figure.data if t.error_y.array is not None]
    assert len({t.marker.color for t in points}) == 2
    assert all(len(set(t.marker.symbol)) == 2 for t in points)
    assert points[0].marker.symbol == points[1].marker.symbol
    assert {"a", "b", "p", "q"} <= {t.name for t in figure.data if t.showlegend is not False}


def test_what_costs_nothing_stands_at_a_zero_left_of_the_rest() -> None:
    table = _table((0.5, "a", 1000, "none"), (0.7, "b", 50000, "none"), (0.4, "c", 0, "none"))
    figure = trade_off(table, COST["size_bytes"])
    edge = figure.layout.xaxis.tickvals[0]
    assert figure.layout.xaxis.ticktext[0] == "0"
    assert 0 < edge < 1
    assert any(edge in t.x for t in figure.data if t.error_y.array is not None)


def test_log_ticks() -> None:
    assert log_axis([2, 300])["ticktext"] == ["2", "5", "10", "20", "50", "100", "200"]
    assert log_axis([1e-3, 1e4])["ticktext"] == ["0.001", "0.01", "0.1", "1", "10", "100", "1k", "10k"]
    assert [short(v) for v in (0.02, 5, 2000, 1.5e6)] == ["0.02", "5", "2k", "1.5M"]


def test_points_on_the_front_say_what_no_colour_says() -> None:
    grid = [("W2A4", 64, 1000, 0.5), ("W4A4", 64, 2000, 0.6), ("W4A4", 256, 2000, 0.7), ("W8A8", 256, 3000, 0.65)]
    records = [record(a, setting_label=b, n=n, metrics={"size_bytes": s}) for b, n, s, a in grid]

    def labels(kept: list[int]) -> list[str]:
        figure = trade_off(frame([records[i] for i in kept]), COST["size_bytes"])
        named = [t for t in figure.data if t.name in ("Pareto front", WIDE)]  # a phone has not room for all
        found = {x: text.strip() for t in named for x, text in zip(t.x, t.text or (), strict=False) if text}
        return [found[x] for x in sorted(found)]

    assert labels([0, 1, 2, 3]) == ["mixmix · W2A4 · 64 images", "mixmix · W4A4 · 256 images"]
    assert labels([0, 1]) == ["mixmix · W2A4", "mixmix · W4A4"]
    assert labels([2]) == ["mixmix"]


def test_a_long_front_is_numbered() -> None:
    best = _table(*((0.5 + i / 50, f"s{i}", 1000 * (i + 1), "none") for i in range(LABELLED + 1)))
    assert front_labels(best, best) == [str(i + 1) for i in range(LABELLED + 1)]


def test_the_band_is_the_intervals_along_the_front() -> None:
    table = _table((0.5, "a", 1000, "none"), (0.7, "b", 5000, "none"), (0.6, "c", 9000, "none"))
    figure = trade_off(table, COST["size_bytes"])
    low, high = (next(t for t in figure.data if t.name == name) for name in ("band", "its 95 % intervals"))
    ends = table.set_index("source")
    assert list(low.y) == [ends["top1_low"][name] for name in "abb"]
    assert list(high.y) == [ends["top1_high"][name] for name in "abb"]
    assert list(low.x) == list(high.x) == [1, 5, 9]
    assert high.fill == "tonexty"


def test_controls_do_not_stretch_the_axes() -> None:
    methods = [(0.70, "a", 1e6, "none"), (0.72, "b", 2e6, "none")]
    controls = [(0.10, "dust", 1e3, "lower"), (0.90, "photos", 9e9, "upper"), (0.71, "near", 1.5e6, "upper")]
    alone, beside = (trade_off(_table(*rows), COST["size_bytes"]) for rows in (methods, methods + controls))
    for axis in ("xaxis", "yaxis"):
        assert list(beside.layout[axis].range) == list(alone.layout[axis].range)
    points = {t.name: t for t in beside.data if t.error_y.array is not None}
    assert {name: points[name].marker.symbol[0] for name in ("dust", "photos", "near")} == {
        "dust": "diamond-open",
        "photos": "diamond",
        "near": "diamond",
    }
    (left, right), (low, high) = beside.layout.xaxis.range, beside.layout.yaxis.range
    assert all(left < t.x[0] < right and low < t.y[0] < high for t in points.values())
    assert (points["near"].x[0], points["near"].y[0]) == (1500, 71)
    said = [note.text for note in beside.layout.annotations if "uncompressed" not in note.text]
    assert len(said) == 2
    assert any("dust ←↓" in text and "1" in text and "kB, 10.0 %" in text for text in said)
    assert any("photos →↑" in text and "90.0 %" in text for text in said)


def test_every_cost_says_its_unit() -> None:
    table = with_work(frame([record(0.8)]))
    for cost in offered_costs(table):
        assert cost.unit in cost.axis
        assert cost.unit in hover(next(table.itertuples()), cost)


def test_cpu_time_is_of_synthesis_and_compression() -> None:
    table = frame([record(0.8)]).assign(synthesis_cpu_s=[3.0], compress_cpu_s=[4.5], measure_cpu_s=[100.0])
    assert with_work(table)["work_cpu_s"].tolist() == [7.5]


def test_page_opens_where_the_leaderboard_does(pages: Pages) -> None:
    pages.write([made(a, source=s, target=t) for t, s, a in (("x", "a", 0.5), ("x", "b", 0.51), ("y", "a", 0.4))])
    pages.write([made(0.8, source="b", target="y")])
    opened = [pages.open(page).query_params for page in ("leaderboard", "trade_offs")]
    assert opened[0]["target"] == opened[1]["target"]
    assert "y" in opened[0]["target"]


def test_effective_macs_are_a_cost_where_weights_were_zeroed() -> None:
    dense = record(0.8, source="a", metrics={"macs": 6e6})
    zeroed = record(0.7, source="b", metrics={"macs": 6e6, "macs_effective": 3e6})
    assert COST["macs_effective"] in offered_costs(frame([dense, zeroed]))
    assert COST["macs_effective"] not in offered_costs(frame([dense]))
    assert COST["macs_effective"] not in offered_costs(frame([record(0.8)]))
    figure = trade_off(frame([dense, zeroed]), COST["macs_effective"])
    drawn = {(x, y) for t in figure.data if t.error_y.array is not None for x, y in zip(t.x, t.y, strict=True)}
    assert drawn == {(6, 80), (3, 70)}
    assert "zeroed weights not counted" in figure.layout.xaxis.title.text


def test_the_front_leaves_out_controls() -> None:
    table = _table((0.5, "a", 1000, "none"), (0.7, "b", 5000, "none"), (0.9, "r", 500, "upper"))
    assert list(on_front(table, COST["size_bytes"])["source"]) == ["a", "b"]


def test_a_stale_row_is_on_no_front() -> None:
    records = [record(0.9, source="old", source_version=1), record(0.5, source="new", n=3)]
    table = frame(records, versions={("sources", "old"): 2})
    assert list(contenders(table)["source"]) == ["new"]


@pytest.mark.parametrize("name", AWKWARD)
def test_page_answers_awkward_stores(pages: Pages, name: str) -> None:
    check_awkward(pages, "trade_offs", name)


def test_page_says_the_best_under_the_limits_of_the_address(pages: Pages) -> None:
    pages.write(
        [
            made(top1, source=source, compressor="c", seed=seed, metrics={"size_bytes": bytes_})
            for top1, source, bytes_ in ((0.8, "one", 9e4), (0.7, "two", 4e4), (0.6, "three", 3e4))
            for seed in (0, 1)
        ]
    )
    text = text_of(pages.open("trade_offs", kb="50", minutes="1", cost="size_bytes"))
    assert "Best under 1 minute and 50 kB:</b> two with c at W4A4, top-1 70" in text
    assert "No method fits" in text_of(pages.open("trade_offs", kb="5"))
    app = pages.open("trade_offs", kb="many")
    assert any("is no number" in e.value for e in app.info)
    assert "Best without a limit:</b> one" in text_of(app)


def test_page_counts_ties_by_the_paired_tests(pages: Pages) -> None:
    """Two rows whose images differ one by one are told apart though their intervals overlap widely."""
    base = bits(0.80, seed=1)
    nearly = base.copy()
    nearly[np.flatnonzero(base)[:2]] = False
    worse = base.copy()
    worse[np.flatnonzero(base)[:300]] = False
    for source, correct in (("top", base), ("tied", nearly), ("worse", worse)):
        pages.write([made(correct, source=source, compressor="c", seed=seed) for seed in (0, 1)])
    between = 0.7995  # of another protocol, in which it is the best
    elsewhere = {"setting_label": "W2A4", "protocol_id": "p2", "compressor": "c"}
    pages.write([made(between, source="coarse", seed=seed, **elsewhere) for seed in (0, 1)])
    text = text_of(pages.open("trade_offs"))
    assert "Best without a limit:</b> top with c at W4A4" in text
    assert "Within its protocol and the limits 1 other not shown to differ from it." in text
    best = text.partition("Best without a limit")[2].partition("bold: the best")[0]
    rows = re.findall(r'<tr class="(\w*)"><td[^>]*>(\w+)</td>', best)
    assert rows[:3] == [("best", "top"), ("", "tied"), ("best", "coarse")]


def test_page_tells_image_counts_apart(pages: Pages) -> None:
    same = {"source": "one", "compressor": "c"}
    pages.write([made(a, n=n, seed=seed, **same) for a, n in ((0.6, 64), (0.7, 1024)) for seed in (0, 1)])
    pages.write([made(None, n=64, **same | {"source": "two"})])
    app = pages.open("trade_offs")
    text = text_of(app)
    assert "one with c at W4A4 on 1,024 images" in text
    assert ">images</th>" in text
    assert ">64</td>" in text
    assert "two · c · W4A4 on 64 images: failed" in text
    pages.write([made(0.6, suite="t", n=64, seed=seed, **same) for seed in (0, 1)])
    other = text_of(pages.open("trade_offs", suite="t"))
    assert ">images</th>" not in other
    assert "all rows: 64 images" in other
    assert "images, top-1" not in other


def test_page_writes_the_limit_into_the_address(pages: Pages) -> None:
    pages.write([made(0.8)])
    app = pages.open("trade_offs")
    app.number_input[1].set_value(120.0).run()
    assert app.query_params["kb"] in ("120", ["120"])
    assert "kb" not in app.number_input[1].set_value(None).run().query_params


def test_page_draws_the_measured_rows(measured: Pages) -> None:
    app = measured.open("trade_offs", suite="ptq_bits", target="mobilenetv2_w035", cost="bitops_g")
    assert not app.exception
    points = [t for t in charts(app)[0]["data"] if "error_y" in t]
    assert sum(len(t["text"]) for t in points) == 20  # 4 sources at 5 widths


def test_points_of_images_that_do_not_invert_bear_the_sign() -> None:
    gates = {"good": gate(99), "bad": gate(50), "unasked": None}
    records = [record(0.5 + i / 10, source=name, image_gate=one) for i, (name, one) in enumerate(gates.items())]
    figure = trade_off(frame(records), COST["size_bytes"])
    (signs,) = (trace for trace in figure.data if trace.name == "signs")
    assert [(x, y, text) for x, y, text in zip(signs.x, signs.y, signs.text, strict=True)] == [(1, 60, SIGN.text)]
    said = {trace.name: trace.text[0] for trace in figure.data if trace.error_y.array is not None}
    assert {name for name, text in said.items() if f"{SIGN.text} {MEANING}" in text} == {"bad"}
    assert signs.legendgroup == "bad"  # a click on the source hides its sign, too


def test_points_of_mixed_machines_bear_their_sign() -> None:
    table = frame([record(0.5, source="a"), record(0.6, source="b")]).assign(mixed=[False, True], remade=[False, True])
    drawn = trade_off(table, COST["size_bytes"]).data
    assert [list(trace.text) for trace in drawn if trace.name == "signs"] == [[MIXED.text + REMADE.text]]
    said = [trace.text[0] for trace in drawn if trace.error_y.array is not None]
    assert [MIXED.line in text and REMADE.line in text for text in said] == list(table["mixed"])


def test_page_explains_the_sign_where_a_row_has_it(pages: Pages) -> None:
    given = {"good": (0.7, gate(99)), "bad": (0.8, gate(50))}
    for seed in (0, 1):  # one seed alone is not ranked
        pages.write(
            [made(top1, source=name, compressor="c", image_gate=one, seed=seed) for name, (top1, one) in given.items()]
        )
    app = pages.open("trade_offs")
    assert not app.exception
    text = text_of(app)
    assert set(re.findall(r">(good|bad)( .)?</td>", text)) == {("bad", f" {SIGN.text}"), ("good", "")}
    assert f"Best without a limit:</b> bad {SIGN.text} with c at W4A4" in text
    assert f"{SIGN.text} {MEANING}" in text
    assert any(trace.get("name") == "signs" for trace in charts(app)[0]["data"])
    pages.write([made(0.7, suite="t", source="good", compressor="c", image_gate=gate(99))])
    assert SIGN.text not in text_of(pages.open("trade_offs", suite="t"))
