"""Reconstruction units (docs/methods/quantisation.md#units, #invariant-7)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from bench.interfaces import Setting
from bench.zoo.small import BUILDERS
from methods.quant.graph import prepare
from methods.quant.layers import is_global_pool
from methods.quant.model import QuantModel, quantize_model
from methods.quant.units import describe_units, find_units
from tests.quant.nets import Chain, images, randomise

MOBILE = {"width": 0.25, "stem": 8}
SMALL = {
    "resnet": (10, {"block": "basic", "layers": [2, 2, 2, 2], "channels": [8, 16, 16, 16]}),
    "mobilenet_v2": (20, {**MOBILE, "head": 32}),
    "mnasnet": (20, {**MOBILE, "head": 32}),
    "efficientnet_b0": (19, {**MOBILE, "head": 32}),
    "mobilenet_b": (15, MOBILE),
    "vgg_bn": (5, {"widths": [8, "M", 8, "M", 8, 8]}),
    "shufflenet_v2": (19, {"repeats": [4, 8, 4], "channels": [8, 16, 32, 64, 64]}),
}


def run_units(model: QuantModel, x: Tensor) -> Tensor:
    for unit in model.units:
        x = model.unit_module(unit)(x)
    return x


@pytest.mark.parametrize("name", SMALL)
def test_our_targets_are_chains_of_blocks(name: str) -> None:
    count, kwargs = SMALL[name]
    net = randomise(BUILDERS[name](5, 1, **kwargs))
    x = images(2, 32, channels=1)
    model = quantize_model(net, x, Setting(4, 4), weight_range="minmax", act_range="minmax")
    assert len(model.units) == count
    assert all(unit.chain for unit in model.units)
    covered = [layer for unit in model.units for layer in unit.layers]
    assert sorted(covered) == sorted(model.weights)
    inside = [act for unit in model.units for act in unit.activations]
    assert inside == list(model.activations)
    model.calibrate(x)
    other = images(3, 32, channels=1, seed=1)
    with torch.no_grad():
        for state in ((False, False), (True, False), (True, True)):
            model.set_state(*state)
            assert torch.equal(run_units(model, other), model(other))


class Pooled(nn.Module):
    """Two convolutions, maps of 8 by 8 pooled to one value each in one of the spellings, a classifier."""

    def __init__(self, pool: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.pool, self.head = pool, nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.pool(self.conv(self.stem(x).relu()).relu()).flatten(1))
        return logits


SPELLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "adaptive": nn.AdaptiveAvgPool2d(1),
    "adaptive function": lambda x: F.adaptive_avg_pool2d(x, 1),
    "mean": lambda x: x.mean((2, 3)),
    "size as a number": lambda x: F.avg_pool2d(x, 8),
    "size of the map": lambda x: F.avg_pool2d(x, x.size()[3]),
    "module": nn.AvgPool2d(8),
    "maximum": nn.MaxPool2d(8),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_pool_to_one_value_is_global_whatever_its_spelling(spelling: str) -> None:
    x = images(2, 8)
    model = quantize_model(Pooled(SPELLINGS[spelling]), x, Setting(4, 4), weight_range="minmax")
    last = model.units[-2]  # the convolution before the pool is fitted on its maps, not on one number for each
    assert last.layers == ("conv",)
    assert model.unit_module(last)(model.capture_inputs(last, x)).shape == (2, 8, 8, 8)


@pytest.mark.parametrize("pool", [nn.AvgPool2d(4), nn.AdaptiveAvgPool2d(2), nn.MaxPool2d(4)])
def test_a_pool_to_more_than_one_value_is_not_global(pool: nn.Module) -> None:
    graph = prepare(Pooled(nn.Sequential(pool, nn.AdaptiveAvgPool2d(1))), images(2, 8)).graph
    assert graph is not None
    found = {node.name: is_global_pool(graph, node) for node in graph.graph.nodes if node.op == "call_module"}
    assert found["pool_0"] is False
    assert found["pool_1"] is True


def test_a_block_of_mobilenet_b_is_depthwise_and_pointwise() -> None:
    net = BUILDERS["mobilenet_b"](5, 1, **MOBILE)
    blocks = [layers for _, rule, layers in describe_units(net, images(2, 32, channels=1)) if rule == "class"]
    assert len(blocks) == 13
    assert all([name.rpartition(".")[2] for name in layers] == ["conv_dw", "conv_pw"] for layers in blocks)


def test_a_unit_shares_weights_and_quantisers_with_the_model() -> None:
    model = quantize_model(randomise(Chain()), images(), Setting(3, 3))
    model.calibrate(images())
    unit = next(u for u in model.units if "6" in u.layers)
    part = model.unit_module(unit)
    with torch.no_grad():
        x = model.capture_inputs(unit, images())
        before = part(x)
        assert len(before.unique()) <= 8
        model.layer("6").weight.mul_(1.5)
        model.refresh_weight_ranges()
        assert not torch.equal(part(x), before)
        model.set_state(True, False)
        assert len(part(x).unique()) > 8


def test_a_global_pooling_belongs_to_the_unit_behind_it_a_strided_one_to_the_unit_before() -> None:
    net = randomise(BUILDERS["vgg_bn"](5, 3, widths=[8, "M", 8]))
    model = quantize_model(net, images(2, 16), Setting(4, 4))
    shapes = []
    x = images(2, 16)
    for unit in model.units:
        x = model.unit_module(unit)(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(8, 8, 8), (8, 8, 8), (5,)]


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_captured_inputs_equal_the_carried_ones(batch: int) -> None:
    net = randomise(BUILDERS["mobilenet_v2"](5, 1, **MOBILE, head=32))
    x = images(5, 32, channels=1)
    model = quantize_model(net, x, Setting(4, 4), weight_range="minmax")
    model.set_state(True, False)
    carried = x
    with torch.no_grad():
        for unit in model.units[:6]:
            torch.testing.assert_close(model.capture_inputs(unit, x, batch), carried, rtol=1e-5, atol=1e-5)
            carried = model.unit_module(unit)(carried)
    captured = model.capture_inputs(model.units[2], x)
    kept = captured.clone()
    model.layer("conv_stem").weight.data.mul_(2)
    assert torch.equal(captured, kept)


def test_densenet_falls_apart_into_layers_off_the_chain() -> None:
    net = randomise(torchvision.models.DenseNet(8, (6, 6), 16, num_classes=5))
    x = images(2, 40)
    model = quantize_model(net, x, Setting(4, 4), weight_range="minmax")
    model.set_state(False, False)
    loose = [unit for unit in model.units if not unit.chain]
    assert {unit.name for unit in loose} >= {
        f"features.denseblock1.denselayer{i}.conv{j}" for i in range(2, 7) for j in (1, 2)
    }
    assert sorted(layer for unit in model.units for layer in unit.layers) == sorted(model.weights)
    with torch.no_grad():
        for unit in loose[:4]:
            found = model.unit_module(unit)(model.capture_inputs(unit, x))
            expected = _output_of(model, unit.output, x)
            assert torch.equal(found, expected)


def _output_of(model: QuantModel, node: str, x: Tensor) -> Tensor:
    seen: dict[str, Tensor] = {}

    class Watch(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> object:
            seen[n.name] = super().run_node(n)
            return seen[n.name]

    assert isinstance(model.body, torch.fx.GraphModule)
    Watch(model.body).run(x)
    return seen[node]


class Odd(nn.Module):
    """A block of a class the registry does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.one(x).relu())  # type: ignore[no-any-return]


