"""Ablations: what varies is read off the rows, the dots are the rows' numbers, the page answers awkward stores."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from bench.board.index.frame import frame
from dashboard.figures import ablation_axes as axes_of
from dashboard.figures import ablations as figures
from tests.board.make import record
from tests.dashboard.fixtures_pages2 import AWKWARD, Pages, charts, check_awkward, made, measured, pages, text_of

__all__ = ["measured", "pages"]

PARAMS = {
    "inv": {"mix": 3, "crop": True, "lr": 0.1},
    **{f"inv(mix={m})": {"mix": m, "crop": True, "lr": 0.1} for m in (1, 2)},
    "inv(crop=false)": {"mix": 3, "crop": False, "lr": 0.1},
    **{f"inv(mix={m}, crop=false)": {"mix": m, "crop": False, "lr": 0.1} for m in (1, 2)},
    "other": {"lr": 9.0},
}


def _table(labels: list[str], **fields: Any) -> pd.DataFrame:
    records = [record(0.5 + i / 100, source=label, **fields) for i, label in enumerate(labels)]
    return frame([*records, record(0.9, source="r", control="upper", **fields)])


def _inv() -> pd.DataFrame:
    return axes_of.with_axes(_table([label for label in PARAMS if label.startswith("inv")]), PARAMS)


def test_a_default_that_no_label_names_is_known() -> None:
    found = _inv()
    assert axes_of.varied_axes(found) == ("param:crop", "param:mix")
    plan = axes_of.layout(found)
    assert (plan.x, plan.numeric, plan.colour) == ("param:mix", True, ("param:crop",))
    assert set(found.loc[found["source"] == "inv(crop=false)", "param:mix"]) == {3}


def test_the_lines_are_the_rows_in_order_of_the_parameter() -> None:
    found = _inv()
    plan = axes_of.layout(found)
    (panel,) = axes_of.panels(found, plan)
    colours = figures.colour_map(found, plan)
    assert set(colours) == {"crop yes", "crop no"}
    figure = figures.panel_figure(panel, plan, "top1_mean", colours, "top-1 accuracy, %")
    for trace in figure.data:
        crop = trace.name == "crop yes"
        expected = {
            p["mix"]: found[found["source"] == s]["top1_mean"].iloc[0]
            for s, p in PARAMS.items()
            if s.startswith("inv") and p["crop"] is crop
        }
        assert list(trace.x) == [1, 2, 3]
        assert list(trace.y) == pytest.approx([expected[m] for m in (1, 2, 3)])
        row = found[found["source"] == ("inv(mix=1)" if crop else "inv(mix=1, crop=false)")].iloc[0]
        assert trace.y[0] + trace.error_y.array[0] == pytest.approx(row["top1_high"])
        assert trace.y[0] - trace.error_y.arrayminus[0] == pytest.approx(row["top1_low"])
    # the control does not vary along the parameter: a line across
    assert [shape.y0 for shape in figure.layout.shapes] == pytest.approx([90.0])


def test_a_control_far_off_is_said_and_stretches_nothing() -> None:
    found = _inv()
    plan = axes_of.layout(found)
    (panel,) = axes_of.panels(found, plan)
    colours = figures.colour_map(found, plan)
    rows = panel.rows
    reach = rows["top1_high"].max() - rows["top1_low"].min()
    for value, place in ((rows["top1_low"].min() - 4.9 * reach, None), (rows["top1_low"].min() - 5.1 * reach, 0.01),
                         (rows["top1_high"].max() + 5.1 * reach, 0.99)):  # fmt: skip
        panel.controls["top1_mean"] = value
        figure = figures.panel_figure(panel, plan, "top1_mean", colours, "top-1 accuracy, %")
        assert len(figure.layout.shapes) == (place is None)
        (note,) = figure.layout.annotations
        assert (place is None) or (note.y == place and f"{value:.1f}" in note.text)


def test_settings_that_differ_in_several_things_are_no_line() -> None:
    labels = ["inv(mix=1, crop=false)", "inv(mix=2)", "inv"]
    found = axes_of.with_axes(_table(labels), PARAMS)
    plan = axes_of.layout(found)
    assert (plan.x, plan.numeric) == (axes_of.SETTING, False)
    (panel,) = axes_of.panels(found, plan)
    figure = figures.panel_figure(panel, plan, "top1_mean", figures.colour_map(found, plan), "%")
    names = list(figure.layout.yaxis.ticktext)
    assert names == ["crop no · mix 1", "crop yes · mix 2", "crop yes · mix 3", "r"]
    (trace,) = figure.data
    drawn = {names[int(y)]: x for x, y in zip(trace.x, trace.y, strict=True)}
    assert drawn == pytest.approx({names[0]: 50.0, names[1]: 51.0, names[2]: 52.0, "r": 90.0})


def test_zoos_and_the_target_itself_are_settings() -> None:
    records = [record(0.5, source="inv", model=f"zoo:{z}", target=t) for z in ("full", "small") for t in ("t", "u")]
    records += [record(0.6, source="kx", model=t, target=t) for t in ("t", "u")]
    table = frame(records)
    found = axes_of.with_axes(table, {})
    assert axes_of.varies_source(table)
    assert set(found["model"]) == {"zoo:full", "zoo:small", axes_of.ITSELF}
    plan = axes_of.layout(found)
    assert (plan.x, plan.colour) == (axes_of.SETTING, ("target",))
    assert set(figures.colour_map(found, plan)) == {"t", "u"}


def test_bits_images_and_a_compressors_option_are_axes() -> None:
    bits = axes_of.with_axes(frame([record(0.5, setting_label=b) for b in ("W2A4", "W4A4", "W8A8")]), {})
    assert axes_of.layout(bits).x == "bits"
    assert axes_of.layout(bits).numeric
    counts = axes_of.with_axes(frame([record(0.5, n=n) for n in (32, 128, 1024)]), {})
    assert axes_of.layout(counts).x == "n"
    (panel,) = axes_of.panels(counts, axes_of.layout(counts))
    figure = figures.panel_figure(panel, axes_of.layout(counts), "top1_mean", {"mixmix": "#000"}, "%")
    assert figure.layout.xaxis.type == "log"
    params = {f"c(lam={v})": {"lam": v} for v in (0.1, 1, 10)}
    options = axes_of.with_axes(frame([record(0.5, compressor=label) for label in params]), params)
    assert axes_of.layout(options).x == "option:lam"
    assert axes_of.axis_name("option:lam") == "lam"


def test_two_compressors_and_one_parameter_keep_apart() -> None:
    records = [
        record(0.5, compressor=c, control=k, source=s)
        for c in ("p", "q", "z")
        for s, k in (("a", "none"), ("r", "upper"))
    ]
    found = axes_of.with_axes(frame(records), {})
    plan = axes_of.layout(found)
    assert plan.x == axes_of.SCHEME
    titles = {panel.title: set(panel.rows["source"]) for panel in axes_of.panels(found, plan)}
    assert titles == {"resnet18_w10": {"a", "r"}}  # controls vary along compressors, too
    many = pd.concat([found.assign(target=t) for t in "tuv"])
    titles = {panel.title: set(panel.rows["source"]) for panel in axes_of.panels(many, axes_of.layout(many))}
    assert titles == {"a": {"a"}, "r": {"r"}}


def test_an_axis_that_follows_from_another_parts_no_panels() -> None:
    """One step, the other, both: the bits follow from the compressor."""
    steps = {"p": "S20", "q": "W4A4", "p+q": "S20 W4A4"}
    sources = (("a", "none"), ("r", "upper"), ("z", "lower"))
    records = [
        record(0.5, compressor=c, setting_label=b, source=s, control=k, target=t, target_digest=t)
        for c, b in steps.items()
        for s, k in sources
        for t in ("t", "u")
    ]
    found = axes_of.with_axes(frame(records), {})
    plan = axes_of.layout(found)
    assert (plan.x, plan.panels, plan.beside) == (axes_of.SCHEME, ("target",), ("bits", "sparsity"))
    drawn = axes_of.panels(found, plan)
    assert [(panel.title, len(panel.rows)) for panel in drawn] == [("t", 9), ("u", 9)]
    figure = figures.panel_figure(drawn[0], plan, "top1_mean", figures.colour_map(found, plan), "%")
    assert list(figure.layout.yaxis.ticktext) == ["p · S20", "p+q · W4A4 · S20", "q · W4A4"]
    assert {trace.name for trace in figure.data} == {"a", "r", "z"}
    # one compressor at a second width: the bits no longer follow
    more = axes_of.with_axes(
        frame([*records, record(0.5, compressor="q", setting_label="W2A4", source="a", target="t")]), {}
    )
    assert axes_of.layout(more, axes_of.SCHEME).panels == ("target", "bits")


def test_a_stream_is_a_setting_of_its_own() -> None:
    labels = ["a", "a(stream)", "a(k=1, stream)", "b"]
    params = {"a": {"k": 2}, "a(stream)": {"k": 2}, "a(k=1, stream)": {"k": 1}, "b": {}}
    found = axes_of.with_axes(_table(labels), params)
    assert list(found[found["control"] == "none"].sort_values("source")["method"]) == [
        "a",
        "a(stream)",
        "a(stream)",
        "b",
    ]
    plan = axes_of.layout(found)
    (panel,) = axes_of.panels(found, plan)
    figure = figures.panel_figure(panel, plan, "top1_mean", figures.colour_map(found, plan), "%")
    names = [name.replace("<br>", " · ") for name in figure.layout.yaxis.ticktext]
    assert names == ["a", "a(k=1, stream)", "a(stream)", "b", "r"]


def test_long_names_break_between_parts_parameters_and_networks() -> None:
    """In a suite of several methods rows have their labels, and what their images are from."""
    labels = ["kd(warm=300, weights=mnist)", "mixed"]
    models = ["zoo:resnet50d_w8+seresnet18_w10+regnetx_w16+densenet_g8", "resnet34_w8"]
    records = [record(0.5, source=s, model=m, target="vgg") for s, m in zip(labels, models, strict=True)]
    found = axes_of.with_axes(frame([*records, record(0.4, source="kd", model="vgg", target="vgg")]), {})
    plan = axes_of.layout(found)
    (panel,) = axes_of.panels(found, plan)
    figure = figures.panel_figure(panel, plan, "top1_mean", figures.colour_map(found, plan), "%")
    assert list(figure.layout.yaxis.ticktext) == [
        "kd<br>from the target itself",
        "kd(warm=300,<br>weights=mnist)<br>from zoo:resnet50d_w8+<br>seresnet18_w10+<br>regnetx_w16+densenet_g8",
        "mixed · from resnet34_w8",
    ]


def test_steps_in_a_row_are_a_compressor_of_their_own() -> None:
    found = axes_of.with_axes(frame([record(0.5, compressor=c) for c in ("p", "p(k=1)+q(l=2)", "q(l=2)")]), {})
    assert set(found[axes_of.SCHEME]) == {"p", "p+q", "q"}


def test_images_that_follow_from_the_setting_part_no_panels() -> None:
    """A source that streams has no stored images, the others have: their counts are no experiment."""
    cells = [("a", 8, "S"), ("a(stream)", 0, "S"), ("b", 8, "S"), ("a", 8, "T"), ("a(stream)", 0, "T"), ("b", 8, "T")]
    found = axes_of.with_axes(frame([record(0.5, source=s, n=n, setting_label=b) for s, n, b in cells]), {})
    plan = axes_of.layout(found)
    assert (plan.x, plan.panels) == (axes_of.SETTING, ("student",))


def test_a_reader_may_draw_along_another_axis() -> None:
    found = _inv()
    plan = axes_of.layout(found, "param:crop")
    assert (plan.x, plan.numeric, plan.panels) == ("param:crop", False, ("param:mix",))


def test_metrics_leave_out_ends_and_spreads() -> None:
    extra = ["kid", "kid_low", "kid_high", "score", "score_std", "low"]
    table = frame([record(0.5, metrics=dict.fromkeys(extra, 1.0))], extra=extra)
    assert sorted(axes_of.metrics(table)) == ["kid", "low", "score"]


def test_a_suite_of_controls_is_read_like_any_other() -> None:
    records = [record(0.5 + k / 9, source=f"real(k={k})", control="upper") for k in (1, 2, 3)]
    table = frame(records)
    assert axes_of.is_ablation(table)
    assert axes_of.varies_source(table)
    assert not axes_of.is_ablation(table[:1])
    params = {f"real(k={k})": {"k": k} for k in (1, 2, 3)}
    found = axes_of.with_axes(table, params)
    plan = axes_of.layout(found)
    assert (plan.x, plan.numeric) == ("param:k", True)
    (panel,) = axes_of.panels(found, plan)
    assert len(panel.rows) == 3  # drawn, not set apart as lines beside methods that are not there


def test_page_draws_a_suite_of_controls(pages: Pages) -> None:
    AWKWARD["controls only"](pages)
    pages.write([made(0.5, suite="t", source=s) for s in ("inv", "inv(mix=1)")])
    app = pages.open("ablations", suite="s")
    assert not app.exception
    assert sum(len(t["text"]) for figure in charts(app) for t in figure["data"]) == 4


@pytest.mark.parametrize("name", AWKWARD)
def test_page_answers_awkward_stores(pages: Pages, name: str) -> None:
    check_awkward(pages, "ablations", name)


def test_page_names_what_is_not_drawn(pages: Pages) -> None:
    pages.write([made(0.8, n=64), made(0.7, n=128), made(None, n=256, reason="out of <memory>")])
    app = pages.open("ablations")
    assert not app.exception
    assert "1 row not drawn" in [e.label for e in app.expander]
    assert "out of <memory>" in text_of(app)


@pytest.mark.parametrize(
    ("suite", "figures_wanted", "dots"),
    [
        ("ablation_mixing", 4, 32),
        ("ablation_zoo", 2, 40),
        ("ptq_bits", 2, 40),
        ("ptq_compressors", 4, 120),
        ("synthesis_ce_only", 1, 12),
    ],
)
def test_page_draws_every_row_of_the_measured_suites(
    measured: Pages, suite: str, figures_wanted: int, dots: int
) -> None:
    app = measured.open("ablations", suite=suite)
    assert not app.exception
    drawn = charts(app)
    assert len(drawn) == figures_wanted
    assert sum(len(t["text"]) for figure in drawn for t in figure["data"]) == dots
    claims = {"ablation_mixing": "three mixed networks serve better than one", "synthesis_ce_only": "makes no claim"}
    assert claims.get(suite, "") in text_of(app)
