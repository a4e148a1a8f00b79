"""The training loop of a network of several bit-widths (docs/methods/compressors.md#adaptive).

In every step each width answers the same batch, widest first, and its loss is sent back at once; one update follows,
by the sum of the gradients.  What one width learns from another is the `Course`'s, a method's own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bench.errors import BenchError
from bench.interfaces import Batch, BatchHook, RunContext, Setting
from methods.compressors._distillation import Losses, answer_loss, distillation, feature_loss
from methods.compressors._training import Asked, Curve, Optimiser, Schedule, clipped_step, own_draws, set_modes
from methods.quant.adaptive import AdaptiveModel
from methods.quant.switched import SwitchedActivation, without_gradient


@dataclass(frozen=True)
class Lesson:
    """What a width learns from in one batch.

    ``guide`` is the place of the wider one whose answers it learns from, None for nobody; ``own`` says whether the
    full-precision network and the labels teach it besides; ``swaps`` maps blocks to the place of the width that they
    are at for once.
    """

    guide: int | None = None
    own: bool = True
    swaps: Mapping[int, int] = field(default_factory=dict)


class Course:
    """Joint training: every width learns from the full-precision network and from the labels, by itself.

    Attributes:
        inner: weight of the KL from a wider width.
        through: whether a swapped block's parameters get the gradient of the pass they are borrowed in.
        fresh: whether a width that learned with swapped blocks teaches by an answer without them.
    """

    inner = 0.0
    through = True
    fresh = False

    def open(self, step: int, total: int) -> None:
        """Before each batch."""

    def lesson(self, width: int, heard: Sequence[Tensor], batch: Batch) -> Lesson:
        """For ``width``; ``heard`` are the logits [B, K] of the wider ones for this batch, widest first."""
        return Lesson()

    def report(self) -> dict[str, Any]:
        """JSON for the record."""
        return {}


class Recursive(Course):
    """The widest learns from the full-precision network and from the labels, each other one from the next wider alone,
    by a KL of weight ``inner``."""

    def __init__(self, inner: float) -> None:
        self.inner = inner

    def lesson(self, width: int, heard: Sequence[Tensor], batch: Batch) -> Lesson:
        return Lesson(width - 1, own=False) if width else Lesson()


@dataclass
class Curves(Curve):
    """As `Curve`, of the sums over the widths; and KL and feature loss of each width, by its name."""

    kls: dict[str, list[float]] = field(default_factory=dict)
    gaps: dict[str, list[float]] = field(default_factory=dict)

    def report(self) -> dict[str, Any]:
        """JSON for the record; ``kl_last_by_width`` holds means of the last tenth."""
        tails = {width: values[-max(len(values) // 10, 1) :] for width, values in self.kls.items()}
        return super().report() | {"kl_last_by_width": {width: sum(tail) / len(tail) for width, tail in tails.items()}}


def groups(net: AdaptiveModel, decay: float, rate: float, clip_decay: float) -> list[dict[str, Any]]:
    """Parameter groups: weights with decay, clips at ``rate`` times the learning rate with their own, the rest
    (normalisations, biases) without; ``share`` is what the learning rate is multiplied by."""
    clips = {
        id(parameter): parameter
        for part in net.body.modules()
        if isinstance(part, SwitchedActivation)
        for parameter in part.parameters()
    }
    others = [parameter for parameter in net.body.parameters() if id(parameter) not in clips]
    found = [
        {"params": [p for p in others if p.dim() > 1], "weight_decay": decay, "share": 1.0},
        {"params": list(clips.values()), "weight_decay": clip_decay, "share": rate},
        {"params": [p for p in others if p.dim() <= 1], "weight_decay": 0.0, "share": 1.0},
    ]
    return [group for group in found if group["params"]]


def train_widths(
    net: AdaptiveModel,
    teacher: nn.Module,
    batches: Iterator[Batch],
    schedule: Schedule,
    optimiser: Optimiser,
    losses: Losses,
    course: Course,
    ctx: RunContext,
    *,
    parameters: list[dict[str, Any]],
    hooks: Sequence[BatchHook] = (),
    look: float = 1.0,
) -> Curves:
    """Train ``net`` in place at all its trained widths; leaves it in eval mode.

    Args:
        teacher: returns logits [N, K] and features, as the student does; ``look`` is what an image costs it, in passes.
        batches: gives at least ``schedule.steps`` of them.
        parameters: as `groups` makes them.
        hooks: applied to each batch in order; what asks for the student's loss gets the narrowest width's.

    Raises:
        BenchError: a loss is not finite; the network is useless then.
    """
    rule = optimiser.build(parameters, schedule.lr)
    curve = Curves(look)
    teacher.eval()
    narrowest = len(net.widths.trained) - 1
    with own_draws(net.student, ctx):
        for step in range(schedule.steps):
            batch = next(batches)
            net.switch(narrowest)
            for hook in hooks:
                batch = hook(batch, step, schedule.steps, Asked(net.student, teacher, losses, curve), ctx.generator)
            set_modes(net.student, schedule.frozen(step) or len(batch.images) == 1)
            for group in rule.param_groups:
                group["lr"] = schedule.rate(step) * group["share"]
            course.open(step, schedule.steps)
            rule.zero_grad(set_to_none=True)
            _learn(net, teacher, batch, losses, course, curve, step)
            clipped_step(rule, optimiser, curve)
            net.keep_positive()
            _tell(curve, step, schedule.steps, ctx)
    net.student.eval()
    return curve


def _learn(
    net: AdaptiveModel, teacher: nn.Module, batch: Batch, losses: Losses, course: Course, curve: Curves, step: int
) -> None:
    """Answers of all widths to ``batch``; the gradients of their losses are left in the parameters."""
    count = len(batch.images)
    with torch.no_grad():
        target, wanted = teacher(batch.images)
    curve.passes += curve.look * count
    heard: list[Tensor] = []
    for width, setting in enumerate(net.widths.trained):
        lesson = course.lesson(width, heard, batch)
        net.switch(width, lesson.swaps)
        with without_gradient([] if course.through else net.inside(lesson.swaps)):
            logits, taps = net.student(batch.images)
        kl = distillation(logits, target, losses)
        loss = torch.zeros_like(kl)
        if lesson.own:
            loss = answer_loss(kl, logits, batch, losses)
            if losses.features:
                gap = feature_loss(taps, wanted, losses.relative)
                loss = loss + losses.features * gap
                curve.gaps.setdefault(name(setting), []).append(float(gap.detach()))
        if lesson.guide is not None:
            loss = loss + course.inner * distillation(logits, heard[lesson.guide], losses)
        _check(loss, step, name(setting))
        loss.backward()
        curve.passes += 2.0 * count
        curve.kls.setdefault(name(setting), []).append(float(kl.detach()))
        heard.append(logits.detach())
        if course.fresh and lesson.swaps:
            net.switch(width, counts=False)
            with torch.no_grad():
                heard[-1] = net.student(batch.images)[0]
            curve.passes += count
    curve.steps = step + 1
    curve.kl.append(sum(values[-1] for values in curve.kls.values()))
    if curve.gaps:
        curve.features.append(sum(values[-1] for values in curve.gaps.values()))


def _check(loss: Tensor, step: int, width: str) -> None:
    value = float(loss.detach())
    if not math.isfinite(value):
        raise BenchError(f"the loss is not finite in step {step}", where=width, got=value, hint="a lower lr may help")


def _tell(curve: Curves, step: int, total: int, ctx: RunContext) -> None:
    if step % max(total // 100, 1) == 0 or step + 1 == total:
        ctx.report("train", step + 1, total)
        for kind, by_width in (("kl", curve.kls), ("features", curve.gaps)):
            for width, values in by_width.items():
                ctx.log_scalar(f"{kind} {width}", step, values[-1])


def name(setting: Setting) -> str:
    """A width by its bits, W4A4."""
    return f"W{setting.weight_bits}A{setting.act_bits}"
