"""Dynamic rows on the board: means and intervals by hand, and the comparison at equal mean bit operations."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from bench.board.index.frame import frame
from bench.board.tables.dynamic import FULL, correlation_interval, dynamic_grids, dynamic_table, equal_table
from bench.board.tables.grids import missing
from bench.board.tables.report import report, to_markdown
from bench.store.image_bits import ImageBits, pack_floats, unpack_floats
from bench.store.records import ResultRecord
from tests.board.make import IMAGES, bits, record

MACS = 1e9
LEAST, MOST = 14.0, 22.0  # 1e9 bit operations: 2 of what never changes, 4 weight bits x 3 to 5 input bits of the rest


def dynamic(accuracy: float, seed: int = 0, up: float = 0.5, **fields: Any) -> ResultRecord:
    """A row of which a share ``up`` of the images, the harder ones among them, takes 5 bits and the rest 3."""
    rng = np.random.default_rng(seed)
    hard = rng.random(IMAGES)
    noisy = hard + 0.3 * rng.standard_normal(IMAGES)
    inputs = np.where(noisy > np.quantile(noisy, 1 - up), 5.0, 3.0) if up else np.full(IMAGES, 3.0)
    return of_images(accuracy, 2 + 4 * inputs, hard, seed, **fields)


def of_images(accuracy: float, values: np.ndarray, hard: np.ndarray, seed: int, **fields: Any) -> ResultRecord:
    limits = {"least_g": LEAST, "most_g": MOST} | fields.pop("limits", {})
    each = ImageBits(
        bitops_g=pack_floats(values), difficulty=pack_floats(hard), fixed_g=2, unit_g=4, squared=False, **limits
    )
    related = spearmanr(values, hard).statistic if np.ptp(values) else None
    metrics = {"bitops_g": float(values.mean()), "macs": MACS, "bits_difficulty": related}
    given = {"compressor": "moving", "seed": seed, "metrics": metrics, "image_bits": each} | fields
    return record(bits(accuracy, seed=seed), **given)


def static(accuracy: float, cost: float, seed: int = 0, **fields: Any) -> ResultRecord:
    return record(bits(accuracy, seed=seed), seed=seed, metrics={"bitops_g": cost, "macs": MACS}, **fields)


def test_means_and_intervals_by_hand() -> None:
    found = dynamic(0.8)
    (row,) = dynamic_table([found, static(0.7, 18.0)]).to_dict("records")
    assert found.image_bits is not None
    values = unpack_floats(found.image_bits.bitops_g, IMAGES)
    half = 1.959964 * values.std(ddof=1) / math.sqrt(IMAGES)
    assert row["bitops_g_mean"] == pytest.approx(18.0)
    assert (row["bitops_g_low"], row["bitops_g_high"]) == pytest.approx((18 - half, 18 + half))
    assert row["bitflops_mean"] == pytest.approx(100 * 18.0 / FULL)
    assert (row["bits_mean"], row["bits_least"], row["bits_most"]) == pytest.approx((4.0, 3.0, 5.0))
    assert (row["bits_low"], row["bits_high"]) == pytest.approx((4 - half / 4, 4 + half / 4))
    assert row["correlation_mean"] == pytest.approx(found.metrics["bits_difficulty"])
    assert row["correlation_low"] < row["correlation_mean"] < row["correlation_high"]
    assert row["top1_mean"] == pytest.approx(80.0)
    assert (row["seeds"], row["stale"]) == ("1 of 1", False)


def test_seeds_widen_the_interval_and_a_missing_one_leaves_blanks() -> None:
    three = [dynamic(0.8, seed, up) for seed, up in enumerate((0.4, 0.5, 0.6))]
    (row,) = dynamic_table(three).to_dict("records")
    assert row["bits_mean"] == pytest.approx(4.0)
    alone = dynamic_table(three[1:2]).to_dict("records")[0]
    assert row["bits_high"] - row["bits_low"] > 3 * (alone["bits_high"] - alone["bits_low"])
    (part,) = dynamic_table(three[:2], seeds={"s": [0, 1, 2]}).to_dict("records")
    assert part["seeds"] == "2 of 3"
    assert all(missing(part[f"{name}_mean"]) for name in ("bits", "bitops_g", "correlation", "top1"))


def test_a_mean_correlation_is_formed_on_fishers_scale() -> None:
    mean, ends = correlation_interval([0.4], 2000)
    se = math.sqrt((1 + 0.4**2 / 2) / 1997)
    assert mean == pytest.approx(0.4)
    assert (math.atanh(ends.low), math.atanh(ends.high)) == pytest.approx(
        (math.atanh(0.4) - 1.959964 * se, math.atanh(0.4) + 1.959964 * se)
    )
    mean, wide = correlation_interval([0.3, 0.4, 0.5], 2000)
    assert mean == pytest.approx(math.tanh(np.mean(np.arctanh([0.3, 0.4, 0.5]))))
    assert wide.high - wide.low > 4 * (ends.high - ends.low)
    for values in ([1.0], [-1.0, -1.0]):
        mean, ends = correlation_interval(values, 10)
        assert -1 <= ends.low <= mean <= ends.high <= 1
    for values, images in (([], 10), ([0.1], 3)):
        with pytest.raises(ValueError):
            correlation_interval(values, images)


def test_the_interval_of_a_correlation_covers() -> None:
    """Spearman's correlation of a bivariate normal of Pearson's 0.6 is 6/pi asin(0.3) = 0.582."""
    rng, truth, inside = np.random.default_rng(5), 6 / math.pi * math.asin(0.3), 0
    for _ in range(400):
        x, y = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 200).T
        _, ends = correlation_interval([float(spearmanr(x, y).statistic)], 200)
        inside += ends.low <= truth <= ends.high
    assert 0.92 <= inside / 400 <= 0.98


def test_accuracy_at_equal_bit_operations_is_on_the_line_between() -> None:
    rows = [dynamic(0.80, seed) for seed in range(3)]
    for seed in range(3):
        rows += [static(0.70, 14.0, seed, setting_label="W4A3"), static(0.78, 22.0, seed, setting_label="W4A5")]
        rows += [static(0.95, 18.0, seed, setting_label="W8A4"), static(0.96, 18.0, seed, source="other")]
    (row,) = equal_table(rows).to_dict("records")
    assert (row["compressor"], row["static"], row["between"]) == ("moving", "brecq", "brecq W4A3 | brecq W4A5")
    assert row["static_top1"] == pytest.approx(74.0)
    assert row["gain"] == pytest.approx(6.0)
    assert row["gain_low"] < 6 < row["gain_high"]
    assert row["bitflops_mean"] == pytest.approx(100 * 18 / FULL)
    quarter = [one for one in rows if one.compressor != "moving"] + [dynamic(0.8, seed, 0.25) for seed in range(3)]
    (row,) = equal_table(quarter).to_dict("records")
    assert row["static_top1"] == pytest.approx(0.75 * 70 + 0.25 * 78)


def test_costs_are_those_of_the_seeds_all_have() -> None:
    """A seed that one row has beyond the others' moves neither its accuracy there nor its cost."""
    rows = [dynamic(0.80, seed) for seed in range(2)]
    for seed in range(2):
        rows += [static(0.70, 14.0, seed, setting_label="W4A3"), static(0.78, 22.0, seed, setting_label="W4A5")]
    (plain,) = equal_table(rows).to_dict("records")
    for more in (dynamic(0.1, 2, 0.9), static(0.9, 17.9, 2, setting_label="W4A3")):
        (row,) = equal_table([*rows, more], seeds={"s": [0, 1]}).to_dict("records")
        assert row == plain
    assert (plain["seeds"], plain["bitflops_mean"]) == ("2", pytest.approx(100 * 18 / FULL))


