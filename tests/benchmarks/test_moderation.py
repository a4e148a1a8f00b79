"""How often moderated intervals hold the truth, what three seeds find, and the line of the shipped rows.

The table stands in docs/methods/measures.md (`#coverage`).  `make benchmarks`, or this file with
``--benchmark-only -s``: it prints what it finds.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pytest
from scipy.special import stdtrit

from bench.board.index.rows import make_rows
from bench.board.stats.moderation import SHIPPED, Replicates, Term, moderated, place_of, seed_variances
from bench.board.stats.paired import Floats, spread
from bench.store.measured import read_measured

pytestmark = pytest.mark.skipif("--benchmark-only" not in sys.argv, reason="a study of minutes; `make benchmarks`")

ROWS = 10
TRIALS = 600
NEIGHBOURS = 3
"""Seeds of the rows beside a row of one seed."""
CASES = {"equal": math.inf, "d0 = 8": 8.0, "d0 = 4": 4.0, "d0 = 2": 2.0}


def say(*words: object) -> None:
    """A line of the table."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")


def group(rng: np.random.Generator, seeds: int, degrees: float) -> tuple[Floats, Floats]:
    """Values [ROWS + 1, seeds] around 0, and their variances between seeds: equal, or scaled inverse chi²."""
    sigma2 = np.ones(ROWS + 1) if math.isinf(degrees) else degrees / rng.chisquare(degrees, ROWS + 1)
    return rng.normal(size=(ROWS + 1, seeds)) * np.sqrt(sigma2)[:, None], sigma2


def _row(values: Floats) -> Replicates:
    variance = float(values.var(ddof=1)) if len(values) > 1 else 0.0
    return Replicates(variance, len(values) - 1, 80.0, 10_000, "p", "g")


def coverage(seeds: int, degrees: float) -> tuple[float, float, float]:
    """Shares of 95 % intervals that hold the truth, over all rows and over the quarter of largest variance, and the
    median half width over that of a known variance.  One seed: a single row beside rows of three."""
    rng = np.random.default_rng([seeds, int(min(degrees, 99))])
    hits, worst, widths = [], [], []
    for _ in range(TRIALS * (4 if seeds == 1 else 1)):
        values, sigma2 = group(rng, max(seeds, NEIGHBOURS if seeds == 1 else seeds), degrees)
        rows = [_row(row) for row in values]
        if seeds == 1:
            rows[-1] = _row(values[-1, :1])
        found = seed_variances(rows)
        mine = [ROWS] if seeds == 1 else list(range(ROWS))
        half = np.array([-stdtrit(found[i].degrees, 0.025) * math.sqrt(found[i].moderated / seeds) for i in mine])
        inside = np.abs(values[mine, :seeds].mean(axis=1)) <= half
        hits.append(inside.mean())
        widths += list(half / (1.96 * np.sqrt(sigma2[mine] / seeds)))
        worst += [(float(sigma2[i]), bool(hit)) for i, hit in zip(mine, inside, strict=True)]
    worst.sort(key=lambda pair: pair[0])
    top = [hit for _, hit in worst[-len(worst) // 4 :]]
    return float(np.mean(hits)), float(np.mean(top)), float(np.median(widths))


def power(effect: float, degrees: float, between_seeds: float = 0.0) -> tuple[float, float]:
    """Shares of differences of ``effect`` (a typical row's standard deviations) found at 5 % with three seeds:
    moderated, and by the difference's own seeds alone."""
    rng = np.random.default_rng([7, int(10 * effect), int(min(degrees, 99))])
    found = before = 0
    for _ in range(TRIALS):
        values, _ = group(rng, 3, degrees)
        values = values + between_seeds * rng.normal(size=(1, 3))
        variances = seed_variances([_row(row) for row in values])
        plain = spread(np.repeat((effect + values[0] - values[1])[:, None], 20, axis=1))
        terms = [Term(0, 1.0, variances[0]), Term(1, -1.0, variances[1])]
        found += moderated(plain, terms).p_value() <= 0.05
        before += plain.p_value() <= 0.05
    return found / TRIALS, before / TRIALS


def test_coverage_and_power(benchmark: Any) -> None:
    table = benchmark.pedantic(
        lambda: {(s, name): coverage(s, d) for s in (1, 2, 3, 5) for name, d in CASES.items()}, rounds=1
    )
    for (seeds, name), (whole, worst, width) in table.items():
        say(f"coverage | {seeds} | {name} | {100 * whole:.1f} | {100 * worst:.1f} | {width:.2f}")
    for name in ("equal", "d0 = 4"):
        for effect in (0.0, 1.0, 2.0, 3.0, 4.0):
            now, before = power(effect, CASES[name])
            say(f"power | {name} | {effect:g} | {100 * now:.0f} | {100 * before:.0f}")
    say("with common seeds of twice the deviation:", power(0.0, math.inf, 2.0), power(3.0, math.inf, 2.0))
    assert all(0.92 <= whole <= 0.985 for whole, _, _ in table.values())


def test_the_shipped_line(benchmark: Any) -> None:
    """The line where no neighbour has several seeds: least squares over all shipped rows that have."""

    def fit() -> tuple[Floats, float]:
        places, logs = [], []
        for row in make_rows(read_measured()):
            top1 = row.metric("top1")
            if len(top1) == 3 and row.head.compressor and row.head.suite.startswith("ptq_w"):
                places.append(place_of(float(np.mean(top1)), row.head.test_count))
                floor = (100 / row.head.test_count) ** 2
                logs.append(math.log(max(float(np.var(top1, ddof=1)), floor)) + np.euler_gamma)  # - psi(1)
        x = np.array(places) - SHIPPED.centre
        design = np.column_stack([np.ones_like(x), x])
        line, (left,), *_ = np.linalg.lstsq(design, np.array(logs), rcond=None)
        return line, float(left) / (len(x) - 2) - math.pi**2 / 6

    line, about = benchmark.pedantic(fit, rounds=1)
    say(f"level {line[0]:.2f} slope {line[1]:.2f} about {about:.2f}")
    assert (line[0], line[1], about) == pytest.approx((SHIPPED.level, SHIPPED.slope, SHIPPED.about), abs=0.15)
