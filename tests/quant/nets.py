"""Small networks with random batch-norm statistics for the tests of quantisation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    """What ``build`` makes, the same each time; the caller's random state stays."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build()


def randomise(net: nn.Module, seed: int = 0) -> nn.Module:
    """Batch norms with random gamma, beta, mean and variance of sane size; everything else as initialised."""
    generator = torch.Generator().manual_seed(seed)
    for part in net.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is not None:
            shape = part.running_mean.shape
            part.running_mean.copy_(torch.randn(shape, generator=generator) * 0.1)
            assert part.running_var is not None
            part.running_var.copy_(torch.rand(shape, generator=generator) + 0.5)
            if part.weight is not None:
                part.weight.data.copy_(torch.rand(shape, generator=generator) + 0.5)
                part.bias.data.copy_(torch.randn(shape, generator=generator) * 0.3)
    return net.eval()


class TwoCalls(nn.Module):
    """One ReLU module at two places, a residual sum, a stem and a head."""

    def __init__(self, act: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.fc = seeded(lambda: nn.Linear(8, 5))  # registered first, runs last
        self.stem = seeded(lambda: nn.Conv2d(3, 8, 3, padding=1))
        self.bn = nn.BatchNorm2d(8)
        self.conv = seeded(lambda: nn.Conv2d(8, 8, 3, padding=1, bias=False))
        self.bn2 = nn.BatchNorm2d(8)
        self.act = act()

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.bn(self.stem(x)))
        y = self.bn2(self.conv(x))
        y += x
        x = self.act(y)
        return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]


class Chain(nn.Sequential):
    """Convolutions, depthwise among them, with BN and the given activation between; a linear head."""

    def __init__(self, act: type[nn.Module] = nn.ReLU, width: int = 12) -> None:
        super().__init__(
            seeded(lambda: nn.Conv2d(3, width, 3, padding=1, bias=False)),
            nn.BatchNorm2d(width),
            act(),
            seeded(lambda: nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)),
            nn.BatchNorm2d(width),
            act(),
            seeded(lambda: nn.Conv2d(width, 2 * width, 1, bias=False)),
            nn.BatchNorm2d(2 * width),
            act(),
            seeded(lambda: nn.Conv2d(2 * width, width, 1, groups=4)),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            seeded(lambda: nn.Linear(width, 5)),
        )


def images(count: int = 4, size: int = 12, channels: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(seed))


class Untraceable(nn.Module):
    """The path through it depends on a value."""

    def __init__(self) -> None:
        super().__init__()
        self.net = randomise(TwoCalls())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x if float(x.sum()) != 0.125 else -x)
        return out
