"""Searches beside equal bits: which row is the control, paired gains against numpy, intervals, costs in epochs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench.board.tables.searches import COLUMNS, controls, epoch_of, epochs, equal_bits, search_table
from bench.spec.registry import Registry
from bench.store.records import ResultRecord, StageCost
from tests.board.make import bits, record

NAMES = ("name", "weight_bits", "activation_bits")
EQUAL = ((8, 8), (4, 4), (4, 8), (8, 8))
MIXED = ((8, 8), (2, 6), (4, 4), (8, 8))


def found(
    correct: Any, policy: str, *, method: str = "seam", layers: Any = MIXED, spent: float = 600.0, **fields: Any
) -> ResultRecord:
    """A record of searched bits."""
    listed = [dict(zip(NAMES, (f"l{i}", *pair), strict=True)) for i, pair in enumerate(layers)]
    search = {"search": StageCost(forward_equivalents=spent, cpu_seconds=spent / 100)}
    given: dict[str, Any] = {"report": {"layers": listed, "search": {"images": 100}}, "costs": search}
    return record(correct, policy=policy, policy_method=method, policy_version=1, **(given | fields))


def control(correct: Any, **fields: Any) -> ResultRecord:
    return found(correct, "same", method="uniform", layers=EQUAL, spent=0.0, **fields)


def of(table: Any, policy: str, **where: Any) -> Any:
    rows = table[table["policy"] == policy]
    for name, value in where.items():
        rows = rows[rows[name] == value]
    assert len(rows) == 1
    return rows.iloc[0]


def test_controls_are_those_that_say_so() -> None:
    known = Registry("policies")
    assert 0 < len(controls()) < len(known.names())
    assert all(known.get(name).control == (name in controls()) for name in known.names())


def test_equal_bits_are_the_settings_and_those_of_the_ends() -> None:
    assert equal_bits(found(0.5, "a", layers=EQUAL))
    assert not equal_bits(found(0.5, "a", layers=MIXED))
    assert not equal_bits(found(0.5, "a", layers=()))
    assert not equal_bits(record(0.5))
    assert not equal_bits(found(0.5, "a", layers=((None, 4),), setting={"weight_bits": 4, "act_bits": 4}))
    other = {"weight_bits": 4, "act_bits": 4, "first_last_bits": 5}
    assert equal_bits(found(0.5, "a", layers=((5, 5), (4, 4)), setting=other))


def test_a_control_of_drawn_bits_and_a_search_that_found_equal_ones_are_no_reference() -> None:
    rows = [
        found(0.7, "drawn", method="random"),
        found(0.8, "search", layers=EQUAL),
        found(0.6, "unknown", method="no such search", layers=EQUAL),
    ]
    table = search_table(rows)
    assert list(table["control"]) == [True, False, False]
    assert not table["equal"].any()
    assert table["gain"].isna().all()
    assert of(search_table([*rows, control(0.65)]), "same")["equal"]


def test_gains_are_paired_by_seed_and_image() -> None:
    accuracies = {"same": [0.5, 0.6, 0.7], "search": [0.55, 0.62, 0.69]}
    maps = {name: [bits(a, seed=i) for i, a in enumerate(own)] for name, own in accuracies.items()}
    records = [control(maps["same"][s], seed=s) for s in range(3)]
    records += [found(maps["search"][s], "search", seed=s) for s in (2, 0, 1)]
    row = of(search_table(records), "search")
    differences = [100 * (maps["search"][s].mean() - maps["same"][s].mean()) for s in range(3)]
    assert row["gain"] == pytest.approx(np.mean(differences))
    assert row["gain_low"] < row["gain"] < row["gain_high"]
    # wider than the images' part alone, which Student's three seeds cannot undercut
    paired = np.mean([maps["search"][s].astype(float) - maps["same"][s] for s in range(3)], axis=0)
    images = 100 * paired.std(ddof=1) / np.sqrt(len(paired))
    assert row["gain_high"] - row["gain"] > 1.9 * images
    same = of(search_table(records), "same")
    assert same["gain"] == 0
    assert same[["gain_low", "gain_high"]].isna().all()


def test_fewer_than_three_seeds_have_no_interval() -> None:
    table = search_table([maker for s in (0, 1) for maker in (control(0.5, seed=s), found(0.6, "search", seed=s))])
    row = of(table, "search")
    assert row["gain"] == pytest.approx(10)
    assert row[["gain_low", "gain_high"]].isna().all()
    assert not row[["top1_low", "top1_high"]].isna().any()


def test_only_like_is_compared_with_like() -> None:
    """Another source, network, compressor, setting or test set has no part in a gain."""
    for field in ("source", "model", "target", "compressor", "setting_label", "test_digest", "preset", "target_digest"):
        other = {field: "W3A3" if field == "setting_label" else "other", "setting": {"weight_bits": 4, "act_bits": 4}}
        table = search_table([control(0.5, **other), found(0.6, "search")])
        assert of(table, "same")["equal"], field
        assert table[table["policy"] == "search"]["gain"].isna().all(), field
    assert of(search_table([control(0.5), found(0.6, "search")]), "search")["gain"] == pytest.approx(10)


def test_a_row_that_lacks_a_seed_has_no_mean_and_no_gain() -> None:
    records = [control(0.5, seed=s) for s in (0, 1, 2)] + [found(0.6, "search", seed=s) for s in (0, 1)]
    row = of(search_table(records), "search")
    assert row["seeds"] == "2 of 3"
    assert row[["top1_mean", "gain", "bitops_g", "bitops_ratio"]].isna().all()


def test_a_stale_row_has_no_gain_and_is_no_reference() -> None:
    records = [control(0.5), found(0.6, "search")]
    for stale in ("uniform", "seam"):
        table = search_table(records, versions={("policies", stale): 2})
        assert list(table["stale"]) == [stale == "uniform", stale == "seam"]
        assert table[table["policy"] == "search"]["gain"].isna().all()


def test_the_ratio_of_bitops_is_beside_the_gain() -> None:
    dear = found(0.6, "search", metrics={"bitops_g": 1.875})
    row = of(search_table([control(0.5), dear]), "search")
    assert row["bitops_ratio"] == pytest.approx(1.25)


def test_costs_are_means_over_the_seeds_in_epochs_of_the_most_images() -> None:
    records = [control(0.5, seed=s) for s in (0, 1)]
    records += [found(0.6, "search", seed=s, spent=1000.0 + 200 * s) for s in (0, 1)]
    few: dict[str, Any] = {"report": {"layers": [], "search": {"images": 20}}}
    records += [found(0.6, "few", seed=s, spent=400.0, **few) for s in (0, 1)]
    table = search_table(records)
    row = of(table, "search")
    assert (row["search_forwards"], row["search_cpu_s"], row["search_images"]) == (1100, 11, 100)
    assert epoch_of(table) == 100
    told = epochs(table["search_forwards"], 100)
    # an epoch of 100 images is 100 forwards and 100 backwards
    assert dict(zip(table["policy"], told, strict=True)) == {"same": 0, "search": 5.5, "few": 2}
    assert epoch_of(table[table["policy"] == "same"]) == 0
    assert epochs(table["search_forwards"], 0).isna().all()


def test_what_a_record_does_not_say_is_missing() -> None:
    bare = record(0.6, policy="bare", policy_method="seam", report={}, costs={})
    row = of(search_table([bare, record(0.7), record(None, policy="failed")]), "bare")
    assert row[["search_forwards", "search_cpu_s", "search_images", "gain"]].isna().all()


def test_without_searches_the_table_is_empty_and_typed() -> None:
    table = search_table([record(0.5)])
    assert table.empty
    assert list(table.columns) == list(COLUMNS)
    assert epoch_of(table) == 0
