"""Differentiable views of the images inside an inversion: roll, flip, crop, colour, cut-out, and MixMix's data mixing.

All draws come from the CPU generator that is passed in; nothing here touches the optimised tensor itself
(docs/methods/sources.md#views).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from bench.interfaces import DatasetSpec

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as image libraries use it for saturation and contrast


def uniform(low: float, high: float, generator: Generator) -> float:
    """One draw from U(low, high)."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def factors(count: int, strength: float, like: Tensor, generator: Generator) -> Tensor:
    """Draws [count,1,1,1] from U(1 - strength, 1 + strength), where ``like`` lives."""
    draws = torch.rand(count, 1, 1, 1, generator=generator) * 2.0 - 1.0
    return (1.0 + strength * draws).to(like.device, like.dtype)


def integer(low: int, high: int, generator: Generator) -> int:
    """One draw from the integers low..high, both ends included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def roll(x: Tensor, dy: int, dx: int) -> Tensor:
    """Circular shift of images [B,C,H,W] by ``dy`` rows and ``dx`` columns; its own inverse with opposite signs."""
    return torch.roll(x, (dy, dx), (2, 3)) if dy or dx else x


@dataclass(frozen=True)
class PixelSpace:
    """Normalised space of a data set: pixel p in [0,1] is (p - mean) / std per channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, dataset: DatasetSpec) -> PixelSpace:
        return cls(dataset.mean, dataset.std)

    def _columns(self, like: Tensor) -> tuple[Tensor, Tensor]:
        shape = (1, -1, 1, 1)
        mean = torch.tensor(self.mean, dtype=like.dtype, device=like.device).view(shape)
        return mean, torch.tensor(self.std, dtype=like.dtype, device=like.device).view(shape)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Pixels [B,C,H,W] in [0,1] to normalised space."""
        mean, std = self._columns(pixels)
        return (pixels - mean) / std

    def denormalise(self, x: Tensor) -> Tensor:
        """Normalised images [B,C,H,W] to pixels, unclamped."""
        mean, std = self._columns(x)
        return x * std + mean

    def box(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Lowest and highest valid value per channel, each [1,C,1,1]."""
        mean, std = self._columns(like)
        return -mean / std, (1.0 - mean) / std

    def brightness(self, x: Tensor, factor: Tensor | float) -> Tensor:
        """p -> factor * p, one for all or one each [B,1,1,1], unclamped: a clamp would take the gradient of pixels held
        at the box's edge."""
        mean, std = self._columns(x)
        return x * factor + (factor - 1.0) * mean / std

    def contrast(self, x: Tensor, factor: Tensor | float) -> Tensor:
        """Blend with each image's mean luminance: p -> factor * p + (1 - factor) * mean(luma(p))."""
        mean, std = self._columns(x)
        level = self._luma(x).mean((2, 3), keepdim=True)
        return x * factor + (1.0 - factor) * (level - mean) / std

    def saturation(self, x: Tensor, factor: Tensor | float) -> Tensor:
        """Blend with each pixel's luminance; three channels only."""
        mean, std = self._columns(x)
        return x * factor + (1.0 - factor) * (self._luma(x) - mean) / std

    def _luma(self, x: Tensor) -> Tensor:
        pixels = self.denormalise(x)
        if x.shape[1] != 3:
            return pixels.mean(1, keepdim=True)
        weights = torch.tensor(_LUMA, dtype=x.dtype, device=x.device).view(1, 3, 1, 1)
        return (pixels * weights).sum(1, keepdim=True)


@dataclass(frozen=True)
class Augment:
    """Roll by up to ``roll`` pixels, flip, cut-out, one draw per batch and iteration; colour and crop, one per image.

    ``flip_per_image`` draws the flip for each image instead.  ``jitter`` j draws each factor from U(1-j, 1+j).
    ``crop`` is the smallest share of the area in a random resized crop: each image with probability one half is cropped
    and flipped (IntraQ's local object reinforcement); 0 for none.

    What moves a whole batch one way (all images brighter, all enlarged) leaves the statistics that networks store, and
    those cannot be met: so colour and crops are drawn per image (docs/methods/sources.md#views).
    """

    space: PixelSpace
    roll: int = 0
    flip: bool = False
    flip_per_image: bool = False
    jitter: float = 0.0
    cutout: bool = False
    crop: float = 0.0

    def kinds(self) -> list[str]:
        """Names of what is drawn, for the record; one channel has no saturation."""
        colour = ["brightness", "contrast"] + (["saturation"] if len(self.space.mean) == 3 else [])
        return [
            *(["roll"] if self.roll else []),
            *(["flip"] if self.flip else []),
            *(colour if self.jitter else []),
            *(["cutout"] if self.cutout else []),
            *(["crop"] if self.crop else []),
        ]

    def __call__(self, x: Tensor, generator: Generator, scale: int = 1) -> Tensor:
        """A view of ``x`` [B,C,H,W], which is ``scale`` times smaller than the images; offsets shrink with it."""
        reach = self.roll // scale
        if reach:
            x = roll(x, integer(-reach, reach, generator), integer(-reach, reach, generator))
        if self.flip:
            x = self._flipped(x, generator)
        if self.jitter:
            x = self._coloured(x, generator)
        if self.cutout:
            x = _cut_out(x, generator)
        if self.crop:
            coins = (torch.rand(len(x), generator=generator) < 0.5).to(x.device).view(-1, 1, 1, 1)
            x = torch.where(coins, _flip_each(resized_crops(x, self.crop, generator), generator), x)
        return x

    def _flipped(self, x: Tensor, generator: Generator) -> Tensor:
        if not self.flip_per_image:
            return x.flip(3) if float(torch.rand((), generator=generator)) < 0.5 else x
        return _flip_each(x, generator)

    def _coloured(self, x: Tensor, generator: Generator) -> Tensor:
        x = self.space.brightness(x, factors(len(x), self.jitter, x, generator))
        x = self.space.contrast(x, factors(len(x), self.jitter, x, generator))
        if x.shape[1] == 3:
            x = self.space.saturation(x, factors(len(x), self.jitter, x, generator))
        return x


