"""HAST (Li et al., Hard Sample Matters a Lot in Zero-Shot Quantization, CVPR 2023): images the network finds hard.

Objective (docs/methods/sources.md#hast): (1/L) sum_i MSE(mean) + MSE(variance) + w_h mean_b (1 - p_b)^g CE_b, p the
target's probability: images that are already easy pull less, so the set keeps hard ones.  Difficulty of an image is 1 -
p.
Deviations: 1e-6 is added to 1 - p before the power (for g < 1 its derivative is infinite at p = 1); the plateau's
patience is a twentieth of the iterations (50 at 1,000, as published), with crops 50 or more, as in ``intraq``; random
crops at 224 pixels only, as published. With crops from 0.4 up (our ResNet-18, 64 images, 400 iterations, weight 10)
patience 20 ended at a clean BN loss of 90, 67 and 75 over three seeds (version 1), 50 at 66, 69 and 70.
``mini`` runs 400 iterations. At this rate and without clipping single classes can end as checkerboards far outside the
valid box (our ResNet-18: sandals); images transfer to other networks poorly (24 % top-1 over the zoo). Sample
difficulty *promotion* is the consumer's: ``Promotion`` below, x' = x + eps sign(grad_x of the student's loss), trained
on beside x; never part of the cached images. Feature alignment (weights 1000/2000/4000) belongs to the compressor.
Paper's figure: MixMix does not measure it.
Ours, on the networks before their second training cycle (suite ``sources_all``, 128 images, 60,000 passes, BRECQ, one
seed; MobileNetV2 and ResNet-18): W2A4 75.1 and 87.6, W4A4 87.1 and 90.7 (real 82.7, 89.7, 82.3, 91.0; noise 25.5, 50.9,
74.0, 90.0).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from bench.interfaces import Batch, MethodParams, Offer
from methods.sources._settings import InversionParams, Kappa, LabelLaw, LoopSettings, Terms, patience
from methods.sources._single import SingleSource

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from methods.sources._augment import Augment, PixelSpace


@dataclass(frozen=True)
class Promotion:
    """HAST's sample difficulty promotion, a hook for whoever trains a student on the images: each batch is followed by
    its promoted copy.

    ``epsilon`` is in normalised space: 0.01 for CIFAR-10 and ImageNet, 0.02 for CIFAR-100 as published.
    """

    epsilon: float = 0.01

    def __call__(
        self, batch: Batch, step: int, total: int, loss: Callable[[Tensor], Tensor], generator: torch.Generator
    ) -> Batch:
        """The batch and, behind it, its promoted images with the same labels."""
        import torch

        images = torch.cat([batch.images, self.promoted(batch.images, loss)])
        labels, soft = (None if part is None else torch.cat([part, part]) for part in (batch.labels, batch.soft))
        return Batch(images, labels, soft)

    def promoted(self, images: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
        """x + epsilon sign(grad_x ``loss``(x)) for ``images`` [B,C,H,W], detached; ``images`` stay as they are.

        ``loss`` maps images to the student's scalar loss; its parameters' gradients are not touched.
        """
        import torch

        leaf = images.detach().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(loss(leaf), leaf)
        return images.detach() + self.epsilon * gradient.sign()


class HastParams(InversionParams):
    """``hard_weight`` w_h, ``focus`` g, smallest ``crop`` share (0: none), ``patience``, ``labels`` law.

    ``promotion`` is the epsilon of the hook; no image depends on it.
    """

    iterations: int = Field(500, ge=1)
    lr: float = Field(0.5, gt=0)
    clip: bool = False
    bn_weight: float = Field(1.0, ge=0)
    kappa: Kappa = None
    hard_weight: float = Field(10.0, ge=0)
    focus: float = Field(2.0, ge=0)
    crop: float = Field(0.0, ge=0, le=1)
    patience: int | None = Field(None, ge=1)
    promotion: float = Field(0.01, ge=0)
    labels: LabelLaw = "balanced"


class Hast(SingleSource):
    """DataSource ``hast``."""

    version = 4
    summary = "batch-norm statistics and a class term that favours hard images (HAST)"
    paper = "Li et al., Hard Sample Matters a Lot in Zero-Shot Quantization, CVPR 2023"
    offers: frozenset[Offer] = frozenset({"hook"})
    Params: type[MethodParams] = HastParams
    presets: Mapping[str, Mapping[str, Any]] = {
        "mini": {"iterations": 400, "batch": 128, "kappa": 100.0},
        "thorough": {"iterations": 500, "batch": 128, "kappa": 100.0},
        "paper": {"iterations": 1000, "batch": 256, "hard_weight": 0.1, "focus": 0.5, "crop": 0.4},
    }

    def terms(self, params: HastParams) -> Terms:
        """Statistics and the focused class term."""
        return Terms(
            bn="mse_var",
            bn_weight=params.bn_weight,
            kappa=params.kappa,
            ce_weight=params.hard_weight,
            focus=params.focus,
        )

    def augment(self, params: HastParams, space: PixelSpace) -> Augment:
        """Crops and flips, if any."""
        from methods.sources._augment import Augment

        return Augment(space, crop=params.crop)

    def settings(self, params: HastParams) -> LoopSettings:
        """Adam on a plateau schedule, stepped every iteration."""
        return LoopSettings.plateau(params, patience(params.patience, params.iterations, crops=params.crop > 0))

    def hook(self, params: HastParams) -> Promotion:
        """Sample difficulty promotion at the strength asked for."""
        return Promotion(params.promotion)

    def label_law(self, params: HastParams) -> LabelLaw | None:
        """As asked for."""
        return params.labels


METHOD = Hast()