def test_a_class_that_occurs_twice_makes_units_and_the_registry_can_be_extended() -> None:
    twice = nn.Sequential(nn.Conv2d(3, 6, 1), Odd(), Odd(), nn.Flatten(), nn.Linear(6 * 144, 5)).eval()
    assert [rule for _, rule, _ in describe_units(twice, images())] == ["layer", "repeated", "repeated", "layer"]
    once = nn.Sequential(nn.Conv2d(3, 6, 1), Odd(), nn.Flatten(), nn.Linear(6 * 144, 5)).eval()
    assert len(describe_units(once, images())) == 4
    graph = prepare(once, images()).graph
    assert graph is not None
    assert [unit.rule for unit in find_units(graph, classes={"Odd"})] == ["layer", "class", "layer"]


def test_a_smaller_limit_splits_a_block() -> None:
    count, kwargs = SMALL["resnet"]
    net = BUILDERS["resnet"](5, 1, **kwargs)
    found = describe_units(net, images(2, 32, channels=1), max_layers=2)
    assert max(len(layers) for _, _, layers in found) == 2
    assert len(found) > count


def unlearned(model: QuantModel) -> list[str]:
    """Activation quantisers that are in no unit; none may be in two."""
    inside = [key for unit in model.units for key in unit.activations]
    assert len(inside) == len(set(inside))
    return [key for key in model.activations if key not in inside]


