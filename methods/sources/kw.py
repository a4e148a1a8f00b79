"""The Knowledge Within (Haroush et al., CVPR 2020): inception term plus Gaussian KL of batch-norm statistics.

Objective (docs/methods/sources.md#kw): w_bn sum_i mean_c KL( N(muh, sh^2) || N(mu, s^2) ) + w_ce CE + w_s MSE(X, blur
X), on flipped and shifted views; the scheme "BNS + I" of the paper.  MixMix's text confirms the KL and the blur prior.
Deviations and what is unverified (docs/methods/sources.md#unverified): optimiser, iterations, weights, list of
augmentations and the reduction over channels are the suite's choice (Adam 0.1, cosine, clip on); the KL's form is known
from a secondary source, its measured deviation is held at 1e-3 of the stored one. That form divides by the measured
variance, so that a few nearly dead channels make up the loss of noise (142 on our MobileNetV2, 0.2 of real images) and
its gradient: after 400 iterations the images kept two thirds of noise's BN loss (``l2norm``) whatever the weight, and
their network knew 15 to 90 % of them. ``mini`` and ``thorough`` take the other direction, ``kl_reverse``, which divides
by the stored variance: a quarter of noise's BN loss, 99 % (docs/methods/tuning.md). ``logit`` is the original's
maximised logit, ``bn=mse_gauss`` its other term.
Paper's figure (MixMix Table 3, ImageNet, BRECQ): W4A4 ResNet-50 74.05, MobileNet-b 61.94; W2A4 ResNet-50 57.74.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from bench.interfaces import MethodParams
from methods.sources._settings import InversionParams, Kappa, LabelLaw, LoopSettings, Prior, Terms
from methods.sources._single import SingleSource

if TYPE_CHECKING:
    from methods.sources._augment import Augment, PixelSpace


class KwParams(InversionParams):
    """``bn`` kl | kl_reverse | mse_gauss; weights of statistics, class term and ``smooth`` prior; views; ``labels``
    law."""

    bn: Literal["kl", "kl_reverse", "mse_gauss"] = "kl"
    bn_weight: float = Field(1.0, ge=0)
    kappa: Kappa = None
    ce_weight: float = Field(1.0, ge=0)
    logit: bool = False
    smooth: float = Field(0.1, ge=0)
    roll: int = Field(2, ge=0)
    flip: bool = True
    cutout: bool = False
    labels: LabelLaw = "balanced"


class Kw(SingleSource):
    """DataSource ``kw``."""

    version = 4
    summary = "class term plus Gaussian KL of batch-norm statistics (The Knowledge Within)"
    paper = "Haroush et al., The Knowledge Within: Methods for Data-Free Model Compression, CVPR 2020"
    Params: type[MethodParams] = KwParams
    presets: Mapping[str, Mapping[str, Any]] = {
        "mini": {"iterations": 400, "batch": 128, "bn": "kl_reverse", "kappa": 10.0},
        "thorough": {"iterations": 1000, "batch": 128, "bn": "kl_reverse", "kappa": 10.0},
        "paper": {"iterations": 2000, "batch": 128, "roll": 30},
    }

    def terms(self, params: KwParams) -> Terms:
        """KL, class term and blur prior."""
        return Terms(
            bn=params.bn,
            bn_weight=params.bn_weight,
            kappa=params.kappa,
            ce_weight=params.ce_weight,
            logit=params.logit,
            prior=Prior(blur=params.smooth),
        )

    def augment(self, params: KwParams, space: PixelSpace) -> Augment:
        """Shift, flip, optional cut-out."""
        from methods.sources._augment import Augment

        return Augment(space, roll=params.roll, flip=params.flip, cutout=params.cutout)

    def settings(self, params: KwParams) -> LoopSettings:
        """Adam with one cosine."""
        return LoopSettings.of(params)

    def label_law(self, params: KwParams) -> LabelLaw | None:
        """As asked for."""
        return params.labels


METHOD = Kw()
