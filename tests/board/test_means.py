"""The interval of a mean over targets: its number, that it covers, and when there is none."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t as student

from bench.board.index.frame import frame
from bench.board.tables.grids import line_dicts
from bench.board.tables.means import rows_by_key, target_mean
from bench.board.tables.pivots import pivot_grids
from bench.board.tables.report import to_markdown
from bench.store.records import ResultRecord

from .make import record, seeds

A, B = "resnet18_w10", "vgg_w8"


def _on(target: str, correct: np.ndarray | float, seed: int = 0, **fields: object) -> ResultRecord:
    same = {"target": target, "target_digest": target, "protocol_id": f"p-{target}"}
    return record(correct, seed=seed, **{**same, **fields})


def _found(records: list[ResultRecord]) -> tuple[tuple[float, float] | None, str]:
    parts = [frame([r for r in records if r.target == target]) for target in dict.fromkeys(r.target for r in records)]
    got = target_mean([line for part in parts for line in line_dicts(part)], rows_by_key(records))
    return got.interval, got.why


def test_one_seed_adds_what_seeds_of_such_rows_vary_by() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.random(500) < 0.8, rng.random(500) < 0.6
    records = [_on(A, first), _on(B, second)]
    found, _ = _found(records)
    each = 50.0 * (first.astype(float) + second)  # percent of the two targets that are right, per image
    seeds = [row.between for row in rows_by_key(records).values()]
    variance, degrees = sum(s.moderated for s in seeds) / 4, seeds[0].degrees
    half = np.sqrt(1.96**2 * each.var(ddof=1) / 500 + student.ppf(0.975, degrees) ** 2 * variance)
    assert found == pytest.approx((each.mean() - half, each.mean() + half), rel=1e-3)


def test_seeds_that_move_all_targets_together_widen_it() -> None:
    """Seed effects of 4 points, the same for both targets, nothing else random: two targets are no better than one."""
    images = np.arange(1000)
    shifts = (-0.04, 0.0, 0.04)
    records = [_on(t, images < 1000 * (0.7 + s), k) for t in (A, B) for k, s in enumerate(shifts)]
    found, _ = _found(records)
    assert found is not None
    alone, _ = _found([r for r in records if r.target == A])
    assert alone is not None
    other = (0.0, 0.04, -0.04)
    apart, _ = _found([*records[:3], *(_on(B, images < 1000 * (0.7 + s), k) for k, s in enumerate(other))])
    assert apart is not None
    assert found[1] - found[0] > 0.9 * (alone[1] - alone[0])
    assert apart[1] - apart[0] < 0.8 * (found[1] - found[0])


def test_it_covers() -> None:
    """Crossed effects of image and seed, shared by the targets in part: 95 % nominal."""
    rng, hit, runs = np.random.default_rng(1), 0, 150
    for _ in range(runs):
        image, seed = rng.normal(0, 0.25, 400), rng.normal(0, 0.03, 3)
        own = {t: rng.normal(0, 0.15, 400) for t in (A, B)}
        chance = {t: np.clip(0.6 + image + own[t] + seed[:, None], 0, 1) for t in (A, B)}
        records = [_on(t, rng.random(400) < chance[t][k], k) for t in (A, B) for k in range(3)]
        found, _ = _found(records)
        hit += found is not None and found[0] <= TRUTH <= found[1]
    assert 0.90 <= hit / runs <= 1.0


def _truth() -> float:
    rng = np.random.default_rng(0)
    draws = 0.6 + rng.normal(0, 0.25, 10**6) + rng.normal(0, 0.15, 10**6) + rng.normal(0, 0.03, 10**6)
    return 100 * float(np.clip(draws, 0, 1).mean())


TRUTH = _truth()


def test_no_interval_without_common_seeds_images_or_bitmaps() -> None:
    both = [_on(A, 0.7), _on(A, 0.7, 1), _on(B, 0.6), _on(B, 0.6, 1)]
    assert _found(both)[0] is not None
    assert _found([*both[:2], _on(B, 0.6, 2), _on(B, 0.6, 3)])[1].endswith("with the same seeds")
    assert _found([*both[:2], _on(B, 0.6, test_digest="t2"), _on(B, 0.6, 1, test_digest="t2")])[1].endswith("images")
    bare = [r.model_copy(update={"correct": None}) if r.target == B else r for r in both]
    assert _found(bare)[0] is None
    table = line_dicts(frame(both))
    assert target_mean(table, rows_by_key(both[:2])).interval is None  # records of one target only


def test_a_printed_mean_bears_half_of_it() -> None:
    records = [*seeds([0.7, 0.72], target=A, target_digest=A), *seeds([0.6, 0.61], target=B, target_digest=B)]
    (grid,) = pivot_grids(frame(records), rows=rows_by_key(records))
    low, high = _found(records)[0] or (0, 0)
    line = next(row for row in grid.rows if row[0].text == "mixmix")
    assert (line[-1].text, line[-1].half) == ("65.75", f"{(high - low) / 2:.2f}")
    assert f"65.75 ± {(high - low) / 2:.2f}" in to_markdown([grid])
    assert pivot_grids(frame(records))[0].rows[-1][-1].half == ""
