"""Claims: the forest's numbers are the verdicts', the rows behind are those the claim names, the page filters."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

import pytest
from streamlit.testing.v1 import AppTest

from bench.board.claims.judging import Part, Verdict
from bench.board.claims.verdicts import claim_rows, suite_of, suite_verdicts
from bench.board.index.board_index import BoardIndex
from bench.spec.suite import suite_names
from bench.store.measured import read_measured
from bench.store.record_store import RecordStore
from dashboard.figures.claims import claims_forest, parts_forest
from dashboard.views.claims import OURS, badge, by_paper, few_seeds, sentence, table_order
from tests.dashboard.conftest import shown

App = Callable[..., AppTest]
PARTS = (
    Part("target", "a", 3.0, 1.0, 5.0, 1),
    Part("target", "b", -1.0, -2.0, 0.5, 1),
    Part("target", "c", None, None, None, 1),
    Part("setting", "W4A4", 1.0, 0.0, 2.0, 3),
)
VERDICTS = [
    Verdict("first", "supported", 2.0, 1.5, 3.0, 0.975, 0.01, 1.0, 4, 3, 1000, parts=PARTS),
    Verdict("second", "open", remarks=("row x: failed", "row y: failed")),
    Verdict("third", "refuted", -4.0, -6.0, -3.0, 0.95, 0.01, 0.5, 2, 1, 1000),
]


def test_the_forest_holds_effects_intervals_and_margins() -> None:
    traces = {trace.name: trace for trace in claims_forest(VERDICTS).data}
    assert set(traces) == {"supported", "refuted", "margin to clear"}
    assert (traces["supported"].x, traces["supported"].y) == ((2.0,), (0,))
    assert traces["supported"].error_x.array == (1.0,)
    assert traces["supported"].error_x.arrayminus == (0.5,)
    assert (traces["refuted"].x, traces["refuted"].y) == ((-4.0,), (2,))
    assert traces["margin to clear"].x == (1.0, 0.0, 0.5)
    assert traces["supported"].marker.symbol != traces["refuted"].marker.symbol
    assert claims_forest(VERDICTS).layout.yaxis.ticktext == ("first", "second", "third")


def test_the_breakdown_leaves_out_an_axis_of_one_value() -> None:
    figure = parts_forest(VERDICTS[0])
    assert figure is not None
    assert figure.layout.yaxis.ticktext == ("a", "b", "c")
    assert figure.data[0].x == (3.0, -1.0)  # c has no difference and keeps its line
    assert figure.data[0].error_x.array == (2.0, 1.5)
    assert parts_forest(VERDICTS[1]) is None


def test_a_verdict_in_words() -> None:
    assert (
        sentence(VERDICTS[0])
        == "2.00 points [1.50, 3.00] at 97.5 % · margin 1.0 · 4 pairs × 3 seeds · 1,000 test images"
    )
    assert sentence(VERDICTS[1]) == "Not judged yet: row x: failed (and 1 more remarks)."
    assert len({badge(v.verdict).partition("</b>")[0][-1] for v in VERDICTS}) == 3  # a sign each, not colour alone


def test_the_rows_behind_a_claim() -> None:
    records = read_measured(suite="ptq_w2a4")
    suite = suite_of("ptq_w2a4")
    assert suite is not None
    own_beat_foreign, *_ = claim_rows("ptq_w2a4", records, {})
    better = [row for row in own_beat_foreign if row.side == "better"]
    worse = [row for row in own_beat_foreign if row.side == "worse"]
    assert {(row.model, row.target) for row in better} == {(t, t) for t in suite.grid.target}
    assert len(worse) == 30
    assert all(row.model != row.target for row in worse)
    means = dict.fromkeys(suite.grid.target, 0.0)
    for row in worse:
        means[row.target] += (row.top1 or 0.0) / 5
    difference = sum((row.top1 or 0.0) - means[row.target] for row in better) / len(better)
    verdict = suite_verdicts("ptq_w2a4", records, {})[0]
    assert verdict.difference == pytest.approx(difference)
    known = {record.cell_id for record in records}
    assert {row.cell_id for row in own_beat_foreign} <= known


def test_no_rows_without_the_suite() -> None:
    assert claim_rows("no_such_suite", [], {}) == []


# --- the page ---


def test_every_claim_of_every_measured_suite(store: RecordStore, app: App) -> None:
    test = app("claims")
    assert not test.exception
    said = shown(test)
    suites = {record.suite for record in read_measured()}
    claims = [claim.says for name in suites if (suite := suite_of(name)) for claim in suite.claims]
    assert len(claims) >= 17
    assert [says for says in claims if escape(says) not in said] == []


def test_filters_by_suite_and_verdict(store: RecordStore, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoardIndex, "versions", lambda self: {})  # rows of older versions have no verdict
    verdicts = suite_verdicts("ablation_zoo", read_measured(suite="ablation_zoo"), {})
    test = app("claims", suite="ablation_zoo", verdict=["refuted"])
    assert not test.exception
    said = shown(test)
    assert [v.says in said for v in verdicts] == [v.verdict == "refuted" for v in verdicts]
    test = app("claims", suite="ptq_bits", verdict=["refuted"])
    assert "No claim of this suite has this verdict" in shown(test)


def test_an_opened_claim_shows_its_rows(store: RecordStore, app: App) -> None:
    test = app("claims", suite="ablation_zoo")
    closed = shown(test)
    assert "./cell?" not in closed
    test.session_state["more-ablation_zoo-mini-0"] = True
    test.run()
    assert not test.exception
    said = shown(test)
    assert "./cell?suite=ablation_zoo" in said
    assert "./leaderboard?suite=ablation_zoo&amp;preset=mini&amp;target=" in said


def test_suites_stand_by_paper_and_table() -> None:
    assert sorted(["mixmix/T10", "mixmix/T9", "mixmix/F2"], key=table_order) == ["mixmix/F2", "mixmix/T9", "mixmix/T10"]
    found = by_paper(suite_names())
    assert [name for names in found.values() for name in names if suite_of(name) is None] == []
    assert sorted(name for names in found.values() for name in names) == sorted(suite_names())
    assert list(found)[-1] == OURS
    assert len(found) >= 4
    for paper, names in found.items():
        follows = [suite.reproduces or "" for name in names if (suite := suite_of(name)) is not None]
        assert {place.partition("/")[0] or OURS for place in follows} == {paper}
        assert follows == sorted(follows, key=table_order)


def test_claims_of_few_seeds_stand_apart(store: RecordStore, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoardIndex, "versions", lambda self: {})  # rows of older versions are not judged at all
    suites = {record.suite for record in read_measured()}
    few = {name for name in suites if any(few_seeds(v) for v in suite_verdicts(name, read_measured(suite=name), {}))}
    assert few
    said = shown(app("claims", suite=min(few)))
    assert "On fewer than three seeds" in said
