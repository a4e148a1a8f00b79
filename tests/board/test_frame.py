"""Rows of the tidy frame: grouping, blanks, staleness, ranks, costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.board.index.columns import COLUMNS, describe_columns
from bench.board.index.frame import frame
from bench.board.index.rows import make_rows
from bench.board.stats.intervals import accuracy_interval, wilson
from bench.store.records import ResultRecord, StageCost

from .make import bits, gate, record, seeds, twice


def line(table: pd.DataFrame, **keys: Any) -> pd.Series:
    found = table.loc[np.logical_and.reduce([table[k] == v for k, v in keys.items()])]
    assert len(found) == 1, found
    return found.iloc[0]


def test_columns_are_documented_and_typed() -> None:
    table = frame(seeds([0.8, 0.81]))
    assert list(table.columns) == [c.name for c in COLUMNS]
    named = {"suite", "dataset", "source", "model", "target", "compressor", "policy", "setting_label", "n"}
    named |= {"top1_mean", "top1_low", "top1_high", "fp_top1", "synthesis_s", "cpu_s"}
    assert named <= set(table.columns)
    assert all(f"`{c.name}`" in describe_columns() and c.meaning in describe_columns() for c in COLUMNS)
    assert all(c.name.endswith("_s") == (c.unit == "s") for c in COLUMNS)
    assert list(frame([]).columns) == [c.name for c in COLUMNS]


def test_rows_on_images_that_the_networks_were_trained_on_say_so() -> None:
    for dataset, seen in (("fashion_mnist", False), ("imagenet_sample@224", True)):
        assert list(frame([record(bits(0.5), dataset=dataset)])["seen_in_training"]) == [seen]


def test_mean_interval_drop_and_costs() -> None:
    row = frame(seeds([0.8, 0.82, 0.84])).iloc[0]
    assert row["seeds"] == "3 of 3"
    assert row["top1_mean"] == pytest.approx(82)
    correct = np.stack([bits(a, 17 + k) for k, a in enumerate([0.8, 0.82, 0.84])])
    (made,) = make_rows(seeds([0.8, 0.82, 0.84]))
    _, ends = accuracy_interval(correct, between=made.between)
    assert ends != accuracy_interval(correct)[1]
    assert (row["top1_low"], row["top1_high"]) == pytest.approx(ends)
    assert row["drop"] == pytest.approx(8)
    assert row["synthesis_s"] == 10
    assert row["cpu_s"] == 28
    assert row["forward_equivalents"] == 107
    assert row["peak_memory_mib"] == 70
    single = frame(seeds([0.8])).iloc[0]
    sampling = wilson(1600, 2000)
    assert single["top1_low"] < sampling.low - 1  # what another seed would give is unknown, and that shows
    assert single["top1_high"] > sampling.high + 1
    assert pd.isna(single["rank"])
    assert pd.isna(single["letters"])
    assert not single["best"]


def test_never_a_mean_over_a_missing_cell() -> None:
    records = [*seeds([0.8, 0.81]), *seeds([0.7, 0.71, 0.72], source="kw")]
    row = line(frame(records), source="mixmix")
    assert row["seeds"] == "2 of 3"
    assert row["status"] == "incomplete"
    for name in ("top1_mean", "top1_low", "drop", "rank", "synthesis_s", "bitops_g", "peak_memory_mib"):
        assert pd.isna(row[name]), name
    assert row["fp_top1"] == 90  # does not depend on the seed
    asked = frame(records, seeds={"s": [0, 1]})
    assert line(asked, source="mixmix")["top1_mean"] == pytest.approx(80.5)
    # another preset's seeds are another run's
    other = frame([*seeds([0.8]), *seeds([0.7, 0.71], preset="thorough")])
    assert line(other, preset="mini")["seeds"] == "1 of 1"


def test_what_was_measured_stands_whatever_failed_in_its_row_and_seed() -> None:
    done = record(0.9, cell_id="new", provenance={"finished": 5.0})
    for when in (4.0, 6.0, None):
        found = {} if when is None else {"finished": when}
        failed = record(None, reason="boom", cell_id="old", provenance=found)
        for records in ([failed, done], [done, failed]):
            table = frame(records)
            assert (len(table), table["status"].iloc[0], table["top1_mean"].iloc[0]) == (1, "ok", 90.0)
    other = record(None, reason="boom", cell_id="old", source_params={"iterations": 3})
    assert len(frame([other, done])) == 2  # other parameters are another row, whatever its label


def test_rows_are_told_apart_by_their_id_and_never_by_what_was_measured() -> None:
    """Two rows of one label and one accuracy, told apart by their parameters alone."""
    one, other = (record(0.8, source_params={"iterations": k}, cell_id=str(k)) for k in (1, 2))
    table = frame([one, other])
    assert len(table) == 2
    assert table["row_id"].nunique() == 2
    assert list(table["top1_mean"]) == [80.0, 80.0]


def test_failed_cells_join_their_row_with_the_reason() -> None:
    records = [*seeds([0.8, 0.81]), record(None, seed=2, reason="out of memory", protocol_id=None)]
    row = frame(records).iloc[0]
    assert row["status"] == "failed"
    assert row["seeds"] == "2 of 3"
    assert row["reason"] == "seed 2: out of memory"
    assert pd.isna(row["top1_mean"])
    none = frame([record(None, status="not_applicable", reason="no BatchNorm")]).iloc[0]
    assert (none["status"], none["reason"], none["seeds"]) == ("not_applicable", "no BatchNorm", "0 of 1")
    gated = frame([record(None, seed=k, status="skipped", reason="fp_gate") for k in range(2)]).iloc[0]
    assert (gated["status"], gated["reason"]) == ("skipped", "fp_gate")


def test_a_second_try_replaces_a_failure_and_nothing_else_does() -> None:
    good, bad = record(0.8), record(None, reason="boom")
    for order in ([good, bad], [bad, good]):
        row = frame(order).iloc[0]
        assert (row["status"], row["top1_mean"]) == ("ok", 80.0)
    assert frame([record(0.7), record(0.8)]).iloc[0]["top1_mean"] == 80  # the later of two good ones


@pytest.mark.parametrize(
    "other",
    [
        {"protocol_id": "p2", "cell_id": "x"},
        {"test_digest": "t2", "cell_id": "x"},
        {"target_digest": "w2"},
        {"preset": "paper"},
        {"suite_version": 2},
        {"source_version": 2},
        {"compressor_version": 2},
        {"suite": "s2"},
        {"n": 128},
        {"source_params": {"lr": 1}, "cell_id": "x"},
        {"model_digests": ["z"], "cell_id": "x"},
    ],
)
def test_what_may_not_be_averaged_makes_its_own_row(other: dict[str, Any]) -> None:
    table = frame([record(0.8), record(0.6, **other)])
    assert sorted(table["top1_mean"]) == pytest.approx([60, 80])


def test_several_suites_stay_apart() -> None:
    table = frame([*seeds([0.8, 0.8, 0.8]), *twice(0.8, suite="t"), *twice(0.9, suite="t", source="kw")])
    assert set(table["suite"]) == {"s", "t"}
    assert line(table, suite="t", source="mixmix")["seeds"] == "2 of 2"
    assert line(table, suite="s")["rank"] == 1
    assert line(table, suite="t", source="mixmix")["rank"] == 2


def test_stale_rows_are_shown_and_not_ranked() -> None:
    old, new = twice(0.9, source_version=1), twice(0.8, source_version=2)
    versions = {("sources", "mixmix"): 2, ("compressors", "brecq"): 1}
    table = frame([*old, *new], versions=versions)
    assert list(table["stale"]) == [False, True]
    assert table.iloc[0]["rank"] == 1
    assert pd.isna(table.iloc[1]["rank"])
    assert table.iloc[1]["top1_mean"] == 90  # shown all the same
    assert frame(new, versions={("compressors", "brecq"): 2}).iloc[0]["stale"]
    assert not frame(new, versions={("sources", "unheard_of"): 9}).iloc[0]["stale"]


def test_rows_on_other_weights_are_stale() -> None:
    here = record(bits(0.9), target="resnet18_w10", dataset="fashion_mnist", target_digest="a" * 64)
    weights = ("networks", "fashion_mnist/resnet18_w10")
    assert list(frame([here], versions={weights: "a" * 64})["stale"]) == [False]
    assert list(frame([here], versions={weights: "b" * 64})["stale"]) == [True]
    assert list(frame([here], versions={("networks", "fashion_mnist/other"): "b" * 64})["stale"]) == [False]
    tuned = here.model_copy(update={"dataset": "fashion_mnist+held_out"})
    assert list(frame([tuned], versions={weights: "b" * 64})["stale"]) == [True]


def test_ranks_ties_controls_and_protocols() -> None:
    base = bits(0.8, 1)
    nearly = base.copy()
    nearly[np.flatnonzero(base)[0]] = False
    records = [
        *twice(base, source="a"),
        *twice(nearly, source="b"),
        *twice(0.6, source="c"),
        *twice(0.95, source="real", control="upper"),
        *twice(0.1, source="noise", control="lower"),
        *twice(0.99, source="a", setting_label="W8A8", protocol_id="p8"),
        *twice(0.5, source="a", target="vgg_w8", target_digest="w9"),
    ]
    table = frame(records)
    here = table[(table["target"] == "resnet18_w10") & (table["setting_label"] == "W4A4")].set_index("source")
    assert here.loc[["a", "b", "c"], "rank"].tolist() == [1, 1, 3]
    assert here.loc[["a", "b", "c"], "tied"].tolist() == [True, True, False]
    assert here.loc[["a", "b", "c"], "best"].tolist() == [True, False, False]
    assert here.loc[["real", "noise"], "rank"].isna().all()
    assert not here.loc[["real", "noise"], "best"].any()
    assert line(table, setting_label="W8A8")["rank"] == 1
    assert line(table, target="vgg_w8")["rank"] == 1
    assert list(here.index) == ["a", "b", "c", "real", "noise"]  # ranked first, then the controls


def test_records_without_bitmaps_get_a_rough_interval_and_no_rank() -> None:
    records = [_bare(record(0.8, seed=k)) for k in range(2)]
    row = frame(records).iloc[0]
    assert row["top1_mean"] == 80
    assert row["top1_low"] < 80 < row["top1_high"]
    assert pd.isna(row["rank"])


def _bare(made: ResultRecord) -> ResultRecord:
    return made.model_copy(update={"correct": None})


def test_shared_image_sets_are_counted() -> None:
    records = [record(0.8, target=t, synth_id="same") for t in ("a", "b", "c")] + [record(0.8, source="kw")]
    table = frame(records)
    assert table[table["source"] == "mixmix"]["image_set_rows"].tolist() == [3, 3, 3]
    assert line(table, source="kw")["image_set_rows"] == 1
    assert (table["synthesis_s"] == 10).all()  # charged in full to each


def test_a_set_that_serves_several_targets_is_amortised_beside_its_full_cost() -> None:
    spent = {"synthesis": StageCost(seconds=12, forward_equivalents=600, macs=3e9)}
    shared = [
        record(0.8, target=t, synth_id=f"set{k}", seed=k, setting_label=b, costs=spent)
        for t in ("a", "b", "c") for k in (0, 1) for b in ("W4A4", "W2A4")
    ]  # fmt: skip
    failed = [record(None, target="d", synth_id=f"set{k}", seed=k) for k in (0, 1)]
    others = [record(0.8, source=s, seed=k, **c) for s, c in (("kw", {"costs": spent}), ("old", {})) for k in (0, 1)]
    table = frame([*shared, *failed, *others])
    rows = table[(table["source"] == "mixmix") & (table["status"] == "ok")]
    assert set(rows["image_set_targets"]) == {3}  # a failed target shares nothing
    assert set(rows["synthesis_s"]) == {12}
    assert set(rows["synthesis_amortised_s"]) == {4}
    assert set(rows["synthesis_amortised_forwards"]) == {200}
    assert set(rows["synthesis_gmacs"]) == {3}
    assert set(rows["synthesis_amortised_gmacs"]) == {1}
    alone, old = line(table, source="kw"), line(table, source="old")
    assert alone["synthesis_amortised_s"] == alone["synthesis_s"] == 12
    assert old["synthesis_amortised_s"] == old["synthesis_s"] == 10
    assert pd.isna(old["synthesis_gmacs"])  # a record from before they were counted
    assert pd.isna(old["synthesis_amortised_gmacs"])


def test_one_seed_that_does_not_invert_its_network_flags_the_row() -> None:
    good, bad = gate(98), gate(50)
    records = [record(0.8, seed=k, source="kw", image_gate=gate) for k, gate in enumerate((good, bad))]
    records += [record(0.8, seed=k, source="di", image_gate=good) for k in (0, 1)]
    table = frame([*records, *(record(0.8, seed=k, source="noise") for k in (0, 1))])
    flagged = {name: line(table, source=name)["flagged"] for name in ("kw", "di")}
    assert flagged == {"kw": True, "di": False}
    kw, noise = line(table, source="kw"), line(table, source="noise")
    assert (kw["own_top1"], kw["own_bn_share"]) == (74, 0.25)
    assert pd.isna(noise["flagged"])
    assert pd.isna(noise["own_top1"])


def test_extra_metrics_become_columns() -> None:
    records = [record(0.8, metrics={"bn_loss_u1": 3.0}), record(0.8, source="kw")]
    table = frame(records, extra=["bn_loss_u1", "top1_mean"])
    assert line(table, source="mixmix")["bn_loss_u1"] == 3
    assert pd.isna(line(table, source="kw")["bn_loss_u1"])
    assert list(table.columns).count("top1_mean") == 1


def test_rows_keep_every_record() -> None:
    records = [
        *seeds([0.8, 0.7], protocol_id="p1"),
        record(0.6, seed=1, protocol_id="p2", cell_id="other"),
        record(None, seed=2, reason="x"),
        record(None, seed=0, reason="y", cell_id="odd"),
    ]
    kept = [r for row in make_rows(records) for r in row.records]
    assert sorted(r.cell_id for r in kept) == sorted(r.cell_id for r in records)


def test_standing_columns() -> None:
    base = bits(0.8, 1)
    nearly = base.copy()
    nearly[np.flatnonzero(base)[0]] = False
    records = [
        *twice(base, source="a"),
        *twice(nearly, source="b"),
        *twice(0.6, source="c"),
        *twice(0.99, source="a", suite_version=2),
        *twice(0.95, source="real", control="upper"),
    ]
    table = frame(records)
    old = table[table["suite_version"] == 1].set_index("source")
    assert old.loc[["a", "b", "c"], ["rank_low", "rank_high"]].to_numpy().tolist() == [[1, 2], [1, 2], [3, 3]]
    assert old.loc[["a", "b", "c"], "letters"].tolist() == ["a", "a", "b"]
    assert (old.loc[["a", "b", "c"], "mde"] > 0).all()
    assert old.loc["real", ["rank_low", "rank_high", "letters", "mde"]].isna().all()
    new = line(table, suite_version=2)  # another version of the suite is another board
    assert (new["rank"], new["rank_low"], new["rank_high"], new["letters"]) == (1, 1, 1, "a")
    assert pd.isna(new["mde"])  # nothing to compare with


def test_ranks_stay_within_one_compressor_and_others_change_no_tie() -> None:
    """78 % is no "1=" because of a compressor beside it, and no tie of another one."""
    mine = [*twice(0.80, source="a"), *twice(0.795, source="b"), *twice(0.70, source="c")]
    others = [r for k, s in enumerate("abcdefgh") for r in twice(0.95 - 0.01 * k, source=s, compressor="lsq")]
    keys = ["rank", "rank_low", "rank_high", "letters", "tied", "best_set", "mde", "top1_low", "top1_high", "lead"]
    alone = frame(mine).set_index("source")[keys]
    beside = frame([*mine, *others])
    pd.testing.assert_frame_equal(alone, beside[beside["compressor"] == "brecq"].set_index("source")[keys])
    assert set(beside.loc[beside["best"], "compressor"]) == {"brecq", "lsq"}
    whole = frame([*mine, *others], ranked={"s": "protocol"})
    assert whole.loc[whole["compressor"] == "brecq", "rank"].min() > 1
    assert set(whole.loc[whole["best"], "compressor"]) == {"lsq"}


def test_the_first_row_has_a_lead_and_the_best_set_holds_what_is_not_told_from_it() -> None:
    near = bits(0.8, 1)
    near[np.flatnonzero(near)[0]] = False
    table = frame([*twice(bits(0.8, 1), source="a"), *twice(near, source="b"), *twice(0.6, source="c")])
    rows = table.set_index("source")
    assert rows.loc[["a", "b", "c"], "best_set"].tolist() == [True, True, False]
    assert abs(rows.loc["a", "lead"]) < 0.11  # one image of a thousand, and no luck
    assert rows.loc[["b", "c"], "lead"].isna().all()
