"""Quality of image sets: batch-norm loss, zoo accuracy, classifier score (docs/methods/measures.md#image-measures).

Every function takes networks and tensors (images float [N, C, H, W] in the networks' normalised space, on the networks'
device) and leaves the networks as they were.  MMD lies in mmd.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bench.data.datasets import batch_size
from bench.errors import NotApplicable
from bench.measure.accuracy import batches, eval_mode

BATCH = 128
"""Images of a forward pass; fewer where they are large."""
_Site = tuple[str, int]  # name of the BN module, index of its call within one forward pass


@dataclass(frozen=True)
class BnStatistics:
    """Statistics of the tensor that enters one BN module: mean and biased variance [C] in float64 over ``count``
    scalars per channel, one entry per call of the module in a forward pass."""

    mean: Tensor
    variance: Tensor
    count: int


@dataclass(frozen=True)
class BnLoss:
    """Distance of measured to stored BN statistics.

    ``u1``: sum over layers of ‖mean difference‖₂ + ‖variance difference‖₂ (MixMix eq. 2, unsquared norms);
    ``u2``: mean over layers of the channel means of both squared differences.  The paper's table is in an unstated
    unit that is not u1, so orderings compare and numbers do not.  ``n`` images, ``batch`` of them per statistic
    (n when pooled); ``layers`` holds u1 per layer.
    """

    u1: float
    u2: float
    n: int
    batch: int
    layers: Mapping[str, float]


class _Moments:
    """Running sums of each tapped tensor in float64, exact however the images are batched."""

    def __init__(self, module: nn.Module) -> None:
        self.sums: dict[_Site, tuple[Tensor, Tensor, int]] = {}
        self._calls: dict[str, int] = defaultdict(int)
        self.names = {part: name for name, part in module.named_modules() if _has_target(part)}
        self._hooks = [part.register_forward_pre_hook(self._add) for part in self.names]
        self._hooks.append(module.register_forward_pre_hook(lambda *_: self._calls.clear()))

    def close(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def _add(self, part: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        name = self.names[part]
        site = (name, self._calls[name])
        self._calls[name] += 1
        values = inputs[0].detach().double()
        axes = [axis for axis in range(values.dim()) if axis != 1]
        first, second, count = self.sums.get(site, (0.0, 0.0, 0))
        here = values.numel() // values.shape[1]
        self.sums[site] = (first + values.sum(axes), second + values.square().sum(axes), count + here)


def _has_target(part: nn.Module) -> bool:
    return isinstance(part, _BatchNorm) and part.running_mean is not None and part.running_var is not None


def bn_statistics(module: nn.Module, images: Tensor, batch: int | None = None) -> dict[str, list[BnStatistics]]:
    """Statistics pooled over all images, by BN module in the order of execution; ``batch`` only bounds memory.

    Averaging the variances of chunks would be biased low (it drops the variance between chunks), so sums and sums of
    squares are accumulated instead.

    Raises:
        NotApplicable: no BN module with running statistics was executed.
    """
    moments = _Moments(module)
    try:
        with eval_mode(module):
            for part, _ in batches(images, size=batch or batch_size(images.shape[1:], BATCH)):
                module(part)
    finally:
        moments.close()
    if not moments.sums:
        raise NotApplicable("the network has no BatchNorm with running statistics")
    out: dict[str, list[BnStatistics]] = defaultdict(list)
    for (name, _), (first, second, count) in moments.sums.items():
        mean = first / count
        out[name].append(BnStatistics(mean, (second / count - mean.square()).clamp_min(0), count))
    return dict(out)


def bn_loss(module: nn.Module, images: Tensor, *, batch: int | None = None) -> BnLoss:
    """BN loss of a network on images; a module called several times counts once, with its calls averaged.

    Args:
        batch: None pools the statistics over all images; a number takes them per batch of so many images and averages
            the losses, as a synthesis with that batch size sees them (both units depend on it; a short last batch is
            left out then).

    Raises:
        NotApplicable: the network has no BN statistics.
        ValueError: fewer images than one batch.
    """
    if batch is not None and len(images) < batch:
        raise ValueError(f"{len(images)} images are less than one batch of {batch}")
    size = batch or len(images)
    chunks = [images[start : start + size] for start in range(0, len(images) - size + 1, size)]
    losses = [_loss_of(module, bn_statistics(module, chunk)) for chunk in chunks]
    names = losses[0][0].keys()
    layers = {name: float(np.mean([norms[name] for norms, _ in losses])) for name in names}
    squares = float(np.mean([np.mean(list(squared.values())) for _, squared in losses]))
    return BnLoss(sum(layers.values()), squares, len(images), size, layers)


def _loss_of(module: nn.Module, found: Mapping[str, list[BnStatistics]]) -> tuple[dict[str, float], dict[str, float]]:
    """Per layer: sum of both norms, and sum of both mean squared differences."""
    norms, squares = {}, {}
    for name, calls in found.items():
        target_mean = module.get_submodule(name).get_buffer("running_mean").double()
        target_var = module.get_submodule(name).get_buffer("running_var").double()
        pairs = [(call.mean - target_mean, call.variance - target_var) for call in calls]
        norms[name] = float(np.mean([float(m.norm() + v.norm()) for m, v in pairs]))
        squares[name] = float(np.mean([float(m.square().mean() + v.square().mean()) for m, v in pairs]))
    return norms, squares


@dataclass(frozen=True)
class ZooTop1:
    """Top-1 in percent of every network on (images, assigned labels); mean and population standard deviation over the
    networks.  ``n`` images."""

    mean: float
    std: float
    n: int
    per_model: Mapping[str, float]

    def over(self, names: list[str]) -> ZooTop1:
        """The same over some of the networks: those held out, those that made the images.

        Raises:
            ValueError: no name.
        """
        return _zoo(self.n, {name: self.per_model[name] for name in names})


def _zoo(n: int, per_model: Mapping[str, float]) -> ZooTop1:
    if not per_model:
        raise ValueError("no network to average over")
    values = np.array(list(per_model.values()))
    return ZooTop1(float(values.mean()), float(values.std()), n, dict(per_model))


def zoo_top1(models: Mapping[str, nn.Module], images: Tensor, labels: Tensor) -> ZooTop1:
    """Accuracy of every network on the labels the images were made for (docs/methods/measures.md#zoo-top1).

    For sources without assigned labels there is no such number; see :func:`label_agreement`.

    Raises:
        ValueError: no network, no image, or another number of labels.
    """
    if len(images) == 0 or len(images) != len(labels):
        raise ValueError(f"{len(images)} images with {len(labels)} labels")
    found = {}
    for name, module in models.items():
        right = logits_of(module, images).argmax(dim=1) == labels.to(images.device)
        found[name] = 100 * float(right.double().mean())
    return _zoo(len(images), found)


def label_agreement(models: Mapping[str, nn.Module], images: Tensor) -> float:
    """Mean over all pairs of networks of the share of images, in percent, on which their predictions agree.

    Raises:
        ValueError: fewer than two networks.
    """
    predictions = [logits_of(module, images).argmax(dim=1) for module in models.values()]
    if len(predictions) < 2:
        raise ValueError("agreement needs two networks")
    pairs = [(a, b) for i, a in enumerate(predictions) for b in predictions[i + 1 :]]
    return 100 * float(np.mean([float((a == b).double().mean()) for a, b in pairs]))


@dataclass(frozen=True)
class ClassifierScore:
    """Inception score with a classifier that need not be Inception: mean and population standard deviation over the
    splits.  Biased at small ``n`` (images in all), so compare at equal n and beside real images at that n."""

    mean: float
    std: float
    n: int
    splits: int


def classifier_score(module: nn.Module, images: Tensor, splits: int | None = None) -> ClassifierScore:
    """exp(mean KL(p(y|x) ‖ p(y))) with a held-out classifier; 1 <= score <= number of classes.

    Splits are parts of one fixed permutation: consecutive images come from one batch, and in a balanced set every
    tenth image is of one class.  None makes one split per 100 images, ten at most: a part of a few images cannot reach
    the score of the whole, however good its images are.

    Raises:
        ValueError: fewer images than splits.
    """
    splits = min(10, max(1, len(images) // 100)) if splits is None else splits
    if len(images) < splits or splits < 1:
        raise ValueError(f"{len(images)} images do not fill {splits} splits")
    log_p = logits_of(module, images).double().log_softmax(dim=1)
    return score_from_log_probabilities(log_p, splits)


def score_from_log_probabilities(log_p: Tensor, splits: int = 10) -> ClassifierScore:
    """:func:`classifier_score` from log p(y|x) [N, classes]; minus infinity stands for an impossible class."""
    scores = []
    order = torch.randperm(len(log_p), generator=torch.Generator().manual_seed(0)).to(log_p.device)
    for rows in order.tensor_split(splits):
        part = log_p[rows].double()
        p = part.exp()
        # 0 · log 0 = 0: a class of probability zero adds nothing
        entropy = torch.where(p > 0, p * part, torch.zeros_like(p)).sum(dim=1).mean()
        marginal = p.mean(dim=0)
        scores.append(float((entropy - torch.special.xlogy(marginal, marginal).sum()).exp()))
    return ClassifierScore(float(np.mean(scores)), float(np.std(scores)), len(log_p), splits)


def logits_of(module: nn.Module, images: Tensor) -> Tensor:
    """Outputs [N, classes] in eval mode."""
    with eval_mode(module):
        size = batch_size(images.shape[1:], BATCH)
        parts: list[Tensor] = [module(part) for part, _ in batches(images, size=size)]
        return torch.cat(parts)
