"""MixMix's augmentation for quantisation-aware training: colour jitter, greyscale, blur and flip, one draw per image.

MixMix (ICCV 2021), appendix: "random color jitter (0.2, 0.2, 0.2, 0.1), random grad scale (probability=0.2), random
Gaussian blur (1, 2, probability=0.5) and random horizontal flip".  "Grad scale" is read as greyscale, "(1, 2)" as the
blur's sigma in pixels at 224; the jitter is always applied.  The images are un-normalised, changed and normalised
again.  One channel has no saturation, hue or greyscale.

Deviations from the usual image libraries: brightness, contrast, saturation and hue always come in this order; hue turns
in YIQ space; values are cut at the wider of [0, 1] and the image's own range, as synthetic images may lie outside the
pixels' box.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from bench.interfaces import Batch

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_YIQ = (_LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


@dataclass(frozen=True)
class Views:
    """The augmentation as a ``BatchHook``.

    Attributes:
        mean, std: per channel of pixels in [0, 1]; images are (p - mean) / std.
        jitter: strengths of brightness, contrast, saturation (factor from U(1 - j, 1 + j)) and hue (share of a turn).
        grey, blur, flip: probabilities.
        sigma: range of the blur's sigma in pixels.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    jitter: tuple[float, float, float, float] = (0.2, 0.2, 0.2, 0.1)
    grey: float = 0.2
    blur: float = 0.5
    sigma: tuple[float, float] = (1.0, 2.0)
    flip: float = 0.5

    def __call__(
        self, batch: Batch, step: int, total: int, loss: Callable[[Tensor], Tensor], generator: Generator
    ) -> Batch:
        """The batch with other images, everything else as it was."""
        return Batch(self.view(batch.images, generator), batch.labels, batch.soft)

    def view(self, x: Tensor, generator: Generator) -> Tensor:
        """A view of normalised images [B, C, H, W]; each image draws for itself."""
        shape = (1, -1, 1, 1)
        mean = torch.tensor(self.mean, dtype=x.dtype, device=x.device).view(shape)
        std = torch.tensor(self.std, dtype=x.dtype, device=x.device).view(shape)
        pixels = x * std + mean
        low = pixels.amin((1, 2, 3), keepdim=True).clamp_max(0)
        high = pixels.amax((1, 2, 3), keepdim=True).clamp_min(1)
        pixels = self._coloured(pixels, generator).clamp(low, high)
        if self.blur:
            pixels = torch.where(_coins(pixels, self.blur, generator), self._blurred(pixels, generator), pixels)
        if self.flip:
            pixels = torch.where(_coins(pixels, self.flip, generator), pixels.flip(3), pixels)
        return (pixels - mean) / std

    def _coloured(self, pixels: Tensor, generator: Generator) -> Tensor:
        brightness, contrast, saturation, hue = self.jitter
        if brightness:
            pixels = pixels * _uniform(pixels, 1 - brightness, 1 + brightness, generator)
        if contrast:
            level = _luma(pixels).mean((2, 3), keepdim=True)
            pixels = level + (pixels - level) * _uniform(pixels, 1 - contrast, 1 + contrast, generator)
        if pixels.shape[1] != 3:
            return pixels
        if saturation:
            level = _luma(pixels)
            pixels = level + (pixels - level) * _uniform(pixels, 1 - saturation, 1 + saturation, generator)
        if hue:
            pixels = turn_hue(pixels, _uniform(pixels, -hue, hue, generator))
        if self.grey:
            pixels = torch.where(_coins(pixels, self.grey, generator), _luma(pixels).expand_as(pixels), pixels)
        return pixels

    def _blurred(self, pixels: Tensor, generator: Generator) -> Tensor:
        sigma = _uniform(pixels, *self.sigma, generator)
        reach = min(math.ceil(3 * self.sigma[1]), pixels.shape[2] - 1, pixels.shape[3] - 1)
        return gaussian_blur(pixels, sigma, reach)


def _uniform(like: Tensor, low: float, high: float, generator: Generator) -> Tensor:
    """One draw from U(low, high) per image, [B, 1, 1, 1]."""
    draws = torch.rand((len(like), 1, 1, 1), generator=generator)
    return (low + (high - low) * draws).to(like.device, like.dtype)


def _coins(like: Tensor, probability: float, generator: Generator) -> Tensor:
    """True with ``probability`` per image, [B, 1, 1, 1]."""
    return (torch.rand((len(like), 1, 1, 1), generator=generator) < probability).to(like.device)


def _luma(pixels: Tensor) -> Tensor:
    """Brightness [B, 1, H, W]."""
    if pixels.shape[1] != 3:
        return pixels.mean(1, keepdim=True)
    weights = torch.tensor(_LUMA, dtype=pixels.dtype, device=pixels.device).view(1, 3, 1, 1)
    return (pixels * weights).sum(1, keepdim=True)


def turn_hue(pixels: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue of pixels [B, 3, H, W] by ``turns`` [B, 1, 1, 1] of a full turn (red to green); brightness stays."""
    to_yiq = torch.tensor(_YIQ, dtype=torch.float64)
    angle = 2 * math.pi * turns.reshape(-1).to("cpu", torch.float64)
    turned = torch.zeros(len(angle), 3, 3, dtype=torch.float64)
    turned[:, 0, 0] = 1
    turned[:, 1, 1] = turned[:, 2, 2] = angle.cos()
    turned[:, 1, 2], turned[:, 2, 1] = angle.sin(), -angle.sin()
    matrix = (torch.linalg.inv(to_yiq) @ turned @ to_yiq).to(pixels)
    return torch.einsum("bij,bjhw->bihw", matrix, pixels)


def gaussian_blur(pixels: Tensor, sigma: Tensor, reach: int) -> Tensor:
    """Blur each image [B, C, H, W] with its own ``sigma`` [B, 1, 1, 1] > 0, kernel 2 ``reach`` + 1, edges reflected."""
    count, channels, height, width = pixels.shape
    offsets = torch.arange(-reach, reach + 1, dtype=pixels.dtype, device=pixels.device)
    kernel = torch.exp(-0.5 * (offsets / sigma.view(count, 1)).square())
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)
    flat = F.pad(pixels.reshape(1, count * channels, height, width), (reach,) * 4, mode="reflect")
    flat = F.conv2d(flat, kernel[:, None, :, None], groups=count * channels)
    flat = F.conv2d(flat, kernel[:, None, None, :], groups=count * channels)
    return flat.reshape(pixels.shape)
