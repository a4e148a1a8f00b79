"""DQNet's controller: one network chooses for all later layers (docs/methods/compressors.md#dqnet)."""

from __future__ import annotations

import math

import pytest
import torch

from methods.compressors.dqnet import METHOD
from methods.quant.choosing import choosers
from methods.quant.selectors import Controller, Told
from tests.compressors.dynamic_toys import compress, dynamic, scatter
from tests.compressors.recon_toys import digest, image_set

IMAGES = image_set(24, seed=3).images


def test_controller_is_pool_and_two_linear_layers() -> None:
    """Computed by hand in double from its parameters."""
    model = dynamic(selector="joint", after=0.25)
    quants = choosers(model.body)
    assert all(isinstance(quant.selector, Told) for quant in quants)
    controller = quants[0].selector.controller
    assert isinstance(controller, Controller)
    x = torch.rand(6, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    controller.eval()
    wanted = x.double().mean((2, 3)) @ controller.first.weight.double().t() + controller.first.bias.double()
    wanted = wanted @ controller.last.weight.double().t() + controller.last.bias.double()
    found = controller(x, 1, 1)
    assert found.shape == (6, len(quants), 3)
    torch.testing.assert_close(found.double().flatten(1), wanted, rtol=1e-4, atol=1e-5)
    assert len(controller.first.bias) == 64
    counted = sum(p.numel() for p in model.selectors)
    assert counted == sum(p.numel() for p in controller.parameters())


def test_layers_before_it_keep_the_bits_asked_for() -> None:
    """Of six layers the first two are its features' (0.25 of 6, rounded)."""
    (variant,) = compress(METHOD).variants
    assert list(variant.layer_bits)[:2] == ["stem.0", "conv1"]
    assert list(variant.bits_between) == ["conv2", "depthwise", "pointwise"]
    for low, high in variant.bits_between.values():
        assert (low, high) == ((3, 3), (5, 5))


def test_training_draws_and_use_does_not() -> None:
    model = dynamic(selector="joint", dropout=0.0)
    scatter(choosers(model.body))
    model.draw(torch.Generator().manual_seed(0))
    model.student.train()
    runs = []
    for _ in range(2):
        with torch.no_grad():
            model.student(IMAGES)
        runs.append(model.chosen())
    assert any(not torch.equal(runs[0][name], runs[1][name]) for name in runs[0])
    model.student.eval()
    sure = []
    for _ in range(2):
        with torch.no_grad():
            model.student(IMAGES)
        sure.append(model.chosen())
    assert all(torch.equal(sure[0][name], sure[1][name]) for name in sure[0])


@pytest.mark.parametrize("weight", [0.05, 1e3])
def test_mean_is_held_from_above(weight: float) -> None:
    """However great the weight, bits below those asked for cost nothing; above them they do."""
    report = compress(METHOD, bit_weight=weight, selector_lr=0.02, steps=25, dropout=0.0, settle=False).report
    assert 3 <= report["mean_bits"] <= 5
    if weight > 1:
        assert report["mean_bits"] <= 4.2


def test_it_can_be_settled() -> None:
    report = compress(METHOD, settle=True, bits_images=64, steps=20).report
    free = compress(METHOD, bits_images=64, steps=20, settle=False).report
    assert abs(report["mean_bits"] - 4) <= abs(free["mean_bits"] - 4)
    assert free["tilt"] == 0


def test_its_controller_is_drawn_from_the_contexts_generator() -> None:
    first, again, other = (compress(METHOD, seed=seed, steps=1) for seed in (0, 0, 1))
    assert digest(first.variants[0].module) == digest(again.variants[0].module)
    weights = [
        next(v for k, v in made.variants[0].module.state_dict().items() if k.endswith("controller.first.weight"))
        for made in (first, other)
    ]
    assert not torch.equal(*weights)
    assert float(weights[0].abs().max()) <= 1 / math.sqrt(8) + 0.01
