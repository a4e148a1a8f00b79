"""The networks as data: architecture, family, role, builder arguments, seed and training recipe of each.

Names follow rule 11: the suffix ``_wN`` is the channel count of the first stage (``_gN`` DenseNet's growth), ``_s1`` marks
another seed.  Memory format and dtype were measured per network on one AVX-512 core: bf16 in channels-last order
is the fastest for dense convolutions and about twice as slow as fp32 for depthwise ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["target", "zoo"]


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: SGD with Nesterov momentum on a one-cycle rate, flips and shifts of ``shift`` pixels.

    ``lr`` is the peak of the cycle, ``bf16`` runs convolutions in bfloat16 (weights stay float32).
    """

    epochs: int
    batch: int = 128
    lr: float = 0.1
    weight_decay: float = 5e-4
    momentum: float = 0.9
    warmup: float = 0.2
    shift: int = 1
    bf16: bool = True
    channels_last: bool = True


@dataclass(frozen=True)
class Network:
    """One row of the zoo; ``stem`` is the name without its data set."""

    stem: str
    architecture: str
    family: str
    role: Role
    builder: str
    recipe: Recipe
    seed: int = 0
    kwargs: Mapping[str, Any] = field(default_factory=dict)


def _dense(epochs: int, lr: float = 0.1) -> Recipe:
    return Recipe(epochs=epochs, lr=lr)


def _depthwise(epochs: int, lr: float = 0.1) -> Recipe:
    return Recipe(epochs=epochs, lr=lr, weight_decay=1e-4, bf16=False)


_MOBILENET_V2: dict[str, Any] = {"width": 0.3, "stem": 12, "head": 256}
_MNASNET: dict[str, Any] = {"width": 0.3, "stem": 12, "head": 256}

NETWORKS: tuple[Network, ...] = (
    Network(
        "resnet18_w16",
        "resnet18",
        "resnet",
        "target",
        "resnet",
        _dense(16),
        kwargs={"block": "basic", "layers": (2, 2, 2, 2), "channels": (16, 32, 48, 64), "stem": 16},
    ),
    Network("mobilenetv2_w12", "mobilenetv2", "mobilenetv2", "target", "mobilenet_v2", _depthwise(12), 0, _MOBILENET_V2),
    Network(
        "resnet50_w8",
        "resnet50",
        "resnet",
        "target",
        "resnet",
        _dense(15),
        kwargs={"block": "bottleneck", "layers": (3, 4, 6, 3), "channels": (8, 16, 32, 48), "stem": 16},
    ),
    Network(
        "mobilenet_b_w8",
        "mobilenet_b",
        "mobilenetv1",
        "target",
        "mobilenet_b",
        _depthwise(15, lr=0.05),
        kwargs={"width": 0.25, "stem": 8},
    ),
    Network("mnasnet_w12", "mnasnet", "mnasnet", "target", "mnasnet", _depthwise(11), 0, _MNASNET),
    Network(
        "efficientnet_b0_w8",
        "efficientnet_b0",
        "efficientnet",
        "target",
        "efficientnet_b0",
        _depthwise(10),
        kwargs={"width": 0.25, "stem": 8, "head": 256},
    ),
    Network(
        "resnet34_w12",
        "resnet34",
        "resnet",
        "zoo",
        "resnet",
        _dense(13),
        kwargs={"block": "basic", "layers": (3, 4, 6, 3), "channels": (12, 24, 32, 48), "stem": 12},
    ),
    Network("mobilenetv2_w12_s1", "mobilenetv2", "mobilenetv2", "zoo", "mobilenet_v2", _depthwise(12), 1, _MOBILENET_V2),
    Network(
        "vgg11_bn_w12",
        "vgg11_bn",
        "vgg",
        "zoo",
        "vgg_bn",
        _dense(14, lr=0.05),
        kwargs={"widths": (12, "M", 24, "M", 32, 32, "M", 64, 64, 64, 64)},
    ),
    Network("mnasnet_w12_s1", "mnasnet", "mnasnet", "zoo", "mnasnet", _depthwise(11), 1, _MNASNET),
    Network(
        "resnet50d_w8",
        "resnet50d",
        "resnet",
        "zoo",
        "resnet",
        _dense(13),
        kwargs={"block": "bottleneck", "layers": (3, 4, 6, 3), "channels": (8, 16, 24, 40), "stem": 16, "deep": True},
    ),
    Network(
        "mobilenetv3_large_w8",
        "mobilenetv3_large",
        "mobilenetv3",
        "zoo",
        "mobilenet_v3_large",
        _depthwise(10),
        kwargs={"width": 0.35, "stem": 8, "head": 256},
    ),
    Network(
        "seresnet26_w8",
        "seresnet26",
        "seresnet",
        "zoo",
        "resnet",
        _dense(13),
        kwargs={"block": "bottleneck", "layers": (2, 2, 2, 2), "channels": (8, 16, 32, 64), "stem": 16, "squeeze": True},
    ),
    Network(
        "shufflenetv2_w48",
        "shufflenetv2",
        "shufflenetv2",
        "zoo",
        "shufflenet_v2",
        _depthwise(12),
        kwargs={"repeats": (4, 8, 4), "channels": (16, 48, 96, 128, 256)},
    ),
    Network(
        "regnetx_w16",
        "regnetx",
        "regnet",
        "zoo",
        "regnet_x",
        _dense(13),
        kwargs={"depth": 12, "w0": 16, "wa": 10.0, "wm": 2.0, "group": 8, "stem": 16},
    ),
    Network(
        "densenet_g8",
        "densenet",
        "densenet",
        "zoo",
        "densenet",
        _dense(13),
        kwargs={"growth": 8, "blocks": (3, 4, 6, 6), "stem": 16},
    ),
)

EPOCH_FACTOR: dict[str, int] = {"fashion_mnist": 1, "cifar10": 4, "cifar100": 4}
"""Data sets these networks exist for, and how much longer than the recipe's epochs each is trained."""

GROUPS: dict[str, tuple[str, ...]] = {
    "mobile": ("mobilenetv2_w12_s1", "mobilenetv3_large_w8", "mnasnet_w12_s1"),
    "residual": ("resnet34_w12", "resnet50d_w8", "seresnet26_w8"),
}
"""Subsets of the zoo; ``full`` is all of it.  The paper's residual group has ResNet-18, a target's architecture here."""
