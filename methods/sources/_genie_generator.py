"""GENIE-D's generator, its swing convolutions, and the objective that owns a generator."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import skip_init

from bench.interfaces import RunContext, SynthRequest
from methods.sources._augment import Augment, PixelSpace, integer
from methods.sources._inversion import edge_fraction
from methods.sources._objectives import Network, SingleObjective
from methods.sources._settings import Terms

if TYPE_CHECKING:
    from methods.sources.genie import GenieParams

LATENT = 256


class Latents(PixelSpace):
    """Latents are no pixels: any value is valid."""

    def box(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Minus and plus infinity."""
        return like.new_full((), -math.inf), like.new_full((), math.inf)


class Body(nn.Module):
    """Latents [B,256] to images (C, H, W) of mean 0 and deviation 1 per channel over the batch.

    ``width`` channels in the first map, a quarter of the images' side; half as many after the first convolution.
    Linear, BN, twice as large, convolution, BN, LeakyReLU 0.2, twice as large, convolution, tanh, BN without affine.
    """

    def __init__(self, shape: tuple[int, int, int], width: int, generator: Generator) -> None:
        super().__init__()
        self.width = width
        channels, *self.size = shape
        self.first = [math.ceil(side / 4) for side in self.size]
        self.linear = skip_init(nn.Linear, LATENT, width * math.prod(self.first))
        self.norm1 = nn.BatchNorm2d(width)
        self.conv1 = skip_init(nn.Conv2d, width, width // 2, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(width // 2)
        self.conv2 = skip_init(nn.Conv2d, width // 2, channels, 3, padding=1)
        self.norm3 = nn.BatchNorm2d(channels, affine=False)
        self.macs = LATENT * width * math.prod(self.first) + 9 * (width // 2) * (
            4 * width * math.prod(self.first) + channels * math.prod(self.size)
        )
        """Multiply-accumulates of one image."""
        for layer in (self.linear, self.conv1, self.conv2):
            bound = 1.0 / math.sqrt(layer.weight[0].numel())  # torch's default for both layers, from our generator
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            assert layer.bias is not None
            nn.init.uniform_(layer.bias, -bound, bound, generator=generator)

    def forward(self, z: Tensor) -> Tensor:
        x = self.linear(z.flatten(1)).view(len(z), self.width, *self.first)
        x = self.norm1(x.contiguous(memory_format=torch.channels_last))
        x = F.leaky_relu(self.norm2(self.conv1(F.interpolate(x, size=[2 * side for side in self.first]))), 0.2)
        image: Tensor = self.norm3(torch.tanh(self.conv2(F.interpolate(x, size=self.size))))
        return image


def swing(x: Tensor, dy: int, dx: int) -> Tensor:
    """The window of ``x`` [B,C,H,W] moved by (``dy``, ``dx``) in -1..1 within its reflection; (0, 0) is ``x``."""
    if dy == dx == 0:
        return x
    height, width = x.shape[2:]
    return F.pad(x, (1, 1, 1, 1), mode="reflect")[:, :, 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]


def add_swing(net: nn.Module, generator: Generator) -> int:
    """Let every strided convolution of ``net`` swing, from now on; returns how many there are.

    ``net`` is changed (it gets hooks): pass a copy.
    """

    def moved(_: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        x, dy, dx = inputs[0], integer(-1, 1, generator), integer(-1, 1, generator)
        return swing(x, dy, dx) if min(x.shape[2:]) > 1 else x

    strided = [m for m in net.modules() if isinstance(m, nn.Conv2d) and max(m.stride) > 1]
    for module in strided:
        module.register_forward_pre_hook(moved)
    return len(strided)


class GenieObjective(SingleObjective):
    """The one-network objective of images that a generator makes of the optimised latents; it owns the generator."""

    def __init__(
        self, network: Network, terms: Terms, augment: Augment, request: SynthRequest, ctx: RunContext
    ) -> None:
        super().__init__(network, None, terms, augment, ctx.generator)
        self.shape, self.params, self.device = request.dataset.shape, request.params, ctx.device
        self.lr: float = request.params.generator_lr
        self._start()

    def images(self, view: Tensor) -> Tensor:
        """G's images [B,C,H,W] for latents [B,256,1,1]."""
        made: Tensor = self.body(view)
        return made

    def backward(self, view: Tensor, scale: int, log: bool) -> Mapping[str, Tensor]:
        self.optimiser.zero_grad(set_to_none=True)
        found = super().backward(view, scale, log)
        if not log:
            return found
        with torch.no_grad():
            clipped = edge_fraction(self.images(view), self.augment.space)
        return {**found, "clipped": torch.tensor(clipped)}

    def stepped(self) -> None:
        self.optimiser.step()
        self.schedule.step()

    def reset(self) -> None:
        """A fresh generator that learns at half the rate."""
        self.lr /= 2
        self._start()

    def _start(self) -> None:
        p: GenieParams = self.params
        body = Body(self.shape, p.width, self.generator).to(self.device)
        self.body = body.to(memory_format=torch.channels_last).train()
        self.optimiser = torch.optim.Adam(self.body.parameters(), lr=self.lr, foreach=False)
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimiser, p.span(p.decay_every), 0.95)
