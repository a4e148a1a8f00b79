"""How far a second run may lie from the first: against Student's quantile, and by simulation of honest and forged
cells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from bench.board.stats.moderation import Replicates, seed_variances
from bench.board.stats.rerun import caught, enough, kind_of, kinds, run_spreads
from bench.store.records import ResultRecord

from .make import record

IMAGES = 4000
LEVEL = 0.95


def prefix(top1: float) -> np.ndarray:
    """Right on the first images: two of these differ on as few images as they can."""
    correct = np.zeros(IMAGES, dtype=bool)
    correct[: round(top1 / 100 * IMAGES)] = True
    return correct


def row(name: str, values: Sequence[float]) -> list[ResultRecord]:
    """A row's seeds."""
    return [record(prefix(value), seed=seed, source=name) for seed, value in enumerate(values)]


def drawn(rng: np.random.Generator, rows: int, degrees: float, mean: float = 80.0) -> tuple[np.ndarray, np.ndarray]:
    """Three seeds of each row around ``mean`` [rows, 3], and the rows' variances: scaled inverse chi² about 1."""
    sigma2 = degrees / rng.chisquare(degrees, rows)
    return mean + rng.normal(size=(rows, 3)) * np.sqrt(sigma2)[:, None], sigma2


def plain_rows(records: Sequence[ResultRecord], rows: int) -> list[Replicates]:
    """Each row's seeds as the moderation takes them."""
    found = []
    for k in range(rows):
        top1 = np.array([r.metrics["top1"] for r in records if r.source == f"row{k}"], float)
        found.append(Replicates(float(top1.var(ddof=1)), len(top1) - 1, float(top1.mean()), IMAGES, "p", "g"))
    return found


def test_the_interval_is_that_of_the_moderated_t() -> None:
    rng = np.random.default_rng(0)
    values, _ = drawn(rng, 12, 6.0)
    reference = [r for k, seeds in enumerate(values) for r in row(f"row{k}", seeds)]
    other = record(prefix(80.0), source="new")
    (found,) = run_spreads(reference, [other])
    plain = plain_rows(reference, 12)
    prior = seed_variances([*plain, Replicates(0.0, 0, 80.0, IMAGES, "p", "g")])[-1]
    assert found.variance == prior  # nothing of its own: the prior's scale and degrees
    for cells in (1, 5):
        quantile = scipy_stats.t.ppf(1 - (1 - LEVEL) / cells / 2, prior.degrees)
        assert found.half_width(cells) == pytest.approx(quantile * (2 * prior.moderated) ** 0.5)
        power = scipy_stats.t.ppf(0.8, prior.degrees) * (2 * prior.moderated) ** 0.5
        assert found.smallest_forgery(cells) == pytest.approx(found.half_width(cells) + power)


def test_its_own_seeds_join_in() -> None:
    """A row that is known has the variance the board gives it (Smyth 2004, equation 6)."""
    rng = np.random.default_rng(1)
    values, _ = drawn(rng, 9, 6.0)
    reference = [r for k, seeds in enumerate(values) for r in row(f"row{k}", seeds)]
    plain = plain_rows(reference, 9)
    board = seed_variances(plain)[0]
    at_its_mean = record(prefix(plain[0].top1), source="row0")
    (found,) = run_spreads(reference, [at_its_mean])
    assert found.variance.moderated == pytest.approx(board.moderated, rel=1e-3)  # its top-1 is a whole count of images
    assert found.variance.degrees == pytest.approx(board.degrees, rel=1e-3)


@pytest.mark.parametrize("cells", [1, 5])
def test_honest_cells_are_inside_and_forged_ones_are_found(cells: int) -> None:
    """One run of each of many rows that the reference does not hold, and a second run of the same row; the figures
    hold on average over references, each of which errs a little in its own way."""
    rng = np.random.default_rng([2, cells])
    misses, shown = [], []
    for _ in range(8):
        values, _ = drawn(rng, 40, 6.0)
        reference = [r for k, seeds in enumerate(values) for r in row(f"row{k}", seeds)]
        (found,) = run_spreads(reference, [record(prefix(80.0), source="new")])
        half, forgery = found.half_width(cells), found.smallest_forgery(cells)
        sigma = np.sqrt(6.0 / rng.chisquare(6.0, 4000))
        first, second = 80 + rng.normal(size=(2, 4000)) * sigma
        misses.append(float(np.mean(np.abs(second - first) > half)))
        shown.append(float(np.mean(np.abs(second - (first + forgery)) > half)))
    assert np.mean(misses) == pytest.approx((1 - LEVEL) / cells, rel=0.4)
    assert np.mean(shown) == pytest.approx(0.8, abs=0.03)


