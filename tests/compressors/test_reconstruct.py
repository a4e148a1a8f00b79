"""Soft rounding, its annealing, the caches and the loop (docs/methods/compressors.md#rounding, #invariant-9,
#invariant-10)."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bench.errors import BenchError
from methods.compressors import _caches
from methods.compressors import _reconstruct as engine
from methods.compressors import _rounding as rounding


def affine_grid(weight: Tensor, bits: int, shrink: float = 1.0) -> rounding.Grid:
    """Min-max grid per output channel, shrunk to cut some weights off."""
    flat = weight.flatten(1)
    low, high = flat.amin(1).clamp(max=0) * shrink, flat.amax(1).clamp(min=0) * shrink
    levels = 2**bits - 1
    shape = [-1] + [1] * (weight.dim() - 1)
    scale = ((high - low) / levels).clamp_min(1e-8)
    zero = torch.round(-low / scale).clamp(0, levels)
    return rounding.Grid(weight, scale.reshape(shape), zero.reshape(shape), 0, levels)


def nearest(grid: rounding.Grid) -> Tensor:
    level = torch.round(grid.weight / grid.scale) + grid.zero_point
    return grid.scale * (level.clamp(grid.low, grid.high) - grid.zero_point)


def inside(grid: rounding.Grid) -> Tensor:
    level = torch.floor(grid.weight / grid.scale) + grid.zero_point
    return (level >= grid.low) & (level < grid.high)


@given(
    bits=st.sampled_from([2, 3, 4, 8]), seed=st.integers(0, 99), last=st.booleans(), shrink=st.sampled_from([1.0, 0.6])
)
@settings(max_examples=40, deadline=None)
def test_initial_soft_weight_is_the_weight_and_hard_is_nearest(bits: int, seed: int, last: bool, shrink: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    grids = {
        "conv": affine_grid(torch.randn(6, 4, 3, 3, generator=generator), bits, shrink),
        "linear": affine_grid(torch.randn(5, 7, generator=generator), bits, shrink),
    }
    unit = rounding.UnitRounding(grids, channels_last=last)
    soft, penalty = unit.soft()
    hard = unit.hard()
    assert float(penalty.detach()) == 0.0
    assert unit.flipped() == 0.0
    for name, grid in grids.items():
        keep = inside(grid)
        torch.testing.assert_close(soft[name][keep], grid.weight[keep], rtol=1e-6, atol=float(grid.scale.max()) * 1e-6)
        assert torch.equal(hard[name], nearest(grid))


def test_hard_weight_is_a_neighbour_whatever_the_variables() -> None:
    generator = torch.Generator().manual_seed(1)
    grid = affine_grid(torch.randn(8, 3, 3, 3, generator=generator), 3)
    unit = rounding.UnitRounding({"w": grid}, channels_last=True)
    with torch.no_grad():
        unit.logits.copy_(torch.randn(unit.logits.shape, generator=generator))
    difference = (unit.hard()["w"] - grid.weight).abs()
    assert bool((difference < grid.scale * (1 + 1e-5))[inside(grid)].all())
    assert 0.2 < unit.flipped() < 0.8


def test_a_tie_rounds_up() -> None:
    grid = rounding.Grid(torch.tensor([[0.5, 2.5, 1.0]]), torch.ones(1, 1), torch.zeros(1, 1), 0, 7)
    assert rounding.UnitRounding({"w": grid}).hard()["w"].tolist() == [[1.0, 3.0, 1.0]]


def test_gradient_is_the_formula_in_the_open_interval() -> None:
    """Against torch's own differentiation of the plain expression, where no bound is touched."""
    generator = torch.Generator().manual_seed(2)
    logits = (torch.randn(50, generator=generator)).requires_grad_()
    base, step, upstream = (torch.randn(50, generator=generator) for _ in range(3))
    soft, penalty = rounding.SoftWeights.apply(logits, base, step, 0.3, 7.0)
    ((soft * upstream).sum() + 2.0 * penalty).backward()
    got = logits.grad
    logits.grad = None
    bit = (1.2 * torch.sigmoid(logits) - 0.1).clamp(0, 1)
    plain = ((base + step * bit) * upstream).sum() + 2.0 * 0.3 * rounding.regulariser(bit, 7.0)
    plain.backward()
    torch.testing.assert_close(got, logits.grad)
    torch.testing.assert_close(penalty, 0.3 * rounding.regulariser(bit, 7.0))


