"""How far a network keeps classes apart: a ratio and a picture of its penultimate features (SEAM, Figure 2).

With centre c_k and n_k features g of class k,

    ratio = min_{j != k} |c_j - c_k| / mean_k sqrt(1/n_k sum_i |g_i - c_k|^2)

and, as one pair of classes that look alike decides on it, the same with the mean over all pairs.  Both stay as they are
when features are moved, turned or scaled; at 2, spheres of the mean radius about the nearest two centres touch.
Features are what the last layer reads, of maps the mean over their places.

SEAM draws features of CIFAR-10 by t-SNE and prints no number.  The picture here is the first two principal components,
which keep distances to scale; each network has its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bench.interfaces.clips import by_sample
from methods.policies._caught import caught
from methods.policies._proxy import Proxy
from methods.policies._supernet import Supernet

IMAGES, POINTS = 1000, 300
"""Most images that are read, and most points of the picture."""
COLLAPSED = 1e-6
"""Spread over the largest feature that counts as none: what rounding to single precision leaves of equal features."""
_CHUNK = 256


@dataclass(frozen=True)
class Margin:
    """Smallest distance ``between`` class centres, their mean distance ``apart``, and mean spread ``within`` classes,
    None where there are none; ``why`` there is no ratio, "" where there is one."""

    between: float | None = None
    apart: float | None = None
    within: float | None = None
    why: str = ""

    @property
    def ratio(self) -> float | None:
        """Between over within."""
        return self._over_spread(self.between)

    @property
    def mean_ratio(self) -> float | None:
        """Apart over within."""
        return self._over_spread(self.apart)

    def _over_spread(self, distance: float | None) -> float | None:
        return None if self.why or distance is None or not self.within else distance / self.within


def class_margins(start: nn.Module, net: Supernet, proxy: Proxy) -> tuple[dict[str, Any], float]:
    """Margins of ``start``, the network in floating point, and of the supernet ``net`` made of it, both in eval mode.

    Returns:
        What is reported, JSON, and the forward passes it took.  ``float`` and ``searched`` are the ratios, None where
        ``why`` says so, ``mean`` those over all pairs; ``between`` and ``within`` hold what the first are ratios of;
        ``images`` and ``classes`` how many they are of (at most :data:`IMAGES`, of all classes alike).  ``points`` is
        each network's picture, ``x`` and ``y`` of at most :data:`POINTS` of them, ``point_classes`` beside it.
    """
    picked = evenly(proxy.labels, IMAGES)
    labels = proxy.labels[picked]
    shown = evenly(labels, POINTS)
    name = net.order[-1]
    margins: dict[str, Margin] = {}
    points: dict[str, dict[str, list[float]]] = {}
    for side, network, layer in (
        ("float", start, start.get_submodule(name)),
        ("searched", net.student, net.last),
    ):
        parts = [penultimate(network, layer, proxy.images[part].to(proxy.device)) for part in picked.split(_CHUNK)]
        features = torch.cat(parts).cpu().double()
        margins[side] = margin_of(features, labels)
        points[side] = {} if margins[side].between is None else _picture(principal(features)[shown])
    found = {side: margin.ratio for side, margin in margins.items()} | {
        "mean": {side: margin.mean_ratio for side, margin in margins.items()},
        "between": {side: margin.between for side, margin in margins.items()},
        "within": {side: margin.within for side, margin in margins.items()},
        "why": {side: margin.why for side, margin in margins.items() if margin.why},
        "images": len(picked),
        "classes": int((labels.unique(return_counts=True)[1] > 1).sum()),
        "points": points,
        "point_classes": labels[shown].tolist(),
    }
    return found, float(len(margins) * len(picked))


@torch.no_grad()
def penultimate(network: nn.Module, layer: nn.Module, images: Tensor) -> Tensor:
    """What ``layer``, the network's last, reads of ``images`` [B, C, H, W]: [B, D]; of clips the mean over frames."""
    with caught(layer, "input") as found:
        network(images)
    read = found[-1]
    pooled = read.mean((2, 3)) if read.dim() == 4 else read.flatten(1)
    return by_sample(pooled, len(images))


def margin_of(features: Tensor, labels: Tensor) -> Margin:
    """The margin of features [N, D] of classes ``labels`` [N]; a class of one image has no spread and is left out."""
    if not bool(torch.isfinite(features).all()):
        return Margin(why="features are not finite")
    parts = [part for k in labels.unique() if len(part := features[labels == k]) > 1]
    if len(parts) < 2:
        return Margin(why="fewer than two classes have two images")
    centres = torch.stack([part.mean(0) for part in parts])
    spreads = [
        float((part - centre).square().sum(1).mean().sqrt()) for part, centre in zip(parts, centres, strict=True)
    ]
    distances, within = torch.pdist(centres), sum(spreads) / len(spreads)
    collapsed = within <= COLLAPSED * float(features.abs().max())
    return Margin(
        float(distances.min()), float(distances.mean()), within, "every class is a single point" if collapsed else ""
    )


def principal(features: Tensor) -> Tensor:
    """The first two principal components [N, 2] of features [N, D], each with the sign with which its largest loading
    is positive; a second one that does not exist is zero."""
    centred = features - features.mean(0)
    _, _, axes = torch.linalg.svd(centred, full_matrices=False)
    axes = axes[:2]
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    found = centred @ (axes * torch.where(largest < 0, -1.0, 1.0)).T
    return torch.cat([found, found.new_zeros(len(found), 2 - found.shape[1])], 1)


def evenly(labels: Tensor, most: int) -> Tensor:
    """Indices, ascending, of at most ``most`` images: of each class its first, then of each its second, ..."""
    order = labels.argsort(stable=True)
    counts = labels.unique(return_counts=True)[1]
    turns = torch.empty_like(order)
    turns[order] = torch.cat([torch.arange(int(count)) for count in counts])
    return turns.argsort(stable=True)[:most].sort().values


def _picture(points: Tensor) -> dict[str, list[float]]:
    """Coordinates to three digits."""
    return {axis: [float(f"{value:.3g}") for value in points[:, i].tolist()] for i, axis in enumerate("xy")}
