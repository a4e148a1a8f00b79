"""Cost metrics against docs/methods/measures.md#bitops-anchors, torch's own counter and hand counts."""

from __future__ import annotations

import math
from collections.abc import Callable

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