def test_a_quantiser_that_no_layer_ends_in_belongs_to_the_unit_that_reads_it() -> None:
    densenet = randomise(torchvision.models.DenseNet(8, (6, 6), 16, num_classes=5))
    x = images(2, 40)
    model = quantize_model(densenet, x, Setting(4, 4), weight_range="minmax", act_range="minmax")
    assert unlearned(model) == list(model.loose) == []
    model.calibrate(x)
    read = next(unit for unit in model.units if unit.name == "features.denseblock1.denselayer3.conv1")
    assert read.activations[0] == "features_denseblock1_denselayer3_relu1"
    with torch.no_grad():
        found = model.unit_module(read)(model.capture_inputs(read, x))
        assert torch.equal(found, _output_of(model, read.output, x))
        before = found.clone()
        model.activations[read.activations[0]].scale.mul_(2)
        assert not torch.equal(model.unit_module(read)(model.capture_inputs(read, x)), before)


class Joined(nn.Module):
    """Two sums that nothing but a concatenation reads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.convs = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(9))
        self.join, self.head = nn.Conv2d(8, 4, 1), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        parts = [conv(x) for conv in self.convs]
        one, two = (parts[0] + parts[1]).relu(), sum(parts[2:]).relu()  # type: ignore[union-attr]
        return self.head(self.join(torch.cat([one, two], 1)).mean((2, 3)))  # type: ignore[no-any-return]


def test_a_quantiser_that_no_unit_can_learn_is_reported() -> None:
    model = quantize_model(Joined().eval(), images(), Setting(4, 4))
    assert unlearned(model) == list(model.loose)
    assert len(model.loose) == 2


class Windows(nn.Module):
    """Blocks that are told the size of their input, which is read before the first of them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Linear(4, 5)
        self.ups = nn.ModuleList(nn.Linear(4, 4) for _ in range(6))
        self.downs = nn.ModuleList(nn.Linear(4, 4) for _ in range(6))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).permute(0, 2, 3, 1)
        b, h, w, c = x.shape
        for up, down in zip(self.ups, self.downs, strict=True):
            y = down(up(x.reshape(b, h * w, c)).relu())
            x = x + y.view(b, h, w, c) / (h * w)
        return self.head(x.reshape(b, -1, c).mean(1))  # type: ignore[no-any-return]


def test_sizes_are_no_inputs_of_a_unit() -> None:
    net = Windows().eval()
    model = quantize_model(net, images(), Setting(4, 4))
    assert sorted(layer for unit in model.units for layer in unit.layers) == sorted(model.weights)
    model.calibrate(images())
    model.set_state(False, False)
    with torch.no_grad():
        for batch in (1, 3):
            x = images(batch, seed=2)
            for unit in model.units:
                found = model.unit_module(unit)(model.capture_inputs(unit, x))
                torch.testing.assert_close(found, _output_of(model, unit.output, x), rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(model(x), net(x), rtol=1e-5, atol=1e-6)
