"""Real images of another domain, in the target's shape and constants (docs/methods/sources.md#ood; a suite choice, no
reference figure).

Deviations: the images carry no labels at all here; a consumer that wants some computes pseudo labels with its own
target, so that one image set serves every target.  Which data set is unrelated, and which of its classes overlap, is
the data handle's business.  Paper's figure: none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from bench.interfaces import ImageBatch, LabelKind, MethodParams, ModelHandle, RunContext, SynthRequest, Tier
from methods.sources._base import Defaults


class OodParams(MethodParams):
    """``batch`` images per stored batch."""

    batch: int = Field(128, ge=1)


class Ood(Defaults):
    """DataSource ``ood``."""

    version = 2
    summary = "real images of another domain, without labels"
    paper = "suite control; no reference"
    needs: frozenset[str] = frozenset()
    Params: type[MethodParams] = OodParams
    presets: Mapping[str, Mapping[str, Any]] = {"mini": {}, "thorough": {}, "paper": {}}
    access: Tier = "T3"
    models = "none"
    label_kind: LabelKind = "none"

    def batch_size(self, params: OodParams) -> int:
        """Images per batch."""
        return params.batch

    def check(self, params: OodParams, models: tuple[ModelHandle, ...]) -> None:
        """Always applicable; a missing second data set is reported when images are read."""

    def synthesize_batch(self, request: SynthRequest, ctx: RunContext) -> ImageBatch:
        """Batch k is the k-th slice of the one permutation that the set's seed gives, shorter where the images end.

        Raises:
            DataError: no unrelated data set, or too few images in it.
        """
        import torch

        start = request.batch_index * request.batch_size
        generator = torch.Generator().manual_seed(request.set_seed)
        images = ctx.data.unrelated_images(request.batch_size, generator, start)
        return ImageBatch(images, info={"models": []})


METHOD = Ood()
