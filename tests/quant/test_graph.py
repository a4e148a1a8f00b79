"""Tracing, folding and placement of activation quantisers (docs/methods/quantisation.md#invariant-3, #invariant-6,
#invariant-8)."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import timm
import torch
import torchvision
from timm.layers import BatchNormAct2d, GroupNormAct, StdConv2d
from timm.models.resnetv2 import ResNetV2
from torch import Tensor, nn

from bench.errors import NotApplicable
from bench.interfaces import Setting
from bench.zoo.small import BUILDERS
from methods.quant.fold import fold_into
from methods.quant.graph import prepare
from methods.quant.layers import QuantLayer
from methods.quant.model import QuantModel, Sampling, quantize_model
from methods.quant.trace import prepared_copy
from tests.quant.nets import Chain, TwoCalls, images, randomise


def batch_norms(net: nn.Module) -> int:
    return sum(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in net.modules())


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.Linear, nn.ConvTranspose2d])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_folding_one_layer_is_the_same_function(kind: type[nn.Module], affine: bool, bias: bool) -> None:
    if kind is nn.Linear:
        layer, norm, x = nn.Linear(6, 8, bias=bias), nn.BatchNorm1d(8, affine=affine), torch.randn(9, 6)
    else:
        layer = kind(6, 8, 3, groups=2, bias=bias)
        norm, x = nn.BatchNorm2d(8, affine=affine), torch.randn(2, 6, 7, 7)
    randomise(norm)
    with torch.no_grad():
        expected = norm(layer(x))
        stats = fold_into(layer, norm)
        assert relative(layer(x), expected) < 1e-5
    assert stats.gamma.shape == stats.beta.shape == stats.mean.shape == stats.var.shape == (8,)


def test_folded_network_has_no_batch_norm_and_the_original_stays() -> None:
    net = randomise(torchvision.models.resnet18(num_classes=7))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    prepared = prepare(net, images(size=40))
    assert prepared.graph is not None
    assert batch_norms(prepared.graph) == 0
    assert len(prepared.stats) == 20
    with torch.no_grad():
        assert relative(prepared.graph(images(size=40)), net(images(size=40))) < 1e-5
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert any(part.inplace for part in net.modules() if isinstance(part, nn.ReLU))
    assert not any(part.inplace for part in prepared.graph.modules() if isinstance(part, nn.ReLU))


class Unfoldable(nn.Module):
    """A layer that something else reads besides its BN, and one that two BNs follow in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.twice, self.head = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 1), nn.Linear(6, 5)
        self.bn1, self.bn2, self.bn3 = (nn.BatchNorm2d(6) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.read(x)
        x = (self.bn1(x) + x).relu()
        x = self.bn3(self.twice(self.bn2(self.twice(x)).relu()))
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


def test_a_batch_norm_is_not_folded_into_a_layer_that_others_read_or_that_runs_twice() -> None:
    net = randomise(Unfoldable())
    prepared = prepare(net, images())
    assert prepared.graph is not None
    assert prepared.stats == {}
    assert batch_norms(prepared.graph) == 3
    model = quantize_model(net, images(), Setting(4, 4))
    model.calibrate(images())
    assert [layer for unit in model.units for layer in unit.layers] == ["read", "twice", "head"]
    with torch.no_grad():
        model.set_state(False, False)
        assert relative(model(images()), net(images())) < 1e-6
        x = images()
        for unit in model.units:
            x = model.unit_module(unit)(x)
        assert torch.equal(x, model(images()))


def test_densenet_keeps_the_batch_norms_before_its_convolutions() -> None:
    net = randomise(torchvision.models.DenseNet(8, (2, 2), 16, num_classes=5))
    prepared = prepare(net, images(size=40))
    assert prepared.graph is not None
    # Folded: norm0 and each dense layer's norm2; kept: each norm1, the transition's and the last.
    assert batch_norms(prepared.graph) == 4 + 1 + 1
    assert len(prepared.stats) == 1 + 4


def test_batch_norm_with_activation_keeps_it_and_is_folded() -> None:
    net = randomise(timm.create_model("efficientnet_b0", num_classes=5))
    assert any(isinstance(part, BatchNormAct2d) for part in net.modules())
    prepared = prepare(net, images(2, 64))
    assert prepared.graph is not None
    assert batch_norms(prepared.graph) == 0
    called = [str(node.target) for node in prepared.graph.graph.nodes if node.op == "call_module"]
    acts = [name for name in called if type(prepared.graph.get_submodule(name)).__name__ in ("SiLU", "Swish")]
    # 33 of the 49 batch norms have an activation, the linear bottlenecks none; 16 lie inside squeeze-excite.
    assert len(acts) == 33 + 16
    assert len(prepared.stats) == 49


def test_dropout_and_stochastic_depth_become_nothing() -> None:
    net = timm.create_model("convnext_atto", drop_path_rate=0.5, drop_rate=0.5)
    assert any("Drop" in type(part).__name__ for part in net.modules())
    assert not any("Drop" in type(part).__name__ for part in prepared_copy(net).modules())


def test_a_relu_called_twice_has_two_quantisers_and_the_convention_holds() -> None:
    net = quantize_model(randomise(TwoCalls()), images(), Setting(4, 3))
    assert net.path == "graph"
    assert list(net.weights) == ["stem", "conv", "fc"]  # the order of execution, not of registration
    assert [q.bits for q in net.weights.values()] == [8, 4, 8]
    # Stem output and the input of the last layer have 8 bits; the convolution that feeds the sum has no quantiser.
    assert [(name, q.bits) for name, q in net.activations.items()] == [("act", 8), ("act_1", 8)]
    assert dict(net.layer_bits()) == {"stem": (8, 8), "conv": (4, 8), "fc": (8, 8)}
    assert net.parameter_count() == (8 + 8 + 5 + 2, 8 + 8 + 5 + 2)


def test_inner_tensors_have_the_settings_bits_and_logits_none() -> None:
    net = quantize_model(randomise(Chain()), images(), Setting(2, 5))
    assert [q.bits for q in net.activations.values()] == [8, 5, 5, 8]
    assert dict(net.layer_bits()) == {"0": (8, 8), "3": (2, 8), "6": (2, 5), "9": (2, 5), "12": (8, 8)}
    net.calibrate(images())
    with torch.no_grad():
        distinct = net(images(64)).unique().numel()
    assert distinct > 256


def test_the_identity_branch_sees_the_quantised_block_output() -> None:
    net = quantize_model(randomise(TwoCalls()), images(), Setting(8, 2, first_last_bits=2))
    net.calibrate(images())
    assert isinstance(net.body, torch.fx.GraphModule)
    nodes = {node.name: node for node in net.body.graph.nodes}
    readers = {user.name for user in nodes["act"].users}
    assert readers == {"activation_quantizers_act"}
    assert {user.name for user in nodes["activation_quantizers_act"].users} == {"conv", "add"}


def test_squeeze_excite_has_8_bits_and_an_unsigned_gate() -> None:
    net = randomise(BUILDERS["efficientnet_b0"](5, 3, width=0.25, stem=8, head=32))
    model = quantize_model(net, images(2, 32), Setting(4, 4), act_range="minmax")
    model.calibrate(images(2, 32))
    bits = model.layer_bits()
    gates = [q for name, q in model.activations.items() if name.endswith("se_gate")]
    assert len(gates) == 16
    assert all(q.bits == 8 and not q.signed for q in gates)
    assert all(bits[name] == (4, 8) for name in bits if ".se." in name)
    assert bits["blocks.1.0.conv_pwl"] == (4, 4)
    # The project convolution reads the gated tensor; a linear bottleneck is two-sided.
    assert model.activations["mul_1"].bits == 4
    assert model.activations["blocks_1_0_conv_pwl"].signed


def test_densenet_quantises_after_the_normalisation_not_before() -> None:
    net = quantize_model(
        randomise(torchvision.models.DenseNet(8, (2, 2), 16, num_classes=5)), images(2, 40), Setting(4, 4)
    )
    assert all("relu" in name for name in net.activations)
    assert len(net.activations) == len(net.weights) - 1


@pytest.mark.parametrize("make", [TwoCalls, Chain])
def test_32_bits_are_the_folded_network_bit_by_bit(make: type[nn.Module]) -> None:
    net = randomise(make())
    quantised = quantize_model(net, images(), Setting(32, 32))
    quantised.calibrate(images())
    prepared = prepare(net, images())
    with torch.no_grad():
        assert torch.equal(quantised(images(8, seed=1)), prepared.body(images(8, seed=1)))
    assert quantised.parameter_count() == (0, 0)
    assert set(quantised.layer_bits().values()) == {(32, 32)}


def test_calibration_is_repeatable_and_leaves_the_state() -> None:
    net = randomise(Chain())
    first, second = (quantize_model(net, images(), Setting(4, 4)) for _ in range(2))
    for model in (first, second):
        model.set_state(True, False)
        model.calibrate(images(8), Sampling(values=200))
    assert [q.scale.item() for q in first.activations.values()] == [q.scale.item() for q in second.activations.values()]
    assert all(q.enabled for q in first.weights.values())
    assert not any(q.enabled for q in first.activations.values())


class ShapeTest(nn.Module):
    """A head that asks for its input's size, as timm's VGG does; the trace cannot answer."""

    def __init__(self) -> None:
        super().__init__()
        self.fc2, self.fc1 = nn.Conv2d(6, 6, 1), nn.Conv2d(8, 6, 3)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2] < 3:
            x = nn.functional.interpolate(x, size=(3, 3))
        return self.act(self.fc2(self.act(self.fc1(x))))  # type: ignore[no-any-return]


