"""Moderated variances between seeds: against formulas, an independent maximum likelihood, and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize
from scipy import stats as scipy_stats
from scipy.special import polygamma

from bench.board.stats.moderation import (
    LEAST,
    MIN_ROWS,
    SHIPPED,
    Replicates,
    SeedVariance,
    Term,
    moderated,
    place_of,
    seed_variances,
    trigamma_inverse,
)
from bench.board.stats.paired import spread


def replicates(values: np.ndarray, seeds: int | None = None, top1: float = 80.0, group: str = "g") -> Replicates:
    """A row of these values, of which ``seeds`` were measured."""
    known = values[: seeds or len(values)]
    variance = float(known.var(ddof=1)) if len(known) > 1 else 0.0
    return Replicates(variance, len(known) - 1, top1, 10_000, "p", group)


def draws(rng: np.random.Generator, rows: int, seeds: int, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """Values [rows, seeds] around 0 and their variances: 1 at ``degrees`` inf, else scaled inverse chi²."""
    sigma2 = np.ones(rows) if math.isinf(degrees) else degrees / rng.chisquare(degrees, rows)
    return rng.normal(size=(rows, seeds)) * np.sqrt(sigma2)[:, None], sigma2


@pytest.mark.parametrize("value", [1e-3, 0.1, 1.0, 1.645, 50.0])
def test_trigamma_inverse_against_a_root_finder(value: float) -> None:
    root = optimize.brentq(lambda x: float(polygamma(1, x)) - value, 1e-3, 1e5, xtol=1e-12)
    assert trigamma_inverse(value) == pytest.approx(root, rel=1e-8)


def test_the_prior_is_that_of_the_marginal_likelihood() -> None:
    """Of many rows s²/s0² is F(d, d0) (Smyth 2004, section 5): its maximum likelihood, an estimator of its own."""
    rng = np.random.default_rng(1)
    values, _ = draws(rng, 4000, 3, 4.0)
    squares = 2.5 * values.var(axis=1, ddof=1)

    def loss(x: np.ndarray) -> float:
        return -float(np.sum(scipy_stats.f.logpdf(squares / math.exp(x[0]), 2, math.exp(x[1])) - x[0]))

    scale, degrees = np.exp(optimize.minimize(loss, [0.0, 1.0], method="Nelder-Mead").x)
    rows = [Replicates(float(s), 2, 80.0, 10_000, "p", "g") for s in squares]
    one = seed_variances([*rows, Replicates(0.0, 0, 80.0, 10_000, "p", "g")])[-1]  # a row of one seed: the prior
    assert (scale, degrees) == pytest.approx((2.5, 4.0), rel=0.1)
    assert one.degrees == pytest.approx(degrees, rel=0.15)
    assert one.moderated == pytest.approx(scale, rel=0.08)
    # equation 6 of the paper
    first = seed_variances(rows)[0]
    assert first.degrees == pytest.approx(one.degrees + 2)
    assert first.moderated == pytest.approx((one.degrees * one.moderated + 2 * squares[0]) / first.degrees)


def test_the_line_follows_the_accuracy() -> None:
    """Variances that grow as (p(1-p))^6, as the shipped ones do: the slope is found, the level kept."""
    rng = np.random.default_rng(2)
    tops = np.linspace(60, 91, 200)
    rows = []
    for top in tops:
        p = top / 100
        rows.append(replicates(rng.normal(size=3) * (p * (1 - p) / 0.16) ** 3, top1=top))
    ends = seed_variances([*rows, Replicates(0, 0, 90.0, 10_000, "p", "g"), Replicates(0, 0, 60.0, 10_000, "p", "g")])
    found = math.log(ends[-1].moderated / ends[-2].moderated)
    assert found == pytest.approx(6 * (place_of(60, 10_000) - place_of(90, 10_000)), rel=0.15)


def test_few_rows_have_the_shipped_prior_and_other_groups_do_not_matter() -> None:
    rng = np.random.default_rng(3)
    few = [replicates(rng.normal(size=3)) for _ in range(MIN_ROWS - 1)]
    assert seed_variances(few) == [SHIPPED.variance(row) for row in few]
    enough = [*few, replicates(rng.normal(size=3))]
    assert seed_variances(enough)[0] != SHIPPED.variance(few[0])
    other = [Replicates(100.0, 2, 80.0, 10_000, "another part", "g") for _ in range(10)]
    assert seed_variances([*enough, *other])[:MIN_ROWS] == seed_variances(enough)


def test_a_row_far_from_its_neighbours_has_fewer_degrees() -> None:
    rng = np.random.default_rng(4)
    near = [replicates(rng.normal(size=3), top1=90 + k / 100) for k in range(10)]
    inside, outside = seed_variances(
        [*near, Replicates(0, 0, 90.05, 10_000, "p", "g"), Replicates(0, 0, 50.0, 10_000, "p", "g")]
    )[-2:]
    assert outside.degrees < inside.degrees
    assert inside.degrees < 2 * trigamma_inverse(LEAST)


def test_equal_accuracies_keep_the_variance_of_one_image() -> None:
    found = seed_variances([Replicates(0.0, 2, 80.0, 1000, "p", "g") for _ in range(5)])
    assert all(0 < row.moderated < 0.03 for row in found)


def test_a_difference_has_its_rows_variances_and_what_they_share() -> None:
    rng = np.random.default_rng(6)
    between = SeedVariance(moderated=2.0, degrees=8.0, own=1.0)
    terms = [Term("a", 1.0, between), Term("b", -1.0, between)]
    values = np.repeat(rng.normal(size=(3, 1)), 50, axis=1)
    plain = spread(values)
    scaled = values * math.sqrt(2.0 / (3 * plain.seed_variance))  # the sum of both rows' own: nothing in common
    found = moderated(spread(scaled), terms)
    assert 3 * found.seed_variance == pytest.approx(4.0)
    assert found.degrees == pytest.approx(8)
    together = moderated(spread(scaled * 2), terms)  # 8 in place of 2: seeds that move both counts in full
    assert 3 * together.seed_variance == pytest.approx(4.0 + 6.0)
    apart = moderated(spread(scaled / 2), terms)  # 0.5: less, by 2 degrees of 10
    assert 3 * apart.seed_variance == pytest.approx(4.0 - 0.2 * 1.5)
    same = moderated(spread(scaled), [Term("a", 1.0, between), Term("a", -1.0, between)])
    assert 3 * same.seed_variance == pytest.approx(2.0)  # a row against itself has no variance but the sum's own
    mixed = moderated(spread(scaled), [Term("a", 1.0, between), Term("b", 1.0, SeedVariance(2.0, 4.0, 1.0))])
    assert mixed.degrees == pytest.approx(2 / (1 / 8 + 1 / 4))


@pytest.mark.parametrize("degrees", [math.inf, 4.0])
@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
def test_coverage_of_rows(seeds: int, degrees: float) -> None:
    """93 to 97 % over 18 rows; one seed beside neighbours of three.  The bounds leave room for chance."""
    rng = np.random.default_rng(7)
    hits, trials = 0, 250
    for _ in range(trials):
        values, _ = draws(rng, 18, max(seeds, 3) if seeds == 1 else seeds, degrees)
        counted = [1] * 3 if seeds == 1 else []
        rows = [replicates(row, (counted[i : i + 1] or [None])[0]) for i, row in enumerate(values)]
        found = seed_variances(rows)
        mine = range(3) if seeds == 1 else range(18)
        for i in mine:
            half = scipy_stats.t.ppf(0.975, found[i].degrees) * math.sqrt(found[i].moderated / seeds)
            hits += abs(values[i, :seeds].mean()) <= half
    share = hits / trials / (3 if seeds == 1 else 18)
    assert 0.925 <= share <= 0.985


def test_three_seeds_find_more_than_before() -> None:
    """Power at three seeds for a difference of three standard deviations of a row, against Student's t alone."""
    rng = np.random.default_rng(8)
    found, before, trials = 0, 0, 300
    for _ in range(trials):
        values, _ = draws(rng, 10, 3, math.inf)
        values[0] += 3.0
        between = seed_variances([replicates(row) for row in values])
        plain = spread(np.repeat((values[0] - values[1])[:, None], 50, axis=1))
        found += moderated(plain, [Term(i, 1.0, between[i]) for i in range(2)]).p_value() <= 0.05
        before += plain.p_value() <= 0.05
    assert found / trials > 0.85
    assert before / trials < 0.75
