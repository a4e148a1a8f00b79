"""Delta_B against its definition, its interval against images drawn anew, which networks are the denominator, costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtri

from bench.board.index.frame import frame
from bench.board.index.rows import make_rows
from bench.board.stats.moderation import Term, moderated
from bench.board.stats.paired import spread
from bench.board.tables.averages import row_interval
from bench.board.tables.report import report
from bench.board.tables.width_grids import DEFINITION, width_grids
from bench.board.tables.widths import alone_methods, delta_b, line_table, point_table, width_lines
from bench.spec.registry import Registry
from bench.store.bitmaps import unpack_bits
from bench.store.records import ResultRecord, StageCost
from tests import pick
from tests.board.make import IMAGES, bits, record

ALONE = pick.first("compressors", offers="alone")
pytestmark = pytest.mark.skipif(not ALONE, reason="no installed compressor trains each network alone")
B = ("W8A8", "W4A4", "W2A2")
COST = 1000.0


def network(
    correct: Any,
    width: str,
    compressor: str = "one",
    widths: Sequence[str] = B,
    *,
    zero_shot: bool = False,
    **more: Any,
) -> ResultRecord:
    """A network at this width of one training at ``widths``, whose job costs :data:`COST` passes."""
    seed = int(more.get("seed", 0))
    told = {"weights": "grid", "widths": list(widths), "zero_shot": zero_shot, "calibrated": zero_shot}
    given: dict[str, Any] = {
        "setting_label": width,
        "variant": f"{width} of W8A8",
        "protocol": told,
        "protocol_id": f"{compressor} {width}",
        "job_id": f"{compressor} {seed}",
        "costs": {"compress": StageCost(forward_equivalents=COST, cpu_seconds=COST / 10)},
    }
    return record(correct, compressor=compressor, **(given | more))


def alone(correct: Any, width: str, compressor: str = ALONE, **more: Any) -> ResultRecord:
    """A network trained at this width by itself, in one job with the others."""
    return network(correct, width, compressor, (width,), compressor_method=ALONE, **more)


def grid(own: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]], images: int = IMAGES) -> list[ResultRecord]:
    """Accuracies [seeds, widths] of one network, and of networks alone."""
    found = []
    for seed, (first, second) in enumerate(zip(own, theirs, strict=True)):
        for width, a, b in zip(B, first, second, strict=True):
            found += [network(bits(a, 3 + seed, images), width, seed=seed)]
            found += [alone(bits(b, 4 + seed, images), width, seed=seed)]
    return found


def table(records: Sequence[ResultRecord]) -> pd.DataFrame:
    return line_table(width_lines(records))


def of(records: Sequence[ResultRecord], compressor: str = "one") -> Any:
    found = table(records)
    found = found[found["compressor"] == compressor]
    assert len(found) == 1
    return found.iloc[0]


OWN = [[0.9, 0.8, 0.6], [0.92, 0.78, 0.5], [0.88, 0.82, 0.61]]
THEIRS = [[0.91, 0.85, 0.75], [0.9, 0.84, 0.7], [0.93, 0.83, 0.77]]


def test_the_denominator_is_what_says_so_of_itself() -> None:
    known = Registry("compressors")
    assert {name for name in known.names() if "alone" in known.get(name).offers} == alone_methods()
    assert 0 < len(alone_methods()) < len(known.names())


def test_delta_b_is_its_definition() -> None:
    row = of(grid(OWN, THEIRS))
    ratios = np.mean(OWN, axis=0) / np.mean(THEIRS, axis=0)
    assert row["delta_b"] == pytest.approx(100 * ratios.mean())
    assert row["delta_low"] < row["delta_b"] < row["delta_high"]
    assert (row["reference"], row["seeds"], row["widths"]) == (ALONE, "3 of 3", ", ".join(B))


def test_equal_networks_have_a_hundred() -> None:
    same = [network(bits(a), w) for w, a in zip(B, OWN[0], strict=True)]
    same += [alone(bits(a), w) for w, a in zip(B, OWN[0], strict=True)]
    row = of(same)
    assert row["delta_b"] == pytest.approx(100)
    assert row["delta_low"] < 100 < row["delta_high"]  # no proof of equality beyond the images there are


@pytest.mark.parametrize("seeds", [1, 3, 6])
def test_over_a_faultless_denominator_it_is_the_accuracy(seeds: int) -> None:
    records = []
    for seed in range(seeds):
        records += [network(bits(0.7 + 0.02 * (seed % 3), seed), "W8A8", widths=("W8A8",), seed=seed)]
        records += [alone(bits(1.0), "W8A8", seed=seed)]
    own, theirs = make_rows(records)
    found = delta_b([(own, theirs)])
    assert not isinstance(found, str)
    accuracy = np.stack([own.bitmaps[seed] for seed in range(seeds)])
    terms = [Term("own", 1.0, own.between), Term("theirs", -accuracy.mean(), theirs.between)]
    wanted = moderated(spread(100 * accuracy), terms)
    assert found.estimate == pytest.approx(wanted.estimate)
    assert found.interval() == pytest.approx(wanted.interval())
    whole = row_interval(own)
    assert whole is not None
    assert found.half_width() > 0.8 * (whole[1].high - whole[1].low) / 2


def test_its_variance_is_that_of_images_drawn_anew() -> None:
    images = 1000
    records = grid(OWN, THEIRS, images)
    rows = {(row.head.compressor, row.head.setting_label): row for row in make_rows(records)}
    found = delta_b([(rows["one", width], rows[ALONE, width]) for width in B])
    assert not isinstance(found, str)
    maps = {key: np.mean([row.bitmaps[seed] for seed in range(3)], axis=0) for key, row in rows.items()}
    rng = np.random.default_rng(5)
    drawn = []
    for _ in range(1500):
        picks = rng.integers(images, size=images)
        drawn.append(np.mean([100 * maps["one", w][picks].mean() / maps[ALONE, w][picks].mean() for w in B]))
    assert found.pooled_variance == pytest.approx(np.var(drawn), rel=0.15)


def test_pairing_by_image_narrows_the_interval() -> None:
    """The same accuracies with other images right are known less well."""
    widths = dict.fromkeys(B)
    paired = [make(bits(a, 1), w) for w in widths for make, a in ((network, 0.8), (alone, 0.82))]
    apart = [make(bits(a, i), w) for w in widths for i, (make, a) in enumerate(((network, 0.8), (alone, 0.82)))]
    rows = [of(records) for records in (paired, apart)]
    assert rows[0]["delta_b"] == pytest.approx(rows[1]["delta_b"])
    wide = [row["delta_high"] - row["delta_low"] for row in rows]
    assert wide[0] < wide[1]


def test_widths_that_were_not_trained_are_no_part_of_it() -> None:
    records = grid(OWN[:1], THEIRS[:1])
    more = [network(0.1, "W3A3", zero_shot=True), alone(0.9, "W3A3", zero_shot=True)]
    assert of([*records, *more])["delta_b"] == of(records)["delta_b"]
    points = point_table(width_lines([*records, *more]))
    own = points[points["compressor"] == "one"]
    assert list(own["bits"]) == [8, 4, 3, 2]
    assert list(own["zero_shot"]) == [False, False, True, False]
    assert own["top1_mean"].tolist() == pytest.approx([90, 80, 10, 60])


def test_of_several_the_one_of_the_same_protocol() -> None:
    def rows(compressor: str, grid_of: str, make: Any) -> list[ResultRecord]:
        found = []
        for width, a in zip(B, OWN[0], strict=True):
            made = make(a if make is network else a + 0.05, width, compressor)
            kept = made.protocol | {"weights": grid_of}
            found.append(made.model_copy(update={"protocol": kept}))
        return found

    theirs = [*rows("x(a)", "a", alone), *rows("x(b)", "b", alone)]
    assert of([*rows("one", "b", network), *theirs])["reference"] == "x(b)"
    row = of([*rows("one", "c", network), *theirs])
    assert pd.isna(row["delta_b"])
    assert row["reason"].endswith("equally near its protocol: x(a), x(b)")
    twice = [*rows("x(a)", "a", alone), *rows("x(c)", "a", alone)]
    assert "equally near its protocol" in of([*rows("one", "a", network), *twice])["reason"]
    only = of([*rows("one", "c", network), *rows("x(a)", "a", alone)])
    assert (only["reference"], only["reason"]) == ("x(a)", "protocols differ in weights")
    assert only["delta_b"] > 0


def test_without_all_there_is_none_and_why() -> None:
    records = grid(OWN, THEIRS)
    assert "no networks trained alone" in of([r for r in records if r.compressor == "one"])["reason"]
    lacking = [r for r in records if not (r.compressor == ALONE and r.setting_label == "W2A2")]
    assert of(lacking)["reason"] == "W2A2 is not measured on both sides"
    partial = [r for r in records if not (r.compressor == ALONE and r.setting_label == "W2A2" and r.seed == 2)]
    assert of(partial)["reason"] == f"{ALONE} W2A2: 2 of 3 seeds"
    other = [r.model_copy(update={"source": "kw"}) if r.compressor == ALONE else r for r in records]
    assert "no networks trained alone" in of(other)["reason"]  # on other images
    wrong = [network(0.5, w) for w in B] + [alone(np.zeros(IMAGES, bool), w) for w in B]
    assert "not shown to be right" in of(wrong)["reason"]
    for rows in (lacking, partial, wrong):
        assert pd.isna(of(rows)["delta_b"])


def test_stale_rows_take_no_part() -> None:
    records = grid(OWN, THEIRS)
    lines = width_lines(records, versions={("compressors", ALONE): 2})
    assert [line.alone for line in lines] == [False]


def test_a_job_counts_once_and_networks_alone_by_their_part() -> None:
    records = grid(OWN, THEIRS)
    records += [alone(0.9, "W6A6", seed=seed) for seed in range(3)]  # a fourth in each of their jobs
    row = of(records)
    assert row["passes"] == pytest.approx(COST)
    assert row["reference_passes"] == pytest.approx(COST * 3 / 4)
    assert row["reference_cpu_s"] == pytest.approx(COST * 3 / 40)
    assert of(records, ALONE)["passes"] == pytest.approx(COST)
    own_jobs = [r.model_copy(update={"job_id": r.cell_id}) if r.compressor == ALONE else r for r in records]
    assert of(own_jobs)["reference_passes"] == pytest.approx(3 * COST)


def test_the_board_prints_it_with_its_definition() -> None:
    records = grid(OWN, THEIRS)
    row = of(records)
    text = str(report(frame(records), "md", records=records))
    assert f"| {row['delta_b']:.2f} |" in text
    assert "sum over the bit-widths b in B" in text
    assert f'"delta_b": {row["delta_b"]}' in str(report(frame(records), "json", records=records))
    plain = [record(0.7, seed=seed) for seed in range(3)]
    assert "Delta_B" not in str(report(frame(plain), "md", records=plain))
    assert width_grids(table([r for r in records if r.compressor == "one"])) == []  # nothing to divide by
    (shown,) = width_grids(table(records))
    assert shown.notes[0] == DEFINITION


def test_bitmaps_are_read_as_they_are_stored() -> None:
    """The accuracies of a point are those of its records."""
    records = grid(OWN, THEIRS)
    points = point_table(width_lines(records))
    row: Any
    for row in points.itertuples():
        mine = [r for r in records if (r.compressor, r.setting_label) == (row.compressor, row.setting_label)]
        right = [unpack_bits(r.correct or "", r.test_count).mean() for r in mine]
        assert row.top1_mean == pytest.approx(100 * np.mean(right))
        assert row.top1_low < row.top1_mean < row.top1_high


OWN_TRUTH, THEIR_TRUTH = (0.9, 0.86, 0.75), (0.905, 0.87, 0.8)
BETWEEN = (0.012, 0.02, 0.063)
"""Of the latent ability between seeds: about what shipped rows of these accuracies vary by."""


def draw(rng: np.random.Generator, seeds: int, images: int = 800) -> list[ResultRecord]:
    """Answers of a probit model: images are hard for all networks, more so for some; seeds move each network."""
    hard, found = rng.normal(size=images), []
    for accuracies, make in ((OWN_TRUTH, network), (THEIR_TRUTH, alone)):
        for width, accuracy, between in zip(B, accuracies, BETWEEN, strict=True):
            own = (hard + 0.5 * rng.normal(size=images)) / np.sqrt(1.25)
            ability = ndtri(accuracy) * np.sqrt(2 + between**2)
            for seed in range(seeds):
                right = ability + between * rng.normal() + own + rng.normal(size=images) > 0
                found.append(make(right, width, seed=seed))
    return found


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_its_interval_holds_the_truth_about_as_often_as_it_says(seeds: int) -> None:
    """Here 92 to 100 % of 150 draws, whose standard error is two points."""
    truth = 100 * np.mean(np.array(OWN_TRUTH) / np.array(THEIR_TRUTH))
    rng, held, draws = np.random.default_rng(seeds), 0, 150
    for _ in range(draws):
        rows = {(row.head.compressor, row.head.setting_label): row for row in make_rows(draw(rng, seeds))}
        found = delta_b([(rows["one", width], rows[ALONE, width]) for width in B])
        assert not isinstance(found, str)
        low, high = found.interval()
        held += low <= truth <= high
    assert held / draws > 0.86
