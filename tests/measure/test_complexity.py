"""Cost metrics against docs/methods/measures.md#bitops-anchors, torch's own counter and hand counts."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bench.interfaces import BitPolicy, Setting, Variant
from bench.measure.complexity import Counts, bitops, complexity, count, layer_table, macs, size_bytes

IMAGE = (3, 224, 224)


def _bits(counts: Counts, weight: int, act: int) -> dict[str, tuple[int, int]]:
    """Every layer at these bits, the first and the last at 8."""
    names = list(counts.layers)
    return {name: (8, 8) if name in (names[0], names[-1]) else (weight, act) for name in names}


@pytest.mark.parametrize(
    ("build", "gmacs", "digits", "w4a4"),
    [
        (torchvision.models.resnet18, 1.814, 3, 34.7),
        (torchvision.models.resnet50, 4.089, 3, 71.2),
        (torchvision.models.mobilenet_v2, 0.301, 3, 5.39),
        (torchvision.models.mnasnet1_0, 0.314, 3, 5.61),
        (torchvision.models.efficientnet_b0, 0.386, 3, 6.75),
    ],
)
def test_published_anchors(build: Callable[..., nn.Module], gmacs: float, digits: int, w4a4: float) -> None:
    counts = count(build(weights=None), IMAGE)
    # 0.1 %, and half a unit of the last printed digit
    assert counts.macs / 1e9 == pytest.approx(gmacs, rel=1e-3, abs=0.5 * 10**-digits)
    found = bitops(counts, _bits(counts, 4, 4)) / 1e9
    assert found == pytest.approx(w4a4, rel=1e-3, abs=0.05 if w4a4 > 10 else 0.005)


class _FirstStride(torchvision.models.resnet.Bottleneck):
    """ResNet-50 v1: the stride in the block's first 1x1 convolution instead of its 3x3 one."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.conv1.stride, self.conv2.stride = self.conv2.stride, self.conv1.stride


class _MobileNetV1(nn.Sequential):
    """Howard et al., arXiv 1704.04861, table 1."""

    def __init__(self) -> None:
        steps = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
        parts: list[nn.Module] = [nn.Conv2d(3, 32, 3, 2, 1, bias=False)]
        before = 32
        for width, stride in steps:
            parts.append(nn.Conv2d(before, before, 3, stride, 1, groups=before, bias=False))
            parts.append(nn.Conv2d(before, width, 1, bias=False))
            before = width
        super().__init__(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1024, 1000))


def _resnet_v1() -> nn.Module:
    return torchvision.models.ResNet(_FirstStride, [3, 4, 6, 3])


@pytest.mark.parametrize(
    ("build", "legacy", "printed"),
    [
        (torchvision.models.resnet18, False, (14.368, 22.846, 34.714, 61.843, 48.279)),
        (torchvision.models.resnet18, True, (14.500, 23.058, 35.039, 62.424, 48.732)),
        (_resnet_v1, False, (22.636, 41.325, 67.491, 127.297, 97.394)),
        (torchvision.models.resnet50, False, (23.560, 43.406, 71.190, 134.696, 102.943)),
        (torchvision.models.resnet50, True, (23.846, 43.965, 72.131, 136.510, 104.321)),
        (_MobileNetV1, False, (2.987, 5.771, 9.669, 18.579, 14.124)),
        (_MobileNetV1, True, (2.993, 5.778, 9.677, 18.590, 14.134)),
    ],
)
def test_both_ways_of_counting(build: Callable[..., nn.Module], legacy: bool, printed: tuple[float, ...]) -> None:
    """The golden values of the tables that searches are compared by: 2/2, 3/3, 4/4, 4/8 and W6A4 with ends at 8/8."""
    with torch.device("meta"):
        shape = build()
    counts = count(shape.to_empty(device="cpu"), IMAGE)
    asked = ((2, 2), (3, 3), (4, 4), (4, 8), (6, 4))
    found = tuple(round(bitops(counts, _bits(counts, *bits), legacy=legacy) / 1e9, 3) for bits in asked)
    assert found == printed


