"""Grids, ranges, gradients and the two quantiser modules (docs/methods/quantisation.md#invariant-1 to #invariant-4)."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from methods.quant.levels import count_levels
from methods.quant.quantizers import ActQuantizer, WeightQuantizer, fake_quant
from methods.quant.ranges import Grid, RangeMethod, grid_limits, search_range

BITS = st.sampled_from([2, 3, 4, 8])


def values(seed: int, shape: tuple[int, ...], kind: str) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator)
    return {"normal": x, "positive": x.abs(), "negative": -x.abs(), "shifted": x + 3, "tails": x**5}[kind]


def quantise(x: Tensor, bits: int, grid: Grid, method: RangeMethod = "minmax") -> tuple[Tensor, Tensor]:
    """(Q(x), step) with one grid per row of ``x``."""
    n, p = grid_limits(bits, grid)
    scale, zero = search_range(x, bits, 0, method=method, grid=grid)
    scale, zero = scale[:, None], zero[:, None]
    return fake_quant(x, scale, n - zero, p - zero), scale


@given(
    bits=BITS,
    seed=st.integers(0, 10_000),
    kind=st.sampled_from(["normal", "positive", "negative", "shifted", "tails"]),
    grid=st.sampled_from(["affine", "symmetric"]),
)
@settings(max_examples=60, deadline=None)
def test_minmax_grid_is_within_half_a_step_idempotent_and_small(bits: int, seed: int, kind: str, grid: Grid) -> None:
    x = values(seed, (5, 200), kind)
    q, scale = quantise(x, bits, grid)
    # An affine zero point is rounded, which moves the ends by up to half a step more.
    slack = 1e-6 * x.abs().amax(1, keepdim=True)
    n, p = grid_limits(bits, grid)
    inside = (q / scale).round() if grid == "symmetric" else None
    bound = scale / 2 + slack
    error = (q - x).abs()
    if grid == "affine":
        _, zero = search_range(x, bits, 0, method="minmax")
        low, high = scale * (n - zero[:, None]), scale * (p - zero[:, None])
        inner = (x >= low - scale / 2) & (x <= high + scale / 2)
        assert bool((x >= low - scale / 2 - slack).all())
        assert bool((x <= high + scale / 2 + slack).all())
        error = error[inner], bound.expand_as(x)[inner]
        assert bool((error[0] <= error[1]).all())
    else:
        assert inside is not None
        assert bool((error <= bound).all())
    assert all(len(row.unique()) <= 2**bits for row in q)
    scale_flat, zero = search_range(x, bits, 0, method="minmax", grid=grid)
    again = fake_quant(q, scale_flat[:, None], n - zero[:, None], p - zero[:, None])
    assert torch.equal(again, q)
    zeros = fake_quant(torch.zeros(5, 1), scale_flat[:, None], n - zero[:, None], p - zero[:, None])
    assert torch.equal(zeros.abs(), torch.zeros(5, 1))


@given(bits=BITS, seed=st.integers(0, 10_000), kind=st.sampled_from(["normal", "positive", "shifted", "tails"]))
@settings(max_examples=25, deadline=None)
def test_searched_range_is_never_worse_than_minmax(bits: int, seed: int, kind: str) -> None:
    x = values(seed, (4, 300), kind)
    found, _ = quantise(x, bits, "affine", "mse")
    plain, _ = quantise(x, bits, "affine", "minmax")
    loss, reference = ((q - x).abs().pow(2.4).mean(1) for q in (found, plain))
    assert bool((loss <= reference * (1 + 1e-6)).all())


def test_search_finds_the_shrunk_range_of_heavy_tails() -> None:
    x = values(0, (3, 4000), "tails")
    (found, step), (plain, plain_step) = quantise(x, 3, "affine", "mse"), quantise(x, 3, "affine")
    assert bool((step < 0.9 * plain_step).all())
    assert (found - x).abs().pow(2.4).mean() < 0.9 * (plain - x).abs().pow(2.4).mean()


@given(method=st.sampled_from(["mse", "minmax", "percentile", "aciq", "aciq-gauss", "lsq"]), seed=st.integers(0, 99))
@settings(max_examples=18, deadline=None)
def test_vectorised_search_equals_one_channel_at_a_time(method: RangeMethod, seed: int) -> None:
    x = values(seed, (7, 3, 11), "normal") * torch.arange(1, 4)[None, :, None]
    scale, zero = search_range(x, 4, 1, method=method)
    assert scale.shape == zero.shape == (3,)
    for channel in range(3):
        alone = search_range(x[:, channel], 4, method=method)
        torch.testing.assert_close(scale[channel], alone[0], rtol=1e-6, atol=0)
        assert torch.equal(zero[channel], alone[1])


def test_search_does_not_depend_on_how_values_are_chunked(monkeypatch: pytest.MonkeyPatch) -> None:
    x = values(3, (6, 5000), "tails")
    whole = search_range(x, 4, 0)
    monkeypatch.setattr("methods.quant.ranges._CPU_CHUNK", 700)
    pieces = search_range(x, 4, 0)
    assert torch.equal(whole[0], pieces[0])


@pytest.mark.parametrize("method", ["mse", "minmax", "percentile", "aciq", "aciq-gauss", "lsq"])
@pytest.mark.parametrize("grid", ["affine", "symmetric", "unsigned"])
def test_constant_channels_give_numbers(method: RangeMethod, grid: Grid) -> None:
    x = torch.tensor([0.0, 0.7, -0.7])[:, None].expand(3, 50).contiguous()
    q, scale = quantise(x, 4, grid, method)
    assert bool(torch.isfinite(q).all())
    assert bool((scale > 0).all())
    assert torch.equal(q[0].abs(), torch.zeros(50))


@pytest.mark.parametrize("bits", [1, 17])
def test_other_grids_are_refused(bits: int) -> None:
    with pytest.raises(ValueError, match="2 to 16"):
        grid_limits(bits, "affine")


@pytest.mark.parametrize(
    ("low", "high", "exact", "compiled"),
    [(low, high, exact, False) for low, high in [(0.0, 15.0), (-8.0, 7.0), (-3.0, 12.0)] for exact in (False, True)]
    + [(-3.0, 12.0, True, True)],
)
def test_gradients_equal_the_closed_form_also_on_the_bounds(
    low: float, high: float, exact: bool, compiled: bool
) -> None:
    if compiled and torch.__version__ < "2.13":
        pytest.skip("torch 2.11 compiles in-place comparisons wrongly; nothing here compiles the quantisers")
    scale = torch.tensor(0.25, requires_grad=True)  # a power of two, so that x / scale is exact
    x = values(1, (400,), "normal") * 2
    if exact:
        x = torch.tensor([low, high, low - 1, high + 1, 0.0, low + 0.5, high - 0.25]) * 0.25
    x.requires_grad_()
    upstream = values(2, tuple(x.shape), "normal")
    run = torch.compile(fake_quant, backend="aot_eager") if compiled else fake_quant
    run(x, scale, low, high, 0.5).backward(upstream)
    v = x.detach() / 0.25
    inside = ((v >= low) & (v <= high)).float()
    step = torch.where(v <= low, torch.full_like(v, low), torch.where(v >= high, high, v.round() - v))
    assert x.grad is not None
    assert scale.grad is not None
    assert torch.equal(x.grad, inside * upstream)
    torch.testing.assert_close(scale.grad, 0.5 * (step * upstream).sum(), rtol=1e-5, atol=1e-6)


def test_step_gradient_of_channels_keeps_the_step_shape() -> None:
    x = values(5, (3, 4, 2, 2), "normal")
    scale = torch.full((3, 1, 1, 1), 0.3, requires_grad=True)
    fake_quant(x, scale, torch.full((3, 1, 1, 1), -4.0), torch.full((3, 1, 1, 1), 3.0)).sum().backward()
    v = x / 0.3
    expected = torch.where(v <= -4, torch.tensor(-4.0), torch.where(v >= 3, torch.tensor(3.0), v.round() - v))
    assert scale.grad is not None
    torch.testing.assert_close(scale.grad, expected.sum((1, 2, 3), keepdim=True))


def test_32_bits_and_switched_off_return_the_input_itself() -> None:
    weight = values(0, (4, 3), "normal")
    assert WeightQuantizer(weight, 32)(weight) is weight
    quantizer = WeightQuantizer(weight, 4)
    assert not torch.equal(quantizer(weight), weight)
    quantizer.enabled = False
    assert quantizer(weight) is weight
    act = ActQuantizer(32)
    act.observe(weight)
    act.calibrate()
    assert act(weight) is weight


def test_weight_quantizer_hands_its_grid_to_the_rounding() -> None:
    class Up(nn.Module):
        def forward(self, weight: Tensor, scale: Tensor, zero: Tensor, n: int, p: int) -> Tensor:
            return scale * (torch.clamp(torch.floor(weight / scale) + 1 + zero, n, p) - zero)

    weight = values(7, (4, 30), "normal")
    quantizer = WeightQuantizer(weight, 3)
    floor, rest = quantizer.floor_levels(weight)
    assert bool(((rest >= 0) & (rest < 1)).all())
    torch.testing.assert_close((floor + rest) * quantizer.scale, weight)
    nearest = quantizer(weight)
    quantizer.rounding = Up()
    up = quantizer(weight)
    assert bool((up >= nearest).all())
    assert not torch.equal(up, nearest)
    quantizer.freeze(weight)
    quantizer.rounding = None
    assert torch.equal(quantizer(weight), up)
    quantizer.unfreeze()
    assert torch.equal(quantizer(weight), nearest)


def test_activation_is_unsigned_only_behind_a_relu_and_without_negative_values() -> None:
    positive, mixed = values(0, (100,), "positive"), values(0, (100,), "normal")
    for nonnegative, data, signed in [(True, positive, False), (False, positive, True), (True, mixed, True)]:
        quantizer = ActQuantizer(4, nonnegative=nonnegative)
        quantizer.observe(data)
        quantizer.calibrate()
        assert quantizer.signed is signed
    assert float(quantizer.zero_point) > 0


def test_observed_sample_is_bounded_repeatable_and_the_extremes_are_noted() -> None:
    x = values(0, (10_000,), "tails")
    scales = []
    for _ in range(2):
        quantizer = ActQuantizer(8, method="minmax")
        quantizer.start_observing(0.01, 3)
        quantizer(x)
        assert quantizer._samples is not None
        assert len(quantizer._samples[0]) == 100
        quantizer.calibrate()
        scales.append(float(quantizer.scale.detach()))
    assert scales[0] == scales[1]
    assert scales[0] == pytest.approx(float(x.max() - x.min()) / 255, rel=1e-5)


def test_extremes_weigh_no_more_than_they_do_among_all_values() -> None:
    x = torch.distributions.Laplace(0.0, 1.0).icdf(torch.linspace(1e-5, 1 - 1e-5, 400_000, dtype=torch.float64)).float()
    x = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))]
    whole, sampled = ActQuantizer(4), ActQuantizer(4)
    sampled.start_observing(0.02, 0)
    for part in x.chunk(8):
        whole.observe(part)
        sampled(part)
    for quantizer in (whole, sampled):
        quantizer.calibrate()
    # Counted inside the sample, the eight batches' extremes pull the step up by more than a third.
    assert float(sampled.scale.detach()) == pytest.approx(float(whole.scale.detach()), rel=0.04)


def test_calibration_without_values_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="nothing was observed"):
        ActQuantizer(4).calibrate()


def test_activation_state_survives_saving() -> None:
    x = values(0, (100,), "normal")
    one, two = ActQuantizer(4), ActQuantizer(4)
    one.observe(x)
    one.calibrate()
    two.load_state_dict(one.state_dict())
    assert torch.equal(one(x), two(x))


def test_dropping_keeps_each_element_with_its_probability_and_one_means_plain() -> None:
    x = values(0, (64, 1000), "normal")
    quantizer = ActQuantizer(3)
    quantizer.observe(x)
    quantizer.calibrate()
    plain = quantizer(x)
    quantizer.keep_probability, quantizer.generator = 0.25, torch.Generator().manual_seed(0)
    mixed = quantizer(x)
    kept = (mixed == plain).float().mean()
    assert bool(((mixed == plain) | (mixed == x)).all())
    assert 0.23 < float(kept) < 0.27
    quantizer.generator = torch.Generator().manual_seed(0)
    assert torch.equal(quantizer(x), mixed)
    quantizer.keep_probability = 0.0
    assert torch.equal(quantizer(x), x)


def test_levels_are_counted_on_each_grid() -> None:
    weight = torch.tensor([[0.0, 1.0, 1.0, -0.0], [2.0, 3.0, 4.0, 3.0]]).reshape(2, 1, 2, 2)
    assert count_levels(weight, True) == 3
    assert count_levels(weight, False) == 5
    assert count_levels(torch.zeros(3, 2), True) == 1
    rounded = WeightQuantizer(values(0, (6, 500), "normal"), 3)(values(0, (6, 500), "normal"))
    assert count_levels(rounded, True) == max(len(row.unique()) for row in rounded) == 8
    assert count_levels(rounded, False) == len(rounded.unique()) > 8
