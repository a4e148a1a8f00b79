"""The zoo as a table: which small networks exist, how each is built and trained. No torch import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bench.errors import SuiteError, nearest

Role = Literal["target", "zoo", "named"]
Optimiser = Literal["sgd", "adamw"]


@dataclass(frozen=True)
class Entry:
    """One network. ``builder`` names a function of `bench.zoo.small`, ``kwargs`` its arguments.

    It is trained for ``epochs`` on the images as they are and for ``view_epochs`` on views of them (`bench.zoo.train`).
    A "named" network is a target where a suite names it, and of no list: neither of all targets nor of a zoo, so that
    it may be without weights.  ``architecture`` is what membership compares (a target's architecture inside a zoo);
    ``bf16`` says whether training runs under bfloat16 autocast: it doubles dense networks on CPUs that have it and
    makes depthwise ones slower.
    """

    name: str
    architecture: str
    family: str
    role: Role
    builder: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    epochs: int = 7
    view_epochs: int = 10
    lr: float = 0.1
    bf16: bool = False
    optimiser: Optimiser = "sgd"


def _resnet(block: str, layers: tuple[int, ...], width: int, **more: Any) -> dict[str, Any]:
    channels = tuple(width * k for k in (1, 2, 4, 8))
    return {"block": block, "layers": layers, "channels": channels, **more}


_V2 = {"width": 0.35, "stem": 16, "head": 256}
_MNAS = {"width": 0.25, "stem": 16, "head": 256}

TABLE: tuple[Entry, ...] = (
    Entry("resnet18_w10", "resnet18", "resnet", "target", "resnet", _resnet("basic", (2, 2, 2, 2), 10), bf16=True),
    Entry("mobilenetv2_w035", "mobilenetv2", "mobilenetv2", "target", "mobilenet_v2", _V2),
    Entry("resnet50_w8", "resnet50", "resnet", "target", "resnet", _resnet("bottleneck", (3, 4, 6, 3), 8), bf16=True),
    Entry(
        "mobilenet_b_w025", "mobilenet_b", "mobilenetv1", "target", "mobilenet_b", {"width": 0.25, "stem": 16}, lr=0.05
    ),
    Entry("mnasnet_w025", "mnasnet", "mnasnet", "target", "mnasnet", _MNAS),
    Entry(
        "efficientnet_b0_w025",
        "efficientnet_b0",
        "efficientnet",
        "target",
        "efficientnet_b0",
        {"width": 0.25, "stem": 16, "head": 256},
    ),
    Entry("resnet34_w8", "resnet34", "resnet", "zoo", "resnet", _resnet("basic", (3, 4, 6, 3), 8), bf16=True),
    Entry("mobilenetv2_w035_s1", "mobilenetv2", "mobilenetv2", "zoo", "mobilenet_v2", _V2, seed=1),
    Entry(
        "vgg_bn_w12",
        "vgg8_bn",
        "vgg",
        "zoo",
        "vgg_bn",
        {"widths": (12, "M", 24, "M", 48, 48, "M", 96, 96)},
        bf16=True,
    ),
    Entry(
        "mobilenetv3_large_w035",
        "mobilenetv3_large",
        "mobilenetv3",
        "zoo",
        "mobilenet_v3_large",
        {"width": 0.35, "stem": 16, "head": 256},
    ),
    Entry(
        "seresnet18_w10",
        "seresnet18",
        "seresnet",
        "zoo",
        "resnet",
        _resnet("basic", (2, 2, 2, 2), 10, squeeze=True),
        bf16=True,
    ),
    Entry("mnasnet_w025_s1", "mnasnet", "mnasnet", "zoo", "mnasnet", _MNAS, seed=1),
    Entry(
        "densenet_g8",
        "densenet",
        "densenet",
        "zoo",
        "densenet",
        {"growth": 8, "blocks": (4, 6, 8, 6), "stem": 16},
        bf16=True,
    ),
    Entry(
        "regnetx_w16",
        "regnetx",
        "regnet",
        "zoo",
        "regnet_x",
        {"depth": 13, "w0": 16, "wa": 12.0, "wm": 2.2, "group": 8, "stem": 16},
        bf16=True,
    ),
    Entry(
        "shufflenetv2_w48",
        "shufflenetv2",
        "shufflenetv2",
        "zoo",
        "shufflenet_v2",
        {"repeats": (4, 8, 4), "channels": (16, 48, 96, 192, 256)},
    ),
    Entry(
        "resnet50d_w8",
        "resnet50",
        "resnet",
        "zoo",
        "resnet",
        _resnet("bottleneck", (3, 4, 6, 3), 8, deep=16),
        bf16=True,
    ),
    # Without batch norm, so that sources which match statistics do not apply to them.
    Entry(
        "vit_t32",
        "vit",
        "vit",
        "named",
        "vit",
        {"patch": 4, "width": 48, "depth": 5, "heads": 3, "expansion": 2.0},
        lr=1e-3,
        bf16=True,
        optimiser="adamw",
    ),
    Entry(
        "convnext_w16",
        "convnext",
        "convnext",
        "named",
        "convnext",
        {"depths": (2, 2, 3), "widths": (16, 32, 64)},
        lr=2e-3,
        optimiser="adamw",
    ),
)

GROUPS: dict[str, tuple[str, ...]] = {
    "full": tuple(e.name for e in TABLE if e.role == "zoo"),
    "mobile": ("mobilenetv2_w035_s1", "mobilenetv3_large_w035", "mnasnet_w025_s1"),
    # The paper's residual zoo is ResNet-18/-34/-50; ResNet-18 is a target here and stays held out.
    "residual": ("resnet34_w8", "seresnet18_w10", "resnet50d_w8"),
}
"""Zoos by name (MixMix, appendix C). ``full`` holds no target's checkpoint and none of the held-out architectures."""


def entry(name: str) -> Entry:
    """The entry of ``name`` (with or without ``data set/`` before it).

    Raises:
        SuiteError: no such network.
    """
    short = name.rsplit("/", 1)[-1]
    for item in TABLE:
        if item.name == short:
            return item
    known = [item.name for item in TABLE]
    raise SuiteError("unknown network", got=name, expected=known, nearest=nearest(short, known))
