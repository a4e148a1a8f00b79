"""Gaussian noise: the lower bound every data-free method must beat.

X ~ N(0,1) per pixel in normalised space, unclipped by default; no labels, no cost (docs/methods/sources.md#noise; the
"Gaussian scheme" of The Knowledge Within, Haroush et al., CVPR 2020).  A consumer that trains on it must keep its batch
norms frozen.
Paper's figure: none (MixMix has no noise row).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from bench.interfaces import Control, ImageBatch, LabelKind, MethodParams, ModelHandle, RunContext, SynthRequest, Tier
from methods.sources._base import Defaults


class NoiseParams(MethodParams):
    """``law`` normal: N(0,1) in normalised space; uniform_pixel: U[0,1] pixels. ``clip`` projects onto valid pixels."""

    batch: int = Field(128, ge=1)
    law: Literal["normal", "uniform_pixel"] = "normal"
    clip: bool = False


class Noise(Defaults):
    """DataSource ``noise``."""

    version = 2
    summary = "Gaussian noise in normalised space (lower bound)"
    paper = "Haroush et al., The Knowledge Within, CVPR 2020 (Gaussian scheme)"
    needs: frozenset[str] = frozenset()
    Params: type[MethodParams] = NoiseParams
    presets: Mapping[str, Mapping[str, Any]] = {"mini": {}, "thorough": {}, "paper": {}}
    access: Tier = "T1"
    control: Control = "lower"
    models = "none"
    label_kind: LabelKind = "none"

    def batch_size(self, params: NoiseParams) -> int:
        """Images per batch."""
        return params.batch

    def check(self, params: NoiseParams, models: tuple[ModelHandle, ...]) -> None:
        """Always applicable."""

    def synthesize_batch(self, request: SynthRequest, ctx: RunContext) -> ImageBatch:
        """Draw one batch from the context's generator."""
        import torch

        from methods.sources._augment import PixelSpace
        from methods.sources._inversion import edge_fraction

        params: NoiseParams = request.params
        space = PixelSpace.of(request.dataset)
        shape = (request.batch_size, *request.dataset.shape)
        if params.law == "uniform_pixel":
            images = space.normalise(torch.rand(shape, generator=ctx.generator))
        else:
            images = torch.randn(shape, generator=ctx.generator)
        if params.clip:
            images = images.clamp(*space.box(images))
        return ImageBatch(images, info={"models": [], "clipped": edge_fraction(images, space)})


METHOD = Noise()
