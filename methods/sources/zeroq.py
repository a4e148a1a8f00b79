"""ZeroQ (Cai et al., CVPR 2020): distilled data that match each batch norm's mean and deviation, image by image.

Objective: squared errors of per-image mean and unbiased deviation, summed over channels and layers, plus the same
towards (0, 1) on the raw image (docs/methods/sources.md#sq_std_image, #zeroq).  No labels, no cross-entropy, no clip,
no views.
Deviations: N(0,1) start as in the paper; ``init=code`` is the authors' near-zero uniform start (they divide by the
variance, so its true deviation is 0.0136).  The plateau's patience is a fifth of the iterations (100 at 500, as
published).  One-pixel maps have no unbiased deviation and are matched in the mean only.  ``recon`` is the authors'
second variant: rate 0.1, terms divided by channels instead of images, stop at 5(L+1).
Every image is pushed to the population's statistics, which costs diversity (DSG answers that).
Paper's figure (MixMix Table 3, ImageNet, BRECQ): W4A4 ResNet-50 73.73, MobileNetV2 49.83; W2A4 ResNet-50 64.16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from bench.interfaces import LabelKind, MethodParams, RunContext, SynthRequest
from methods.sources._settings import InversionParams, LabelLaw, LoopSettings, Terms
from methods.sources._single import SingleSource

if TYPE_CHECKING:
    from torch import Tensor

    from methods.sources._augment import Augment, PixelSpace
    from methods.sources._objectives import Prepared


class ZeroQParams(InversionParams):
    """``init`` normal | code; ``recon`` the authors' second variant; ``patience`` of the plateau, default its/5."""

    iterations: int = Field(500, ge=1)
    batch: int = Field(64, ge=1)
    lr: float = Field(0.5, gt=0)
    clip: bool = False
    init: Literal["normal", "code"] = "normal"
    recon: bool = False
    input_term: bool = True
    patience: int | None = Field(None, ge=1)


class ZeroQ(SingleSource):
    """DataSource ``zeroq``."""

    summary = "match batch-norm statistics per image; no labels (ZeroQ)"
    paper = "Cai et al., ZeroQ: A Novel Zero Shot Quantization Framework, CVPR 2020"
    Params: type[MethodParams] = ZeroQParams
    presets: Mapping[str, Mapping[str, Any]] = {
        "mini": {"iterations": 200, "batch": 64},
        "thorough": {"iterations": 500, "batch": 64},
        "paper": {"iterations": 500, "batch": 32},
    }
    label_kind: LabelKind = "none"

    def terms(self, params: ZeroQParams) -> Terms:
        """Statistics per image, with the raw image as one more layer."""
        return Terms(bn="sq_std_image", bn_weight=1.0, input_term=params.input_term, per_channel=params.recon)

    def augment(self, params: ZeroQParams, space: PixelSpace) -> Augment:
        """None."""
        from methods.sources._augment import Augment

        return Augment(space)

    def settings(self, params: ZeroQParams) -> LoopSettings:
        """Adam on a plateau schedule, stepped every iteration."""
        wait = params.patience or max(1, params.iterations // 5)
        return LoopSettings.plateau(params, wait, lr=0.1 if params.recon else params.lr)

    def label_law(self, params: ZeroQParams) -> LabelLaw | None:
        """No targets."""
        return None

    def start(self, request: SynthRequest, ctx: RunContext) -> Tensor:
        """N(0,1), or the integers 0..254 minus 127.5 divided by 5418.75 as in the authors' code."""
        if request.params.init == "normal":
            return super().start(request, ctx)
        import torch

        shape = (request.batch_size, *request.dataset.shape)
        levels: Tensor = torch.randint(0, 255, shape, generator=ctx.generator).float()
        images: Tensor = (levels - 127.5) / 5418.75
        return images.to(ctx.device)

    def prepare(self, request: SynthRequest, ctx: RunContext) -> Prepared:
        """As every one-network source; ``recon`` stops at 5(L+1), which depends on the network's depth."""
        prepared = super().prepare(request, ctx)
        if not request.params.recon:
            return prepared
        stop = 5.0 * (len(prepared.networks[0].taps.layers) + 1)
        return replace(prepared, settings=replace(prepared.settings, stop_below=stop))


METHOD = ZeroQ()