def test_a_weight_on_the_grid_may_move_and_a_saturated_one_may_not() -> None:
    """torch.clamp's own gradient at its bound is 0 on torch 2.15 and was 1 before."""
    logits = torch.cat([rounding.initial_logits(torch.zeros(1)), torch.tensor([-9.0, 9.0])]).requires_grad_()
    soft, _ = rounding.SoftWeights.apply(logits, torch.zeros(3), torch.ones(3), 0.0, None)
    soft.sum().backward()
    assert logits.grad is not None
    sigmoid = 0.1 / 1.2
    assert float(logits.grad[0]) == pytest.approx(1.2 * sigmoid * (1 - sigmoid), rel=1e-4)
    assert logits.grad[1:].tolist() == [0.0, 0.0]


def test_cut_weights_get_no_gradient() -> None:
    grid = rounding.Grid(torch.tensor([[-5.0, 0.3, 9.0]]), torch.ones(1, 1), torch.zeros(1, 1), 0, 3)
    unit = rounding.UnitRounding({"w": grid})
    unit.soft()[0]["w"].sum().backward()
    assert unit.logits.grad is not None
    assert (unit.logits.grad != 0).tolist() == [False, True, False]
    assert unit.hard()["w"].tolist() == [[0.0, 0.0, 3.0]]


def test_anneal_holds_then_falls_linearly() -> None:
    values = [rounding.anneal(t, 200, warmup=0.2, start=20.0, end=2.0) for t in range(201)]
    assert values[:40] == [None] * 40
    assert values[40] == 20.0
    assert values[200] == pytest.approx(2.0)
    assert values[120] == pytest.approx(11.0)
    later = [v for v in values if v is not None]
    assert all(a > b for a, b in itertools.pairwise(later))


def test_the_annealing_counts_from_one_so_that_the_last_step_has_the_last_exponent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(engine, "anneal", lambda step, total, **_: seen.append((step, total)))
    grid = rounding.Grid(torch.tensor([[0.3]]), torch.ones(1, 1), torch.zeros(1, 1), 0, 3)
    rule = engine.RoundingRule(0.1, 0.1)
    learner = engine.RoundingLearner(
        rounding.UnitRounding({"w": grid}), {"w": rounding.Substitute(torch.zeros(1))}, rule
    )
    for step in range(3):
        learner.place(step, 3)
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("beta", [2.0, 5.0, 20.0])
def test_regulariser_vanishes_at_the_ends_and_peaks_in_the_middle(beta: float) -> None:
    assert float(rounding.regulariser(torch.tensor([0.0, 1.0]), beta)) == 0.0
    line = torch.linspace(0, 1, 101)
    each = torch.stack([rounding.regulariser(h[None], beta) for h in line])
    assert float(each.max()) == 1.0 == float(each[50])


def test_loss_is_summed_over_channels_and_averaged_over_the_rest() -> None:
    a, b = torch.randn(4, 3, 5, 5), torch.randn(4, 3, 5, 5)
    expected = (a - b).square().sum(1).mean()
    output = a.clone().requires_grad_()
    loss = engine.squared_error(output, b)
    loss.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(output.grad, 2 * (a - b) / 100)
    assert engine.mean_error(a, b) == pytest.approx(float(expected), rel=1e-5)
    last = engine.squared_error(a.to(memory_format=torch.channels_last), b.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected)
    weight = torch.rand(4, 3, 5, 5)
    output.grad = None
    loss = engine.squared_error(output, b, weight)
    loss.backward()
    torch.testing.assert_close(loss, ((a - b).square() * weight).sum(1).mean())
    torch.testing.assert_close(output.grad, 2 * (a - b) * weight / 100)
    assert engine.positions(torch.zeros(7, 10)) == 7
    assert engine.positions(torch.zeros(7, 9, 10)) == 63


@pytest.mark.parametrize("shape", [(6, 3, 4, 5), (6, 9), (6, 4, 8)])
def test_cache_gives_back_what_it_was_given(shape: tuple[int, ...]) -> None:
    value = torch.randn(shape)
    cache = _caches.Cache(value, channels_last=True)
    rows = torch.tensor([4, 0, 2])
    assert torch.equal(cache.take(rows), value[rows])
    assert torch.equal(torch.cat(list(cache.chunks(4))), value)
    assert len(cache) == 6
    if len(shape) == 4:
        assert cache.take(rows).is_contiguous(memory_format=torch.channels_last)


