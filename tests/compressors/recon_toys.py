"""A context, a handle, correlated images and one residual network for the tests of reconstruction."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.interfaces import ImageBatch, ImageSet, ModelHandle, RunContext, Setting
from methods.quant.model import QuantModel, quantize_model
from tests.quant.nets import randomise


class Residual(nn.Module):
    """Stem, one residual block, depthwise-separable tail, linear head; 3 input channels."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.depthwise = nn.Conv2d(width, width, 3, stride=2, padding=1, groups=width, bias=False)
        self.pointwise, self.bn3 = nn.Conv2d(width, 2 * width, 1, bias=False), nn.BatchNorm2d(2 * width)
        self.head = nn.Linear(2 * width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(y)) + x)
        x = torch.relu(self.bn3(self.pointwise(self.depthwise(x))))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


def handle(net: nn.Module | None = None, architecture: str = "residual") -> ModelHandle:
    """A frozen network with random batch-norm statistics as the engine would hand it over."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = randomise(net or Residual()).requires_grad_(False)
    return ModelHandle("toy", module, "0", architecture, architecture, 1, "toy", (0.0,) * 3, (1.0,) * 3)


def image_set(count: int = 64, size: int = 8, seed: int = 0) -> ImageSet:
    """Smooth random images [count, 3, size, size], so that neighbouring pixels and channels are correlated."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, size // 2, size // 2, generator=generator)
    smooth = nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    mixed = smooth + 0.5 * smooth.mean(1, keepdim=True) + 0.1 * torch.randn(smooth.shape, generator=generator)
    return ImageSet(mixed, None, None, "none", "0", "0")


def context(
    seed: int = 0,
    report: Callable[[str, int, int], None] = lambda *a: None,
    log_scalar: Callable[[str, int, float], None] = lambda *a: None,
) -> RunContext:
    """A CPU context; it has no data to read."""
    none: Any = None
    return RunContext(
        torch.device("cpu"),
        torch.float32,
        torch.Generator().manual_seed(seed),
        none,
        Path(),
        logging.getLogger("toy"),
        report,
        log_scalar,
    )


def digest(module: nn.Module) -> str:
    """SHA-256 of all parameters and buffers."""
    found = hashlib.sha256()
    for name, value in module.state_dict().items():
        found.update(name.encode() + value.contiguous().numpy().tobytes())
    return found.hexdigest()


def nearest(setting: Setting) -> QuantModel:
    """The toy network rounded to nearest, ranges from the toy images: what learned rounding starts from."""
    images = image_set().images
    net = quantize_model(handle().module, images[:2], setting)
    net.calibrate(images)
    return net


def quantised_weights(net: QuantModel) -> dict[str, Tensor]:
    """Every layer's fake-quantised weight."""
    net.set_state(True, True)
    return {name: quantiser(net.layer(name).weight).detach() for name, quantiser in net.weights.items()}


class Counter:
    """A stream whose n-th batch holds the number n."""

    label_kind, batch_size, warmup = "assigned", 4, 0
    forward_equivalents = 0.0

    def __init__(self) -> None:
        self.made = 0

    def next_batch(self) -> ImageBatch:
        self.made += 1
        return ImageBatch(torch.full((4, 3, 8, 8), float(self.made)), torch.full((4,), self.made))

    def info(self) -> dict[str, Any]:
        return {}