def _flip_each(x: Tensor, generator: Generator) -> Tensor:
    """Each image of ``x`` [B,C,H,W] mirrored with probability one half."""
    coins = (torch.rand(len(x), generator=generator) < 0.5).to(x.device)
    return torch.where(coins.view(-1, 1, 1, 1), x.flip(3), x)


def resized_crops(x: Tensor, smallest: float, generator: Generator) -> Tensor:
    """A window of each image of ``x`` [B,C,H,W], enlarged to full size (bilinear), at a place of its own.

    Shares of the area are U(``smallest``, 1), ratios of the sides log-uniform in [3/4, 4/3]; sides end at the image's.
    """
    draws = torch.rand(4, len(x), generator=generator)
    area = smallest + (1.0 - smallest) * draws[0]
    root = torch.exp((draws[1] - 0.5) * math.log(4.0 / 3.0))  # square root of the ratio width to height
    width, height = (area.sqrt() * root).clamp(max=1.0), (area.sqrt() / root).clamp(max=1.0)
    theta = torch.zeros(len(x), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = width, height
    theta[:, 0, 2], theta[:, 1, 2] = (1.0 - width) * (2.0 * draws[2] - 1.0), (1.0 - height) * (2.0 * draws[3] - 1.0)
    grid = F.affine_grid(theta.to(x.device, x.dtype), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _cut_out(x: Tensor, generator: Generator) -> Tensor:
    """One square of a quarter of the height, zero in normalised space, at one place for the whole batch."""
    height, width = x.shape[2:]
    side = max(1, height // 4)
    top, left = integer(0, height - side, generator), integer(0, width - side, generator)
    mask = torch.ones(1, 1, height, width, dtype=x.dtype)
    mask[:, :, top : top + side, left : left + side] = 0.0
    return x * mask.to(x.device)


@dataclass(frozen=True)
class MixBox:
    """Where the shrunken guest lies in the host, in pixels."""

    top: int
    left: int
    height: int
    width: int

    @classmethod
    def draw(cls, size: tuple[int, int], ratio: tuple[float, float], generator: Generator) -> MixBox:
        """A box whose sides are independent U(ratio) shares of ``size`` (H, W), at least 2, anywhere inside."""
        sides = [min(full, max(2, round(uniform(*ratio, generator) * full))) for full in size]
        height, width = sides
        top, left = integer(0, size[0] - height, generator), integer(0, size[1] - width, generator)
        return cls(top, left, height, width)

    def share(self, size: tuple[int, int]) -> float:
        """beta: part of the image that the box covers."""
        return self.height * self.width / (size[0] * size[1])


@dataclass(frozen=True)
class Mixed:
    """Mixed images [B,C,H,W], index [B] of each host's guest, and beta [B], the guest's share of the area."""

    images: Tensor
    partner: Tensor
    beta: Tensor
    boxes: tuple[MixBox, ...]


def _shrink(guest: Tensor, box: MixBox, antialias: bool) -> Tensor:
    return F.interpolate(guest, (box.height, box.width), mode="bilinear", align_corners=False, antialias=antialias)


def mix_data(
    x: Tensor,
    generator: Generator,
    ratio: tuple[float, float] = (0.1, 0.4),
    *,
    antialias: bool = False,
    per_sample: bool = False,
) -> Mixed:
    """Put a shrunken whole partner into a box of each image of ``x`` [B,C,H,W] (MixMix eq. 7-8, and beta of eq. 9).

    The partner is ``k`` places further on, k drawn from 1..B-1, so nobody is its own guest.  Pixels outside the box are
    the host's own, bit for bit.  One box for the batch, or one for each image with ``per_sample``.

    Raises:
        ValueError: for fewer than two images.
    """
    count, size = len(x), (x.shape[2], x.shape[3])
    if count < 2:
        raise ValueError("data mixing needs a batch of at least 2 images")
    shift = integer(1, count - 1, generator)
    partner = (torch.arange(count) + shift) % count
    guests = torch.roll(x, -shift, 0)
    boxes = tuple(MixBox.draw(size, ratio, generator) for _ in range(count if per_sample else 1))
    mixed = x.clone(memory_format=torch.contiguous_format)
    for i, box in enumerate(boxes):
        rows = slice(i, i + 1) if per_sample else slice(None)
        mixed[rows, :, box.top : box.top + box.height, box.left : box.left + box.width] = _shrink(
            guests[rows], box, antialias
        )
    beta = torch.tensor([box.share(size) for box in boxes]).expand(count)
    return Mixed(mixed, partner.to(x.device), beta.to(x.device, x.dtype), boxes)
