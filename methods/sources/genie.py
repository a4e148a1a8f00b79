"""GENIE-D (Jeon et al., Genie: Show Me the Data for Quantization, CVPR 2023): latents and a generator per batch.

A fresh generator G and latents z [B,256] are optimised together and thrown away: sum_i of the mean squared errors of
mean and unbiased deviation, pooled over the batch, plus the same of each raw image towards (0, 1); no class term
(docs/methods/sources.md#genie, #sq_std_batch).  On a copy of the network every strided convolution is a swing
convolution: its input is reflect-padded by 1 and a random window of the old size goes on, drawn anew for each call.  z
moves by Adam 0.1 on a plateau, G by Adam 0.01 times 0.95 every ``decay_every`` iterations (the names are swapped in the
authors' code).
Deviations: G's first map has a quarter of the images' side and 128 channels, in ``mini`` 32: at 128 one pass through G
takes six times as long as one through our ResNet-18, and the BN loss is no lower for it. A pass through G counts by its
multiply-accumulates over the network's (0.37 of ResNet-18's, 0.40 of MobileNetV2's in ``mini``). Patience and decay
interval shrink with the iterations (100 of 4,000 as published, but 25 or more); the images are G's output after the
last step, not before it; maps of one pixel cannot be padded and do not swing. The input term sums over the image's
channels. A retry after a non-finite loss halves both rates. Images are not clipped to the valid box (the record says
how many pixels lie outside).
Paper's figure: MixMix does not measure it.
Ours, on the networks before their second training cycle (suite ``sources_all``, 128 images, 60,000 passes with a
generator's counted as one network's, BRECQ, one seed; MobileNetV2 and ResNet-18): W2A4 73.3 and 88.9, W4A4 88.4 and
91.0 (real 82.7, 89.7, 82.3, 91.0; noise 25.5, 50.9, 74.0, 90.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import Field

from bench.interfaces import ImageBatch, LabelKind, MethodParams, RunContext, SynthRequest
from methods.sources._settings import LabelLaw, LoopSettings, Terms
from methods.sources._single import SingleSource

if TYPE_CHECKING:
    from torch import Tensor

    from methods.sources._augment import Augment, PixelSpace
    from methods.sources._objectives import Prepared


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


class Genie(SingleSource):
    """DataSource ``genie``."""

    version = 3
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
        from methods.sources._augment import Augment

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
        import torch

        from methods.sources._genie_generator import LATENT

        return torch.randn(request.batch_size, LATENT, 1, 1, generator=ctx.generator).to(ctx.device)

    def prepare(self, request: SynthRequest, ctx: RunContext) -> Prepared:
        """As every one-network source; the objective sees the network's second copy, whose convolutions swing."""
        from methods.sources._genie_generator import GenieObjective, add_swing
        from methods.sources._objectives import Network

        prepared, params = super().prepare(request, ctx), request.params
        network = Network(request.models[0], request.dataset, ctx)
        if params.swing:
            add_swing(network.taps.module, ctx.generator)
        objective = GenieObjective(network, self.terms(params), prepared.augment, request, ctx)
        return replace(prepared, objective=objective)

    def synthesize_batch(self, request: SynthRequest, ctx: RunContext) -> ImageBatch:
        """Optimise latents and generator; the images are one last pass through it."""
        import torch

        from methods.sources._genie_generator import GenieObjective, Latents
        from methods.sources._inversion import edge_fraction, invert
        from methods.sources._objectives import describe, inspect

        prepared = self.prepare(request, ctx)
        objective, space = prepared.objective, prepared.augment.space
        assert isinstance(objective, GenieObjective)
        result = invert(prepared.init, objective, Latents(space.mean, space.std), prepared.settings, ctx)
        with torch.no_grad():
            images = objective.images(result.images)
        found = replace(result, images=images, clipped=edge_fraction(images, space))
        ratio = objective.body.macs / request.unit_macs
        info = {
            **describe(found, prepared.networks, prepared.augment),
            **inspect(prepared.networks, images, None),
            "generator_lr": objective.lr,
            "generator_macs_ratio": ratio,
        }
        # every iteration passes through network and generator; then G makes and the network looks at each image
        cost = (found.forwards() + len(images)) * (1 + ratio)
        return ImageBatch(images.cpu(), forward_equivalents=cost, info=info)


METHOD = Genie()
