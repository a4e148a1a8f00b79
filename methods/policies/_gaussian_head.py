"""A classifier of Gaussian classes with a margin (SEAM; Wan et al., "Rethinking Feature Distribution for Loss Functions
in Image Classification", CVPR 2018, arXiv 1803.02988).

A class k has mean mu_k, diagonal covariance Sigma_k and prior 1/K; d_k(g) = (g - mu_k)' Sigma_k^-1 (g - mu_k) / 2.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.interfaces import RunContext
from bench.interfaces.clips import by_sample
from methods.policies._caught import caught
from methods.policies._proxy import Batch, Proxy
from methods.policies._supernet import Supernet
from methods.policies._supernet_loop import Objective

WIDEST = 3.0
"""Bound of the log variances: free ones collapse."""
_CHUNK = 256


class GaussianHead(nn.Module):
    """The means [K, D], and log variances [K, D], zero unless ``diagonal``."""

    log_variance: Tensor

    def __init__(self, classes: int, width: int, *, diagonal: bool, generator: torch.Generator) -> None:
        super().__init__()
        bound = math.sqrt(2) * math.sqrt(6 / (classes + width))  # Xavier's, gain sqrt 2
        self.means = nn.Parameter(bound * (2 * torch.rand(classes, width, generator=generator) - 1))
        zero = torch.zeros(classes, width)
        if diagonal:
            self.log_variance = nn.Parameter(zero)
        else:
            self.register_buffer("log_variance", zero)

    def distances(self, features: Tensor) -> Tensor:
        """d [B, K] of features [B, D]; never negative."""
        gaps = features[:, None] - self.means
        return 0.5 * (gaps.square() * torch.exp(-self._bounded())).sum(2)

    def _bounded(self) -> Tensor:
        return self.log_variance.clamp(-WIDEST, WIDEST)

    def scores(self, features: Tensor) -> Tensor:
        """Log posteriors up to a constant, -d - log det Sigma / 2, [B, K], without margin."""
        return -self.distances(features) - 0.5 * self._bounded().sum(1)

    def losses(self, features: Tensor, labels: Tensor, margin: float) -> tuple[Tensor, Tensor]:
        """L_cls, cross-entropy of the scores with d_y (1 + margin), and L_inc, mean of d_y + log det Sigma_y / 2 +
        log K."""
        distances = self.distances(features)
        half = 0.5 * self._bounded().sum(1)
        own = F.one_hot(labels, len(self.means)).to(features.dtype)
        classified = F.cross_entropy(-distances * (1 + margin * own) - half, labels)
        inside = distances.gather(1, labels[:, None]).mean() + half[labels].mean() + math.log(len(self.means))
        return classified, inside

    @torch.no_grad()
    def begin_at(self, features: Tensor, labels: Tensor) -> None:
        """Put each mean at its class's; a class without features at the mean of all."""
        for k in range(len(self.means)):
            own = features[labels == k]
            self.means[k] = own.mean(0) if len(own) else features.mean(0)


class GaussianObjective(Objective):
    """L_cls + lambda L_inc + gamma L_comp; the last layer's own scores are not used."""

    def __init__(self, net: Supernet, proxy: Proxy, params: Any) -> None:
        super().__init__(net, proxy, params)
        self.head: GaussianHead | None = None
        self.margin = params.margin

    def features(self, images: Tensor) -> Tensor:
        """What the last layer reads of ``images``, [B, D]; of clips the mean over their frames."""
        with caught(self.net.last, "input") as found:
            self.net.student(images)
        return by_sample(found[-1].flatten(1), len(images))

    def begin(self, ctx: RunContext) -> float:
        """Make the head; with ``means`` "classes" from one pass over the images."""
        images, labels = self.proxy.images, self.proxy.labels
        used = images if self.params.means == "classes" else images[:1]
        self.net.student.eval()
        with torch.no_grad():
            features = torch.cat([self.features(part.to(self.proxy.device)) for part in used.split(_CHUNK)])
        diagonal = self.params.covariance == "diagonal"
        head = GaussianHead(self.proxy.classes, features.shape[1], diagonal=diagonal, generator=ctx.generator)
        self.head = head.to(features)
        if self.params.means == "classes":
            self.head.begin_at(features, labels.to(features.device))
        return float(len(used))

    def extra(self) -> list[nn.Parameter]:
        assert self.head is not None
        return list(self.head.parameters())

    def before(self, step: int, total: int, ctx: RunContext) -> None:
        self.margin = warmed(self.params.margin, step, total, self.params.margin_ramp)

    def task(self, batch: Batch) -> tuple[Tensor, Tensor]:
        assert self.head is not None
        features = self.features(batch.images)
        classified, inside = self.head.losses(features, batch.labels, self.margin)
        with torch.no_grad():
            scores = self.head.scores(features)
        return classified + self.params.lambda_inc * inside, scores


def warmed(margin: float, step: int, total: int, ramp: float) -> float:
    """The margin of ``step``: a third of it at first, doubled (at most to all of it) twice within the share ``ramp`` of
    the steps; 0: all of it at once."""
    if not ramp:
        return margin
    doublings = math.floor(2 * step / max(ramp * total, 1))
    return min(margin, margin / 3 * 2.0**doublings)
