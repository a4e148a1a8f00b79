"""LIMPQ: what is shared and what is not, the joint step, indicators and their repair, costs."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.interfaces import LayerBits, Setting
from methods.policies._base import Budget, cheapest
from methods.policies._limpq_training import (
    Candidates,
    Indicators,
    JointModel,
    accumulate,
    advance,
    indicators,
    repaired,
    three_sigma_weight,
)
from methods.policies._space import Space, space_of
from methods.policies._switched import Switched
from methods.policies.limpq import METHOD, LimpqParams, costs
from methods.quant.learned import StepActivation
from tests.compressors.recon_toys import context, digest, handle, image_set

W3 = Setting(3, 3)
BITS = (2, 3, 4, 6)


def space() -> Space:
    return space_of(handle().module, image_set().images, W3)


def joint(bits: Candidates | None = None) -> JointModel:
    """The toy network with its switches and copies."""
    bits = bits or Candidates(BITS, BITS)
    images, where = image_set().images[:16], space()
    switched = Switched(handle().module, images, where, W3, (bits.weight, bits.act), three_sigma_weight, "lsq")
    return JointModel(switched, where, images[:2], bits)


def search(**params: Any) -> Any:
    small = {"steps": 3, "batch": 8, "samples": 32, "calibration": 16} | params
    return METHOD.search(handle(), image_set(), W3, LimpqParams(**small), context())


def test_weights_are_one_tensor_and_normalisations_are_copies() -> None:
    model = joint()
    assert {layer for _, layer in model.norms} == {None, "conv1", "conv2", "pointwise"}
    for norm, _ in model.norms:
        assert len(norm.copies) == len(BITS)
        tensors = [value.data_ptr() for copy in norm.copies for value in copy.state_dict().values()]
        assert len(set(tensors)) == len(tensors)
    held: Any = model.switched.net.get_submodule("conv1")
    weight = held.parametrizations.weight.original
    for index, bits in enumerate(BITS):
        model.uniform(index)
        assert held.parametrizations.weight.original is weight
        assert len(held.weight.unique()) <= 2**bits
    assert sum(p.shape == weight.shape for p in held.parameters()) == 1


def test_training_one_copy_leaves_the_others() -> None:
    model = joint()
    model.uniform(2)
    before = [[v.clone() for v in copy.state_dict().values()] for norm, _ in model.norms for copy in norm.copies]
    model.switched.net.train()
    model.switched.net(image_set().images[:8])
    after = [list(copy.state_dict().values()) for norm, _ in model.norms for copy in norm.copies]
    same = [all(torch.equal(a, b) for a, b in zip(x, y, strict=True)) for x, y in zip(before, after, strict=True)]
    assert same == [True, True, False, True] * len(model.norms)


def test_in_a_mixed_pass_a_normalisation_follows_the_weight_before_it() -> None:
    model = joint()
    chosen = []
    for seed in range(8):
        model.mixed(torch.Generator().manual_seed(seed))
        for norm, layer in model.norms:
            bits = 6 if layer is None else model.switched.weights[layer].chosen
            assert model.bits[norm.chosen] == bits
        chosen.append(tuple(switch.chosen for switch in model.switched.weights.values()))
    assert len(set(chosen)) > 4
    assert {bits for row in chosen for bits in row} == set(BITS)


def test_first_and_last_layer_stay_at_their_own_bits() -> None:
    model = joint()
    assert set(model.switched.weights) == {"conv1", "conv2", "depthwise", "pointwise"}
    for index in range(len(BITS)):
        model.uniform(index)
        for name in ("stem.0", "head"):
            held: Any = model.switched.net.get_submodule(name)
            assert held.parametrizations.weight[0].chosen == 8


def test_gradients_of_all_passes_are_summed() -> None:
    model, images = joint(), image_set().images[:8]
    labels = torch.arange(8) % 5
    held: Any = model.switched.net.get_submodule("conv2")
    weight = held.parametrizations.weight.original
    net = model.switched.net.eval()
    accumulate(model, images, labels, 0.1, torch.Generator().manual_seed(5))
    total = weight.grad.clone()
    expected = torch.zeros_like(total)
    for index in range(len(BITS) + 1):
        if index < len(BITS):
            model.uniform(index)
        else:
            model.mixed(torch.Generator().manual_seed(5))
        net.zero_grad()
        F.cross_entropy(net(images), labels, label_smoothing=0.1).backward()
        expected += weight.grad
    assert torch.allclose(total, expected, rtol=1e-4, atol=1e-7)
    assert float(expected.abs().max()) > 1e-4


def test_after_one_batch_every_step_and_copy_has_a_finite_gradient() -> None:
    model, images = joint(), image_set().images[:16]
    model.switched.net.train()
    accumulate(model, images, torch.arange(16) % 5, 0.1, torch.Generator())
    used = [(n, p) for n, p in model.switched.net.named_parameters() if p.requires_grad]
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for _, p in used if p.grad is not None)
    unused = [n for n, p in used if p.grad is None]
    assert unused == []


def test_values_are_cut_and_what_no_pass_used_does_not_drift() -> None:
    model = joint()
    params = LimpqParams(decay=0.5, step_most=0.75)
    held: Any = model.switched.net.get_submodule("conv1")
    weight, idle = held.parametrizations.weight.original, model.switched.net.get_submodule("pointwise")
    other: Any = idle
    left = other.parametrizations.weight.original
    weight.grad, left.grad = torch.full_like(weight, 7.0), torch.zeros_like(left)
    steps = model.steps()
    with torch.no_grad():
        steps[0].fill_(5.0)
        steps[1].fill_(-1e-9)
    before, kept = weight.detach().clone(), left.detach().clone()
    rule = torch.optim.SGD([{"params": [weight, left], "weight_decay": 0.5}], lr=0.1)
    advance(rule, model, params)
    assert torch.allclose(weight, before - 0.1 * (1.0 + 0.5 * before), atol=1e-6)
    assert torch.equal(left, kept)
    assert [float(step.detach()) for step in steps[:2]] == pytest.approx([0.75, 1e-5])


def test_steps_start_by_their_own_formula_at_each_of_the_bits() -> None:
    weight = torch.randn(6, 5, 3, 3, generator=torch.Generator().manual_seed(0)) + 0.2
    for bits in BITS:
        expected = max(abs(float(weight.mean() + s * 3 * weight.std())) for s in (-1, 1)) / 2 ** (bits - 1)
        assert float(three_sigma_weight(weight, bits).scale) == pytest.approx(expected)
    switch = joint().switched.inputs[space().searched[0].reads][0]
    options = [option for option in switch.options.values() if isinstance(option, StepActivation)]
    assert [option.bits for option in options] == list(BITS)
    ratios = [float(option.scale) * (2**option.bits - 1) ** 0.5 for option in options]
    assert ratios == pytest.approx([ratios[0]] * 4, rel=1e-5)


def test_indicators_are_positive_and_after_repair_do_not_grow_with_bits() -> None:
    report = search().report
    for kind in ("weight_indicators", "input_indicators"):
        for own in report[kind].values():
            assert all(step > 0 for step in own.values())
            kept, left = repaired({int(bits): step for bits, step in own.items()})
            assert all(kept[a] >= kept[b] for a, b in itertools.pairwise(kept))
            assert {*kept, *left} == set(BITS)


@pytest.mark.parametrize(
    ("steps", "kept", "left"),
    [
        ({2: 0.4, 3: 0.3, 4: 0.2, 6: 0.1}, {2: 0.4, 3: 0.3, 4: 0.2, 6: 0.1}, ()),
        ({2: 0.1, 3: 0.3, 4: 0.2, 6: 0.1}, {3: 0.3, 4: 0.2, 6: 0.1}, (2,)),
        ({2: 0.4, 3: 0.1, 4: 0.2, 6: 0.1}, {2: 0.4, 4: 0.2, 6: 0.1}, (3,)),
        ({2: 0.2, 3: 0.3, 4: 0.5, 6: 0.6}, {2: 0.4, 3: 0.4, 4: 0.4, 6: 0.4}, ()),
        ({4: 0.3}, {4: 0.3}, ()),
    ],
)
def test_outliers_are_left_out_or_made_monotone(
    steps: dict[int, float], kept: dict[int, float], left: tuple[int, ...]
) -> None:
    found, gone = repaired(steps)
    assert found == pytest.approx(kept)
    assert gone == left


def flat(where: Space, value: float = 0.5) -> Indicators:
    """The same step everywhere."""
    own = dict.fromkeys(BITS, value)
    return Indicators({p.name: own for p in where.searched}, {p.name: own for p in where.searched if p.input})


def test_costs_are_the_inputs_step_and_alpha_times_the_weights() -> None:
    where = space()
    place = where.searched[0]
    own = {2: 0.4, 3: 0.3, 4: 0.2, 6: 0.1}
    inputs = {2: 1.0, 3: 0.2, 4: 0.6, 6: 0.5}
    found = Indicators({p.name: own for p in where.searched}, {p.name: inputs for p in where.searched if p.input})
    cost, outliers = costs(found, 2.0)
    assert cost(place, LayerBits(3, 6)) == pytest.approx(0.5 + 2 * 0.3)
    assert outliers == {f"{p.name} input": [3] for p in where.searched if p.input}
    worst = sum(cost(p, LayerBits(2, 2)) for p in where.searched)
    assert cost(place, LayerBits(6, 3)) > worst


def test_equal_indicators_leave_the_choice_to_the_tie() -> None:
    """Any policy is optimal; the one of fewest BitOPs is taken, each time."""
    where = space()
    cost, _ = costs(flat(where), 2.0)
    found = [cheapest(where, W3, LimpqParams(), cost) for _ in range(2)]
    assert found[0] == found[1]
    assert set(found[0].policy.values()) == {LayerBits(2, 2)}
    any_other = sum(cost(place, LayerBits(6, 3)) for place in where.searched)
    assert found[0].cost == pytest.approx(any_other)


def test_the_budget_is_hard() -> None:
    for share in (0.9, 1.0, 1.6):
        report = search(steps=1, budget=Budget(uniform=share)).report
        assert report["bitops"] <= report["budget_bitops"]


def test_candidates_of_weights_and_inputs_may_differ() -> None:
    model = joint(Candidates((2, 4), (3, 8)))
    assert model.bits == (2, 3, 4, 8)
    model.uniform(3)
    assert {switch.chosen for switch in model.switched.weights.values()} == {4}
    assert {switch.chosen for own in model.switched.inputs.values() for switch in own} == {8}
    found = indicators(model.switched, space())
    assert all(set(own) == {2, 4} for own in found.weights.values())
    assert all(set(own) == {3, 8} for own in found.inputs.values())


def test_it_is_a_function_of_its_inputs_and_the_seed() -> None:
    net, given = handle(), image_set()
    before = digest(net.module)
    params = LimpqParams(steps=2, batch=8, samples=16, calibration=8)
    one, same, other = (METHOD.search(net, given, W3, params, context(seed)) for seed in (0, 0, 1))
    assert one == same
    assert one.report["weight_indicators"] != other.report["weight_indicators"]
    assert digest(net.module) == before
    # Labels, first ranges, and forward and backward of five passes in two steps.
    assert one.forward_equivalents == 16 + 8 + 2 * 8 * 2 * 5


def test_given_labels_are_used() -> None:
    given = image_set()
    params = LimpqParams(steps=2, batch=8, samples=16, calibration=8)
    answers = handle().module(given.images).argmax(1)

    def losses(labels: Tensor | None) -> float:
        found = METHOD.search(handle(), replace(given, labels=labels), W3, params, context())
        return float(found.report["loss_first"])

    assert losses(answers) == losses(None)
    assert losses((answers + 1) % 5) > losses(None)


def test_a_network_without_normalisation_has_none_to_copy() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, 5),
    )  # fmt: skip
    params = LimpqParams(steps=1, batch=4, samples=8, calibration=8)
    found = METHOD.search(handle(net), image_set(8), W3, params, context())
    assert set(found.policy) == {"2"}
