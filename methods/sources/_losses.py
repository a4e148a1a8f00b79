"""What an inversion minimises: batch-norm objectives, image priors, Jensen-Shannon divergence
(docs/methods/sources.md#bn-objectives, #priors)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.sources._bn_taps import Layout, Stats
from methods.sources._settings import Prior, TvNorm
from methods.sources._tap_function import Scope

EPS = 1e-6
"""Added to every variance before a square root, stored or measured."""

BnName = Literal["l2norm", "mse_var", "sq_std_image", "sq_std_batch", "kl", "mse_gauss"]


def _tap_weights(layout: Layout, first: float) -> Tensor:
    """Weight of each tap [E]: calls of one layer are averaged, layer 0 counts ``first`` times."""
    return layout.weight * (1.0 + (first - 1.0) * layout.first)


def _weighted(per_channel: Tensor, layout: Layout, first: float, *, mean: bool) -> Tensor:
    """Sum over taps of the sum (or the mean) over channels of ``per_channel`` [K]; scalar."""
    weights = _tap_weights(layout, first)
    if mean:
        weights = weights / layout.sizes
    return torch.dot(per_channel, weights[layout.segment])


def _norms(difference: Tensor, layout: Layout) -> Tensor:
    """Euclidean norm of each tap's channels [E], with gradient 0 (not NaN) where the norm is 0."""
    squared = difference.new_zeros(layout.taps).index_add(0, layout.segment, difference.square())
    positive = squared > 0
    return torch.where(positive, torch.where(positive, squared, 1.0).sqrt(), 0.0)


def l2norm(stats: Stats, first: float = 1.0) -> Tensor:
    """sum_i ||mu_i - muh_i|| + ||v_i - vh_i||, norms not squared, variances not deviations (MixMix eq. 2)."""
    layout = stats.layout
    weights = _tap_weights(layout, first)
    norms = _norms(stats.mean - layout.target_mean, layout) + _norms(stats.var - layout.target_var, layout)
    return torch.dot(norms, weights)


def mse_var(stats: Stats, first: float = 1.0) -> Tensor:
    """Mean over layers of the mean squared error of mean plus that of variance (GDFQ family)."""
    layout = stats.layout
    error = (stats.mean - layout.target_mean).square() + (stats.var - layout.target_var).square()
    return _weighted(error, layout, first, mean=True) / layout.weight.sum()


def _deviation(var: Tensor) -> Tensor:
    return (var + EPS).sqrt()


def sq_std_image(stats: Stats, first: float = 1.0, *, per_channel: bool = False) -> Tensor:
    """Squared error of mean and *unbiased* deviation per image, summed over channels, averaged over images (ZeroQ).

    ``stats`` are of scope ``image``.  Maps of one pixel have no unbiased variance: only their mean is matched.
    ``per_channel`` is the authors' second variant: summed over images, divided by the channel count instead.
    """
    mean, spread = image_gaps(stats)
    error = mean.square() + spread.square()
    summed = error.sum(0) if per_channel else error.mean(0)
    return _weighted(summed, stats.layout, first, mean=per_channel)


def image_gaps(stats: Stats) -> tuple[Tensor, Tensor]:
    """Mean and *unbiased* deviation of each image's channels less the stored ones, [B,K] each.

    ``stats`` are of scope ``image``; the second is 0 for maps of one pixel, which have no unbiased variance.
    """
    layout = stats.layout
    counts = stats.counts[layout.segment]
    unbiased = stats.var * (counts / (counts - 1.0).clamp(min=1.0))
    spread = _deviation(unbiased) - _deviation(layout.target_var)
    return stats.mean - layout.target_mean, torch.where(counts > 1, spread, 0.0)


@dataclass(frozen=True)
class Slack:
    """Half-widths of the bands in which statistics cost nothing: of the mean and of the deviation, per tap [E]."""

    mean: Tensor
    deviation: Tensor


def slack_bands(mean: Tensor, var: Tensor, layout: Layout, quantile: float) -> Slack:
    """``quantile`` over each tap's channels of the distance of ``mean`` and sqrt(``var``) [K] to the stored ones (DSG).

    ``mean`` and ``var`` are those of noise images, pooled over all of them.
    """
    sizes = [int(n) for n in layout.sizes]
    gaps = (mean - layout.target_mean).abs(), (_deviation(var) - _deviation(layout.target_var)).abs()
    found = [torch.stack([part.quantile(quantile) for part in gap.split(sizes)]) for gap in gaps]
    return Slack(found[0], found[1])