def test_the_difference_is_paired_by_image() -> None:
    """A dynamic row that answers as its static counterpart does differs from it nowhere."""
    rows = [dynamic(0.8, seed) for seed in range(3)] + [static(0.8, 18.0, seed) for seed in range(3)]
    (row,) = equal_table(rows).to_dict("records")
    assert row["gain"] == 0
    unpaired = 2 * 1.959964 * math.sqrt(2 * 0.8 * 0.2 / IMAGES) * 100
    assert row["gain_high"] - row["gain_low"] < 0.6 * unpaired


def test_one_candidate_is_static_and_the_nearest_row_serves_at_the_end() -> None:
    one = [
        of_images(
            0.75,
            np.full(IMAGES, 18.0),
            np.random.default_rng(0).random(IMAGES),
            seed,
            compressor="moving(one)",
            compressor_method="moving",
            limits={"least_g": 18.0, "most_g": 18.0},
        )
        for seed in range(2)
    ]
    near = [dynamic(0.8, seed, 0.505) for seed in range(2)]
    (row,) = equal_table([*one, *near]).to_dict("records")
    assert (row["compressor"], row["static"], row["between"]) == ("moving", "moving", "moving(one) W4A4")
    assert row["static_top1"] == pytest.approx(75.0)
    assert missing(row["gain_low"])  # two seeds
    assert equal_table([*one, *(dynamic(0.8, seed, 0.7) for seed in range(2))]).empty
    (first, second) = dynamic_table([*one, *near]).to_dict("records")
    assert missing(first["correlation_mean"])
    assert (first["bits_least"], first["bits_most"]) == (4, 4)
    assert second["compressor"] == "moving"


def test_a_searched_or_unfinished_row_is_no_static_counterpart() -> None:
    rows = [dynamic(0.8, seed) for seed in range(2)]
    searched = [static(0.8, 18.0, seed, policy="found") for seed in range(2)]
    assert equal_table([*rows, *searched]).empty
    assert equal_table([*rows, static(0.8, 18.0, 0)]).empty


def test_every_form_of_the_board_says_it() -> None:
    rows = [dynamic(0.8, seed) for seed in range(3)]
    rows += [static(v, c, seed) for seed in range(3) for v, c in ((0.7, 18.0),)]
    table = frame(rows)
    text = str(report(table, "md", records=rows))
    assert "bits per image" in text
    assert "dynamic against static at equal mean bit operations" in text
    assert "4.00 \\[" in text or "4.00 [" in text
    assert "bits per image" in str(report(table, "latex", records=rows))
    found = json.loads(str(report(table, "json", records=rows)))["dynamic"]
    assert found["rows"][0]["bits_mean"] == pytest.approx(4.0)
    assert found["against_static"][0]["gain"] == pytest.approx(10.0)
    plain = [one for one in rows if one.image_bits is None]
    assert "dynamic" not in json.loads(str(report(frame(plain), "json", records=plain)))
    assert "bits per image" not in str(report(frame(plain), "md", records=plain))
    assert to_markdown(dynamic_grids(dynamic_table(plain), equal_table(plain))).strip() == ""
