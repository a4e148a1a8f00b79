"""The sentence above a plot of an ablation: the verdicts are those of claims of the same words, and nothing is said
that the rows do not show."""

from __future__ import annotations

from itertools import product
from typing import Any

import pandas as pd
import pytest

from bench.board.claims.judging import SIGN, judge
from bench.board.index.frame import frame
from bench.board.index.rows import Row, make_rows
from bench.store.records import ResultRecord
from dashboard.figures import ablation_axes as axes_of
from dashboard.figures.ablation_findings import Findings, findings
from dashboard.figures.ablation_words import difference_table, not_judged, sentence, value_table
from tests.board.make import paired_rows, record
from tests.dashboard.fixtures_pages2 import Pages, made, measured, pages, text_of

__all__ = ["measured", "pages"]

PARAMS = {"m": {"mix": 3}, "m(mix=1)": {"mix": 1}, "m(mix=2)": {"mix": 2}}


def cells(means: dict[tuple[str, str], float], seeds: int = 3, **fields: Any) -> list[ResultRecord]:
    """(source, setting) → about this accuracy, paired by image, on two networks."""
    out = []
    for target in ("t1", "t2"):
        rows = paired_rows(list(means.values()), seeds=seeds, key=len(target))
        for (source, setting), row in zip(means, rows, strict=True):
            for seed, bitmap in row.items():
                named = {"source": source, "setting_label": setting, "target": target, "target_digest": target}
                out.append(record(bitmap, seed=seed, **named | fields))
    return out


def judged(
    records: list[ResultRecord], versions: Any = None, params: Any = PARAMS
) -> tuple[pd.DataFrame, axes_of.Layout, dict[object, Row]]:
    rows = {str(row.head.row_id): row for row in make_rows(records, versions=versions)}
    drawn = axes_of.with_axes(frame(records), params)
    return drawn, axes_of.layout(drawn), {i: rows[str(row_id)] for i, row_id in drawn["row_id"].items()}


def found(records: list[ResultRecord], **more: Any) -> Findings:
    got = findings(*judged(records, **more))
    assert got is not None
    return got


def test_a_level_is_judged_as_a_claim_of_the_same_words() -> None:
    records = cells({(s, b): m for (s, m), b in product((("m", 0.7), ("m(mix=1)", 0.6)), ("W4A4", "W2A4"))})
    got = found(records)
    assert (got.reference, got.best) == ("mix 3", False)
    (one,) = got.found
    claim = {"says": "c", "better": {"source": ["m(mix=1)"]}, "worse": {"source": ["m"]}, "by": ["target", "bits"]}
    (said,) = judge([claim], records)
    own = one.verdict
    assert (own.verdict, own.difference, own.low, own.high) == ("refuted", said.difference, said.low, said.high)
    assert said.difference is not None
    assert f"{SIGN['refuted']} mix 1 loses {-said.difference:.1f}" in sentence(got)


def test_what_contradicts_itself_depends_as_the_boards_claim_does() -> None:
    means = {("m", "W4A4"): 0.6, ("m(mix=1)", "W4A4"): 0.7, ("m", "W2A4"): 0.7, ("m(mix=1)", "W2A4"): 0.6}
    records = cells(means)
    (one,) = found(records).found
    claim = {"says": "c", "better": {"source": ["m(mix=1)"]}, "worse": {"source": ["m"]}, "by": ["target", "bits"]}
    (said,) = judge([claim], records)
    assert one.verdict.text == said.text == "depends on bits (above: W4A4; below: W2A4)"
    assert sentence(found(records)) == f"Against mix 3: {SIGN['depends']} mix 1 {said.text}."


def test_where_only_the_size_varies_it_says_along_what() -> None:
    means = {("m", "W4A4"): 0.7, ("m(mix=1)", "W4A4"): 0.69, ("m", "W2A4"): 0.8, ("m(mix=1)", "W2A4"): 0.5}
    (one,) = found(cells(means)).found
    assert one.verdict.verdict == "refuted"
    axis, parts = one.uneven
    assert axis == "bits"
    assert dict(parts)["W2A4"] < dict(parts)["W4A4"] < 0
    (same,) = found(cells({key: 0.7 if key[0] == "m" else 0.6 for key in means})).found
    assert same.uneven == ("", ())


@pytest.mark.parametrize(("seeds", "word"), [(1, "one seed"), (2, "two seeds")])
def test_few_seeds_are_no_verdict(seeds: int, word: str) -> None:
    said = sentence(found(cells({("m", "W4A4"): 0.7, ("m(mix=1)", "W4A4"): 0.5}, seeds=seeds)))
    assert said.startswith(f"{SIGN[word]} No verdict ({word}). Greatest difference to mix 3: mix 1, -")  # type: ignore[index]