def test_cache_taken_by_images_gives_each_with_all_of_its_rows() -> None:
    """Windows of shifted-window attention: an image's rows lie together."""
    value = torch.arange(24.0).reshape(12, 2)
    cache = _caches.Cache(value)
    shared = cache.of(4)
    assert (len(shared), len(cache)) == (4, 12)
    assert torch.equal(shared.take(torch.tensor([3, 0])), value[[9, 10, 11, 0, 1, 2]])
    assert torch.equal(cache.take(torch.tensor([3, 0])), value[[3, 0]])
    assert torch.equal(torch.cat(list(shared.chunks(5))), value)
    mixed = _caches.MixedInputs(cache, _caches.Cache(-value), 1.0, torch.Generator())
    assert torch.equal(mixed.of(4).take(torch.tensor([1])), value[3:6])
    assert len(mixed) == 12
    with pytest.raises(BenchError, match="rows do not follow"):
        cache.of(5)


def test_batches_hold_no_image_twice() -> None:
    index = engine.draw_batches(20, 8, 50, torch.Generator().manual_seed(0), torch.device("cpu"))
    assert index.shape == (50, 8)
    assert all(len(set(row.tolist())) == 8 for row in index)
    again = engine.draw_batches(20, 8, 50, torch.Generator().manual_seed(0), torch.device("cpu"))
    assert torch.equal(index, again)
    assert engine.draw_batches(5, 8, 2, torch.Generator(), torch.device("cpu")).shape == (2, 5)


@pytest.mark.parametrize("keep", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_mask_keeps_with_the_probability_asked(keep: float, layout: torch.memory_format) -> None:
    like = torch.empty(8, 5, 31, 17).to(memory_format=layout)
    mask = _caches.random_mask(like, keep, torch.Generator().manual_seed(3))
    assert mask.shape == like.shape
    assert float(mask.float().mean()) == pytest.approx(keep, abs=4 * math.sqrt(0.25 / like.numel()))
    if 0 < keep < 1:
        columns = mask.float().mean((0, 1, 3))
        assert float(columns.std()) < 0.06


def test_mixed_inputs_take_each_element_from_one_of_the_two() -> None:
    a, b = torch.full((4, 2, 3, 3), 1.0), torch.full((4, 2, 3, 3), -1.0)
    caches = _caches.Cache(a, channels_last=True), _caches.Cache(b, channels_last=True)
    rows = torch.arange(4)
    for keep, expected in ((1.0, a), (0.0, b)):
        mixed = _caches.MixedInputs(*caches, keep, torch.Generator().manual_seed(0))
        assert torch.equal(mixed.take(rows), expected)
    mixed = _caches.MixedInputs(*caches, 0.5, torch.Generator().manual_seed(0))
    assert not torch.equal(mixed.take(rows), mixed.take(rows))


class Scale:
    """One variable, y = v * x; the smallest learner there is."""

    def __init__(self, start: float, lr: float) -> None:
        self.value = torch.nn.Parameter(torch.tensor(start))
        self.lr = lr

    def parameters(self) -> list[torch.nn.Parameter]:
        return [self.value]

    def rate(self, step: int, total: int) -> float:
        return self.lr

    def place(self, step: int, total: int) -> Tensor | None:
        return None

    def settle(self) -> None:
        return None


def test_loop_minimises_and_reports_at_fixed_steps() -> None:
    x = torch.randn(32, 4)
    learner, seen = Scale(0.0, 0.05), []
    index = engine.draw_batches(32, 8, 120, torch.Generator().manual_seed(0), torch.device("cpu"))
    fine = engine.minimise(
        lambda v: v * learner.value, _caches.Cache(x), _caches.Cache(2 * x), [learner], index, lambda *a: seen.append(a)
    )
    assert fine
    assert float(learner.value.detach()) == pytest.approx(2.0, abs=0.05)
    assert [step for step, _ in seen] == [50, 100, 120]
    assert seen[0][1] > seen[2][1]


def test_loop_stops_at_a_loss_that_is_not_finite() -> None:
    x = torch.randn(32, 4)
    x[3] = float("inf")
    learner = Scale(1.0, 0.05)
    index = engine.draw_batches(32, 8, 120, torch.Generator().manual_seed(0), torch.device("cpu"))
    assert not engine.minimise(
        lambda v: v * learner.value, _caches.Cache(x), _caches.Cache(x), [learner], index, lambda *a: None
    )


def test_steps_stay_positive_and_their_rate_ends_at_zero() -> None:
    step = torch.nn.Parameter(torch.tensor(-0.5))
    learner = engine.StepLearner([step], 0.1)
    learner.settle()
    assert float(step.detach()) == 0.5
    with torch.no_grad():
        step.zero_()
    learner.settle()
    assert float(step.detach()) > 0
    assert learner.rate(0, 80) == 0.1
    assert learner.rate(40, 80) == pytest.approx(0.05)
    assert learner.rate(80, 80) == pytest.approx(0.0)
