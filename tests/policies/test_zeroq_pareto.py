"""ZeroQ: one layer alone, computed apart; sensitivities that fall with the bits; the sum and its front."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.interfaces import LayerBits, Setting
from bench.interfaces.inventory import probe_images
from methods.policies._base import Budget
from methods.policies._sensitivity import divergence, wired
from methods.policies._space import space_of
from methods.policies.zeroq_pareto import METHOD, ZeroqParetoParams, measured
from methods.quant.calibrate import Sampling
from methods.quant.ranges import search_range
from tests.compressors.recon_toys import Residual, context, digest, handle, image_set
from tests.quant.nets import seeded

W3 = Setting(3, 3)


def search(net: nn.Module | None = None, **params: Any) -> Any:
    small = {"samples": 32, "points": 0} | params
    return METHOD.search(handle(net), image_set(), W3, ZeroqParetoParams(**small), context())


class Line(nn.Module):
    """Three layers and nothing to fold; the middle one scales each of two channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.last = (nn.Conv2d(2, 2, 1, bias=False) for _ in range(3))
        for layer, diagonal in ((self.first, (1.0, 1.0)), (self.middle, (0.9, -0.7)), (self.last, (3.0, 3.0))):
            layer.weight.data.copy_(torch.diag(torch.tensor(diagonal))[..., None, None])

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(torch.relu(self.middle(torch.relu(self.first(x)))))
        return x.mean((2, 3))


def test_divergence_of_two_coins() -> None:
    """KL((1/2, 1/2) || (3/4, 1/4)) = ln(2/sqrt(3)); it is not symmetric, and never negative."""
    even, odd = torch.zeros(1, 2), torch.tensor([[3.0, 1.0]]).log()
    assert divergence(even, odd) == pytest.approx(0.143841, abs=1e-6)
    assert divergence(odd, even) == pytest.approx(0.130812, abs=1e-6)
    assert divergence(odd, odd) == 0.0
    assert divergence(torch.cat([even, odd]), torch.cat([odd, odd])) == pytest.approx(0.143841 / 2, abs=1e-6)


def test_one_layer_alone_is_what_its_rounded_weight_gives() -> None:
    """Computed again without quantised networks: the weight's own grid, a plain forward, a plain divergence."""
    net = Line().eval().requires_grad_(False)
    data = torch.rand(16, 2, 4, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 0.5])[:, None, None]
    where = space_of(net, data, W3)
    params = ZeroqParetoParams(samples=16, range_values=4096)
    table, passes = measured(net, data, where, W3, params, context())
    full = net(data).log_softmax(1)
    for bits in params.weight_bits:
        weight = net.middle.weight.clone()
        step, zero = search_range(weight, bits, 0)
        step, zero = step.view(2, 1, 1, 1), zero.view(2, 1, 1, 1)
        rounded = step * ((weight / step).round().clamp(-zero, 2**bits - 1 - zero))
        hidden = torch.relu(nn.functional.conv2d(torch.relu(net.first(data)), rounded))
        other = net.last(hidden).mean((2, 3)).log_softmax(1)
        expected = float((full.exp() * (full - other)).sum(1).mean())
        assert table.weights["middle", bits] == pytest.approx(max(expected, 0.0), rel=1e-3, abs=1e-9)
    assert set(table.weights) == {("middle", bits) for bits in params.weight_bits}
    # Of each bit-width: the full network, a layer, its input, and the calibration.
    assert passes == 4 * (16 * 3 + 16)


