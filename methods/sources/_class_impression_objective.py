"""Soft labels of class impressions: similar classes share a Dirichlet draw; and the loss that asks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from methods.sources._objectives import Prepared, SingleObjective

if TYPE_CHECKING:
    from methods.sources.class_impression import ClassImpressionParams


def concentrations(weight: Tensor, least: float) -> Tensor:
    """Rows of the classes' similarity, [K, F] to float64 [K, K]: cosines of the classifier's rows, each row of them
    mapped to 0..1 by its extremes, then held at ``least`` or above, as a Dirichlet law takes nothing else."""
    unit = F.normalize(weight.detach().double().cpu(), dim=1)
    alike = unit @ unit.T
    low, high = alike.amin(1, keepdim=True), alike.amax(1, keepdim=True)
    return ((alike - low) / (high - low).clamp_min(1e-12)).clamp_min(least)


def draw_soft_labels(rows: Tensor, generator: Generator) -> Tensor:
    """A Dirichlet draw for each row of concentrations [B, K], one seed of ``generator`` for all; float32 [B, K]."""
    draws = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
    soft = np.stack([draws.dirichlet(row) for row in rows.numpy()])
    return torch.from_numpy(soft).float()


def scales(params: ClassImpressionParams, count: int, classes: int, batch_index: int) -> Tensor:
    """The factor beta of each image [B] float64: the given ones in turn, in another order at each round of the
    classes, so that every class meets every factor."""
    place = torch.arange(count) + batch_index * count
    betas = torch.tensor(params.betas, dtype=torch.float64)
    return betas[(place % classes + place // classes) % len(betas)]


class ImpressionObjective(SingleObjective):
    """Cross-entropy of softened answers with the soft labels ``soft`` [B, K]; nothing else."""

    def __init__(self, whole: Prepared, soft: Tensor, temperature: float, generator: Generator) -> None:
        assert isinstance(whole.objective, SingleObjective)
        device = whole.init.device
        labels = soft.argmax(1).to(device)
        super().__init__(whole.networks[0], labels, whole.objective.terms, whole.augment, generator)
        self.soft, self.temperature = soft.to(device), temperature

    def _class_terms(self, logits: Tensor) -> dict[str, Tensor]:
        return {"ce": F.cross_entropy(logits / self.temperature, self.soft)}
