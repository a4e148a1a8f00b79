"""The training loop of a network whose bits each image decides (docs/methods/compressors.md#dynamic).

A step is that of `methods.compressors._training`, with the loss on bits beside the others and the selectors moved by
an Adam of their own; without selectors it is that training bit for bit.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bench.errors import BenchError
from bench.interfaces import Batch, BatchHook, RunContext
from bench.interfaces.ranks import rank_correlation
from methods.compressors._distillation import Losses, answer_loss, distillation, feature_loss, label_loss
from methods.compressors._training import (
    Asked,
    Curve,
    Optimiser,
    Schedule,
    clipped_step,
    own_draws,
    parameter_groups,
    set_modes,
)
from methods.quant.dynamic import DynamicModel

Pull = Literal["average", "fixed", "hinge"]
"""How the loss on bits is weighted; see `BitLoss`."""

TRAVEL = 10.0
"""How far the adapted weight goes over a whole training whose mean is off by all the candidates span.

Weights of about 1 are what a layer's choice between its widest and its narrowest candidate turns on, and a tenth of the
steps reaches them."""

PUSH = 1.0
"""What is added to the adapted weight per unit of that distance: without it the mean swings about its target."""

CLOSE = 0.0025
"""Relative distance from the mean asked for at which settling stops."""


@dataclass
class BitLoss:
    """What bits cost: ``weight`` (lambda_b) times L_bit, the batch's mean bits over the most bits.

    ``pull`` average adapts the weight, of either sign, by the distance of the batch's mean from ``target``; fixed keeps
    it; hinge is ``weight`` times max(0, mean bits - target).
    """

    pull: Pull
    weight: float
    target: float
    least: float
    most: float
    bits: list[float] = field(default_factory=list)

    def __call__(self, bits: Tensor, total: int) -> Tensor:
        """The loss for a batch's ``bits`` [N] in one of ``total`` steps."""
        mean = bits.mean()
        seen = float(mean.detach())
        self.bits.append(seen)
        if self.pull == "hinge":
            return self.weight * (mean - self.target).clamp_min(0)
        if self.pull == "average":
            off = (seen - self.target) / (self.most - self.least)
            self.weight += TRAVEL / max(total, 1) * off
            return (self.weight + PUSH * off) * mean / self.most
        return self.weight * mean / self.most


@dataclass
class DynamicCurve(Curve):
    """As `Curve`, and the cross-entropy with the labels where it counts."""

    labels: list[float] = field(default_factory=list)


