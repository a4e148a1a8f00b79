"""Small networks, requests and contexts for the tests of the data sources."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional as F

from bench.interfaces import DatasetSpec, ModelHandle, RunContext, SynthRequest
from methods.sources._bn_taps import tapped
from methods.sources._losses import l2norm

SIZE, CLASSES = 16, 4
GREY = DatasetSpec("toy", CLASSES, (1, SIZE, SIZE), (0.4,), (0.25,))
COLOUR = DatasetSpec("toy3", CLASSES, (3, SIZE, SIZE), (0.4, 0.5, 0.6), (0.25, 0.2, 0.3))


class ToyNet(nn.Module):
    """Two batch norms, in-place activations, global pooling."""

    def __init__(self, width: int = 8, channels: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(2 * width)
        self.act = nn.ReLU(inplace=True)
        self.fc = nn.Linear(2 * width * 4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.bn1(self.conv1(x)))
        x = self.act(self.bn2(self.conv2(x)))
        return self.fc(F.adaptive_avg_pool2d(x, 2).flatten(1))  # type: ignore[no-any-return]


class NoNorm(nn.Module):
    """No batch norm at all."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.fc = nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x))  # type: ignore[no-any-return]


class ToyTransformer(nn.Module):
    """Patches of 4 pixels, a class token, two of timm's blocks; no position embedding, so that any size runs."""

    num_prefix_tokens = 1

    def __init__(self, width: int = 16, channels: int = 1) -> None:
        super().__init__()
        self.embed = nn.Conv2d(channels, width, 4, stride=4)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.blocks = nn.Sequential(Block(width, 2, mlp_ratio=2.0), Block(width, 2, mlp_ratio=2.0))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        return self.head(self.norm(self.blocks(x))[:, 0])  # type: ignore[no-any-return]


def patterns(count: int, generator: torch.Generator, channels: int = 1) -> tuple[Tensor, Tensor]:
    """Images of four shapes (bars, square, lines; symmetric, because sources flip) with noise, and their labels."""
    labels = torch.arange(count) % CLASSES
    base = torch.zeros(CLASSES, channels, SIZE, SIZE)
    base[0, :, 4:8] = 2.0
    base[1, :, :, 6:10] = 2.0
    base[2, :, 4:12, 4:12] = 1.5
    base[3, :, ::4] = 1.5
    gain = torch.rand(count, 1, 1, 1, generator=generator) + 0.5
    noise = 0.4 * torch.randn(count, channels, SIZE, SIZE, generator=generator)
    return base[labels] * gain + noise - 0.5, labels


def randomised(net: nn.Module, seed: int = 0) -> nn.Module:
    """Batch norms with random affine parameters and statistics, eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for m in net.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.running_mean is not None:
            m.running_mean.copy_(torch.randn(m.num_features, generator=generator) * 0.3)
            m.running_var.copy_(torch.rand(m.num_features, generator=generator) + 0.5)
            if m.weight is not None:
                m.weight.data.copy_(torch.rand(m.num_features, generator=generator) + 0.5)
                m.bias.data.copy_(torch.randn(m.num_features, generator=generator) * 0.3)
    return net.eval()


def trained(width: int, seed: int, steps: int = 60) -> ToyNet:
    """A toy network after a short training on ``patterns``."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = ToyNet(width)
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    net.train()
    for _ in range(steps):
        images, labels = patterns(64, generator)
        optimiser.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        optimiser.step()
    optimiser.zero_grad()
    return net.eval()


def transformer(channels: int = 1) -> nn.Module:
    """An untrained `ToyTransformer`, always the same, in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ToyTransformer(channels=channels).eval()


def handle(module: nn.Module, name: str = "toy", dataset: DatasetSpec = GREY) -> ModelHandle:
    """Wrap a network."""
    return ModelHandle(name, module, fingerprint(module), "toy", "toy", 1, dataset.name, dataset.mean, dataset.std)


def fingerprint(module: nn.Module) -> str:
    """Digest of every parameter and buffer, bit for bit."""
    found = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        found.update(name.encode())
        found.update(value.contiguous().numpy().tobytes())
    return found.hexdigest()


@dataclass
class ToyData:
    """A data handle with 64 training images and 64 unrelated ones."""

    channels: int = 1
    reads: list[str] = field(default_factory=list)

    def train_images(
        self, count: int, generator: torch.Generator, start: int | None = None
    ) -> tuple[Tensor, Tensor, list[int]]:
        self.reads.append("train")
        images, labels = patterns(64, torch.Generator().manual_seed(0), self.channels)
        rows = [torch.nonzero(labels == c).flatten() for c in range(CLASSES)]
        shuffled = [r[torch.randperm(len(r), generator=generator)] for r in rows]
        order = torch.stack(shuffled, 1).flatten()[start or 0 :][:count]
        return images[order], labels[order], order.tolist()

    def unrelated_images(self, count: int, generator: torch.Generator, start: int | None = None) -> Tensor:
        return self.unrelated_labelled(count, generator, start)[0]

    def unrelated_labelled(
        self, count: int, generator: torch.Generator, start: int | None = None
    ) -> tuple[Tensor, Tensor]:
        self.reads.append("unrelated")
        images = torch.randn(64, self.channels, SIZE, SIZE, generator=torch.Generator().manual_seed(5))
        order = torch.randperm(64, generator=generator)[start or 0 :][:count]
        return images[order], order % 7


@dataclass
class Curves:
    """Collects what a method logs."""

    points: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    reports: list[tuple[str, int, int]] = field(default_factory=list)

    def log(self, name: str, step: int, value: float) -> None:
        self.points.setdefault(name, []).append((step, value))

    def report(self, stage: str, step: int, total: int) -> None:
        self.reports.append((stage, step, total))


def context(seed: int = 0, curves: Curves | None = None, data: ToyData | None = None) -> RunContext:
    """A CPU context with a fresh generator."""
    curves = curves or Curves()
    return RunContext(
        device=torch.device("cpu"),
        dtype=torch.float32,
        generator=torch.Generator().manual_seed(seed),
        data=data or ToyData(),
        scratch=Path("."),
        logger=logging.getLogger("toy"),
        report=curves.report,
        log_scalar=curves.log,
    )


def request(
    method: Any, models: tuple[ModelHandle, ...], batch_index: int = 0, dataset: DatasetSpec = GREY, **params: Any
) -> SynthRequest:
    """A request with the method's defaults overridden by ``params``."""
    values = method.Params(**params)
    return SynthRequest(dataset, models, values, batch_index, method.batch_size(values), 77)


def halves_bn_loss(source: Any, models: tuple[ModelHandle, ...], **params: Any) -> None:
    """Assert that 100 iterations leave at most half of noise's BN loss, that the curve falls and the labels are hit."""
    curves = Curves()
    batch = source.synthesize_batch(request(source, models, iterations=100, batch=32, **params), context(curves=curves))
    noise = torch.randn(batch.images.shape, generator=torch.Generator().manual_seed(9))
    totals = []
    for images in (noise, batch.images):
        stats = [tapped(h.module)(images)[1] for h in models]
        totals.append(sum(float(l2norm(s)) for s in stats if s is not None))
    assert totals[1] * 2 <= totals[0]
    bn = [value for _, value in curves.points["bn"]]
    assert bn[-1] < bn[0]
    if batch.labels is not None:
        assert min(batch.info["top1"].values()) >= 90
