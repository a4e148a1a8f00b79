"""Networks, images, a stream and a context for what compresses and searches."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.data.access import DataAccess
from bench.interfaces import DatasetSpec, ImageBatch, ImageSet, LabelKind, ModelHandle, RunContext
from bench.spec import axes
from tests.compressors.recon_toys import Residual
from tests.contracts import kit
from tests.quant.nets import randomise

SPEC = DatasetSpec("toy", 5, (3, 8, 8), (0.4, 0.5, 0.6), (0.25, 0.2, 0.3))
VALUES: tuple[Any, ...] = ("W4A4", 0.5, 2, ["W4A4", "W8A8"])
"""What is tried for an axis, in this order; a new axis that takes none of them adds its own."""


def value_of(axis: axes.Axis) -> axes.Values:
    """A small value of the axis, whatever it is."""
    for written in ("toy/student",) if axis.network else VALUES:
        try:
            return axis.read(written)
        except axes.NoValue:
            continue
    raise AssertionError(f"none of {VALUES} is a value of the axis {axis.name}: add one")


def teacher() -> ModelHandle:
    """A residual network with all that usual networks have."""
    return kit.frozen(randomise(kit.built(Residual, 0)), "toy/teacher", SPEC)


class Weightless(nn.Module):
    """Five numbers of an image, by pooling."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(x.mean(1, keepdim=True), (SPEC.classes, 1)).flatten(1)


def images(count: int = 16, seed: int = 0) -> ImageSet:
    """Noise, without labels."""
    made = torch.randn(count, *SPEC.shape, generator=torch.Generator().manual_seed(seed))
    return ImageSet(made, None, None, "none", "digest", "synth")


def context(seed: int, scratch: str) -> RunContext:
    """As the engine makes one: no data, students drawn from the generator."""
    generator = torch.Generator().manual_seed(seed)

    def untrained(name: str) -> nn.Module:
        drawn = int(torch.randint(2**31, (), generator=generator))
        return kit.built(lambda: Residual(4), drawn).train()

    return RunContext(
        torch.device("cpu"),
        torch.float32,
        generator,
        DataAccess(kit.toy_data(SPEC), "T0"),
        Path(scratch),
        logging.getLogger("contract"),
        untrained=untrained,
    )


class Stream:
    """Noise as it is asked for."""

    label_kind: LabelKind = "pseudo"
    batch_size, warmup = 8, 0

    def __init__(self) -> None:
        self.made: list[Tensor] = []
        self.generator = torch.Generator().manual_seed(7)

    @property
    def forward_equivalents(self) -> float:
        return 16.0 * len(self.made)

    def next_batch(self) -> ImageBatch:
        self.made.append(torch.randn(8, *SPEC.shape, generator=self.generator))
        return ImageBatch(self.made[-1].clone(), torch.arange(8) % SPEC.classes, None, 16.0)

    def info(self) -> dict[str, Any]:
        return {"iterations": len(self.made)}


class Prism(nn.Module):
    """Channel by channel, then one 1x1 convolution with scattered zeros, then a diagonal head: logit o depends on
    channel i of the images only through one weight [o, i]."""

    WIDTH = 5

    def __init__(self) -> None:
        super().__init__()
        width = self.WIDTH
        self.first = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.mix = nn.Conv2d(width, width, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, width)
        self.mask = torch.rand(width, width) < 0.5
        with torch.no_grad():
            self.mix.weight.mul_(self.mask[..., None, None])
            self.head.weight.mul_(torch.eye(width)).add_(torch.eye(width))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm1(self.first(x)))
        x = torch.relu(self.norm2(self.mix(x)))
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]
