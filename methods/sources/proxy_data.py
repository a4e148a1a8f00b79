"""A proxy data set: real images of another domain with their own labels, for searches that train on labels
(docs/methods/sources.md#proxy_data).

SEAM (Tang et al., ACM Multimedia 2023, section 4.1) searches the bits of an ImageNet network on CIFAR-10 or
StanfordCars.  Here the other domain is the run's unrelated data set, digits without a download (1,797 images of 8 by 8
pixels, enlarged).  It is a fair stand-in in that it shares no class and no statistics with the target's data, has ten
classes of its own and costs a search a fraction of the target's images; it is not in that CIFAR-10 has natural images
of a richer domain than its target needs, and digits are simpler than garments.  The suite's row option ``domain:
cifar10_jpeg`` takes natural images instead, where a folder of them is at hand: grey where the network has one channel,
scaled to its size.  They are the paper's in kind; not in scale, since 32 pixels are all that the targets here have.

Deviation: none known; a data source of this product.  Paper's figure: with CIFAR-10 the policies are as good as with
4 % of ImageNet (SEAM, Table 3: 70.0 against 69.8 for ResNet-18 at 3 bits).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from bench.interfaces import ImageBatch, LabelKind, MethodParams, ModelHandle, RunContext, SynthRequest, Tier
from methods.sources._base import Defaults


class ProxyDataParams(MethodParams):
    """``batch`` images per stored batch."""

    batch: int = Field(128, ge=1)


class ProxyData(Defaults):
    """DataSource ``proxy_data``."""

    version = 1
    summary = "real images of another domain with their own labels: a proxy data set for searches"
    paper = "Tang et al., SEAM: Searching Transferable Mixed-Precision Quantization Policy, ACM Multimedia 2023"
    needs: frozenset[str] = frozenset()
    Params: type[MethodParams] = ProxyDataParams
    presets: Mapping[str, Mapping[str, Any]] = {"mini": {}, "thorough": {}, "paper": {}}
    access: Tier = "T3"
    models = "none"
    label_kind: LabelKind = "foreign"

    def batch_size(self, params: ProxyDataParams) -> int:
        """Images per batch."""
        return params.batch

    def check(self, params: ProxyDataParams, models: tuple[ModelHandle, ...]) -> None:
        """Always applicable; a missing second data set is reported when images are read."""

    def synthesize_batch(self, request: SynthRequest, ctx: RunContext) -> ImageBatch:
        """Batch k is the k-th slice of the one permutation that the set's seed gives, shorter where the images end.

        Raises:
            DataError: no unrelated data set, or too few images in it.
        """
        import torch

        start = request.batch_index * request.batch_size
        generator = torch.Generator().manual_seed(request.set_seed)
        images, labels = ctx.data.unrelated_labelled(request.batch_size, generator, start)
        return ImageBatch(images, labels, info={"models": []})


METHOD = ProxyData()
