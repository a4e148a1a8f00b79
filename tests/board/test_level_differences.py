"""Differences of levels: those of a claim of the same words, and nothing paired that differs in more than the axis."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from bench.board.claims.judging import judge
from bench.board.index.rows import make_rows
from bench.board.tables.level_differences import ITSELF, LevelDifference, level_differences
from bench.store.records import ResultRecord
from tests.board.make import paired_rows, record

Key = tuple[str, str, str]


def by_level(records: list[ResultRecord]) -> dict[Key, LevelDifference]:
    """(axis, level, setting) → its line."""
    found = {(str(line.axis), line.level, line.setting): line for line in level_differences(make_rows(records))}
    assert found
    return found


def grid(**common: Any) -> list[ResultRecord]:
    """Two parameters of one source, crossed, on two networks with three seeds; the preset's own is mix=3, x=true."""
    records = []
    for key, (mix, x, target) in enumerate(product((1, 2, 3), (True, False), ("t1", "t2"))):
        changes = {**({} if mix == 3 else {"mix": mix}), **({} if x else {"x": False})}
        inside = ", ".join(f"{k}={str(v).lower()}" for k, v in changes.items())
        label = f"m({inside})" if inside else "m"
        mean = 0.6 + 0.03 * mix - (0.01 if x else 0.0)
        (row,) = paired_rows([mean], seeds=3, key=key)
        for seed, bitmap in row.items():
            named = {"source": label, "target": target, "target_digest": target, "source_changes": changes}
            params = {"mix": mix, "x": x}
            records.append(record(bitmap, seed=seed, **named, source_params=params, **common))
    return records


def test_a_level_is_what_a_claim_of_the_same_words_says() -> None:
    records = grid()
    line = by_level(records)["mix of m", "1", "W4A4"]
    assert (line.reference, line.pairs, line.seeds) == ("3", 4, 3)
    claims = [
        {"says": "c", "better": {"source": [a]}, "worse": {"source": [b]}, "by": ["target"]}
        for a, b in (("m(mix=1)", "m"), ("m(mix=1, x=false)", "m(x=false)"))
    ]
    halves = judge(claims, records)
    assert line.difference == pytest.approx(np.mean([half.difference for half in halves if half.difference]))
    alone = [r for r in records if r.source in ("m", "m(mix=1)")]
    only = by_level(alone)["mix of m", "1", "W4A4"]
    (claim,) = judge(claims[:1], alone)
    assert (only.difference, only.low, only.high) == (claim.difference, claim.low, claim.high)


def test_the_reference_is_the_presets_own_and_has_no_line() -> None:
    found = by_level(grid())
    assert {(axis, level) for axis, level, _ in found} == {("mix of m", "1"), ("mix of m", "2"), ("x of m", "false")}
    assert found["x of m", "false", "W4A4"].reference == "true"
    assert found["x of m", "false", "W4A4"].pairs == 6


def test_images_from_another_network_are_set_against_those_from_the_network_itself() -> None:
    records = []
    for model, target in product(("t1", "t2", "t3"), repeat=2):
        for seed in (0, 1, 2):
            named = {"source": "kw", "model": model, "target": target, "target_digest": target}
            records.append(record(0.9 if model == target else 0.8, seed=seed, **named))
    found = by_level(records)
    assert {key[1] for key in found} == {"t1", "t2", "t3"}
    assert {(line.reference, line.pairs) for line in found.values()} == {(ITSELF, 2)}
    assert [line.difference for line in found.values()] == pytest.approx([-10.0] * 3)
    assert all(line.told_apart for line in found.values())


def test_two_compressors_are_paired_at_equal_options() -> None:
    records = []
    for method, option in product(("p", "q"), (1, 2)):
        label = method if option == 1 else f"{method}(k={option})"
        changes = {} if option == 1 else {"k": option}
        accuracy = {("p", 1): 0.8, ("p", 2): 0.9, ("q", 1): 0.7, ("q", 2): 0.6}[method, option]
        for seed in (0, 1, 2):
            records.append(
                record(
                    accuracy,
                    seed=seed,
                    compressor=label,
                    compressor_changes=changes,
                    compressor_params={"k": option},
                    protocol_id=f"{method}",
                )
            )
    line = by_level(records)["compressor", "q", "W4A4"]
    assert (line.pairs, line.difference) == (2, pytest.approx((-10 - 30) / 2))
    assert by_level(records)["k of p", "2", "W4A4"].difference == pytest.approx(10.0)


def test_a_missing_seed_leaves_the_level_blank_with_its_reason() -> None:
    records = [r for r in grid() if not (r.source == "m(mix=1)" and r.target == "t1" and r.seed == 2)]
    line = by_level(records)["mix of m", "1", "W4A4"]
    assert line.difference is None
    assert "not complete" in line.why
    assert by_level(records)["mix of m", "2", "W4A4"].difference is not None


def test_rows_of_unlike_versions_are_no_pair() -> None:
    records = [r.model_copy(update={"source_version": 2}) if r.source == "m" else r for r in grid()]
    line = by_level(records)["mix of m", "1", "W4A4"]
    assert line.difference is None
    assert "other versions" in line.why


def test_sources_and_networks_alone_are_no_axis() -> None:
    records = [record(0.8, source=s, target=t, target_digest=t) for s in ("a", "b") for t in ("t1", "t2")]
    assert level_differences(make_rows(records)) == []
