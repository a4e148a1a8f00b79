"""The search over steps and zero points (docs/methods/quantisation.md#ranges)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from methods.quant.quantizers import ActQuantizer
from methods.quant.ranges import search_range


def quantise(x: Tensor, scale: float, zero: float, bits: int) -> Tensor:
    return scale * ((x / scale).round().add(zero).clamp(0, 2**bits - 1) - zero)


def silu_with_maximum(top: float, seed: int = 0) -> Tensor:
    x = F.silu(2 * torch.randn(20_000, generator=torch.Generator().manual_seed(seed)))
    x[0] = top
    return x


def test_a_silu_keeps_its_negative_side_at_four_bits() -> None:
    x = silu_with_maximum(15.0)
    scale, zero = (float(v) for v in search_range(x, 4, method="mse-2d"))
    assert zero >= 1
    assert abs(float((quantise(x, scale, zero, 4) - x).mean())) < 0.1 * scale
    # what was wrong: both ends shrunk together keep the zero point of the whole range, 0
    _, frozen = search_range(x, 4, method="mse")
    assert float(frozen) == 0


SHAPES: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": lambda x: F.silu(2 * x),
    "normal": lambda x: x,
    "hard swish": lambda x: F.hardswish(3 * x),
    "mostly negative": lambda x: -F.relu(x) + 0.01 * x,
    "positive": lambda x: x.abs() + 1,
    "negative": lambda x: -x.abs() - 1,
}


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("shape", SHAPES)
def test_bisection_finds_what_trying_all_zero_points_finds(shape: str, bits: int) -> None:
    x = SHAPES[shape](torch.randn(4000, generator=torch.Generator().manual_seed(bits)))
    scale, zero = search_range(x, bits, method="mse-2d")
    whole = (max(float(x.max()), 0.0) - min(float(x.min()), 0.0)) / (2**bits - 1)

    def loss(step: float, z: int) -> float:
        return float((quantise(x, step, z, bits) - x).abs().pow(2.4).double().mean())

    least = min(loss(whole * (1 - 0.01 * i), z) for i in range(80) for z in range(2**bits))
    # the search looks at a histogram of 4,096 bins, this at every value
    assert loss(float(scale), int(zero)) <= least * 1.001


def test_eight_bits_are_as_good_as_the_range_that_holds_all() -> None:
    x = silu_with_maximum(6.0)
    scale, zero = (float(v) for v in search_range(x, 8, method="mse-2d"))
    plain, start = (float(v) for v in search_range(x, 8, method="minmax"))
    assert (quantise(x, scale, zero, 8) - x).square().mean() <= (quantise(x, plain, start, 8) - x).square().mean()


def test_one_sided_grids_and_channels_are_searched_over_steps_alone() -> None:
    x = torch.randn(3, 500, generator=torch.Generator().manual_seed(0))
    for got, expected in zip(
        search_range(x.abs(), 4, method="mse-2d", grid="unsigned"), search_range(x.abs(), 4, grid="unsigned"),
        strict=True,
    ):  # fmt: skip
        assert torch.equal(got, expected)
    assert torch.equal(search_range(x, 4, 0, method="mse-2d")[1], search_range(x, 4, 0)[1])


@pytest.mark.parametrize("value", [0.0, 3.0, -3.0])
def test_a_constant_tensor_is_kept(value: float) -> None:
    x = torch.full((100,), value)
    scale, zero = (float(v) for v in search_range(x, 4, method="mse-2d"))
    assert torch.allclose(quantise(x, scale, zero, 4), x, atol=1e-6)


def test_activation_quantisers_search_so_unless_told_otherwise() -> None:
    x = silu_with_maximum(15.0)
    quantiser = ActQuantizer(4)
    quantiser.observe(x)
    quantiser.calibrate()
    assert float(quantiser.zero_point) >= 1
