"""PD-Quant: its divergence against a plain sum and finite differences, what runs in full precision, and QDrop
where both parts are off."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.errors import NotApplicable
from bench.interfaces import Setting
from methods.compressors._caches import Cache
from methods.compressors._prediction import Prediction, PredictionDifference, divergence
from methods.compressors._recipes import JointParams, compress, joint_recipe, rule_for
from methods.compressors.pd_quant import METHOD, PDQuantParams, correction_for, prediction_for
from methods.quant.model import quantize_model
from tests.compressors.recon_toys import Residual, context, digest, handle, image_set, nearest, quantised_weights
from tests.quant.nets import randomise

W3A4 = Setting(3, 4)
BLOCK = "conv1+conv2"


def made(net: nn.Module | None = None, **params: Any) -> Any:
    return METHOD.compress(handle(net), image_set(), W3A4, PDQuantParams(**params), context())


def by_hand(logits: Tensor, full: Tensor, temperature: float) -> float:
    """The divergence as a plain sum over images and classes."""
    total = 0.0
    for ours, theirs in zip(logits.tolist(), full.tolist(), strict=True):
        q, p = ([math.exp(v / temperature) for v in row] for row in (ours, theirs))
        for a, b in zip(p, q, strict=True):
            total += a / sum(p) * (math.log(a / sum(p)) - math.log(b / sum(q)))
    return total / len(logits)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_divergence_is_the_plain_sum_and_its_gradient_the_difference_quotient(temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, full = (3 * torch.randn(4, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    assert float(divergence(logits, full, temperature)) == pytest.approx(by_hand(logits, full, temperature), rel=1e-12)
    leaf = logits.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(divergence(leaf, full, temperature), leaf)
    step = 1e-5
    for image, kind in torch.cartesian_prod(torch.arange(4), torch.arange(5)).tolist():
        shift = torch.zeros_like(logits)
        shift[image, kind] = step
        ends = [by_hand(logits + sign * shift, full, temperature) for sign in (1, -1)]
        assert float(gradient[image, kind]) == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-9)


def test_it_is_zero_where_nothing_is_quantised_and_positive_where_something_is() -> None:
    net, images = nearest(W3A4), image_set().images
    difference = PredictionDifference(net, images, Prediction(10.0, 4.0, 16))
    index = torch.arange(16)
    quantised = []
    for unit in net.units:
        net.set_state(False, False)
        module = net.unit_module(unit)
        x = Cache(net.capture_inputs(unit, images))
        assert float(difference.term(unit, module, x)[0](index)) == pytest.approx(0.0, abs=1e-6)
        net.set_state(True, True)
        with torch.no_grad():
            quantised.append(float(difference.term(unit, module, x)[0](index)))
    assert min(quantised[:-1]) > 1e-5  # the last has eight bits


def test_before_a_unit_all_is_quantised_and_behind_it_nothing() -> None:
    net, images = nearest(W3A4), image_set().images
    net.set_state(True, True)
    difference = PredictionDifference(net, images, Prediction(2.0, 3.0, 2))
    index = torch.tensor([5, 3, 60])
    full = handle().module(images[index])[:2]
    for position, unit in enumerate(net.units):
        net.set_state(True, True)
        x = Cache(net.capture_inputs(unit, images))
        difference.alone(unit)
        done = net.units[: position + 1]
        weights = {name for other in done for name in other.layers}
        assert {name for name, quantiser in net.weights.items() if quantiser.enabled} == weights
        on = {name for other in done for name in other.activations}
        assert {name for name, quantiser in net.activations.items() if quantiser.enabled} == on
        with torch.no_grad():
            found = float(difference.term(unit, net.unit_module(unit), x)[0](index))
            want = 2.0 * by_hand(net(images[index[:2]]), full, 3.0)  # the whole network in that state
        assert found == pytest.approx(want, rel=1e-3, abs=1e-6)


def test_its_gradient_reaches_the_units_steps_through_what_follows() -> None:
    net, images = nearest(W3A4), image_set().images
    difference = PredictionDifference(net, images, Prediction(1.0, 1.0, 32))
    unit = net.units[1]
    net.set_state(True, True)
    x = Cache(net.capture_inputs(unit, images))
    difference.alone(unit)
    steps = [net.activations[name].scale for name in unit.activations]
    for step in steps:
        step.requires_grad_(True)
    difference.term(unit, net.unit_module(unit), x)[0](torch.arange(32)).backward()
    assert all(step.grad is not None and float(step.grad.abs()) > 0 for step in steps)


class Dense(nn.Module):
    """What the first layer gives is read by all that follow: behind the second no one tensor tells the answers."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.three, self.head = nn.Conv2d(8, 6, 1), nn.Linear(14, 5)

    def forward(self, x: Tensor) -> Tensor:
        one = torch.relu(self.one(x))
        two = torch.relu(self.two(one))
        three = torch.relu(self.three(torch.cat((one, two), 1)))
        logits: Tensor = self.head(torch.cat((one, two, three), 1).mean((2, 3)))
        return logits