def test_stale_rows_are_no_verdict_either() -> None:
    records = cells({("m", "W4A4"): 0.7, ("m(mix=1)", "W4A4"): 0.5})
    got = found(records, versions={("sources", "m"): 2})
    (one,) = got.found
    assert (one.verdict.verdict, one.stale) == ("open", True)
    assert sentence(got).startswith(f"{SIGN['open']} No verdict (older version †). Greatest difference")


def test_rows_that_are_not_complete_are_not_compared() -> None:
    whole = cells({("m", "W4A4"): 0.7, ("m(mix=1)", "W4A4"): 0.5})
    records = [r for r in whole if (r.source, r.seed, r.target) != ("m", 2, "t1")]
    said = sentence(found(records))
    assert said.startswith(f"{SIGN['open']} No two rows can be compared: m → t1")


def test_the_highest_was_picked_so_all_pairs_are_corrected_for() -> None:
    means = {("a", "W4A4"): 0.8, ("b", "W4A4"): 0.5, ("c", "W4A4"): 0.4, ("real", "W4A4"): 0.9}
    records = cells(means)
    records = [r.model_copy(update={"control": "upper"}) if r.source == "real" else r for r in records]
    got = found(records, params={})
    assert (got.reference, got.best) == ("a", True)  # the control is not in it
    assert {one.worse for one in got.found} == {"b", "c"}
    levels = sorted(one.verdict.level for one in got.found)
    assert levels == pytest.approx([1 - 0.05 / 2, 1 - 0.05 / 3])  # Holm over three pairs, not over the two shown
    assert sentence(got).startswith(f"Highest: a: {SIGN['supported']} above b by ")


def test_levels_too_many_to_name_are_counted() -> None:
    means = {(name, "W4A4"): 0.8 if name == "a" else 0.4 for name in "abcdef"}
    assert " and 2 more." in sentence(found(cells(means), params={}))


def test_the_tables_hold_every_row_and_verdict() -> None:
    records = cells({("m", "W4A4"): 0.7, ("m(mix=1)", "W4A4"): 0.5, ("m(mix=2)", "W4A4"): 0.69})
    records += [r.model_copy(update={"control": "upper"}) for r in cells({("real", "W4A4"): 0.8})]
    drawn, plan, rows = judged(records)
    for panel in axes_of.panels(drawn, plan):
        columns, lines, classes = value_table(panel, plan, "top1_mean", "top-1")
        assert columns[0].header == "mix"
        assert classes == ["", "", "", "control"]
        assert [line[0] for line in lines] == ["mix 1", "mix 2", "mix 3", "real"]
        given = panel.rows.set_index("source")["top1_mean"]
        shown = [float(str(line[-3])) for line in lines[:3]]
        assert shown == pytest.approx([given[s] for s in ("m(mix=1)", "m(mix=2)", "m")], abs=0.5)
        got = findings(panel.rows, plan, rows)
        assert got is not None
        _, lines, _ = difference_table(got)
        assert {str(line[2])[0] for line in lines} <= set(SIGN.values())
        assert len(lines) == 2


def test_a_measure_without_answers_is_not_judged() -> None:
    drawn, plan, _ = judged(cells({("m", "W4A4"): 0.7, ("m(mix=1)", "W4A4"): 0.5}))
    said = not_judged(drawn.assign(score=[1.0, 4.0, 2.0, 3.0]), plan, "score")
    assert said.startswith("From 1.000 (mix ")
    assert "not judged" in said
    assert findings(drawn, plan, {}) is None


def test_page_says_what_each_plot_shows(pages: Pages) -> None:
    given = {"inv": 0.7, "inv(mix=1)": 0.5}
    pages.write(
        [
            made(
                a,
                **{"source": s, "seed": seed, "target": t, "target_digest": t, "compressor": "c"},
                source_params={"mix": 1 if "(" in s else 3},
            )
            for (s, a), seed, t in product(given.items(), range(3), ("t1", "t2"))
        ]
    )
    app = pages.open("ablations")
    assert not app.exception
    assert "mix 1 loses 20" in text_of(app)
    assert [e.label for e in app.expander][:1] == ["Table"]


def test_page_opens_on_a_suite_that_can_be_judged(pages: Pages) -> None:
    for suite, seeds in (("early", 1), ("late", 3)):
        pages.write(
            [
                made(0.7, suite=suite, source=s, seed=k, compressor="c")
                for s in ("inv", "inv(mix=1)")
                for k in range(seeds)
            ]
        )
    assert pages.open("ablations").selectbox[0].value == "late"