def train_dynamic(
    net: DynamicModel,
    teacher: nn.Module,
    batches: Iterator[Batch],
    schedule: Schedule,
    optimiser: Optimiser,
    losses: Losses,
    bit_loss: BitLoss,
    ctx: RunContext,
    *,
    selector_lr: float,
    hooks: Sequence[BatchHook] = (),
    decayed: Sequence[nn.Parameter] = (),
    look: float = 1.0,
    learn: float = 2.0,
) -> DynamicCurve:
    """Train ``net`` in place; leaves it in eval mode.

    Args:
        teacher, batches, hooks, decayed, look: as `methods.compressors._training.train` takes them.
        selector_lr: rate of the selectors at the start; it falls as the schedule's does.
        learn: passes that an image's forward and backward count.

    Raises:
        BenchError: a loss is not finite; the network is useless then.
    """
    student, chosen = net.student, {id(parameter) for parameter in net.selectors}
    groups = parameter_groups(student, optimiser.decay, decayed)
    for group in groups:
        group["params"] = [parameter for parameter in group["params"] if id(parameter) not in chosen]
    rule = optimiser.build(groups, schedule.lr)
    choosing = torch.optim.Adam(net.selectors, lr=selector_lr) if chosen else None
    curve = DynamicCurve(look)
    teacher.eval()
    with own_draws(student, ctx):
        for step in range(schedule.steps):
            batch = next(batches)
            for hook in hooks:
                batch = hook(batch, step, schedule.steps, Asked(student, teacher, losses, curve), ctx.generator)
            set_modes(student, schedule.frozen(step) or len(batch.images) == 1)
            rate = schedule.rate(step)
            for group in rule.param_groups:
                group["lr"] = rate
            rule.zero_grad(set_to_none=True)
            if choosing is not None:
                choosing.param_groups[0]["lr"] = selector_lr * (rate / schedule.lr if schedule.lr else 1.0)
                choosing.zero_grad(set_to_none=True)
            _loss(net, teacher, batch, losses, bit_loss, curve, (step, schedule.steps)).backward()
            clipped_step(rule, optimiser, curve)
            if choosing is not None:
                choosing.step()
            net.keep_positive()
            curve.steps, curve.passes = step + 1, curve.passes + (learn + look) * len(batch.images)
            if step % max(schedule.steps // 100, 1) == 0 or step + 1 == schedule.steps:
                _tell(curve, bit_loss, step, schedule.steps, ctx)
    net.forget()
    student.eval()
    return curve


def _loss(
    net: DynamicModel,
    teacher: nn.Module,
    batch: Batch,
    losses: Losses,
    bit_loss: BitLoss,
    curve: DynamicCurve,
    when: tuple[int, int],
) -> Tensor:
    """What a batch costs in this step of so many; its parts are noted in ``curve``."""
    with torch.no_grad():
        target, wanted = teacher(batch.images)
    logits, taps = net.student(batch.images)
    kl = distillation(logits, target, losses)
    loss = answer_loss(kl, logits, batch, losses)
    if losses.labels:
        curve.labels.append(float(label_loss(logits.detach(), batch)))
    if losses.features:
        gap = feature_loss(taps, wanted, losses.relative)
        loss = loss + losses.features * gap
        curve.features.append(float(gap.detach()))
    if net.dynamic:
        loss = loss + bit_loss(net.mean_bits(), when[1])
    curve.kl.append(float(kl.detach()))
    value = float(loss.detach())
    if not math.isfinite(value):
        raise BenchError(f"the loss is not finite in step {when[0]}", got=value, hint="a lower lr may help")
    return loss


def _tell(curve: DynamicCurve, bit_loss: BitLoss, step: int, total: int, ctx: RunContext) -> None:
    ctx.report("train", step + 1, total)
    told = {"kl": curve.kl, "labels": curve.labels, "features": curve.features, "bits": bit_loss.bits}
    for name, values in told.items():
        if values:
            ctx.log_scalar(name, step, values[-1])
    if bit_loss.bits:
        ctx.log_scalar("bit loss", step, bit_loss.bits[-1] / bit_loss.most)
        ctx.log_scalar("bit weight", step, bit_loss.weight)


@dataclass(frozen=True)
class Seen:
    """What images chose after the training: their mean bits [N], how often each tensor got each candidate, how sure the
    full-precision network is of each (entropy [N] in nats, empty if not asked)."""

    bits: Tensor
    usage: dict[str, list[int]]
    difficulty: Tensor

    @property
    def mean(self) -> float:
        """Mean bits over the images."""
        return float(self.bits.double().mean())

    def report(self, candidates: Sequence[int]) -> dict[str, Any]:
        """JSON for the record; ``usage_entropy`` is in nats, 0 where all images choose the same (a collapse)."""
        shares = {name: [count / sum(counts) for count in counts] for name, counts in self.usage.items()}
        entropy = {name: -sum(p * math.log(p) for p in part if p > 0) for name, part in shares.items()}
        related = rank_correlation(self.bits.tolist(), self.difficulty.tolist()) if len(self.difficulty) else None
        spread = float(self.bits.double().std(unbiased=False))
        return {
            "candidates": list(candidates),
            "mean_bits": self.mean,
            "bits_spread": spread,
            "usage": shares,
            "usage_entropy": entropy,
            "collapsed": [name for name, value in entropy.items() if value == 0],
            "bits_difficulty": related,
        }


@torch.no_grad()
def look_at(net: DynamicModel, parts: Sequence[Tensor], teacher: nn.Module | None = None) -> Seen:
    """What the images of ``parts`` ([n, C, H, W] each) choose in eval mode; how hard they are by ``teacher``."""
    net.student.eval()
    count = len(net.choices.inputs)
    bits, hard, usage = [], [], {name: Counter[int]() for name in net.dynamic}
    for images in parts:
        net.student(images)
        bits.append(net.mean_bits().cpu())
        for name, places in net.chosen().items():
            usage[name].update(places.tolist())
        net.forget()
        if teacher is not None:
            logs = teacher(images)[0].double().log_softmax(1)
            hard.append(-(logs.exp() * logs).sum(1).cpu())
    counts = {name: [found[place] for place in range(count)] for name, found in usage.items()}
    return Seen(torch.cat(bits), counts, torch.cat(hard) if hard else torch.empty(0))


def settle(net: DynamicModel, parts: Sequence[Tensor], target: float, rounds: int = 12) -> tuple[float, int]:
    """Tilt all selectors by one number so that the mean bits of the images of ``parts`` come close to ``target``.

    Bisection: bits grow with the tilt but for what changes downstream.  Returns the tilt and the passes made; the
    nearest is kept, none where it is as near.
    """
    best, passes = (0.0, _distance(net, parts, target)), 1
    if abs(best[1]) <= CLOSE * target:
        return 0.0, passes
    rising = best[1] < 0
    low, high, reach = 0.0, 0.0, 0.25 if rising else -0.25
    for _ in range(rounds):
        amount = reach if low == high else (low + high) / 2
        net.tilt(amount)
        off, passes = _distance(net, parts, target), passes + 1
        if abs(off) < abs(best[1]):
            best = amount, off
        if abs(off) <= CLOSE * target:
            break
        if low == high and (off < 0) == rising:
            reach *= 2
        elif low == high:
            low, high = min(0.0, amount), max(0.0, amount)
        elif off < 0:
            low = amount
        else:
            high = amount
    net.tilt(best[0])
    return best[0], passes


def _distance(net: DynamicModel, parts: Sequence[Tensor], target: float) -> float:
    return look_at(net, parts).mean - target
