"""Training images: the upper bound (docs/methods/sources.md#real).

MixMix takes 1,024 of them for post-training quantisation (section 5); so can a suite here, by its image count.
Deviations: drawn class-balanced instead of uniformly (``sampling`` has no other value: the data handle gives balanced
images only); deterministic transform, augmentation is the consumer's.
Paper's figure: W4A4 BRECQ ResNet-50 74.72, MobileNetV2 64.63 (MixMix appendix, ImageNet); ours stands on the board.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from bench.interfaces import Control, ImageBatch, LabelKind, MethodParams, ModelHandle, RunContext, SynthRequest, Tier
from methods.sources._base import Defaults


class RealParams(MethodParams):
    """``batch`` images per stored batch; ``sampling`` class-balanced."""

    batch: int = Field(128, ge=1)
    sampling: Literal["balanced"] = "balanced"


class Real(Defaults):
    """DataSource ``real``."""

    version = 2
    summary = "class-balanced training images with their labels (upper bound)"
    paper = "Li et al., MixMix, ICCV 2021, section 5 (real-data rows)"
    needs: frozenset[str] = frozenset({"labels"})
    Params: type[MethodParams] = RealParams
    presets: Mapping[str, Mapping[str, Any]] = {"mini": {}, "thorough": {}, "paper": {}}
    access: Tier = "T5"
    control: Control = "upper"
    models = "none"
    label_kind: LabelKind = "native"

    def batch_size(self, params: RealParams) -> int:
        """Images per batch."""
        return params.batch

    def check(self, params: RealParams, models: tuple[ModelHandle, ...]) -> None:
        """Always applicable."""

    def synthesize_batch(self, request: SynthRequest, ctx: RunContext) -> ImageBatch:
        """Batch k is the k-th slice of the one permutation that the set's seed gives, shorter where the images end;
        every prefix is balanced.

        Raises:
            DataError: the training split has no image there.
        """
        import torch

        start = request.batch_index * request.batch_size
        generator = torch.Generator().manual_seed(request.set_seed)
        images, labels, indices = ctx.data.train_images(request.batch_size, generator, start)
        return ImageBatch(images, labels=labels, info={"models": [], "indices": indices})


METHOD = Real()
