"""Recovered share against Fieller's closed form and simulation; means over targets that hide no gap."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from bench.board.index.frame import frame
from bench.board.stats.paired import paired_difference
from bench.board.tables.scores import method_names, recovered_share, target_scores

from .make import bits, record, seeds


def _three(rng: np.random.Generator, count: int, images: int, chances: tuple[float, float, float]) -> list[Any]:
    """Row, noise, real: one difficulty per image, correct when a row's reach exceeds it."""
    easy = rng.random(images)
    jitter = rng.normal(0, 0.01, (3, count, 1))
    flips = rng.random((3, count, images)) < 0.02
    tables = (easy[None, None] < np.array(chances)[:, None, None] + jitter) ^ flips
    return [dict(enumerate(table)) for table in tables]


def test_one_seed_is_fiellers_theorem() -> None:
    row, noise, real = _three(np.random.default_rng(0), 1, 3000, (0.7, 0.4, 0.8))
    x = row[0].astype(float) - noise[0]
    y = real[0].astype(float) - noise[0]
    z = scipy_stats.norm.ppf(0.975)
    covariance = np.cov(x, y) / 3000
    a = y.mean() ** 2 - z * z * covariance[1, 1]
    b = x.mean() * y.mean() - z * z * covariance[0, 1]
    c = x.mean() ** 2 - z * z * covariance[0, 0]
    root = math.sqrt(b * b - a * c)
    found = recovered_share(row, noise, real)
    assert found is not None
    assert found.value == pytest.approx(100 * x.mean() / y.mean())
    assert (found.low, found.high) == pytest.approx((100 * (b - root) / a, 100 * (b + root) / a))


@pytest.mark.parametrize("count", [2, 3, 4, 6])
def test_the_ends_are_where_the_difference_stops_being_significant(count: int) -> None:
    rng = np.random.default_rng(count)
    row, noise, real = (
        {s: bits ^ (rng.random(2000) < 0.15) for s, bits in side.items()} for side in _sides(rng, count)
    )
    found = recovered_share(row, noise, real)
    assert found is not None
    x, y = (np.stack([side[s].astype(float) - noise[s] for s in range(count)]) for side in (row, real))
    arm = max(paired_difference(x, found.value / 100 * y).shape)
    for end, inner in ((found.low, 0.001), (found.high, -0.001)):
        inside, outside = (
            replace(paired_difference(x, (end / 100 + step) * y), shape=(arm, arm)).interval()
            for step in (inner, -inner)
        )
        assert inside.low <= 0 <= inside.high
        assert not outside.low <= 0 <= outside.high


def _sides(rng: np.random.Generator, count: int) -> list[Any]:
    return _three(rng, count, 2000, (0.72, 0.4, 0.8))


@pytest.mark.parametrize("count", [3, 5])
def test_coverage_of_the_share(count: int) -> None:
    rng = np.random.default_rng(3)
    hits, trials = 0, 500
    for _ in range(trials):
        found = recovered_share(*_three(rng, count, 500, (0.7, 0.4, 0.8)))
        assert found is not None
        hits += found.low <= 75 <= found.high
    assert 0.92 <= hits / trials <= 0.985  # one standard error is 1 point


def test_undefined_where_real_images_do_not_beat_noise() -> None:
    row, noise, _ = _three(np.random.default_rng(1), 3, 2000, (0.7, 0.4, 0.8))
    assert recovered_share(row, noise, noise) is None
    assert recovered_share(row, noise, {9: row[0]}) is None  # no common seed
    close = {s: noise[s].copy() for s in noise}
    for s in close:
        close[s][:3] = True
    assert recovered_share(row, noise, close) is None
    assert recovered_share(noise, row, noise) is None  # noise better than real
    same = recovered_share(row, noise, row)
    assert same is not None
    assert (same.value, same.low, same.high) == pytest.approx((100, 100, 100), abs=0.5)


def _controls(**fields: Any) -> list[Any]:
    return [
        *seeds([0.9, 0.9], source="real", control="upper", **fields),
        *seeds([0.5, 0.52], source="noise", control="lower", **fields),
    ]


def test_the_frame_takes_the_controls_of_the_same_cell() -> None:
    records = [
        *seeds([0.8, 0.81]),
        *_controls(),
        *seeds([0.7, 0.7], n=64),  # no control at this count
        *seeds([0.8, 0.8], setting_label="W8A8", protocol_id="p8"),
        *_controls(setting_label="W8A8", protocol_id="p8", target="other"),
    ]
    table = frame(records)
    own = table[(table["source"] == "mixmix") & (table["n"] == 256) & (table["setting_label"] == "W4A4")].iloc[0]
    assert own["recovered"] == pytest.approx(100 * (80.5 - 51) / (90 - 51))
    assert own["recovered_low"] < own["recovered"] < own["recovered_high"]
    rest = table.drop(own.name)
    assert rest["recovered"].isna().all()  # controls, other counts, other targets


def test_two_controls_or_a_stale_one_leave_it_blank() -> None:
    twice = [*seeds([0.8, 0.81]), *_controls(), *seeds([0.9, 0.9], source="real(k=2)", control="upper")]
    assert frame(twice)["recovered"].isna().all()
    versions = {("sources", "real"): 2}
    assert frame([*seeds([0.8, 0.81]), *_controls()], versions=versions)["recovered"].isna().all()


def _cross() -> pd.DataFrame:
    records = []
    for k, target in enumerate(("a", "b")):
        where = {"target": target, "target_digest": target, "protocol_id": f"p{k}"}
        records += [
            record(0.8 - 0.1 * k, source="zeroq", model=target, **where),
            record(0.6, source="kw", model="a", **where),
            record(0.7, source="mixmix", model="zoo:full", **where),
            record(bits(0.9, 1), source="real", control="upper", **where),
        ]
    lacking = {"target": "a", "target_digest": "a", "protocol_id": "p0"}
    records.append(record(0.5, source="kw", model="b", **lacking))
    records.append(record(None, source="kw", model="b", target="b", target_digest="b", reason="x"))
    return frame(records)


def test_a_method_is_its_source_and_the_network_of_its_images() -> None:
    assert set(method_names(_cross())) == {"zeroq [self]", "kw [a]", "kw [b]", "mixmix [zoo:full]", "real"}


def test_targets_by_methods() -> None:
    grids = target_scores(_cross())
    ((key, grid),) = grids.items()
    assert key == ("s", 1, "d", "mini", "brecq", 256, "W4A4")
    assert list(grid.index) == ["a", "b"]
    assert grid.loc["b", "zeroq [self]"] == 70
    assert pd.isna(grid.loc["b", "kw [b]"])
    # bits split a board where a target has several, and not where each target has its own
    several = frame([record(0.8), record(0.9, setting_label="W8A8", protocol_id="p8")])
    assert sorted(str(key[-1]) for key in target_scores(several)) == ["W4A4", "W8A8"]
    own = frame([record(0.8), record(0.9, setting_label="W4A8", protocol_id="p8", target="b", target_digest="b")])
    assert [k[-1] for k in target_scores(own)] in (["W4A4 | W4A8"], ["W4A8 | W4A4"])
    # the same cell under two protocols has no one value
    two = frame([record(0.8), record(0.9, protocol_id="p8", cell_id="x")])
    assert target_scores(two).popitem()[1].isna().all(axis=None)
