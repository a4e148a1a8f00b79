"""The one training loop of the searches by gradients: weights, steps and choices by one loss on the same batch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.errors import BenchError
from bench.interfaces import RunContext
from methods.policies._proxy import Batch, Proxy, own_draws, training
from methods.policies._supernet import Supernet


class Objective:
    """A search's loss; this one is EdMIPS': cross-entropy plus gamma L_comp.

    Attributes:
        passes: of the network per image and step, a backward as one.
        gamma: weight of L_comp; None until `choose_gamma` sets it in the first step.
    """

    passes = 2.0

    def __init__(self, net: Supernet, proxy: Proxy, params: Any) -> None:
        self.net, self.proxy, self.params = net, proxy, params
        self.gamma: float | None = None

    def begin(self, ctx: RunContext) -> float:
        """Before the first step; the passes it took."""
        return 0.0

    def extra(self) -> list[nn.Parameter]:
        """What trains beside the network, as its weights do."""
        return []

    def batches(self, ctx: RunContext) -> Iterator[Batch]:
        """Endless batches."""
        return self.proxy.batches(self.params.batch, ctx.generator)

    def before(self, step: int, total: int, ctx: RunContext) -> None:
        """Before each step: schedules and draws."""

    def held(self, step: int) -> frozenset[str]:
        """Which of "weights" and "choices" do not move in this step."""
        return frozenset()

    def task(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The task's loss, [], and the scores [B, K] that its predictions come from."""
        logits, _ = self.net.student(batch.images)
        return F.cross_entropy(logits, batch.wanted), logits

    def total(self, task: Tensor) -> Tensor:
        """What is minimised."""
        if self.gamma is None:
            self.choose_gamma(float(task.detach()))
        return task + (self.gamma or 0.0) * self.net.complexity()

    def choose_gamma(self, task: float) -> None:
        """gamma L_comp is ``pressure`` times the task's loss."""
        self.gamma = (self.params.pressure or 0.0) * task / float(self.net.complexity().detach())

    def finish(self) -> None:
        """After the last step."""


@dataclass
class Curve:
    """What happened: passes of one image, the task's losses, shares of right predictions, clipped steps."""

    passes: float = 0.0
    losses: list[float] = field(default_factory=list)
    right: list[float] = field(default_factory=list)
    clipped: int = 0

    def report(self) -> dict[str, Any]:
        """JSON: first and last tenths' means."""
        tail = max(len(self.losses) // 10, 1)
        return {
            "steps": len(self.losses),
            "task_loss_first": sum(self.losses[:tail]) / tail,
            "task_loss_last": sum(self.losses[-tail:]) / tail,
            "accuracy_last": sum(self.right[-tail:]) / tail,
            "clipped_steps": self.clipped,
        }


def train(objective: Objective, epochs: int, ctx: RunContext, stage: str) -> Curve:
    """Train the objective's supernet in place.

    Raises:
        BenchError: the loss is not finite.
    """
    net, params = objective.net, objective.params
    curve = Curve(objective.begin(ctx))
    total = epochs * objective.proxy.steps(params.batch)
    groups = _groups(objective)
    rule = torch.optim.SGD(groups, lr=params.lr, momentum=params.momentum)
    batches = objective.batches(ctx)
    every = max(total // 100, 1)
    with own_draws(net.student, ctx):
        for step in range(total):
            batch = next(batches)
            training(net.student, len(batch.images))
            objective.before(step, total, ctx)
            rate = _rate(params, step, total)
            for group in rule.param_groups:
                group["lr"] = rate * (params.lr_arch if group["name"] == "choices" else params.lr)
            loss = _step(objective, batch, rule, step, curve)
            net.settle()
            if step % every == 0 or step + 1 == total:
                ctx.report(stage, step + 1, total)
                ctx.log_scalar(f"{stage} task loss", step, loss)
                ctx.log_scalar(f"{stage} accuracy", step, curve.right[-1])
                ctx.log_scalar(f"{stage} expected BitOPs", step, float(net.bitops().detach()))
    objective.finish()
    net.student.eval()
    return curve


def _groups(objective: Objective) -> list[dict[str, Any]]:
    """Weights with decay; steps, normalisation and biases without; choices with their own rate."""
    net, params = objective.net, objective.params
    choices = {id(parameter) for parameter in net.architecture}
    own = [p for p in net.student.parameters() if p.requires_grad and id(p) not in choices] + objective.extra()
    groups = [
        {"name": "weights", "params": [p for p in own if p.dim() > 1], "weight_decay": params.decay},
        {"name": "weights", "params": [p for p in own if p.dim() <= 1], "weight_decay": 0.0},
        {"name": "choices", "params": net.architecture, "weight_decay": params.decay_arch},
    ]
    return [group for group in groups if group["params"]]


def _rate(params: Any, step: int, total: int) -> float:
    """Learning rate as a multiple of the first."""
    if params.shape == "cosine":
        return 0.5 * (1 + math.cos(math.pi * step / total))
    return float(0.1 ** sum(step >= round(share * total) for share in params.drops))


def _step(objective: Objective, batch: Batch, rule: torch.optim.Optimizer, step: int, curve: Curve) -> float:
    """One step; the task's loss before it."""
    task, scores = objective.task(batch)
    loss = objective.total(task)
    value = float(task.detach())
    if not bool(torch.isfinite(loss)):
        raise BenchError(f"the loss is not finite in step {step}", got=f"{float(loss.detach())}", hint="a lower lr")
    rule.zero_grad(set_to_none=True)
    loss.backward()
    held = objective.held(step)
    for group in rule.param_groups:
        if group["name"] in held:
            for parameter in group["params"]:
                parameter.grad = None
    moving = [p for group in rule.param_groups for p in group["params"] if p.grad is not None]
    limit = objective.params.clip
    if limit:
        norm = float(nn.utils.clip_grad_norm_(moving, limit))
        curve.clipped += norm > limit
    rule.step()
    curve.losses.append(value)
    curve.right.append(float((scores.detach().argmax(1) == batch.labels).float().mean()))
    curve.passes += objective.passes * len(batch.images)
    return value