def test_where_more_than_one_tensor_leads_on_the_whole_network_runs() -> None:
    model, images = handle(Dense()), image_set().images
    net = quantize_model(model.module, images[:2], W3A4, max_layers=1)
    net.calibrate(images)
    assert any(net.rest_module(unit) is None for unit in net.units)
    difference = PredictionDifference(net, images, Prediction(1.0, 1.0, 32))
    index = torch.arange(8)
    for unit in net.units:
        net.set_state(True, True)
        x = Cache(net.capture_inputs(unit, images))
        difference.alone(unit)
        with torch.no_grad():
            found = float(difference.term(unit, net.unit_module(unit), x)[0](index))
            want = by_hand(net(images[index]), model.module(images[index]), 1.0)
        assert found == pytest.approx(want, rel=1e-3, abs=1e-6)


def test_with_both_off_it_is_the_joint_stage_bit_for_bit() -> None:
    model, images = handle(), image_set()
    ours = made(iterations=20, prediction=0.0, correction_iterations=0)
    params = JointParams(iterations=20)
    theirs = compress(model, images, W3A4, params, joint_recipe(params, rule_for(params, model)), context())
    assert digest(ours.variants[0].module) == digest(theirs.variants[0].module)
    assert ours.forward_equivalents == theirs.forward_equivalents


def test_each_part_changes_the_network() -> None:
    few: dict[str, Any] = {"iterations": 20, "correction_iterations": 5, "batch": 16}
    parts: list[dict[str, Any]] = [{}, {"prediction": 0.0}, {"correction_iterations": 0}, {"reconstruction": 0.5}]
    parts += [{"prediction": 0.0, "correction_iterations": 0}, {"statistics": "batch"}, {"temperature": 1.0}]
    assert len({digest(made(**few | part).variants[0].module) for part in parts}) == len(parts)


def test_the_cost_is_that_of_the_forward_passes() -> None:
    few: dict[str, Any] = {"iterations": 10, "batch": 16, "prediction_batch": 4}
    off = made(**few, prediction=0.0, correction_iterations=0).forward_equivalents
    units, count = 5, 64
    answers = made(**few, correction_iterations=0).forward_equivalents - off
    # the stem learns nothing; of the others each runs itself and what follows, there and back
    assert answers == pytest.approx(count + sum(2 * behind / units for behind in (4, 3, 2, 1)) * 10 * 4)
    moving = made(**few, prediction=0.0, correction_iterations=3).forward_equivalents - off
    assert moving == pytest.approx(2 * (2 * 3 + 2) * count / units)  # two units that hold batch norms


def test_units_fit_better_than_nearest_and_answers_are_nearer() -> None:
    out = made(iterations=120, correction_iterations=10)
    rows = {row["unit"]: row for row in out.report["units"]}
    assert all(row["hard"] < row["rtn"] for row in rows.values() if row["kept"] == "learned")
    assert rows[BLOCK]["hard"] < 0.9 * rows[BLOCK]["rtn"]
    assert rows[BLOCK]["bn_after"] < rows[BLOCK]["bn_before"]
    assert "bn_after" not in rows["head"]
    x = image_set(seed=1).images
    full = handle().module(x)
    with torch.no_grad():
        ours, plain = (divergence(net(x), full, 1.0) for net in (out.variants[0].module, nearest(W3A4)))
    assert float(ours) < 0.8 * float(plain)


def test_zeros_stay_and_the_network_given_stays() -> None:
    net = Residual()
    with torch.no_grad():
        net.conv1.weight[:, ::2] = 0
    model = handle(net)
    before = digest(model.module)
    out = METHOD.compress(model, image_set(), W3A4, PDQuantParams(iterations=10, correction_iterations=3), context())
    assert not quantised_weights(out.variants[0].module)["conv1"][:, ::2].any()
    assert digest(model.module) == before
    assert not any(part._forward_hooks for part in out.variants[0].module.modules())


def test_without_batch_norm_it_does_not_apply_unless_the_correction_is_off() -> None:
    model = handle(randomise(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))))
    with pytest.raises(NotApplicable, match="batch norm"):
        METHOD.check(PDQuantParams(), model)
    METHOD.check(PDQuantParams(correction_iterations=0), model)


@pytest.mark.parametrize(
    ("architecture", "temperature", "closeness"),
    [
        ("resnet18", 4.0, 50.0),
        ("mobilenetv2_100", 1.0, 200.0),
        ("mnasnet1_0", 1.0, 1000.0),
        ("regnetx_004", 4.0, 100.0),
    ],
)
def test_auto_is_the_authors_value(architecture: str, temperature: float, closeness: float) -> None:
    model, params = handle(architecture=architecture), PDQuantParams()
    prediction, correction = prediction_for(params, model), correction_for(params, model)
    assert prediction is not None
    assert correction is not None
    assert (prediction.weight, prediction.temperature, prediction.images) == (10.0, temperature, 8)
    assert correction.closeness == closeness
    paper = correction_for(PDQuantParams(**METHOD.presets["paper"]), model)
    assert paper is not None
    assert paper.lr == pytest.approx(1e-3)
