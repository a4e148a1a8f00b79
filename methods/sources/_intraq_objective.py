"""IntraQ's own terms: soft targets, and a band of distances to the features of the class's finished images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from bench.interfaces.clips import by_sample
from methods.sources._objectives import Prepared, SingleObjective

if TYPE_CHECKING:
    from methods.sources.intraq import IntraqParams


def soft_targets(count: int, tau: float, generator: Generator) -> Tensor:
    """Probabilities [count] that the targets are to reach: 1 for half of the images, U(tau, 1) for the others."""
    soft = tau + (1.0 - tau) * torch.rand(count, generator=generator)
    return torch.where(torch.rand(count, generator=generator) < 0.5, 1.0, soft)


class Features:
    """Input [B,D] of the last weighted layer that a network ran, maps averaged; read after each forward."""

    def __init__(self, net: nn.Module) -> None:
        self._seen: Tensor | None = None
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.register_forward_pre_hook(self._keep)

    def _keep(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._seen = inputs[0]

    def take(self) -> Tensor:
        """The features, float32; they are forgotten, or the graph would outlive the iteration."""
        seen, self._seen = self._seen, None
        assert seen is not None
        return (seen.mean((2, 3)) if seen.dim() == 4 else seen).float()


class Centres:
    """Mean feature of each class over the images added so far."""

    def __init__(self, classes: int, device: torch.device) -> None:
        self.count = torch.zeros(classes, device=device)
        self.sum: Tensor | None = None

    def add(self, features: Tensor, labels: Tensor) -> None:
        """Take in finished images' ``features`` [B,D]; of clips those of their frames [B·N,D], which are averaged."""
        features = by_sample(features, len(labels))
        if self.sum is None:
            self.sum = features.new_zeros(len(self.count), features.shape[1])
        self.sum.index_add_(0, labels, features.detach())
        self.count.index_add_(0, labels, torch.ones_like(labels, dtype=self.count.dtype))

    def hinges(self, features: Tensor, labels: Tensor, band: tuple[float, float]) -> tuple[Tensor, Tensor]:
        """Mean shortfall below and excess above ``band`` of the cosine distances; 0 while no class has a centre."""
        features = by_sample(features, len(labels))
        known = self.count[labels] > 0
        if self.sum is None or not bool(known.any()):
            return features.new_zeros(()), features.new_zeros(())
        centre = self.sum[labels[known]] / self.count[labels[known], None]
        distance = (1.0 - F.cosine_similarity(features[known], centre)).clamp(0.0, 2.0)
        return (band[0] - distance).relu().mean(), (distance - band[1]).relu().mean()


class IntraqObjective(SingleObjective):
    """The one-network objective with soft targets [B] and the distance band around ``centres``."""

    def __init__(self, whole: Prepared, rows: slice, params: IntraqParams, generator: Generator) -> None:
        assert whole.labels is not None
        assert isinstance(whole.objective, SingleObjective)
        super().__init__(whole.networks[0], whole.labels[rows], whole.objective.terms, whole.augment, generator)
        self.targets = soft_targets(params.batch, params.tau, generator).to(whole.init.device)
        self.band = params.band

    def measure(self, features: Features, centres: Centres) -> None:
        """Where distances come from; shared by the groups of a batch."""
        self.features, self.centres = features, centres

    def _class_terms(self, logits: Tensor) -> dict[str, Tensor]:
        assert self.labels is not None
        reached = logits.softmax(1).gather(1, self.labels[:, None]).flatten()
        near, far = self.centres.hinges(self.features.take(), self.labels, self.band)
        return {"target": (reached - self.targets).square().mean(), "near": near, "far": far}
