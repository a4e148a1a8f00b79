"""QDrop: keep probability 1 is the quantised forward, 0 the full-precision one; nothing random is left afterwards."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bench.interfaces import Setting
from methods.compressors import _recipes, _unit_quantisers
from methods.compressors._recipes import JOINT_STEP_TRAVEL, JointParams
from methods.compressors.qdrop import METHOD
from tests.compressors.recon_toys import context, digest, handle, image_set, nearest, quantised_weights

W3A4 = Setting(3, 4)


def compress(seed: int = 0, **params: Any) -> Any:
    return METHOD.compress(handle(), image_set(), W3A4, JointParams(**params), context(seed))


@pytest.fixture(scope="module")
def out() -> Any:
    """The result of the preset mini."""
    return compress()


def test_units_fit_better_than_nearest_with_everything_quantised(out: Any) -> None:
    for row in out.report["units"]:
        assert row["stage"] == "joint"
        if row["kept"] == "learned":
            assert row["hard"] <= row["rtn"]
    inner = [row for row in out.report["units"] if row["unit"] in ("conv1+conv2", "pointwise")]
    assert len(inner) == 2
    assert all(row["hard"] < 0.9 * row["rtn"] for row in inner)


def test_output_is_nearer_to_full_precision_than_nearest_rounding(out: Any) -> None:
    x = image_set(seed=1).images
    target = handle().module(x)
    plain = nearest(W3A4)
    learned = out.variants[0].module
    with torch.no_grad():
        assert float((learned(x) - target).square().mean()) < 0.8 * float((plain(x) - target).square().mean())


@pytest.mark.parametrize("keep", [0.0, 0.5, 1.0])
def test_keep_probability_in_a_unit(keep: float) -> None:
    net, images = nearest(W3A4), image_set().images
    unit = net.units[1]
    module = net.unit_module(unit)
    quantisers = [net.activations[name] for name in unit.activations]
    net.set_state(True, False)
    x = net.capture_inputs(unit, images)
    full = module(x)
    net.set_state(True, True)
    quantised = module(x)
    with _unit_quantisers.dropping(quantisers, keep, torch.Generator().manual_seed(0)):
        mixed, again = module(x), module(x)
    if keep == 0.5:
        assert not torch.equal(mixed, again)
        assert not torch.equal(mixed, full)
    else:
        assert torch.equal(mixed, quantised if keep else full)
    assert torch.equal(module(x), quantised)


def test_the_result_has_no_randomness_and_steps_moved() -> None:
    net = compress(iterations=40).variants[0].module
    x = image_set(seed=1).images
    assert torch.equal(net(x), net(x))
    assert all(quantiser.keep_probability == 1 for quantiser in net.activations.values())
    plain = nearest(W3A4)
    assert any(not torch.equal(q.scale, plain.activations[n].scale) for n, q in net.activations.items())
    assert all(float(q.scale.detach()) > 0 for q in net.activations.values())


def test_without_movement_it_is_nearest_rounding() -> None:
    net = compress(lr=0.0, step_lr=0.0, iterations=10).variants[0].module
    plain = nearest(W3A4)
    ours, theirs = quantised_weights(net), quantised_weights(plain)
    assert ours.keys() == theirs.keys() == net.weights.keys()
    assert net.activations.keys() == plain.activations.keys() != set()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert all(torch.equal(q.scale, plain.activations[n].scale) for n, q in net.activations.items())


def test_guard_restores_steps_too() -> None:
    out = compress(lr=10.0, step_lr=1.0, penalty=0.0, iterations=3)
    net, plain = out.variants[0].module, nearest(W3A4)
    kept = [row["unit"] for row in out.report["units"] if row["kept"] == "nearest"]
    assert kept
    for unit in net.units:
        if unit.name in kept:
            for name in unit.activations:
                assert torch.equal(net.activations[name].scale, plain.activations[name].scale)


def test_same_generator_same_network_and_inputs_stay() -> None:
    model, images = handle(), image_set()
    before, pixels = digest(model.module), images.images.clone()
    params = JointParams(iterations=20)
    nets = [METHOD.compress(model, images, W3A4, params, context(s)).variants[0].module for s in (0, 0, 1)]
    assert digest(nets[0]) == digest(nets[1])
    assert digest(nets[0]) != digest(nets[2])
    assert digest(model.module) == before
    assert torch.equal(images.images, pixels)


def test_presets_keep_the_travel() -> None:
    for preset, lr, step_lr in (
        ("mini", 20 / 280, 0.8 / 280),
        ("thorough", 20 / 700, 0.8 / 700),
        ("paper", 1e-3, 4e-5),
    ):
        params = JointParams(**METHOD.presets[preset])
        assert _recipes.rule_for(params, handle()).lr == pytest.approx(lr)
        assert _recipes.step_rate(params, params.iterations, JOINT_STEP_TRAVEL) == pytest.approx(step_lr)
