"""Distribution correction: distances by hand from what batch norms read, and how far activations move."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.interfaces import Setting
from methods.compressors._caches import Cache
from methods.compressors._correction import EPS, Corrected, Correction, correct, norms
from methods.quant.model import QuantModel, quantize_model
from tests.compressors.recon_toys import handle, image_set, nearest

W3A4 = Setting(3, 4)
BLOCK = "conv1+conv2"


def unit_of(net: QuantModel, name: str = BLOCK) -> tuple[Any, nn.Module, Cache]:
    unit = next(unit for unit in net.units if unit.name == name)
    net.set_state(False, False)
    return unit, net.unit_module(unit), Cache(net.capture_inputs(unit, image_set().images), channels_last=True)


def moved(closeness: float, over: Any = "image", iterations: int = 15) -> Corrected:
    net = nearest(W3A4)
    unit, module, x = unit_of(net)
    return correct(module, x, norms(net, unit, module), Correction(iterations, 0.02, closeness, over, 24))


@pytest.mark.parametrize("over", ["image", "batch"])
def test_what_batch_norms_read_is_told_from_folded_layers(over: Any) -> None:
    model, net = handle(), nearest(W3A4)
    unit, module, x = unit_of(net)
    seen = norms(net, unit, module)
    plain = model.module
    read: dict[str, Tensor] = {}
    for name in ("bn1", "bn2"):
        getattr(plain, name).register_forward_pre_hook(lambda _, args, name=name: read.update({name: args[0]}))
    plain(image_set().images)
    outputs: list[Tensor] = []
    for layer in ("conv1", "conv2"):
        net.quant_layer(layer).register_forward_hook(lambda _, __, output: outputs.append(output))
    module(x.all())
    for norm, output, (name, z) in zip(seen, outputs, read.items(), strict=True):
        want = 0.0
        batch = [z] if over == "batch" else list(z.split(1))
        for part in batch:
            maps = part.double().transpose(0, 1).flatten(1)
            mean, deviation = maps.mean(1), (maps.var(1, correction=1) + EPS).sqrt()
            stored = (getattr(plain, name).running_var.double() + EPS).sqrt()
            want += float((mean - getattr(plain, name).running_mean.double()).square().sum())
            want += float((deviation - stored).square().sum())
        assert float(norm.distance(output, over)) == pytest.approx(want / len(batch), rel=1e-4)


@pytest.mark.parametrize("over", ["image", "batch"])
def test_moved_activations_come_nearer_and_less_far_the_more_they_are_held(over: Any) -> None:
    free, held, tied = (moved(closeness, over) for closeness in (0.0, 50.0, 5000.0))
    for found in (free, held, tied):
        assert found.after <= found.before
    assert free.after < held.after < free.before
    assert free.moved > held.moved > tied.moved


def test_a_batch_that_would_come_no_nearer_stays() -> None:
    net = nearest(W3A4)
    unit, module, x = unit_of(net)
    found = correct(module, x, norms(net, unit, module), Correction(2, 1e4, 0.0, "image", 64))
    assert found.before == found.after
    assert torch.equal(found.inputs.all(), x.all())
    assert found.moved == 0


def test_norms_that_stayed_and_maps_of_one_position() -> None:
    net = nn.Sequential(
        nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 8), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 5)
    )
    model = handle(net)
    images = image_set().images
    quantised = quantize_model(model.module, images[:2], W3A4)
    found = [(unit, norm) for unit in quantised.units for norm in norms(quantised, unit, quantised.unit_module(unit))]
    assert sorted(norm.folded for _, norm in found) == [False, True]
    folded = next(norm for _, norm in found if norm.folded)
    seen = torch.randn(6, 4, 1, 1, generator=torch.Generator().manual_seed(1))
    assert torch.equal(folded.distance(seen, "image"), folded.distance(seen, "batch"))
    stayed = next(norm for _, norm in found if not norm.folded)
    z = stayed.mean.view(1, -1, 1, 1) + stayed.deviation.view(1, -1, 1, 1) * torch.tensor([-1.0, 1.0]).view(1, 1, 1, 2)
    assert float(stayed.distance(z, "image")) == pytest.approx(
        float(((2 * stayed.deviation.square() + EPS).sqrt() - stayed.deviation).square().sum()), rel=1e-4
    )


def test_a_channel_scaled_to_nothing_is_left_out() -> None:
    model = handle()
    with torch.no_grad():
        model.module.get_parameter("bn1.weight")[2] = 0.0
    net = quantize_model(model.module, image_set().images[:2], W3A4)
    unit, module, x = unit_of(net)
    seen = norms(net, unit, module)
    assert seen[0].alive.tolist() == [1.0, 1.0, 0.0, *[1.0] * 5]
    found = correct(module, x, seen, Correction(3, 0.01, 1.0, "image", 64))
    assert math.isfinite(found.after)
    assert found.after < found.before