def sq_std_slack(stats: Stats, slack: Slack, weights: Tensor | None = None) -> Tensor:
    """``sq_std_image`` of what lies outside the bands, with ``weights`` [B,E] of each image's taps; scalar.

    Equal to ``sq_std_image`` for bands of width 0 and weights 1.  A clip's frames, which have statistics each, share
    its weights.
    """
    layout = stats.layout
    mean, spread = image_gaps(stats)
    outside = (mean.abs() - slack.mean[layout.segment]).relu().square()
    outside = outside + (spread.abs() - slack.deviation[layout.segment]).relu().square()
    per_tap = outside.new_zeros(len(outside), layout.taps).index_add(1, layout.segment, outside) * layout.weight
    if weights is not None:
        per_tap = per_tap * weights.repeat_interleave(len(per_tap) // len(weights), 0)
    total: Tensor = per_tap.sum(1).mean()
    return total


def sq_std_batch(stats: Stats, first: float = 1.0) -> Tensor:
    """Mean squared error of mean and of unbiased deviation, pooled over the batch, summed over layers (Genie)."""
    layout = stats.layout
    counts = stats.counts[layout.segment]
    unbiased = stats.var * (counts / (counts - 1.0).clamp(min=1.0))
    spread = (_deviation(unbiased) - _deviation(layout.target_var)).square()
    return _weighted((stats.mean - layout.target_mean).square() + spread, layout, first, mean=True)


def kl(stats: Stats, first: float = 1.0) -> Tensor:
    """sum_i mean_c KL( N(muh, sh^2) || N(mu, s^2) ), the stored Gaussian from the measured one (KW;
    docs/methods/sources.md#kl).

    The measured variance stands in the denominator, so s is held at 1e-3 of the stored deviation or above.
    """
    stored, measured = _deviations(stats)
    return _gaussian_kl(stored, measured, stats, first)


def kl_reverse(stats: Stats, first: float = 1.0) -> Tensor:
    """sum_i mean_c KL( N(mu, s^2) || N(muh, sh^2) ), the measured Gaussian from the stored one, whose variance stands
    in the denominator (docs/methods/sources.md#kl)."""
    stored, measured = _deviations(stats)
    return _gaussian_kl(measured, stored, stats, first)


def _deviations(stats: Stats) -> tuple[Tensor, Tensor]:
    """Deviations per channel, stored and measured; the measured one is held at 1e-3 of the stored one or above."""
    stored = _deviation(stats.layout.target_var)
    return stored, torch.maximum(_deviation(stats.var), 1e-3 * stored)


def _gaussian_kl(of: Tensor, to: Tensor, stats: Stats, first: float) -> Tensor:
    """sum_i mean_c KL( N(., of^2) || N(., to^2) ), the means stored and measured."""
    distance = of.square() + (stats.layout.target_mean - stats.mean).square()
    return _weighted((to / of).log() + 0.5 * (distance / to.square() - 1.0), stats.layout, first, mean=True)


def dead_channels(stats: Stats) -> Tensor:
    """Number of channels whose deviation ``kl`` has to hold up; scalar."""
    return (_deviation(stats.var) < 1e-3 * _deviation(stats.layout.target_var)).sum().float()


def mse_gauss(stats: Stats, first: float = 1.0) -> Tensor:
    """sum_i mean_c (mu - muh)^2 + (s - sh)^2, KW's alternative to ``kl`` (docs/methods/sources.md#mse_gauss)."""
    layout = stats.layout
    spread = (_deviation(stats.var) - _deviation(layout.target_var)).square()
    return _weighted((stats.mean - layout.target_mean).square() + spread, layout, first, mean=True)


@dataclass(frozen=True)
class BnObjective:
    """A function of (statistics, factor of layer 0) and the scope of the statistics it wants."""

    loss: Callable[[Stats, float], Tensor]
    scope: Scope = "batch"


BN_OBJECTIVES: Mapping[str, BnObjective] = {
    "l2norm": BnObjective(l2norm),
    "mse_var": BnObjective(mse_var),
    "sq_std_image": BnObjective(sq_std_image, "image"),
    "sq_std_batch": BnObjective(sq_std_batch),
    "kl": BnObjective(kl),
    "kl_reverse": BnObjective(kl_reverse),
    "mse_gauss": BnObjective(mse_gauss),
}


def input_statistics(images: Tensor, *, per_channel: bool = False) -> Tensor:
    """ZeroQ's and Genie's input term: each image's channels [B,C,H,W] towards mean 0 and deviation 1; scalar."""
    error = images.mean((2, 3)).square() + (_deviation(images.var((2, 3))) - 1.0).square()
    return error.mean(1).sum() if per_channel else error.sum(1).mean()


def _neighbours(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Differences of neighbouring pixels: horizontal, vertical, both diagonals."""
    return (
        x[..., :, 1:] - x[..., :, :-1],
        x[..., 1:, :] - x[..., :-1, :],
        x[..., 1:, 1:] - x[..., :-1, :-1],
        x[..., 1:, :-1] - x[..., :-1, 1:],
    )


def tv_l2(x: Tensor, norm: TvNorm = "batch") -> Tensor:
    """Four Frobenius norms of neighbour differences over the whole batch; ``rms`` divides each by sqrt(numel)."""
    total: Tensor = x.new_zeros(())
    for d in _neighbours(x):
        total = total + torch.linalg.vector_norm(d) / (math.sqrt(d.numel()) if norm == "rms" else 1.0)
    return total


def tv_l1(x: Tensor) -> Tensor:
    """Sum of the four mean absolute neighbour differences."""
    total = x.new_zeros(())
    for d in _neighbours(x):
        total = total + d.abs().mean()
    return total


def l2(x: Tensor) -> Tensor:
    """Mean over images of the (not squared) Euclidean norm."""
    norms: Tensor = torch.linalg.vector_norm(x.flatten(1), dim=1)
    return norms.mean()


def _gaussian(channels: int, size: int, sigma: float) -> Tensor:
    offsets = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    line = torch.exp(-offsets.square() / (2 * sigma**2))
    line = line / line.sum()
    return (line[:, None] * line[None, :]).to(torch.float32).expand(channels, 1, size, size).contiguous()


def smoothed(x: Tensor, size: int = 3, sigma: float = 1.0) -> Tensor:
    """``x`` [B,C,H,W] convolved with a ``size`` x ``size`` Gaussian (reflected border, per channel)."""
    kernel = _gaussian(x.shape[1], size, sigma).to(x.device, x.dtype)
    padded = F.pad(x, (size // 2,) * 4, mode="reflect")
    return F.conv2d(padded, kernel, groups=x.shape[1])


def blur(x: Tensor, size: int = 3, sigma: float = 1.0) -> Tensor:
    """Mean squared distance of ``x`` [B,C,H,W] to its :func:`smoothed` copy."""
    return (x - smoothed(x, size, sigma)).square().mean()


def image_prior(x: Tensor, prior: Prior) -> Tensor:
    """Weighted sum of the priors of images [B,C,H,W]; a constant 0 without gradient when every weight is 0."""
    total = x.new_zeros(())
    if prior.tv_l2:
        total = total + prior.tv_l2 * tv_l2(x, prior.tv_norm)
    if prior.tv_l1:
        total = total + prior.tv_l1 * tv_l1(x)
    if prior.l2:
        total = total + prior.l2 * l2(x)
    if prior.blur:
        total = total + prior.blur * blur(x)
    return total


def focused_ce(logits: Tensor, labels: Tensor, focus: float) -> Tensor:
    """Mean of (1 - p)^focus CE over ``logits`` [B,K], p the label's probability: hard samples weigh more (HAST).

    1e-6 is added to the base, whose power below 1 has an infinite derivative at p = 1; plain CE for ``focus`` 0.
    """
    if focus == 0:
        return F.cross_entropy(logits, labels)
    ce = F.cross_entropy(logits, labels, reduction="none")
    hardness = (1.0 - torch.exp(-ce) + 1e-6).pow(focus)
    return (hardness * ce).mean()


def jensen_shannon(p_logits: Tensor, q_logits: Tensor, temperature: float = 3.0) -> Tensor:
    """Mean Jensen-Shannon divergence of two rows of softened logits [B,K], in units of ln 2: 0 equal, 1 disjoint.

    From log-probabilities without clamping: a clamp at 0.01 has no gradient where a thousand classes are near equal.
    """
    log_p = F.log_softmax(p_logits / temperature, 1)
    log_q = F.log_softmax(q_logits / temperature, 1)
    log_m = torch.logaddexp(log_p, log_q) - math.log(2.0)
    halves = (log_p.exp() * (log_p - log_m)).sum(1) + (log_q.exp() * (log_q - log_m)).sum(1)
    return halves.mean() / (2.0 * math.log(2.0))


def jensen_shannon_code(p_logits: Tensor, q_logits: Tensor, temperature: float = 3.0) -> Tensor:
    """The variant of DeepInversion's code: arguments of the KL swapped, probabilities clamped to [0.01, 0.99]."""
    p = F.softmax(p_logits / temperature, 1)
    q = F.softmax(q_logits / temperature, 1)
    m = 0.5 * (p + q)
    p, q, m = (t.clamp(0.01, 0.99) for t in (p, q, m))
    halves = (m * (m.log() - p.log())).sum(1) + (m * (m.log() - q.log())).sum(1)
    return (0.5 * halves.mean()).clamp(0.0, 1.0)
