"""ZeroQ (Cai et al., CVPR 2020): distilled data that match each batch norm's mean and deviation, image by image.

Objective: squared errors of per-image mean and unbiased deviation, summed over channels and layers, plus the same
towards (0, 1) on the raw image (spec 2.2 ``sq_std_image``, 3.5).  No labels and no cross-entropy.
Deviations: N(0,1) start as in the paper; ``init=code`` is the authors' near-zero uniform start (their division is by
the variance: true deviation 0.0136).  The plateau's patience is a fifth of the iterations (100 at 500, as published).
One-pixel maps have no deviation and are matched in the mean only.  ``recon`` is the second author variant: rate 0.1,
terms divided by channels instead of images, stop at 5(L+1).
Known weakness: every image is pushed to the population's statistics, which costs diversity (DSG answers that).
Paper's figure: W4A4 ResNet-50 with ZeroQ images 69.47 lies outside our papers; MixMix compares on other tasks. None here.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from bench.interfaces import LabelKind, RunContext, SynthRequest
from methods.sources._augment import Augment, PixelSpace
from methods.sources._inversion import LoopSettings
from methods.sources._objectives import LabelLaw, Prepared, SingleObjective, Terms
from methods.sources._single import InversionParams, SingleSource


class Params(InversionParams):
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
    Params = Params
    presets = {  # noqa: RUF012
        "mini": {"iterations": 200, "batch": 64},
        "thorough": {"iterations": 500, "batch": 64},
        "paper": {"iterations": 500, "batch": 32},
    }
    label_kind: LabelKind = "none"

    def terms(self, params: Params) -> Terms:
        return Terms(bn="sq_std_image", bn_weight=1.0, input_term=params.input_term, per_channel=params.recon)

    def augment(self, params: Params, space: PixelSpace) -> Augment:
        return Augment(space)

    def settings(self, params: Params) -> LoopSettings:
        return LoopSettings(
            iterations=params.iterations,
            half_iterations=params.half_iterations,
            lr=0.1 if params.recon else params.lr,
            schedule="plateau",
            patience=params.patience or max(1, params.iterations // 5),
            clip=params.clip,
        )

    def label_law(self, params: Params) -> LabelLaw | None:
        return None

    def start(self, request: SynthRequest, ctx: RunContext) -> Tensor:
        if request.params.init == "normal":
            return super().start(request, ctx)
        shape = (request.batch_size, *request.dataset.shape)
        return ((torch.randint(0, 255, shape, generator=ctx.generator) - 127.5) / 5418.75).to(ctx.device)

    def prepare(self, request: SynthRequest, ctx: RunContext) -> Prepared:
        prepared = super().prepare(request, ctx)
        if not request.params.recon:
            return prepared
        assert isinstance(prepared.objective, SingleObjective)
        layers = len(prepared.networks[0].taps.layers)
        return _stopping_at(prepared, 5.0 * (layers + 1))


def _stopping_at(prepared: Prepared, loss: float) -> Prepared:
    from dataclasses import replace

    return replace(prepared, settings=replace(prepared.settings, stop_below=loss))


METHOD = ZeroQ()
