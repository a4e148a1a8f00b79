"""GENIE-D (Jeon et al., Genie: Show Me the Data for Quantization, CVPR 2023): latents and a generator per batch.

A fresh generator G and latents z [B,256] are optimised together and thrown away: sum_i of the mean squared errors of
mean and unbiased deviation, pooled over the batch, plus the same of each raw image towards (0, 1); no class term (spec
3.13, 2.2 ``sq_std_batch``).  On a copy of the network every strided convolution is a swing convolution: its input is
reflect-padded by 1 and a random window of the old size goes on, drawn anew for each call.  z moves by Adam 0.1 on a
plateau, G by Adam 0.01 times 0.95 every ``decay_every`` iterations (the names are swapped in the authors' code).
Deviations: G's first map has a quarter of the images' side and 128 channels, in ``mini`` 32: at 128 one pass through G
takes six times as long as one through our ResNet-18, and the BN loss is no lower for it. ``mini`` runs 230 iterations,
which is 460 passes an image. Patience and decay interval shrink with the iterations (100 of 4,000 as published, but 25
or more); the images are G's output after the last step, not before it; maps of one pixel cannot be padded and do not
swing. The input term sums over the image's channels. A pass through G counts as one of a network in the cost; the
record has G's multiply-accumulates over the network's. A retry after a non-finite loss halves both rates. Images are
not clipped to the valid box (the record says how many pixels lie outside). Version 2: the retry halved the latents'
rate only, and the failed attempt was not counted.
Paper's figure: MixMix does not measure it.
Ours (suite ``sources_all``, 128 images, 60,000 passes, BRECQ, one seed; MobileNetV2 and ResNet-18): W2A4 73.3 and
88.9, W4A4 88.4 and 91.0 (real 82.7, 89.7, 82.3, 91.0; noise 25.5, 50.9, 74.0, 90.0).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import skip_init

from bench.interfaces import ImageBatch, LabelKind, MethodParams, RunContext, SynthRequest
from methods.sources._augment import Augment, PixelSpace, integer
from methods.sources._inversion import LoopSettings, edge_fraction, invert
from methods.sources._objectives import LabelLaw, Network, Prepared, SingleObjective, Terms, describe, inspect
from methods.sources._single import SingleSource

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


class GenieParams(MethodParams):
    """``lr`` of the latents on a plateau (``patience``), ``generator_lr`` and its ``decay_every``, ``swing``.

    ``width`` is the number of channels of the generator's first map.
    """

    iterations: int = Field(1000, ge=1)
    batch: int = Field(128, ge=2)
    lr: float = Field(0.1, gt=0)
    generator_lr: float = Field(0.01, gt=0)
    decay_every: int | None = Field(None, ge=1)
    patience: int | None = Field(None, ge=1)
    swing: bool = True
    width: int = Field(128, ge=2)

    def span(self, given: int | None) -> int:
        """``given`` iterations, else a fortieth of all (100 of 4,000), at least 25."""
        return given or max(25, self.iterations // 40)


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


class Genie(SingleSource):
    """DataSource ``genie``."""

    version = 2
    summary = "latents and a generator of their own per batch match batch-norm statistics (GENIE-D)"
    paper = "Jeon et al., Genie: Show Me the Data for Quantization, CVPR 2023"
    Params: type[MethodParams] = GenieParams
    presets: Mapping[str, Mapping[str, Any]] = {
        "mini": {"iterations": 230, "batch": 128, "width": 32},
        "thorough": {"iterations": 1000, "batch": 128},
        "paper": {"iterations": 4000, "batch": 128},
    }
    label_kind: LabelKind = "none"

    def terms(self, params: GenieParams) -> Terms:
        """Statistics over the batch, with the raw image as one more layer."""
        return Terms(bn="sq_std_batch", bn_weight=1.0, input_term=True)

    def augment(self, params: GenieParams, space: PixelSpace) -> Augment:
        """None."""
        return Augment(space)

    def settings(self, params: GenieParams) -> LoopSettings:
        """Adam over the latents on a plateau schedule."""
        return LoopSettings(
            iterations=params.iterations,
            lr=params.lr,
            schedule="plateau",
            patience=params.span(params.patience),
            clip=False,
        )

    def label_law(self, params: GenieParams) -> LabelLaw | None:
        """No targets."""
        return None

    def start(self, request: SynthRequest, ctx: RunContext) -> Tensor:
        """Latents [B,256,1,1] from N(0,1)."""
        return torch.randn(request.batch_size, LATENT, 1, 1, generator=ctx.generator).to(ctx.device)

    def prepare(self, request: SynthRequest, ctx: RunContext) -> Prepared:
        """As every one-network source; the objective sees the network's second copy, whose convolutions swing."""
        prepared, params = super().prepare(request, ctx), request.params
        network = Network(request.models[0], request.dataset, ctx)
        if params.swing:
            add_swing(network.taps.module, ctx.generator)
        objective = GenieObjective(network, self.terms(params), prepared.augment, request, ctx)
        return replace(prepared, objective=objective)

    def synthesize_batch(self, request: SynthRequest, ctx: RunContext) -> ImageBatch:
        """Optimise latents and generator; the images are one last pass through it."""
        prepared = self.prepare(request, ctx)
        objective, space = prepared.objective, prepared.augment.space
        assert isinstance(objective, GenieObjective)
        result = invert(prepared.init, objective, Latents(space.mean, space.std), prepared.settings, ctx)
        with torch.no_grad():
            images = objective.images(result.images)
        found = replace(result, images=images, clipped=edge_fraction(images, space))
        info = {
            **describe(found, prepared.networks, prepared.augment),
            **inspect(prepared.networks, images, None),
            "generator_lr": objective.lr,
            "generator_macs_ratio": objective.body.macs / request.models[0].macs,
        }
        # every iteration passes through network and generator; then G makes and the network looks at each image
        cost = 2 * found.forwards() + 2 * len(images)
        return ImageBatch(images.cpu(), forward_equivalents=cost, info=info)


METHOD = Genie()