def test_one_tensor_alone_is_what_its_rounded_values_give() -> None:
    net = Line().eval().requires_grad_(False)
    data = torch.rand(16, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    where = space_of(net, data, W3)
    table, _ = measured(net, data, where, W3, ZeroqParetoParams(samples=16, range_values=4096), context())
    (place,) = where.searched
    full, x = net(data).log_softmax(1), torch.relu(net.first(data))
    step, _ = search_range(x, 2, method="mse-2d", grid="unsigned")
    rounded = step * (x / step).round().clamp(0, 3)
    other = net.last(torch.relu(net.middle(rounded))).mean((2, 3)).log_softmax(1)
    expected = float((full.exp() * (full - other)).sum(1).mean())
    assert expected > 1e-5
    assert table.inputs[place.reads, 2] == pytest.approx(expected, rel=1e-3)


def test_sensitivities_are_not_negative_and_fall_with_bits() -> None:
    """From 2 to 8 bits errors fall by a factor of 64, so the divergence has to."""
    found = search(weight_bits=(2, 4, 8), act_bits=(2, 4, 8)).report["sensitivities"]
    assert set(found["weights"]) == {"conv1", "conv2", "depthwise", "pointwise"}
    for kind in ("weights", "inputs"):
        assert found[kind]
        for own in found[kind].values():
            assert own["2"] > own["8"] >= 0
            assert own["2"] > 20 * own["8"]
    total = {bits: sum(own[bits] for own in found["weights"].values()) for bits in ("2", "4", "8")}
    assert total["2"] > total["4"] > total["8"]


def test_all_quantisers_are_off_but_the_one_that_is_asked_for() -> None:
    module, images = handle().module, image_set().images
    where = space_of(module, images, W3)
    found = wired(module, images, where, W3, 2, Sampling(32))
    probes = probe_images(images, 4)
    assert torch.allclose(found.net(probes), module(probes), atol=1e-5)
    assert all(found.net.weights[place.name].bits == 2 for place in where.searched)
    (weight,) = found.weight("conv2")
    weight.enabled = True  # type: ignore[assignment]
    assert not torch.allclose(found.net(probes), module(probes), atol=1e-3)
    # Both readers of the stem's output have its quantiser, and no other.
    shared = [place.name for place in where.searched if place.reads == where.searched[0].reads]
    (quantiser,) = found.inputs(shared)
    assert quantiser.bits == 2


def test_the_policy_is_within_the_budget_and_omega_is_the_sum() -> None:
    found = search(points=6)
    report = found.report
    assert report["bitops"] <= report["budget_bitops"]
    where = space_of(handle().module, image_set().images, W3)
    table, omega, counted = report["sensitivities"], 0.0, set()
    for place in where.searched:
        bits = found.policy[place.name]
        assert set(bits) <= {2, 3, 4, 6}
        omega += table["weights"][place.name][str(bits.weight)]
        if place.input and place.reads not in counted:
            counted.add(place.reads)
            omega += table["inputs"][place.reads][str(bits.input)]
    assert report["omega"] == pytest.approx(omega)
    assert len(report["front"]) >= 3
    for one, other in itertools.pairwise(report["front"]):
        assert other[0] < one[0]
        assert other[1] > one[1]
    # The front's least is what the fewest bits take: a policy of the whole network.
    assert report["front"][-1][0] == where.bitops(where.uniform(2, 2))


def test_a_wider_budget_never_raises_omega() -> None:
    found = [search(budget=Budget(uniform=share)).report["omega"] for share in (0.9, 1.0, 3.0)]
    assert found[0] >= found[1] >= found[2]
    assert found[0] > found[2]


def test_without_inputs_weights_alone_are_measured() -> None:
    found = search(activations=False, equal=True)
    assert found.report["sensitivities"]["inputs"] == {}
    assert all(bits.weight == bits.input for bits in found.policy.values())


def test_labels_and_the_generator_do_not_matter_and_nothing_is_changed() -> None:
    net, given = handle(), image_set()
    before = digest(net.module)
    params = ZeroqParetoParams(samples=16, points=0)
    one = METHOD.search(net, given, W3, params, context(0))
    labelled = replace(given, labels=torch.zeros(64, dtype=torch.int64))
    assert METHOD.search(net, labelled, W3, params, context(1)) == one
    assert digest(net.module) == before
    assert isinstance(one.policy["conv1"], LayerBits)


class Untraced(nn.Module):
    """Its path depends on a value, so there is no graph."""

    def __init__(self) -> None:
        super().__init__()
        self.net = seeded(Residual)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x if float(x.sum()) != 0.125 else -x)
        return out


def test_a_network_without_a_graph_is_measured_layer_by_layer() -> None:
    found = search(Untraced())
    assert found.report["bitops"] <= found.report["budget_bitops"]
    assert set(found.report["sensitivities"]["weights"]) == {
        "net.conv1", "net.conv2", "net.depthwise", "net.pointwise",
    }  # fmt: skip
    for own in found.report["sensitivities"]["inputs"].values():
        assert own["2"] > own["6"] >= 0
