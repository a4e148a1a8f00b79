"""What a student is trained towards: the teacher's answers and features (docs/methods/compressors.md#training).

The loss is ``kl`` times tau^2 KL(teacher / tau || student / tau), summed over classes and averaged over the batch
(Hinton et al., arXiv 1503.02531, whose section 2 gives the factor tau^2), plus ``features`` times the mean over the
tapped tensors of their mean squared difference (The Knowledge Within, arXiv 1912.01274, as MixMix uses it; neither
prints taps or normalisation), plus ``labels`` times the cross-entropy with the images' own labels where a recipe has
it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.interfaces import Batch


@dataclass(frozen=True)
class Losses:
    """``temperature`` tau, whether the KL is multiplied by tau^2, weight of the feature loss, and whether each
    feature's loss is divided by the mean square of the teacher's feature; weights of the KL and of the cross-entropy
    with the labels."""

    temperature: float = 3.0
    squared: bool = True
    features: float = 0.0
    relative: bool = False
    kl: float = 1.0
    labels: float = 0.0


def distillation(student: Tensor, teacher: Tensor, losses: Losses) -> Tensor:
    """(tau^2) KL(softmax(teacher / tau) || softmax(student / tau)) of logits [B, K], mean over the batch."""
    tau = losses.temperature
    target = F.log_softmax(teacher / tau, 1)
    kl = F.kl_div(F.log_softmax(student / tau, 1), target, reduction="batchmean", log_target=True)
    return kl * tau**2 if losses.squared else kl


def label_loss(student: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy of logits [B, K] with the batch's soft labels, or its labels where it has no soft ones.

    Raises:
        ValueError: it has neither.
    """
    wanted = batch.labels if batch.soft is None else batch.soft
    if wanted is None:
        raise ValueError("the batch has no labels")
    return F.cross_entropy(student, wanted)


def answer_loss(kl: Tensor, student: Tensor, batch: Batch, losses: Losses) -> Tensor:
    """What teacher and labels ask of the logits ``student`` [B, K], of which ``kl`` is the distillation loss.

    Raises:
        ValueError: labels count, and the batch has none.
    """
    loss = losses.kl * kl
    return loss + losses.labels * label_loss(student, batch) if losses.labels else loss


def feature_loss(student: Sequence[Tensor], teacher: Sequence[Tensor], relative: bool) -> Tensor:
    """Mean over pairs of tensors of their mean squared difference; 0 without any."""
    pieces = []
    for ours, theirs in zip(student, teacher, strict=True):
        error = F.mse_loss(ours, theirs)
        pieces.append(error / theirs.square().mean().clamp_min(1e-12) if relative else error)
    return torch.stack(pieces).mean() if pieces else torch.zeros(())
