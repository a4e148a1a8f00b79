"""Shared by the sources that invert networks: the network as they see it, the one-network objective, label draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from bench.errors import NotApplicable
from bench.interfaces import DatasetSpec, ImageBatch, ModelHandle, RunContext
from methods.sources._augment import Augment
from methods.sources._bn_taps import Stats, bn_layers, pooled, tapped
from methods.sources._inversion import Inverted, Objective, invert
from methods.sources._losses import (
    BN_OBJECTIVES,
    dead_channels,
    focused_ce,
    image_prior,
    input_statistics,
    jensen_shannon,
    jensen_shannon_code,
    l2norm,
    sq_std_image,
)
from methods.sources._settings import LabelLaw, LoopSettings, Terms
from methods.sources._tap_function import Scope

MANY = 64
"""Classes up to which an image set holds each at least once."""


def draw_labels(law: LabelLaw, count: int, classes: int, batch_index: int, generator: Generator) -> Tensor:
    """Targets [count] int64: every class in turn over the whole image set, or independent uniform draws.

    Balanced labels run on from batch to batch, so that any prefix of the set is balanced too.  Of more than MANY
    classes, which a set may have fewer images than, they are taken in wide steps: neighbours are alike (the first
    hundreds of ImageNet's are animals).
    """
    if law == "balanced":
        return (torch.arange(count) + batch_index * count) * _stride(classes) % classes
    return torch.randint(classes, (count,), generator=generator)


def _stride(classes: int) -> int:
    """A step that visits every class once in ``classes`` steps: 1 up to MANY, else next above the golden section."""
    if classes <= MANY:
        return 1
    return next(step for step in range(int(0.618 * classes), classes) if math.gcd(step, classes) == 1)


def need_models(models: Sequence[ModelHandle], *, bn: bool, source: str) -> None:
    """Check that there is a network and, where ``bn``, that each has batch-norm statistics.

    Raises:
        NotApplicable: with the network's name and the reason.
    """
    if not models:
        raise NotApplicable("there is no network to invert", where=source, expected="at least one network")
    for handle in models:
        if bn and not bn_layers(handle.module):
            raise NotApplicable(
                f"{handle.name} has no batch norm with running statistics, which {source} matches",
                where=source,
                hint="use a source without batch-norm matching (noise, ood, deepdream), or another network",
            )


class Network:
    """A frozen tapped copy of one network, fed with images in the *data set's* normalised space.

    A network trained with other constants gets an affine map first; one that cannot run at half size (a fixed pool or
    flatten) sees its half-size views enlarged again, and then each costs a full forward.
    """

    def __init__(self, handle: ModelHandle, dataset: DatasetSpec, ctx: RunContext, scope: Scope = "batch") -> None:
        self.name, self.macs = handle.name, handle.macs
        self.taps = tapped(handle.module, device=ctx.device, scope=scope)
        self.dtype, self.device = ctx.dtype, ctx.device
        self.renormalise: tuple[Tensor, Tensor] | None = None
        if (handle.mean, handle.std) != (dataset.mean, dataset.std):
            columns = [torch.tensor(v, device=ctx.device).view(1, -1, 1, 1) for v in (dataset.std, dataset.mean)]
            std, mean = (torch.tensor(v, device=ctx.device).view(1, -1, 1, 1) for v in (handle.std, handle.mean))
            self.renormalise = (columns[0] / std, (columns[1] - mean) / std)
        self.enlarge = False

    def allow_half(self, shape: tuple[int, int, int]) -> None:
        """Find out whether half-size images of ``shape`` (C, H, W) run through; if not, enlarge them from now on."""
        probe = torch.zeros(2, shape[0], shape[1] // 2, shape[2] // 2, device=self.device)
        try:
            with torch.no_grad():
                self(probe)
        except (RuntimeError, AssertionError):  # what a shape mismatch raises, and a network that checks its input
            self.enlarge = True

    def __call__(self, x: Tensor, scale: int = 1) -> tuple[Tensor, Stats | None]:
        """Float32 logits [B,K] and statistics for images or views that are ``scale`` times smaller."""
        if scale > 1 and self.enlarge:
            x = F.interpolate(x, scale_factor=float(scale), mode="nearest")
        if self.renormalise is not None:
            x = torch.addcmul(self.renormalise[1], x, self.renormalise[0])
        if self.dtype == torch.float32:
            return self.taps(x)
        with torch.autocast(self.device.type, self.dtype):
            logits, stats = self.taps(x)
        return logits.float(), stats


class SingleObjective:
    """CE, batch-norm, prior and competition terms of one network on one augmented view
    (docs/methods/sources.md#deepdream, #zeroq, #kw, #deepinversion).

    Subclasses replace single terms, or what the network sees of the optimised tensor.
    """

    def __init__(
        self,
        network: Network,
        labels: Tensor | None,
        terms: Terms,
        augment: Augment,
        generator: Generator,
        student: Network | None = None,
    ) -> None:
        self.network, self.labels, self.terms = network, labels, terms
        self.augment, self.generator, self.student = augment, generator, student

    def backward(self, view: Tensor, scale: int, log: bool) -> Mapping[str, Tensor]:
        x = self.augment(self.images(view), self.generator, scale)
        logits, stats = self.network(x, scale)
        parts = self._parts(x, logits, stats, scale)
        loss = torch.stack(list(parts.values())).sum()
        loss.backward()
        found = {"loss": loss.detach(), **{name: part.detach() for name, part in parts.items()}}
        if log and self.labels is not None:
            found["top1"] = top1(logits, self.labels)
        if log and self.terms.bn == "kl" and stats is not None:
            found["kl_held_up"] = dead_channels(stats)
        return found

    def images(self, view: Tensor) -> Tensor:
        """Images [B,C,H,W] behind the optimised tensor, which are that tensor."""
        return view

    def _class_terms(self, logits: Tensor) -> dict[str, Tensor]:
        """The weighted terms that depend on the labels, by name."""
        t = self.terms
        if not t.ce_weight or self.labels is None:
            return {}
        if t.logit:
            return {"ce": -t.ce_weight * logits.gather(1, self.labels[:, None]).mean()}
        return {"ce": t.ce_weight * focused_ce(logits, self.labels, t.focus)}

    def _parts(self, x: Tensor, logits: Tensor, stats: Stats | None, scale: int) -> dict[str, Tensor]:
        """The weighted terms by name."""
        t, parts = self.terms, self._class_terms(logits)
        if t.bn_weight and stats is not None:
            parts["bn"] = t.bn_weight * self._bn(stats)
            if t.input_term:
                parts["input"] = t.bn_weight * input_statistics(x, per_channel=t.per_channel)
        if t.prior.weighs:
            parts["prior"] = image_prior(x, t.prior)
        if t.competition and self.student is not None:
            divergence = jensen_shannon if t.competition_js == "true" else jensen_shannon_code
            with torch.set_grad_enabled(not t.detach_student):
                answer = self.student(x, scale)[0]
            parts["competition"] = t.competition * (1.0 - divergence(logits, answer))
        return parts

    def _bn(self, stats: Stats) -> Tensor:
        return _statistics(stats, self.terms)

    def stepped(self) -> None:
        """Nothing else is learned."""

    def reset(self) -> None:
        """Nothing to forget."""


@torch.no_grad()
def weighed(terms: Terms, network: Network, init: Tensor) -> Terms:
    """``terms`` with the weight that ``kappa`` means for this network and these start images [B,C,H,W]: networks differ
    ninefold in how far noise lies from their statistics, so one weight for all serves few of them."""
    if terms.kappa is None:
        return terms
    _, stats = network(init)
    start = float(_statistics(stats, terms)) if stats is not None else 0.0
    return replace(terms, bn_weight=terms.kappa / start if start > 0 else terms.bn_weight)


class StatisticsWeight:
    """Weight of a statistics' loss: ``weight``, or with ``kappa`` kappa over the first value it is asked for, which is
    the loss of a generator's images before its first step."""

    def __init__(self, weight: float, kappa: float | None) -> None:
        self.value, self._kappa = weight, kappa

    @property
    def weighs(self) -> bool:
        """Whether it is above 0."""
        return self._kappa is not None or self.value > 0

    def __call__(self, loss: Tensor) -> Tensor:
        """The weighted ``loss``."""
        if self._kappa is not None and (first := float(loss.detach())) > 0:
            self.value, self._kappa = self._kappa / first, None
        return self.value * loss


def _statistics(stats: Stats, terms: Terms) -> Tensor:
    """The unweighted statistics' loss."""
    if terms.per_channel:
        return sq_std_image(stats, terms.first, per_channel=True)
    return BN_OBJECTIVES[terms.bn].loss(stats, terms.first)


def top1(logits: Tensor, labels: Tensor) -> Tensor:
    """Percentage of ``logits`` [B,K] whose largest entry is the label; scalar."""
    return (logits.argmax(1) == labels).float().mean() * 100.0


@torch.no_grad()
def inspect(networks: Sequence[Network], images: Tensor, labels: Tensor | None) -> dict[str, Any]:
    """Clean final images on the generating networks: per network BN loss (``l2norm``, pooled) and assigned top-1 (%).

    The optimisation saw augmented or mixed views, so these are not its last loss terms.
    """
    bn: dict[str, float] = {}
    right: dict[str, float] = {}
    for network in networks:
        logits, stats = network(images)
        if stats is not None:
            bn[network.name] = float(l2norm(pooled(stats)))
        if labels is not None:
            right[network.name] = float(top1(logits, labels))
    return {"clean_bn": bn, **({"top1": right} if labels is not None else {})}


def describe(result: Inverted, networks: Sequence[Network], augment: Augment) -> dict[str, Any]:
    """What every inversion records about itself (JSON)."""
    return {
        "models": [network.name for network in networks],
        "losses": dict(result.losses),
        "clipped": result.clipped,
        "iterations": {f"1/{scale}": n for scale, n in result.iterations.items()},
        "lr": result.lr,
        "retried_at_half_lr": result.retried,
        "augment": augment.kinds(),
        "bn_layers": {network.name: len(network.taps.layers) for network in networks},
        "bn_without_statistics": {network.name: network.taps.skipped for network in networks if network.taps.skipped},
        "enlarged_half_views": [network.name for network in networks if network.enlarge],
    }


def start_images(shape: Sequence[int], ctx: RunContext) -> Tensor:
    """N(0,1) images [B,C,H,W] in normalised space, drawn on the CPU and moved."""
    return torch.randn(tuple(shape), generator=ctx.generator).to(ctx.device)


@dataclass(frozen=True)
class Prepared:
    """All that one batch's inversion needs; ``networks`` are those whose statistics or logits are matched,
    ``unit_macs`` the request's (None: the mean of the networks')."""

    networks: tuple[Network, ...]
    objective: Objective
    settings: LoopSettings
    augment: Augment
    init: Tensor
    labels: Tensor | None
    student: Network | None = None
    unit_macs: float | None = None


def run(prepared: Prepared, ctx: RunContext, extra: Callable[[], Mapping[str, Any]] = dict) -> ImageBatch:
    """Invert, look at the clean result, and pack images, labels, cost and record; ``extra`` adds to the record."""
    networks, labels = prepared.networks, prepared.labels
    shape = (prepared.init.shape[1], prepared.init.shape[2], prepared.init.shape[3])
    everyone = (*networks, *([prepared.student] if prepared.student else []))
    if prepared.settings.half_iterations:
        for network in everyone:
            network.allow_half(shape)
    result = invert(prepared.init, prepared.objective, prepared.augment.space, prepared.settings, ctx)
    info = {**describe(result, networks, prepared.augment), **inspect(networks, result.images, labels), **extra()}
    if isinstance(prepared.objective, SingleObjective):
        info["bn_weight"] = prepared.objective.terms.bn_weight
    looks = sum(network.macs for network in networks)
    unit = prepared.unit_macs or looks / len(networks)
    spent = sum(result.forwards(enlarged=network.enlarge) * network.macs for network in everyone)
    cost = (spent + looks * len(result.images)) / unit
    return ImageBatch(
        images=result.images.cpu(),
        labels=None if labels is None else labels.cpu(),
        forward_equivalents=cost,
        info=info,
    )
