"""GENIE-M: its weight against the formula, where the gradients go, and its invariants."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from bench.interfaces import Setting
from methods.compressors._rounding import Grid, UnitRounding, soft_bit
from methods.compressors._scaled_rounding import ScaledRounding
from methods.compressors.genie_m import METHOD, GenieMParams
from tests.compressors.recon_toys import Residual, context, digest, handle, image_set, nearest, quantised_weights

W3A4 = Setting(3, 4)


def compress(net: nn.Module | None = None, **params: Any) -> Any:
    return METHOD.compress(handle(net), image_set(), W3A4, GenieMParams(**params), context())


def rounding() -> tuple[Grid, ScaledRounding]:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 2, 2, 2, generator=generator)
    scale = torch.rand(3, 1, 1, 1, generator=generator) * 0.2 + 0.1
    grid = Grid(weight, scale, torch.full((3, 1, 1, 1), 3.0), 0, 7)
    found = ScaledRounding({"w": grid}, channels_last=True)
    with torch.no_grad():
        found.ratios["w"].copy_(torch.tensor([0.8, 1.0, 1.3]).reshape(3, 1, 1, 1))
        found.logits.add_(torch.randn(found.logits.shape, generator=generator))
    return grid, found


def test_the_weight_is_the_step_times_integers_of_the_step_there_was() -> None:
    grid, found = rounding()
    bit = found.views(soft_bit(found.logits.detach()))["w"]
    floor = (grid.weight / grid.scale).floor() + 3
    # beyond the grid both neighbours are its end
    level = torch.where((floor >= 0) & (floor < 7), floor + bit, floor.clamp(0, 7)) - 3
    assert torch.allclose(found.soft()[0]["w"], found.ratios["w"] * grid.scale * level, atol=1e-6)
    levels = found.hard()["w"] / found.scales()["w"]
    assert torch.allclose(levels, levels.round(), atol=1e-4)
    assert torch.equal(levels.round(), (found.hard()["w"] / (grid.scale * found.ratios["w"])).round())


def test_no_gradient_passes_through_the_floor() -> None:
    grid, found = rounding()
    weights, _ = found.soft()
    pull = torch.randn(grid.weight.shape, generator=torch.Generator().manual_seed(2))
    (weights["w"] * pull).sum().backward()
    want = (weights["w"].detach() / found.ratios["w"].detach() * pull).sum((1, 2, 3), keepdim=True)
    assert torch.allclose(found.ratios["w"].grad, want, rtol=1e-5)
    assert found.logits.grad is not None
    assert found.logits.grad.any()


def test_at_ratios_of_one_it_is_adaround() -> None:
    grid, _ = rounding()
    plain, ours = UnitRounding({"w": grid}), ScaledRounding({"w": grid})
    assert torch.equal(plain.hard()["w"], ours.hard()["w"])
    assert torch.equal(plain.soft()[0]["w"], ours.soft()[0]["w"])


def test_units_fit_better_than_nearest_and_grids_are_known() -> None:
    out = compress()
    rows = [row for row in out.report["units"] if row["layers"]]
    assert rows
    assert all(row["hard"] < row["rtn"] for row in rows)
    net, plain = out.variants[0].module, nearest(W3A4)
    learned = 0
    for name, weight in quantised_weights(net).items():
        quantiser = net.weights[name]
        levels = weight / quantiser.scale + quantiser.zero_point
        assert torch.allclose(levels, levels.round(), atol=1e-3)
        assert quantiser.n <= float(levels.round().min())
        assert float(levels.round().max()) <= quantiser.p
        learned += not torch.equal(quantiser.scale, plain.weights[name].scale)
    assert learned == len(net.weights) - 1


def test_without_travel_steps_stay() -> None:
    net, plain = compress(travel=0.0, iterations=20).variants[0].module, nearest(W3A4)
    assert all(torch.equal(net.weights[name].scale, plain.weights[name].scale) for name in net.weights)


def test_zeros_stay_and_the_network_given_stays() -> None:
    net = Residual()
    with torch.no_grad():
        net.conv1.weight[:, ::2] = 0
    model = handle(net)
    before = digest(model.module)
    out = METHOD.compress(model, image_set(), W3A4, GenieMParams(iterations=20), context())
    assert not quantised_weights(out.variants[0].module)["conv1"][:, ::2].any()
    assert digest(model.module) == before


@pytest.mark.parametrize("preset", ["mini", "thorough", "paper"])
def test_lambda_is_the_papers(preset: str) -> None:
    assert GenieMParams(**METHOD.presets[preset]).penalty == 1.0
