"""Where a network looks, and the loss that keeps a quantised one looking there (GMPQ, arXiv 2108.02720)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.errors import NotApplicable
from methods.policies._caught import caught
from methods.policies._proxy import Batch, Proxy
from methods.policies._supernet import Supernet
from methods.policies._supernet_loop import Objective

TINY = 1e-12


def attribution(logits: Tensor, features: Tensor, *, graph: bool) -> Tensor:
    """ReLU(sum_c (sum_hw d logit_pred / d f_c) f_c), [B, H, W], of a feature map f [B, C, H, W]; pred is the network's
    own answer.  With ``graph`` it can be differentiated in turn."""
    chosen = logits.gather(1, logits.detach().argmax(1, keepdim=True)).sum()
    (gradient,) = torch.autograd.grad(chosen, features, create_graph=graph, retain_graph=True)
    return F.relu((gradient.sum((2, 3), keepdim=True) * features).sum(1))


def attribution_loss(own: Tensor, full: Tensor, power: float) -> Tensor:
    """Mean squared difference of ``own`` and ``full`` ** ``power`` [B, H, W], both of norm 1 per image; a map of zeros
    stays one, with a finite gradient."""
    return (_unit(own) - _unit(full.pow(power))).square().mean()


def _unit(maps: Tensor) -> Tensor:
    flat = maps.flatten(1)
    # The largest value first, so that neither squares nor powers vanish in the norm.
    flat = flat / flat.detach().amax(1, keepdim=True).clamp_min(TINY)
    return flat / flat.square().sum(1, keepdim=True).clamp_min(TINY).sqrt()


class FeatureMap:
    """The last feature map of a network: the last unit's output that is one, or without a graph what the last
    convolution gives."""

    def __init__(self, net: nn.Module, layer: nn.Module | None) -> None:
        self.net, self._layer = net, layer

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, K] and the map [B, C, H, W]."""
        with caught(self._layer, "output") as kept:
            logits, taps = self.net(images)
        maps = [tap for tap in (*kept, *taps) if tap.dim() == 4]
        if not maps:
            raise NotApplicable("the network has no feature map to attribute to", got="no convolution")
        return logits, maps[-1]


class AttributionObjective(Objective):
    """CE + w L_attr + gamma L_comp; the network in floating point is the one the search starts from.

    ``passes``: two of the supernet, one of the other network; gradients to the last map alone are not counted.
    """

    passes = 3.0

    def __init__(self, net: Supernet, proxy: Proxy, params: Any) -> None:
        super().__init__(net, proxy, params)
        name = None if net.taps else next((n for n in reversed(net.order) if _is_conv(net.teacher.body, n)), None)
        own, full = (None if name is None else body.get_submodule(name) for body in (net.body, net.teacher.body))
        self._own, self._full = FeatureMap(net.student, own), FeatureMap(net.teacher, full)

    def power(self) -> float:
        """p, or where it is 0 or less 24 times the mean of 1 / (E[w] E[a])."""
        if self.params.power > 0:
            return float(self.params.power)
        with torch.no_grad():
            pairs = [self.net.expected(place) for place in self.net.space.searched]
            return 24 * sum(1 / float(weight * act) for weight, act in pairs) / len(pairs)

    def task(self, batch: Batch) -> tuple[Tensor, Tensor]:
        logits, features = self._own(batch.images)
        loss = F.cross_entropy(logits, batch.wanted)
        if not self.params.attribution:
            return loss, logits
        own = attribution(logits, features, graph=True)
        # The teacher's parameters ask for no gradient, so its images do.
        full_logits, full_features = self._full(batch.images.detach().clone().requires_grad_())
        full = attribution(full_logits, full_features, graph=False).detach()
        return loss + self.params.attribution * attribution_loss(own, full, self.power()), logits


def _is_conv(body: nn.Module, name: str) -> bool:
    part = body.get_submodule(name)
    return isinstance(part, nn.Conv2d) or isinstance(getattr(part, "layer", None), nn.Conv2d)
