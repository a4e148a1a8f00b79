"""No quantising compressor uses more levels than its bits allow, counted in what its network really computes with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bench.interfaces import BitPolicy, LayerBits, MethodParams, Setting, Variant
from bench.spec.registry import Registry, resolve_params
from tests.compressors.recon_toys import context, handle, image_set

REGISTRY = Registry("compressors")
QUANTISING = [name for name in REGISTRY.names() if "bits" in REGISTRY.get(name).accepts]
FEW = 12


class Net(nn.Module):
    """A shortcut with a layer, a squeeze-excite block, a depthwise layer and two layers without batch norm; no average
    stands between a quantiser and the layer that reads it, so layers see values of a grid."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv, self.bn1 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.reduce, self.expand = nn.Conv2d(width, 4, 1), nn.Conv2d(4, width, 1)
        self.project, self.bn2 = nn.Conv2d(width, 2 * width, 1, bias=False), nn.BatchNorm2d(2 * width)
        self.down, self.bn3 = nn.Conv2d(width, 2 * width, 1, bias=False), nn.BatchNorm2d(2 * width)
        self.depthwise = nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1, groups=2 * width, bias=False)
        self.bn4 = nn.BatchNorm2d(2 * width)
        self.fc = nn.Linear(8 * width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn(self.stem(x)))
        y = torch.relu(self.bn1(self.conv(x)))
        y = y * torch.sigmoid(self.expand(torch.relu(self.reduce(nn.functional.adaptive_avg_pool2d(y, 1)))))
        x = torch.relu(self.bn2(self.project(y)) + self.bn3(self.down(x)))
        x = nn.functional.max_pool2d(torch.relu(self.bn4(self.depthwise(x))), 2)
        logits: Tensor = self.fc(x.flatten(1))
        return logits


NORMALISED = ("stem", "conv", "project", "down", "depthwise")
POLICY = BitPolicy.of({"stem": (3, 8), "conv": (2, 3), "reduce": (5, 2), "down": (6, 2), "depthwise": (2, 4)})
"""``conv`` and ``down`` read one tensor and want 3 and 2 bits of it."""

SETTINGS = {
    "W2A2": Setting(2, 2, first_last_bits=3),
    "W4A4": Setting(4, 4, first_last_bits=4),
    "policy": Setting(4, 5, first_last_bits=4, policy=POLICY),
}


@dataclass
class Calls(TorchFunctionMode):
    """The input and the weight of each convolution and linear map computed while this is on."""

    seen: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in ("conv2d", "linear"):
            self.seen.append((args[0].detach(), args[1].detach()))
        return func(*args, **(kwargs or {}))


def few(name: str) -> MethodParams:
    """The method's smallest preset with every count of steps cut to a few."""
    method = REGISTRY.get(name)
    counts = [key for key in method.Params.model_fields if key.endswith(("steps", "iterations"))]
    plain = resolve_params(method, "mini", {})
    cut = {key: FEW for key in counts if type(getattr(plain, key)) is int}
    return resolve_params(method, "mini", cut, name=name)


Call = tuple[Tensor, Tensor]


def compress(name: str, setting: Setting) -> list[tuple[Variant, list[Call]]]:
    """Every network the method makes of ours, and what its layers compute with on a batch; image by image where the
    image decides on bits."""
    made = REGISTRY.get(name).compress(handle(Net()), image_set(48), setting, few(name), context())
    found = []
    for variant in made.variants:
        for images in image_set(32, seed=1).images.split(1 if variant.bits_between else 32):
            with Calls() as calls, torch.no_grad():
                variant.module(images)
            found.append((variant, calls.seen))
    return found


def most(variant: Variant, layer: str) -> LayerBits:
    """The bits of the layer, where an image decides on them the most."""
    return variant.bits_between[layer][1] if layer in variant.bits_between else variant.layer_bits[layer]


def distinct(rows: Tensor) -> int:
    return max(len(torch.unique(row)) for row in rows)


def per_channel(variant: Variant, layer: str) -> bool:
    """Whether the protocol declares a scale per output channel of this layer's weight, as it is computed with."""
    folded = variant.protocol["batch_norm"].startswith("folded behind") and layer in NORMALISED
    return folded or variant.protocol["weight_granularity"] == "per channel"


def test_some_compressors_quantise() -> None:
    assert len(QUANTISING) > 1


def check(variant: Variant, calls: list[Call]) -> None:
    assert len(calls) == len(variant.layer_bits) == 8
    for place, (layer, (x, weight)) in enumerate(zip(variant.layer_bits, calls, strict=True)):
        bits = most(variant, layer)
        assert weight.shape == Net().get_submodule(layer).weight.shape
        levels = distinct(weight.flatten(1) if per_channel(variant, layer) else weight.reshape(1, -1))
        assert levels <= 2**bits.weight, layer
        chosen = layer in variant.bits_between  # then another image may see more of them
        assert levels <= variant.weight_levels[layer] <= (2**bits.weight if chosen else levels)
        assert (layer in variant.activation_levels) == bool(place)  # nothing quantises the image
        if place:
            assert len(torch.unique(x)) <= 2**bits.input, layer
            assert variant.activation_levels[layer] == 2**bits.input


@pytest.mark.parametrize("label", SETTINGS)
@pytest.mark.parametrize("name", QUANTISING)
def test_no_more_levels_than_bits_allow(name: str, label: str) -> None:
    found = compress(name, SETTINGS[label])
    assert found
    for variant, calls in found:
        check(variant, calls)


@pytest.mark.parametrize("name", QUANTISING)
def test_bits_are_those_asked_for(name: str) -> None:
    asked = SETTINGS["policy"]
    variant = next(variant for variant, _ in compress(name, asked) if variant.setting == asked)
    weights = {layer: bits.weight for layer, bits in variant.layer_bits.items()}
    assert weights == {"fc": 4, "expand": 4, "project": 4, **{layer: bits.weight for layer, bits in POLICY.items()}}
    inputs = {layer: bits.input for layer, bits in variant.layer_bits.items()}
    others = {"stem": 8, "expand": 8, "project": 5, "fc": 4}
    assert inputs == {**others, "conv": 3, "down": 3, "reduce": 2, "depthwise": 4}
    assert "bit_rule" in variant.protocol
