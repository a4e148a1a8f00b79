"""Squared maximum mean discrepancy between synthetic and real images in feature space (docs/methods/measures.md#mmd).

Unbiased estimates (Gretton et al. 2012, JMLR 13:723, eq. 3), which may be slightly negative and are never clamped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from bench.data.datasets import batch_size
from bench.interfaces.clips import by_sample
from bench.measure.accuracy import batches, eval_mode
from bench.measure.images import BATCH

SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)
KERNELS = ("rbf", "kid")
Kernel = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Mmd:
    """One estimate: ``value`` with its bootstrap interval, and ``floor``: the value between two halves of the real
    images.  ``n`` synthetic and ``m`` real images."""

    value: float
    low: float
    high: float
    floor: float
    n: int
    m: int


@dataclass(frozen=True)
class MmdReport:
    """``mean[kernel]`` over the held-out networks of ``per_model[network][kernel]``; kernels "rbf" and "kid"."""

    mean: Mapping[str, float]
    per_model: Mapping[str, Mapping[str, Mmd]]


def features(module: nn.Module, images: Tensor | Iterable[Tensor], batch: int | None = None) -> Tensor:
    """Input of the last weighted layer, float64 [N, D]: penultimate features (spatial maps and a clip's frames are
    averaged).

    Args:
        images: [N, C, H, W], or batches [B, C, H, W] that are read as they are needed.
        batch: images of a forward pass where they are one tensor; bounds memory.

    Raises:
        ValueError: no convolution or linear layer was executed.
    """
    seen: list[Tensor] = []
    parts = [part for part in module.modules() if isinstance(part, _ConvNd | nn.Linear)]

    def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen[:] = [inputs[0]]  # overwritten by every layer after it, so the last one's input is left

    hooks = [part.register_forward_pre_hook(keep) for part in parts]
    found = []
    if isinstance(images, Tensor):
        images = (part for part, _ in batches(images, size=batch or batch_size(images.shape[1:], BATCH)))
    try:
        with eval_mode(module):
            for images_part in images:
                seen.clear()
                module(images_part)
                if not seen:
                    raise ValueError("the network has no weighted layer to take features from")
                each = seen[0].flatten(2).mean(dim=2) if seen[0].dim() > 2 else seen[0].clone()
                found.append(by_sample(each, len(images_part)))
    finally:
        for hook in hooks:
            hook.remove()
    return torch.cat(found).double()


def mmd(
    models: Mapping[str, nn.Module],
    images: Tensor,
    real: Tensor,
    *,
    generator: torch.Generator,
    draws: int = 500,
) -> MmdReport:
    """MMD² of images [N, C, H, W] to real held-out images [M, C, H, W] under every network.

    Args:
        models: at least two networks that took no part in making the images.
        generator: on the CPU; draws the halves of the floor and the bootstrap.
        draws: bootstrap draws for the 95 % interval.

    Raises:
        ValueError: fewer than two networks, two images or four real images.
    """
    if len(models) < 2:
        raise ValueError("two held-out networks are needed: one alone has blind spots of its own")
    per_model = {}
    for name, module in models.items():
        per_model[name] = feature_mmd(features(module, images), features(module, real), generator, draws)
    mean = {k: math.fsum(found[k].value for found in per_model.values()) / len(per_model) for k in KERNELS}
    return MmdReport(mean, per_model)


def feature_mmd(x: Tensor, real: Tensor, generator: torch.Generator, draws: int = 500) -> dict[str, Mmd]:
    """Both kernels' estimates for features x [N, D] and real [M, D].

    Features are standardised with the real ones' mean and deviation, and the RBF widths follow the real ones' median
    distance, so that the measure does not depend on the source it is asked about.

    Raises:
        ValueError: fewer than two synthetic or four real images.
    """
    if len(x) < 2 or len(real) < 4:
        raise ValueError(f"MMD needs 2 synthetic and 4 real images, got {len(x)} and {len(real)}")
    centre, spread = real.mean(dim=0), real.std(dim=0)
    alive = spread > 1e-12 * spread.max()  # a feature constant on real images has no scale
    a = ((x - centre) / spread)[:, alive].double()
    b = ((real - centre) / spread)[:, alive].double()
    order = torch.randperm(len(b), generator=generator).to(b.device)
    halves = b[order[: len(b) // 2]], b[order[len(b) // 2 :]]
    kernels: dict[str, Kernel] = {"rbf": rbf_kernel(_median_distance(b)), "kid": kid_kernel}
    out = {}
    for name, kernel in kernels.items():
        value, low, high = _estimate(kernel, a, b, generator, draws)
        out[name] = Mmd(value, low, high, mmd2(kernel, *halves), len(a), len(b))
    return out


def rbf_kernel(median: float) -> Kernel:
    """Mean of exp(-d²/(2σ²)) over σ = :data:`SCALES` × the median distance."""

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        squared = torch.cdist(a, b).square()
        terms = [torch.exp(squared / (-2 * (scale * median) ** 2)) for scale in SCALES]
        return torch.stack(terms).mean(dim=0)

    return kernel


def kid_kernel(a: Tensor, b: Tensor) -> Tensor:
    """(a·b/D + 1)³, the kernel inception distance's (Binkowski et al. 2018)."""
    return (a @ b.T / a.shape[1] + 1) ** 3