class _Plain(nn.Module):
    """A basic block of ResNet-20 with a shortcut without parameters (He et al., option A)."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.stride, self.more = stride, width - before

    def forward(self, x: Tensor) -> Tensor:
        beside = nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
        out: Tensor = (self.second(self.first(x).relu()) + beside).relu()
        return out


def _resnet20() -> nn.Module:
    widths = [16, 16, 16, 16, 32, 32, 32, 64, 64, 64]
    blocks = [_Plain(b, w, 2 if b < w else 1) for b, w in pairwise(widths)]
    stem = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
    return nn.Sequential(stem, nn.ReLU(), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def _cifar_resnet18() -> nn.Module:
    net = torchvision.models.resnet18(weights=None, num_classes=10)
    net.conv1, net.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()  # type: ignore[assignment]
    return net


@pytest.mark.parametrize(
    ("build", "first", "middle", "last", "found"),
    [
        (_cifar_resnet18, 1_769_472, 553_648_128, 5_120, {3: 5_096_407_040, 4: 8_971_943_936}),
        (_resnet20, 442_368, 40_108_032, 640, {2: 188_784_640, 3: 389_324_800, 4: 670_081_024}),
    ],
)
def test_networks_for_32_pixels(
    build: Callable[[], nn.Module], first: int, middle: int, last: int, found: dict[int, int]
) -> None:
    counts = count(build(), (3, 32, 32))
    macs = [layer.macs for layer in counts.layers.values()]
    assert (macs[0], sum(macs[1:-1]), macs[-1]) == (first, middle, last)
    assert {bits: bitops(counts, _bits(counts, bits, bits)) for bits in found} == found


def test_the_middle_alone() -> None:
    counts = count(torchvision.models.resnet18(weights=None), IMAGE)
    middle = {name: (0, 0) if bits == (8, 8) else bits for name, bits in _bits(counts, 4, 4).items()}
    assert round(bitops(counts, middle) / 1e9, 3) == 27.129
    assert round(bitops(counts, middle, legacy=True) / 1e9, 3) == 27.386


@pytest.mark.parametrize("name", ["resnet18", "shufflenet_v2_x1_0", "mnasnet0_5", "vgg11_bn", "densenet121"])
def test_torch_counts_the_same(name: str) -> None:
    net = torchvision.models.get_model(name, weights=None).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(1, 3, 64, 64))
    assert macs(net, (3, 64, 64)) * 2 == counter.get_total_flops()


class _Shared(nn.Module):
    """A layer called twice, a transposed and a grouped convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.up = nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2)
        self.group = nn.Conv2d(6, 6, (3, 1), groups=6)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.group(self.up(self.twice(self.twice(x))))
        return out


def test_groups_transposed_and_repeated_layers_by_hand() -> None:
    net = _Shared()
    counts = count(net, (4, 8, 8))
    found = {name: layer.macs for name, layer in counts.layers.items()}
    assert found == {"twice": 2 * 4 * 64 * 4 * 9, "up": 4 * 64 * 3 * 4, "group": 6 * 14 * 16 * 3}
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(1, 4, 8, 8))
    assert 2 * counts.macs == counter.get_total_flops()


def test_bitops_identities() -> None:
    counts = count(torchvision.models.resnet18(weights=None), (3, 64, 64))
    every = list(counts.layers)
    assert bitops(counts, {}) == 1024 * counts.macs
    assert bitops(counts, dict.fromkeys(every, (32, 32))) == 1024 * counts.macs
    assert 2 * bitops(counts, dict.fromkeys(every, (4, 8))) == bitops(counts, dict.fromkeys(every, (8, 8)))
    with pytest.raises(ValueError, match="nothing_like_it"):
        bitops(counts, {"nothing_like_it": (4, 4)})


def test_size_by_hand() -> None:
    # 3x3x1x5 = 45 weights, folded norm: bias of 5; linear 5x7 with bias; loose norm keeps scale and shift
    net = nn.Sequential(
        nn.Conv2d(1, 5, 3, bias=False),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.BatchNorm2d(5),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, 7),
    )
    counts = count(net, (1, 8, 8))
    assert counts.parameters == 45 + 10 + 10 + 42
    assert {name: layer.bias for name, layer in counts.layers.items()} == {"0": 5, "6": 7}
    assert counts.other == 10
    assert size_bytes(counts, {}) == 4 * (45 + 5 + 35 + 7 + 10)
    bits = {"0": (3, 4), "6": (8, 8)}
    expected = math.ceil(45 * 3 / 8) + 4 * 5 + 35 + 4 * 7 + 4 * 10 + 4 * 6 + 2
    assert size_bytes(counts, bits, scales=6, zero_points=2) == expected
    metrics = complexity(net, (1, 8, 8), Variant(Setting(), net, bits, scales=6, zero_points=2))
    assert metrics["size_bytes"] == expected
    assert metrics["size_ratio"] == pytest.approx(expected / (4 * 107))
    assert metrics["macs"] == 5 * 36 * 9 + 35
    assert metrics["bitops_g"] == pytest.approx((5 * 36 * 9 * 12 + 35 * 64) / 1e9)


