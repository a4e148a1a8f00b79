"""Plain rounding end to end (docs/methods/compressors.md#rtn)."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bench.errors import NotApplicable
from bench.interfaces import Setting
from methods.compressors.rtn import METHOD, RtnParams
from tests.compressors.quant_toys import context, handle, image_set
from tests.quant.nets import Chain, images, randomise


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def error_at(tmp_path: Path, setting: Setting, **params: Any) -> float:
    net = randomise(Chain())
    x = images(64)
    done = METHOD.compress(handle(net), image_set(x), setting, RtnParams(**params), context(tmp_path))
    with torch.no_grad():
        test = images(64, seed=9)
        return float((done.variants[0].module(test) - net(test)).norm() / net(test).norm())


def test_more_bits_are_nearer_to_the_network(tmp_path: Path) -> None:
    errors = [error_at(tmp_path, Setting(b, b)) for b in (2, 4, 8)]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[2] < 0.02
    assert error_at(tmp_path, Setting(32, 32)) < 1e-5


def test_searched_ranges_beat_minmax_on_heavy_tails(tmp_path: Path) -> None:
    net = randomise(Chain())
    with torch.no_grad():
        for part in net.modules():
            if isinstance(part, nn.Conv2d):
                part.weight.copy_(torch.randn(part.weight.shape).pow(3) * 0.1)
    errors = []
    for method in ("mse", "minmax"):
        params = RtnParams(weight_range=method, per_channel=False)
        done = METHOD.compress(handle(net), image_set(images(16)), Setting(3, 3), params, context(tmp_path))
        errors.append(done.report["weight_error"])
    assert errors[0]["6"] < errors[1]["6"]


def test_result_is_repeatable_and_leaves_the_model_and_images(tmp_path: Path) -> None:
    net, x = randomise(Chain()), images(16)
    before, kept = copy.deepcopy(net.state_dict()), x.clone()
    outs = []
    for _ in range(2):
        done = METHOD.compress(handle(net), image_set(x), Setting(4, 4), RtnParams(), context(tmp_path))
        with torch.no_grad():
            outs.append(done.variants[0].module(x))
    assert torch.equal(*outs)
    assert torch.equal(x, kept)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_the_result_says_what_it_is(tmp_path: Path) -> None:
    done = METHOD.compress(
        handle(randomise(Chain())), image_set(images(16)), Setting(4, 4), RtnParams(), context(tmp_path)
    )
    (variant,) = done.variants
    assert (variant.setting.weight_bits, variant.setting.act_bits) == (4, 4)
    assert variant.layer_bits["0"] == (8, 8)
    assert variant.layer_bits["6"] == (4, 4)
    assert variant.scales == variant.zero_points == 12 + 12 + 24 + 12 + 5 + 4
    assert done.variants[0].protocol["path"] == "graph"
    assert done.variants[0].protocol["weight_grid"] == "affine"
    errors = done.report["weight_error"]
    assert 0 < errors["0"] < errors["6"] < 0.3
    assert done.forward_equivalents == 16


def test_nearest_rounding_is_what_the_layers_compute(tmp_path: Path) -> None:
    done = METHOD.compress(
        handle(randomise(Chain())), image_set(images(16)), Setting(3, 32), RtnParams(), context(tmp_path)
    )
    net: Any = done.variants[0].module
    quantizer, weight = net.weights["6"], net.layer("6").weight
    level = torch.round(weight / quantizer.scale) + quantizer.zero_point
    expected = quantizer.scale * (level.clamp(0, 7) - quantizer.zero_point)
    torch.testing.assert_close(quantizer(weight), expected, rtol=0, atol=1e-6)


def test_a_network_without_layers_is_not_applicable() -> None:
    with pytest.raises(NotApplicable):
        METHOD.check(RtnParams(), handle(nn.Sequential(nn.Flatten())))


@pytest.mark.parametrize("preset", ["mini", "thorough", "paper"])
def test_presets_are_valid(preset: str) -> None:
    assert METHOD.Params(**METHOD.presets[preset])