def _median_distance(b: Tensor) -> float:
    median = float(torch.pdist(b).median())
    return median if median > 0 else 1.0


def mmd2(kernel: Kernel, a: Tensor, b: Tensor) -> float:
    """Unbiased U-statistic estimate of MMD² between samples a [N, D] and b [M, D]."""
    ones_a, ones_b = torch.ones(1, len(a)).to(a), torch.ones(1, len(b)).to(b)
    return float(_weighted(kernel(a, a), kernel(b, b), kernel(a, b), ones_a, ones_b))


def _weighted(kaa: Tensor, kbb: Tensor, kab: Tensor, wa: Tensor, wb: Tensor) -> Tensor:
    """MMD² [R] of samples weighted by counts wa [R, N], wb [R, M]; a sample is never paired with itself."""

    def within(k: Tensor, w: Tensor) -> Tensor:
        pairs = ((w @ k) * w).sum(dim=1) - w.square() @ k.diagonal()
        return pairs / (w.sum(dim=1).square() - w.square().sum(dim=1))

    cross = ((wa @ kab) * wb).sum(dim=1) / (wa.sum(dim=1) * wb.sum(dim=1))
    return within(kaa, wa) + within(kbb, wb) - 2 * cross


def _estimate(
    kernel: Kernel, a: Tensor, b: Tensor, generator: torch.Generator, draws: int
) -> tuple[float, float, float]:
    """Value and 95 % percentile interval.

    Both samples are drawn with replacement; pairs of an image with its own copy are left out, which in a plain
    bootstrap would put the kernel's diagonal into the estimate and shift it up.
    """
    kaa, kbb, kab = kernel(a, a), kernel(b, b), kernel(a, b)
    ones = torch.ones(1, len(a)).to(a), torch.ones(1, len(b)).to(b)
    value = float(_weighted(kaa, kbb, kab, *ones))
    weights = [_resample(len(part), draws, generator).to(part) for part in (a, b)]
    found = _weighted(kaa, kbb, kab, *weights)
    low, high = torch.quantile(found, torch.tensor([0.025, 0.975]).to(found)).tolist()
    return value, low, high


def _resample(size: int, draws: int, generator: torch.Generator) -> Tensor:
    """How often each of ``size`` items occurs in a draw with replacement, [draws, size]."""
    picks = torch.randint(size, (draws, size), generator=generator)
    return torch.zeros(draws, size).scatter_add_(1, picks, torch.ones(draws, size))