def test_independent_answers_are_covered() -> None:
    """Networks that answer each image by chance: all of the spread is the images' sampling."""
    rng = np.random.default_rng(3)
    shares = []
    for _ in range(6):
        reference = [record(rng.random(IMAGES) < 0.7, seed=s, source=f"row{k}") for k in range(15) for s in range(3)]
        (found,) = run_spreads(reference, [record(prefix(70.0), source="new")])
        assert found.unlike == pytest.approx(2 * 0.7 * 0.3, abs=0.01)
        runs = 100 * rng.binomial(IMAGES, 0.7, (2, 4000)) / IMAGES
        shares.append(float(np.mean(np.abs(runs[0] - runs[1]) <= found.half_width())))
    assert min(shares) >= 0.945  # the floor holds in each of them
    assert np.mean(shares) <= 0.985


def test_equal_seeds_leave_the_sampling_of_the_images_on_which_runs_disagree() -> None:
    """Seeds of equal top-1 that answer other images: McNemar's variance is the floor."""
    one, other = prefix(70.0), prefix(70.0)[::-1].copy()
    reference = [record(bits, seed=s, source=f"row{k}") for k in range(30) for s, bits in enumerate((one, other))]
    (found,) = run_spreads(reference, [record(one, source="new")])
    share = float(np.mean(one != other))
    assert found.unlike == pytest.approx(share)
    assert found.half_width() == pytest.approx(100 * 1.959964 * (share / IMAGES) ** 0.5, rel=1e-5)
    equal = [record(one, seed=s, source=f"row{k}") for k in range(30) for s in range(2)]
    (none,) = run_spreads(equal, [record(one, source="new")])
    assert none.half_width() >= 1.959964 * 100 / IMAGES  # never less than one image


def test_rows_of_another_kind_say_nothing() -> None:
    rng = np.random.default_rng(4)
    values, _ = drawn(rng, 8, 6.0)
    apart = {
        "compressor": "rtn",
        "target_digest": "w2",
        "test_digest": "t2",
        "preset": "paper",
        "setting_label": "W2A4",
    }
    (alone,) = run_spreads([], [record(prefix(80.0))])
    for name, value in apart.items():
        fields = {name: value}
        reference = [
            record(prefix(v), seed=s, source=f"row{k}", **fields)
            for k, seeds in enumerate(values)
            for s, v in enumerate(seeds)
        ]
        (found,) = run_spreads(reference, [record(prefix(80.0))])
        assert found == alone, name
        assert not enough(found)


def test_one_seed_and_what_was_not_measured_are_no_reference() -> None:
    lone = [record(prefix(80.0 + k), source=f"row{k}") for k in range(9)]
    broken = [record(None, source="x", seed=s) for s in range(3)]
    (found,) = run_spreads([*lone, *broken], [record(prefix(80.0))])
    assert found.rows == 0


def test_kinds_in_order() -> None:
    records = [record(0.8, target="b"), record(0.7, target="a"), record(0.6, target="b", seed=1), record(None)]
    found = kinds(records)
    assert [(kind.target, len(members)) for kind, members in found.items()] == [("b", 2), ("a", 1)]
    assert kind_of(records[0]).title == "b W4A4 brecq"


@given(st.integers(1, 200), st.integers(0, 200), st.integers(0, 60), st.floats(0, 1))
def test_a_sample_catches_at_least_what_is_said(cells: int, forged: int, sample: int, power: float) -> None:
    """Against the hypergeometric distribution of a draw without replacement."""
    forged, sample = min(forged, cells), min(sample, cells)
    said = caught(forged / cells, sample, power)
    assert 0 <= said <= 1
    assert said == pytest.approx(1 - (1 - power * forged / cells) ** sample)
    hits = np.arange(sample + 1)
    true = 1 - float(scipy_stats.hypergeom.pmf(hits, cells, forged, sample) @ (1 - power) ** hits)
    assert said <= true + 1e-9


def test_what_a_sample_catches_by_drawing() -> None:
    rng = np.random.default_rng(5)
    forged = np.arange(400) < 40
    found = np.mean([forged[rng.choice(400, 8, replace=False)].any() for _ in range(4000)])
    assert caught(0.1, 8) == pytest.approx(found, abs=0.025)


@pytest.mark.parametrize("given", [(-0.1, 1, 1.0), (1.1, 1, 1.0), (0.5, -1, 1.0), (0.5, 1, 2.0)])
def test_no_share(given: tuple[float, int, float]) -> None:
    with pytest.raises(ValueError, match="share"):
        caught(*given)