def test_sparse_storage_by_hand() -> None:
    # 5 filters of 9 weights, 7 filters of 5: dense 180 and 140 bytes, bitmaps of 6 and 5 bytes
    net = nn.Sequential(nn.Conv2d(1, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 7))
    shape = (1, 8, 8)
    dense = complexity(net, shape, Variant(Setting(), net))
    assert "macs_effective" not in dense
    biases = 4 * 12

    def size(first: int, last: int, bits: int = 32) -> float:
        layer_bits = {"0": (bits, 32), "3": (bits, 32)}
        found = complexity(net, shape, Variant(Setting(), net, layer_bits, nonzero={"0": first, "3": last}))
        assert found["macs"] == dense["macs"] == 5 * 36 * 9 + 35
        assert found["macs_effective"] == 36 * first + last
        return found["size_bytes"] - biases

    assert size(22, 35) == (4 * 22 + 6) + 140  # a full layer is stored dense: no bitmap
    assert size(45, 35) == dense["size_bytes"] - biases == 320
    assert size(22, 17, bits=4) == (11 + 6) + (9 + 5)
    assert size(40, 35, bits=2) == (10 + 2) + 9  # 10 + 6 with a bitmap is more than 12 dense
    table = layer_table(net, shape, Variant(Setting(), net, nonzero={"3": 17}))
    assert [row.get("nonzero") for row in table] == [None, 17]
    with pytest.raises(ValueError, match="nothing_like_it"):
        complexity(net, shape, Variant(Setting(), net, nonzero={"nothing_like_it": 4}))


def test_few_weights_are_stored_in_compressed_rows() -> None:
    net = nn.Sequential(nn.Linear(1000, 20, bias=False))
    net2 = nn.Sequential(nn.Flatten(), net)
    found = complexity(net2, (1, 10, 100), Variant(Setting(), net2, nonzero={"1.0": 100}))
    assert found["size_bytes"] == 4 * 100 + 2 * 100 + 4 * 21  # two bytes hold a column, four the end of a row
    assert found["size_bytes"] < 4 * 100 + 20_000 // 8


def test_eight_bits_are_a_quarter() -> None:
    net = torchvision.models.resnet18(weights=None)
    counts = count(net, (3, 64, 64))
    ratio = size_bytes(counts, dict.fromkeys(counts.layers, (8, 8))) / (4 * counts.parameters)
    assert 0.25 < ratio < 0.255
    assert counts.other == 0  # every normalisation of a ResNet folds
    densenet = count(torchvision.models.densenet121(weights=None), (3, 64, 64))
    assert densenet.other > 0  # pre-activation norms behind a concatenation do not


def test_module_is_left_as_it_was() -> None:
    net = torchvision.models.mobilenet_v2(weights=None).train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    count(net, (3, 64, 64))
    assert net.training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in net.modules())


def test_layer_table_holds_what_bitops_are_made_of() -> None:
    net = nn.Sequential(
        nn.Conv2d(4, 4, 3, groups=4),
        nn.Conv2d(4, 6, 1),
        nn.Conv2d(6, 6, 3, groups=2),
        nn.ConvTranspose2d(6, 5, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, 7),
    )
    bits = {"0": (8, 8), "1": (2, 8), "2": (3, 4), "6": (8, 6)}
    variant = Variant(Setting(), net, bits)
    table = layer_table(net, (4, 8, 8), variant)
    kinds = {row["name"]: row["kind"].removesuffix(" convolution") for row in table}
    assert kinds == {"0": "depthwise", "1": "pointwise", "2": "grouped", "3": "transposed", "6": "linear"}
    assert [(row["weight_bits"], row["activation_bits"]) for row in table] == [(8, 8), (2, 8), (3, 4), (32, 32), (8, 6)]
    assert [row["parameters"] for row in table] == [4 * 9, 24, 6 * 3 * 9, 6 * 5 * 4, 35]
    total = sum(row["macs"] * row["weight_bits"] * row["activation_bits"] for row in table)
    assert total == round(1e9 * complexity(net, (4, 8, 8), variant)["bitops_g"])
    with pytest.raises(ValueError, match="nothing_like_it"):
        layer_table(net, (4, 8, 8), Variant(Setting(), net, {"nothing_like_it": (4, 4)}))


def test_layer_table_lists_levels_and_wishes_where_they_are_known() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 1), nn.Flatten(), nn.Linear(216, 7))
    setting = Setting(4, 4, policy=BitPolicy.of({"1": (3, 2)}))
    bits = BitPolicy.of({"0": (8, 8), "1": (3, 4), "3": (4, 4)})
    levels = {"0": 113, "1": 8}
    variant = Variant(setting, net, bits, weight_levels=levels, activation_levels={"1": 16})
    first, second, last = layer_table(net, (3, 8, 8), variant)
    assert (first["weight_levels"], first["effective_weight_bits"]) == (113, math.log2(113))
    assert (second["effective_weight_bits"], second["activation_levels"]) == (3.0, 16)
    assert (second["weight_bits"], second["activation_bits"]) == (3, 4)
    assert (second["requested_weight_bits"], second["requested_activation_bits"]) == (3, 2)
    assert first.keys() - last.keys() == {"weight_levels", "effective_weight_bits"}
    for name in ("weight_levels", "activation_levels"):
        with pytest.raises(ValueError, match="nothing_like_it"):
            layer_table(net, (3, 8, 8), Variant(Setting(), net, **{name: {"nothing_like_it": 4}}))  # type: ignore[arg-type]
