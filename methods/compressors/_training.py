"""The one training loop for a student that a full-precision network teaches on an image set
(docs/methods/compressors.md#training).

Quantisation-aware training, distillation and fine-tuning differ in student, batches and settings only.  Student and
teacher are modules that return logits [B, K], or logits and a tuple of features.  All draws come from the context's CPU
generator, or are seeded from it (dropout).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bench.errors import BenchError
from bench.interfaces import Batch, BatchHook, RunContext
from methods.compressors._distillation import Losses, answer_loss, distillation, feature_loss

WARN_RATIO = 50.0
"""Weighted feature loss over KL from which the run is warned about: there, weight 300 at lr 0.04 diverged."""


@dataclass(frozen=True)
class Schedule:
    """Steps, batch size and learning rate over them.

    ``shape`` drops multiplies by ``factor`` at each share of the steps in ``drops``; cosine goes to 0 along half a
    cosine.  ``bn_freeze`` is the share of the steps after which BN statistics stay (0: never updated, 1: always).
    """

    steps: int
    batch: int
    lr: float
    shape: Literal["drops", "cosine"] = "drops"
    drops: tuple[float, ...] = ()
    factor: float = 0.1
    bn_freeze: float = 1.0

    def rate(self, step: int) -> float:
        """Learning rate of ``step`` (from 0)."""
        if self.shape == "cosine":
            return self.lr * 0.5 * (1 + math.cos(math.pi * step / max(self.steps, 1)))
        return self.lr * self.factor ** sum(step >= round(share * self.steps) for share in self.drops)

    def frozen(self, step: int) -> bool:
        """Whether BN statistics stay in ``step``."""
        return step >= round(self.bn_freeze * self.steps)


@dataclass(frozen=True, kw_only=True)
class Optimiser:
    """SGD with momentum, or Adam (which ignores ``momentum`` and adds the decay to the gradient, as SGD does).

    ``decay`` acts on weights of convolutions and linear layers (and on what ``decayed`` names) only; gradients are
    clipped to the norm ``clip``, None for never.
    """

    kind: Literal["sgd", "adam"] = "sgd"
    momentum: float = 0.9
    decay: float = 1e-4
    clip: float | None = 5.0

    def build(self, groups: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
        """The optimiser of parameter ``groups``."""
        if self.kind == "adam":
            return torch.optim.Adam(groups, lr=lr)
        return torch.optim.SGD(groups, lr=lr, momentum=self.momentum)


@dataclass
class Curve:
    """What happened: forward passes of one image (a backward counting as one), those of hooks that ask for the loss
    included, last and mean of the last tenth of the losses, steps whose gradient was clipped, and whether the feature
    loss outweighed the KL.  ``look`` is what an image costs in the teacher, in passes."""

    look: float = 1.0
    steps: int = 0
    passes: float = 0.0
    kl: list[float] = field(default_factory=list)
    features: list[float] = field(default_factory=list)
    clipped: int = 0
    outweighed: int = 0

    def report(self) -> dict[str, Any]:
        """JSON for the record."""
        tail = max(len(self.kl) // 10, 1)
        return {
            "steps": self.steps,
            "kl_first": _mean(self.kl[:tail]),
            "kl_last": _mean(self.kl[-tail:]),
            "features_first": _mean(self.features[:tail]),
            "features_last": _mean(self.features[-tail:]),
            "clipped_steps": self.clipped,
            "steps_feature_loss_over_50_kl": self.outweighed,
        }


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def parameter_groups(student: nn.Module, decay: float, decayed: Iterable[nn.Parameter] = ()) -> list[dict[str, Any]]:
    """Two groups: parameters of two or more axes and ``decayed`` with weight decay, all others (normalisation, biases,
    learned steps) without."""
    chosen = {id(p) for p in decayed}
    with_decay: list[nn.Parameter] = []
    without: list[nn.Parameter] = []
    for parameter in student.parameters():
        if parameter.requires_grad:
            (with_decay if parameter.dim() > 1 or id(parameter) in chosen else without).append(parameter)
    groups = [{"params": with_decay, "weight_decay": decay}, {"params": without, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def shuffled(
    images: Tensor, size: int, generator: torch.Generator, labels: Tensor | None = None, soft: Tensor | None = None
) -> Iterator[Batch]:
    """Endless batches of ``size`` (at most all) of a set, each epoch in a new order, its incomplete batch left out."""
    size = min(size, len(images))
    while True:
        order = torch.randperm(len(images), generator=generator).to(images.device)
        for index in torch.split(order, size):
            if len(index) == size:
                picked = [None if part is None else part[index] for part in (labels, soft)]
                yield Batch(images[index], *picked)


def set_modes(student: nn.Module, frozen: bool) -> None:
    """Training mode, but batch normalisation in eval mode (statistics kept, scale and shift trained) if ``frozen``."""
    student.train()
    if frozen:
        for module in student.modules():
            if isinstance(module, _BatchNorm):
                module.eval()


def _outputs(result: Any) -> tuple[Tensor, Sequence[Tensor]]:
    return (result, ()) if isinstance(result, Tensor) else result


def train(
    student: nn.Module,
    teacher: nn.Module,
    batches: Iterator[Batch],
    schedule: Schedule,
    optimiser: Optimiser,
    losses: Losses,
    ctx: RunContext,
    *,
    hooks: Sequence[BatchHook] = (),
    decayed: Iterable[nn.Parameter] = (),
    settle: Callable[[], None] = lambda: None,
    look: float = 1.0,
) -> Curve:
    """Train ``student`` in place to answer as ``teacher`` does; leaves it in eval mode.

    Args:
        batches: gives at least ``schedule.steps`` of them; a source that makes images in lock-step may be one.
        hooks: applied to each batch in order; teacher and student see the same result.
        decayed: parameters of fewer than two axes that weight decay acts on all the same (PACT's clips).
        settle: called after each step (keeps learned steps positive).
        look: forward passes that the teacher's answer to one image counts.

    Raises:
        BenchError: the loss is not finite; the student is useless then.
    """
    rule = optimiser.build(parameter_groups(student, optimiser.decay, decayed), schedule.lr)
    curve = Curve(look)
    teacher.eval()
    with own_draws(student, ctx):
        _run(student, teacher, batches, schedule, (rule, optimiser, losses, curve), ctx, hooks, settle)
    student.eval()
    return curve


@contextmanager
def own_draws(student: nn.Module, ctx: RunContext) -> Iterator[None]:
    """Dropout and stochastic depth draw from torch's global generators: seeded from the context's while training, and
    put back afterwards.  A student without them draws nothing."""
    if not any(map(draws, student.modules())):
        yield
        return
    devices = [ctx.device] if ctx.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(int(torch.randint(2**62, (), generator=ctx.generator)))
        yield


def draws(module: nn.Module) -> bool:
    """Whether it drops something: torch's Dropout, torchvision's StochasticDepth (both say p), timm's DropPath."""
    kind = type(module).__name__
    rate = getattr(module, "p", getattr(module, "drop_prob", 0.0))
    return ("Drop" in kind or kind == "StochasticDepth") and bool(rate)


def _run(
    student: nn.Module,
    teacher: nn.Module,
    batches: Iterator[Batch],
    schedule: Schedule,
    training: tuple[torch.optim.Optimizer, Optimiser, Losses, Curve],
    ctx: RunContext,
    hooks: Sequence[BatchHook],
    settle: Callable[[], None],
) -> None:
    """The steps of :func:`train`."""
    rule, optimiser, losses, curve = training
    every = max(schedule.steps // 100, 1)
    for step in range(schedule.steps):
        batch = next(batches)
        for hook in hooks:
            batch = hook(batch, step, schedule.steps, Asked(student, teacher, losses, curve), ctx.generator)
        # A batch of one has no variance to normalise by.
        set_modes(student, schedule.frozen(step) or len(batch.images) == 1)
        for group in rule.param_groups:
            group["lr"] = schedule.rate(step)
        kl, features = _step(student, teacher, batch, rule, optimiser, losses, curve)
        settle()
        curve.passes += (2.0 + curve.look) * len(batch.images)
        _watch(curve, step, kl, features, losses, ctx)
        if step % every == 0 or step + 1 == schedule.steps:
            ctx.report("train", step + 1, schedule.steps)
            ctx.log_scalar("kl", step, kl)
            if losses.features:
                ctx.log_scalar("features", step, features)


@dataclass(frozen=True)
class Asked:
    """What hooks may ask; see ``bench.interfaces.StudentLoss``."""

    student: nn.Module
    net: nn.Module
    losses: Losses
    curve: Curve

    def __call__(self, images: Tensor, /) -> Tensor:
        """The distillation loss, with the student's statistics as they are.

        Counts the teacher's forward, the student's forward and the backward the loss is for.
        """
        self.curve.passes += 2.0 * len(images)
        self.student.eval()
        return distillation(_outputs(self.student(images))[0], self.teacher(images), self.losses)

    @torch.no_grad()
    def teacher(self, images: Tensor) -> Tensor:
        """The teacher's logits; counts its forward."""
        self.curve.passes += self.curve.look * len(images)
        return _outputs(self.net(images))[0]


def _step(
    student: nn.Module,
    teacher: nn.Module,
    batch: Batch,
    rule: torch.optim.Optimizer,
    optimiser: Optimiser,
    losses: Losses,
    curve: Curve,
) -> tuple[float, float]:
    """One step; KL and unweighted feature loss before it.  Without finite losses nothing moves."""
    with torch.no_grad():
        target, wanted = _outputs(teacher(batch.images))
    logits, taps = _outputs(student(batch.images))
    kl = distillation(logits, target, losses)
    loss = answer_loss(kl, logits, batch, losses)
    features = 0.0
    if losses.features:
        gap = feature_loss(taps, wanted, losses.relative)
        loss, features = loss + losses.features * gap, float(gap.detach())
    if not bool(torch.isfinite(loss)):
        return float(kl.detach()), features
    rule.zero_grad(set_to_none=True)
    loss.backward()
    clipped_step(rule, optimiser, curve)
    return float(kl.detach()), features


def clipped_step(rule: torch.optim.Optimizer, optimiser: Optimiser, curve: Curve) -> None:
    """A step by the gradients there are, clipped to the norm that ``optimiser`` allows, which ``curve`` notes."""
    if optimiser.clip is not None:
        trained = [p for group in rule.param_groups for p in group["params"]]
        norm = float(nn.utils.clip_grad_norm_(trained, optimiser.clip))
        curve.clipped += norm > optimiser.clip
    rule.step()


def _watch(curve: Curve, step: int, kl: float, features: float, losses: Losses, ctx: RunContext) -> None:
    """Note the losses, fail on what is not finite, warn once when the features outweigh the KL."""
    if not math.isfinite(kl) or not math.isfinite(features):
        raise BenchError(
            f"the loss is not finite in step {step}", got=f"KL {kl}, features {features}", hint="a lower lr may help"
        )
    curve.steps = step + 1
    curve.kl.append(kl)
    if losses.features:
        curve.features.append(features)
    if losses.features * features > WARN_RATIO * kl and step > 0:
        if not curve.outweighed:
            ctx.logger.warning(
                "step %d: weighted feature loss %.3g is over %g times the KL %.3g; a lower lr or weight may be needed",
                step, losses.features * features, WARN_RATIO, kl,
            )  # fmt: skip
        curve.outweighed += 1
