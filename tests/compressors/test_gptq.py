"""GPTQ: its closed form against brain surgery done step by step, its moments against im2col, and its invariants."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.interfaces import Setting
from methods.compressors._second_moments import Moments, patches, rounded, wanted_weight
from methods.compressors.gptq import METHOD, GptqParams
from tests.compressors.recon_toys import Residual, context, digest, handle, image_set, nearest, quantised_weights

W3A4 = Setting(3, 4)


def compress(net: nn.Module | None = None, **params: Any) -> Any:
    return METHOD.compress(handle(net), image_set(), W3A4, GptqParams(**params), context())


def surgeon(weight: Tensor, h: Tensor, scale: Tensor, low: float, high: float, order: list[int]) -> Tensor:
    """OBQ's equations 2 and 3 with the inverse of what is left computed anew at every step."""
    w = weight.clone()
    levels = torch.zeros_like(w)
    for place, i in enumerate(order):
        free = order[place:]
        inverse = torch.linalg.inv(h[free][:, free])
        levels[:, i] = (w[:, i] / scale).clamp(low, high).round()
        error = (w[:, i] - levels[:, i] * scale) / inverse[0, 0]
        w[:, free] -= error[:, None] * inverse[0]
    return levels


@pytest.mark.parametrize("by_energy", [False, True])
@pytest.mark.parametrize("size", [7, 150])  # one block of inputs, and more than one
def test_it_is_brain_surgery_step_by_step(size: int, by_energy: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(size, size, generator=generator, dtype=torch.float64)
    x = mixing @ torch.randn(size, 4 * size, generator=generator, dtype=torch.float64)
    weight = torch.randn(5, size, generator=generator, dtype=torch.float64)
    h, scale = x @ x.T, torch.full((5,), 0.6, dtype=torch.float64)
    ridge = 0.01 * h.diagonal().mean() * torch.eye(size, dtype=torch.float64)
    order = h.diagonal().argsort(descending=True).tolist() if by_energy else list(range(size))
    ends = torch.full((1, 5, 1), -3.0, dtype=torch.float64), torch.full((1, 5, 1), 3.0, dtype=torch.float64)
    found = rounded(weight[None], h[None], scale[None, :, None], *ends, 0.01, by_energy=by_energy)[0]
    assert torch.equal(found, surgeon(weight, h + ridge, scale, -3, 3, order))
    off = found * 0.6 - weight
    plain = (weight / 0.6).clamp(-3, 3).round() * 0.6 - weight
    assert float(((off @ h) * off).sum()) < 0.8 * float(((plain @ h) * plain).sum())


def test_the_weight_aimed_at_is_least_squares() -> None:
    generator = torch.Generator().manual_seed(0)
    full = torch.randn(6, 50, generator=generator, dtype=torch.float64)
    read = full + 0.3 * torch.randn(6, 50, generator=generator, dtype=torch.float64)
    weight = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    moments = Moments((read @ read.T)[None], (full @ read.T)[None])
    want = torch.linalg.lstsq(read.T, (weight @ full).T).solution.T
    assert torch.allclose(wanted_weight(weight[None], moments, 1e-12)[0], want, atol=1e-8)
    assert torch.equal(wanted_weight(weight[None], Moments(moments.sums), 0.01)[0], weight)
    same = Moments(moments.sums, moments.sums)
    assert torch.allclose(wanted_weight(weight[None], same, 0.01)[0], weight)


def test_aiming_at_the_full_networks_output_brings_it_nearer() -> None:
    model, images = handle(), image_set()
    want = model.module(images.images)
    off = []
    for asymmetric in (False, True):
        net = compress(asymmetric=asymmetric).variants[0].module
        net.set_state(True, False)
        off.append(float((net(images.images) - want).square().mean()))
    assert off[1] < off[0]


def test_uncorrelated_inputs_round_to_nearest() -> None:
    weight = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sums = torch.diag_embed(torch.tensor([[1.0, 2.0, 0.0, 3.0], [0.0] * 4], dtype=torch.float64))
    scale = torch.full((2, 3, 1), 0.3, dtype=torch.float64)
    found = rounded(weight, sums, scale, scale * 0 - 4, scale * 0 + 3, 0.01, by_energy=True)
    assert torch.equal(found, (weight / 0.3).clamp(-4, 3).round())


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, padding=1, stride=2),
        nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False),
        nn.Conv2d(4, 6, (3, 2), dilation=2, groups=2),
        nn.Conv2d(4, 6, 3, padding="same", padding_mode="reflect"),
    ],
)
def test_patches_times_weights_are_the_layer(layer: nn.Conv2d) -> None:
    x = torch.randn(3, 4, 9, 8, generator=torch.Generator().manual_seed(0))
    rows = patches(layer, x)
    weight = layer.weight.reshape(layer.groups, -1, rows.shape[1])
    with torch.no_grad():
        want = layer(x) - (0 if layer.bias is None else layer.bias[:, None, None])
    assert torch.allclose(
        (weight @ rows).reshape(layer.out_channels, 3, -1), want.transpose(0, 1).flatten(2), atol=1e-5
    )


def test_patches_are_in_the_order_of_unfold() -> None:
    x = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    found = patches(nn.Conv2d(4, 8, 3, padding=1), x)[0]
    assert torch.equal(found, F.unfold(x, 3, padding=1).transpose(0, 1).flatten(1))
    tokens = torch.randn(2, 5, 4)
    assert torch.equal(patches(nn.Linear(4, 3), tokens)[0], tokens.reshape(10, 4).T)


def test_layers_fit_better_than_nearest_on_the_grid_of_nearest() -> None:
    out = compress()
    net = out.variants[0].module
    rows = out.report["layers"]
    assert [row["layer"] for row in rows] == list(net.weights)
    assert all(row["rounded"] <= row["nearest"] for row in rows)
    # a filter of the depthwise layer has 9 inputs and three bits; the others are far better off
    assert all(row["rounded"] < 0.8 * row["nearest"] for row in rows[1:] if row["layer"] != "depthwise")
    plain = nearest(W3A4)
    moved = 0
    for name, weight in quantised_weights(net).items():
        quantiser = plain.weights[name]
        levels = weight / quantiser.scale + quantiser.zero_point
        assert torch.allclose(levels, levels.round(), atol=1e-3)
        assert quantiser.n <= float(levels.round().min())
        assert float(levels.round().max()) <= quantiser.p
        moved += int((weight != quantised_weights(plain)[name]).sum())
    assert moved
    assert out.forward_equivalents > 3 * 64


def test_zeros_stay_and_the_network_given_stays() -> None:
    net = Residual()
    with torch.no_grad():
        net.conv1.weight[:, ::2] = 0
        net.pointwise.weight[::3] = 0
    model, images = handle(net), image_set()
    before = digest(model.module)
    made = METHOD.compress(model, images, W3A4, GptqParams(), context()).variants[0]
    weights = quantised_weights(made.module)
    assert not weights["conv1"][:, ::2].any()
    assert not weights["pointwise"][::3].any()
    assert made.nonzero["conv1"] <= net.conv1.weight.count_nonzero()
    assert digest(model.module) == before


def test_it_draws_nothing() -> None:
    nets = [
        METHOD.compress(handle(), image_set(), W3A4, GptqParams(), context(seed)).variants[0].module for seed in (0, 1)
    ]
    assert digest(nets[0]) == digest(nets[1])
