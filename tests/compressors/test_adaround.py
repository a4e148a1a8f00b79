"""AdaRound: one unit per layer; rounding against brute force is in tests/benchmarks/test_rounding.py."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from bench.interfaces import Setting
from methods.compressors import _recipes
from methods.compressors.adaround import METHOD, AdaRoundParams
from tests.compressors.recon_toys import context, digest, handle, image_set, nearest, quantised_weights

W3A4 = Setting(3, 4)


def compress(seed: int = 0, **params: Any) -> Any:
    return METHOD.compress(handle(), image_set(), W3A4, AdaRoundParams(**params), context(seed))


def test_every_layer_is_a_unit_and_fits_better_than_nearest() -> None:
    out = compress()
    net = out.variants[0].module
    assert [unit.layers for unit in net.units] == [(name,) for name in net.weights]
    rows = out.report["units"]
    assert [row["stage"] for row in rows] == ["rounding"] * len(net.weights)
    assert rows[0]["layers"] == 0
    for row in rows[1:]:
        assert row["hard"] <= row["rtn"] if row["kept"] == "learned" else row["hard"] > row["rtn"]
    better = [row["hard"] < 0.9 * row["rtn"] for row in rows[1:] if row["unit"] != "depthwise"]
    assert all(better)


def test_activation_steps_stay_calibrated() -> None:
    net = compress(iterations=20).variants[0].module
    plain = nearest(W3A4)
    assert net.activations.keys() == plain.activations.keys() != set()
    for name, quantiser in net.activations.items():
        assert torch.equal(quantiser.scale, plain.activations[name].scale)


def test_without_movement_it_is_nearest_rounding() -> None:
    net = compress(lr=0.0, iterations=10).variants[0].module
    plain = nearest(W3A4)
    ours, theirs = quantised_weights(net), quantised_weights(plain)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_same_generator_same_network_and_inputs_stay() -> None:
    model, images = handle(), image_set()
    before, pixels = digest(model.module), images.images.clone()
    params = AdaRoundParams(iterations=20)
    nets = [METHOD.compress(model, images, W3A4, params, context()).variants[0].module for _ in range(2)]
    assert digest(nets[0]) == digest(nets[1])
    assert digest(model.module) == before
    assert torch.equal(images.images, pixels)


def test_presets_keep_the_travel_and_units_are_layers() -> None:
    for preset, lr in (("mini", 0.1), ("thorough", 0.04), ("paper", 1e-3)):
        params = AdaRoundParams(**METHOD.presets[preset])
        assert _recipes.rule_for(params, handle()).lr == pytest.approx(lr)
    with pytest.raises(ValidationError):
        AdaRoundParams(max_layers=2)