def test_layers_inside_an_untraceable_leaf_are_quantised() -> None:
    body = (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
    net = randomise(nn.Sequential(*body, ShapeTest(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)))
    model = quantize_model(net, images(), Setting(4, 3))
    assert model.path == "graph"
    # fc1 reads what the graph quantised (the stem's output), fc2 has a quantiser of its own.
    assert dict(model.layer_bits()) == {"0": (8, 8), "4.fc1": (4, 8), "4.fc2": (4, 3), "7": (8, 8)}
    model.calibrate(images())
    assert list(model.activations) == ["_2", "4.fc2", "_4"]
    assert [unit.layers for unit in model.units] == [("0",), ("4.fc2", "4.fc1"), ("7",)]
    with torch.no_grad():
        model.set_state(False, False)
        assert relative(model(images()), net(images())) < 1e-5


class Branching(nn.Module):
    """Control flow on values, which no trace can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        if x.mean() > -1e9:
            x = self.two(x).relu()
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


def test_an_untraceable_network_has_its_modules_replaced() -> None:
    net = Branching().eval()
    model = quantize_model(net, images(), Setting(4, 4))
    assert model.path == "modules"
    assert model.protocol()["activation_placement"] == "input"
    assert dict(model.layer_bits()) == {"one": (8, 8), "two": (4, 4), "head": (8, 8)}
    assert [unit.layers for unit in model.units] == [("one",), ("two",), ("head",)]
    model.calibrate(images())
    with torch.no_grad():
        model.set_state(False, False)
        assert torch.equal(model(images()), net(images()))
        captured = model.capture_inputs(model.units[1], images(), batch_size=3)
        torch.testing.assert_close(captured, net.one(images()))
        model.set_state(True, True)
        assert not torch.equal(model(images()), net(images()))
        assert model.unit_module(model.units[1])(captured).shape == net.two(captured).shape


def test_standardised_weights_become_plain() -> None:
    net = ResNetV2(
        [1, 1],
        (16, 32),
        num_classes=5,
        stem_chs=8,
        conv_layer=partial(StdConv2d, eps=1e-8),
        norm_layer=partial(GroupNormAct, num_groups=4),
    ).eval()
    nn.init.normal_(net.head.fc.weight, std=0.1)
    model = quantize_model(net, images(2, 64), Setting(32, 32))
    assert all(type(model.layer(name)).__name__ in ("Conv2d", "Conv2dSame") for name in model.weights)
    with torch.no_grad():
        assert relative(model(images(2, 64)), net(images(2, 64))) < 1e-5


def test_a_copy_is_independent() -> None:
    model = quantize_model(randomise(Chain()), images(), Setting(4, 4))
    model.calibrate(images())
    twin: QuantModel = copy.deepcopy(model)
    with torch.no_grad():
        expected = model(images())
        assert torch.equal(twin(images()), expected)
        twin.layer("3").weight.mul_(2)
        assert torch.equal(model(images()), expected)
        assert not torch.equal(twin(images()), expected)
    assert isinstance(twin.quant_layer("3"), QuantLayer)


def test_frozen_weights_follow_only_after_unfreezing() -> None:
    model = quantize_model(randomise(Chain()), images(), Setting(4, 32))
    with torch.no_grad():
        before = model(images())
        model.freeze()
        model.layer("3").weight.mul_(3)
        assert torch.equal(model(images()), before)
        model.unfreeze()
        assert not torch.equal(model(images()), before)


def test_a_network_without_layers_is_not_applicable() -> None:
    with pytest.raises(NotApplicable):
        quantize_model(nn.Sequential(nn.ReLU(), nn.Flatten()), images(), Setting(4, 4))
