"""Learned rounding against brute force on layers small enough to try every choice; and what one step costs.

A layer of O×I weights with inputs X has output error sum_o (Wq - W)_o G (Wq - W)_o^T, G = X^T X / N.  Each weight may
go down or up, which for I <= 12 leaves at most 4096 rows per output: the optimum is known.  ``study`` measures how far
nearest rounding and AdaRound stay above it.  Inputs are correlated and non-negative: x = relu(A u / sqrt(r) + 0.3 v)
with u of rank r = 4; weights are normal, grids per row by the usual search.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from methods.compressors._caches import Cache
from methods.compressors._reconstruct import RoundingLearner, RoundingRule, draw_batches, minimise
from methods.compressors._rounding import Grid, Substitute, UnitRounding
from methods.quant.ranges import search_range

IMAGES, BATCH, RANK = 256, 32, 4


@dataclass(frozen=True)
class Study:
    """Ratios error / optimum over the trials [trials], of nearest rounding and of AdaRound."""

    nearest: Tensor
    learned: Tensor

    @property
    def worse(self) -> float:
        """Fraction of the trials in which AdaRound's error exceeds nearest rounding's."""
        return float((self.learned > self.nearest * (1 + 1e-6)).float().mean())

    def line(self) -> str:
        """Median, mean and 90th percentile of both."""
        parts = []
        for name, values in (("nearest", self.nearest), ("learned", self.learned)):
            numbers = (values.median(), values.mean(), values.quantile(0.9))
            parts.append(name + " median {:.3f} mean {:.3f} p90 {:.3f}".format(*(float(v) for v in numbers)))
        return f"{parts[0]}; {parts[1]}; worse than nearest {self.worse:.1%} of {len(self.nearest)}"


def layer(shape: tuple[int, int], bits: int, generator: torch.Generator) -> tuple[Grid, Tensor]:
    """A weight [O, I] with its grid, and inputs [IMAGES, I]."""
    out, width = shape
    weight = torch.randn(out, width, generator=generator) * 0.3
    mixing = torch.randn(width, RANK, generator=generator)
    common = torch.randn(IMAGES, RANK, generator=generator) @ mixing.T / math.sqrt(RANK)
    inputs = torch.relu(common + 0.3 * torch.randn(IMAGES, width, generator=generator))
    scale, zero = search_range(weight, bits, 0)
    return Grid(weight, scale.reshape(out, 1), zero.reshape(out, 1), 0, 2**bits - 1), inputs


def error(difference: Tensor, gram: Tensor) -> Tensor:
    """Squared output error of weight differences [..., I], float64 [...]."""
    return ((difference.double() @ gram) * difference.double()).sum(-1)


def best_error(rounding: UnitRounding, weight: Tensor, gram: Tensor) -> float:
    """The least error over all choices of floor and ceiling, output by output."""
    base, step = rounding.views(rounding.base)["w"], rounding.views(rounding.step)["w"]
    width = weight.shape[1]
    choices = (torch.arange(2**width)[:, None] >> torch.arange(width)) & 1
    rows = zip(base, step, weight, strict=True)
    return sum(float(error(b + s * choices - w, gram).min()) for b, s, w in rows)


def trial(shape: tuple[int, int], bits: int, iterations: int, generator: torch.Generator) -> tuple[float, float]:
    """(nearest, learned) error over the optimum for one random layer."""
    grid, inputs = layer(shape, bits, generator)
    weight, gram = grid.weight, (inputs.double().T @ inputs.double()) / IMAGES
    rounding = UnitRounding({"w": grid})
    nearest = float(error(rounding.hard()["w"] - weight, gram).sum())
    slot = Substitute(weight)
    learner = RoundingLearner(rounding, {"w": slot}, RoundingRule(20 / iterations, 0.1))
    index = draw_batches(IMAGES, BATCH, iterations, generator, torch.device("cpu"))
    target = Cache(inputs @ weight.T)
    assert minimise(lambda x: x @ slot.value.T, Cache(inputs), target, [learner], index, lambda *_: None)
    learned = float(error(rounding.hard()["w"] - weight, gram).sum())
    best = best_error(rounding, weight, gram)
    return nearest / best, learned / best


def study(shape: tuple[int, int], bits: int, trials: int, iterations: int = 200, seed: int = 0) -> Study:
    """``trials`` random layers at the preset ``mini`` (200 iterations)."""
    generator = torch.Generator().manual_seed(seed)
    ratios = torch.tensor([trial(shape, bits, iterations, generator) for _ in range(trials)])
    return Study(ratios[:, 0], ratios[:, 1])


@pytest.mark.parametrize("bits", [2, 4])
def test_learned_rounding_is_near_the_optimum(bits: int) -> None:
    """A sample of the study; its whole is `python -m tests.benchmarks.test_rounding`."""
    found = study((1, 12), bits, trials=24)
    assert min(float(found.nearest.min()), float(found.learned.min())) >= 1 - 1e-5  # weights are float32
    assert float(found.learned.median()) <= 1.15, found.line()
    assert float(found.nearest.median()) >= 1.3, found.line()
    assert found.worse <= 0.2, found.line()


def test_small_rows_reach_the_optimum() -> None:
    found = study((3, 4), 4, trials=10)
    assert float(found.learned.median()) <= 1.01, found.line()


def test_rounding_step(benchmark: pytest.FixtureRequest) -> None:
    """Soft weights, regulariser and their gradient for 30,000 weights."""
    weight = torch.randn(100, 300)
    scale, zero = search_range(weight, 4, 0)
    rounding = UnitRounding({"w": Grid(weight, scale.reshape(-1, 1), zero.reshape(-1, 1), 0, 15)})

    def step() -> None:
        soft, penalty = rounding.soft(0.1, 7.0)
        torch.autograd.backward([soft["w"].sum(), penalty])

    benchmark(step)  # type: ignore[operator]


def main() -> None:
    """Print the study: four kinds of layer, 200 trials each."""
    import sys

    for shape in ((1, 12), (3, 4)):
        for bits in (2, 4):
            found = study(shape, bits, trials=200)
            sys.stdout.write(f"{shape[0]}x{shape[1]} W{bits}: {found.line()}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
