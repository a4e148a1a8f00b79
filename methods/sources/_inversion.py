"""The one image-optimisation loop (docs/methods/sources.md#loop); a source brings its objective and its settings.

Only the images are in the loop's optimiser.  They are projected onto the valid pixel box after each step, and the last
iterate is returned: losses of different stages and weights cannot be compared, so there is no "best" one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.interfaces import RunContext
from methods.sources._augment import PixelSpace
from methods.sources._settings import LoopSettings


class Objective(Protocol):
    """What the loop minimises; holds whatever else is learned (MixMix's loss weights) and its own random draws."""

    def backward(self, view: Tensor, scale: int, log: bool) -> Mapping[str, Tensor]:
        """Add this iteration's gradient to the images behind ``view`` [B,C,H/scale,W/scale].

        Returns detached scalars, among them ``loss``; the ones that cost something (top-1) only when ``log``.  An
        objective whose images are not the optimised tensor itself returns their ``clipped`` fraction too.
        """

    def stepped(self) -> None:
        """Called after the images' step."""

    def reset(self) -> None:
        """Forget everything learned and halve rates of its own; the loop starts again after a non-finite loss."""


@dataclass(frozen=True)
class Inverted:
    """Final images [B,C,H,W], the last logged terms, iterations per scale, and what had to be done.

    ``failed`` are the iterations per scale of an attempt that left the finite numbers; they cost as much.
    """

    images: Tensor
    losses: Mapping[str, float]
    iterations: Mapping[int, int]
    clipped: float
    lr: float
    retried: bool
    failed: Mapping[int, int] = field(default_factory=dict)

    def forwards(self, *, enlarged: bool = False) -> float:
        """Forward-equivalents of one network: two per iteration and image, a quarter at half size if not enlarged."""
        made = (*self.iterations.items(), *self.failed.items())
        costs = (2.0 * n / (1 if enlarged else scale**2) for scale, n in made)
        return sum(costs) * len(self.images)


class NonFiniteLoss(RuntimeError):
    """The loss left the finite numbers, also with half the learning rate."""


def cosine_lr(lr: float, step: int, span: int, warmup: int) -> float:
    """Linear warm-up over ``warmup`` steps, then half a cosine towards 0 at ``span``."""
    if step < warmup:
        return lr * (step + 1) / warmup
    return lr * 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, span - warmup)))


def edge_fraction(x: Tensor, space: PixelSpace) -> float:
    """Part of the pixels on the edge of the valid box or beyond."""
    low, high = space.box(x)
    return float(((x <= low) | (x >= high)).float().mean())


def invert(init: Tensor, objective: Objective, space: PixelSpace, settings: LoopSettings, ctx: RunContext) -> Inverted:
    """Optimise a copy of ``init`` [B,C,H,W] on its device; one retry at half the learning rate.

    Raises:
        NonFiniteLoss: when the retry fails too.
    """
    lr, failed = settings.lr, dict[int, int]()
    for retried in (False, True):
        attempt = _Run(init, objective, space, settings, ctx, lr)
        try:
            return replace(attempt.result(retried), failed=failed)
        except NonFiniteLoss as error:
            if retried:
                raise
            ctx.logger.warning("%s; trying again with learning rate %g", error, lr / 2)
            lr, failed = lr / 2, attempt.iterations
            objective.reset()
    raise AssertionError("unreachable")


class _Run:
    """One attempt; the optimiser and the images live here."""

    def __init__(
        self, init: Tensor, objective: Objective, space: PixelSpace, settings: LoopSettings, ctx: RunContext, lr: float
    ) -> None:
        self.x = init.detach().clone().requires_grad_()
        self.objective, self.space, self.settings, self.ctx, self.lr = objective, space, settings, ctx, lr
        self.low, self.high = space.box(self.x)
        self.terms: Mapping[str, Tensor] = {}
        self.iterations: dict[int, int] = {}
        self.done = 0

    def result(self, retried: bool) -> Inverted:
        set_lr, after = self._fresh(self.settings.stages()[0][0] if self.settings.restart else self.settings.iterations)
        stop = False
        for number, (span, scale) in enumerate(self.settings.stages()):
            if number and self.settings.restart:
                set_lr, after = self._fresh(span)
            for step in range(span):
                set_lr(step if self.settings.restart else self.done)
                stop = self._iterate(scale)
                after(self.terms["loss"])
                if stop:
                    break
            if stop:
                break
        return Inverted(
            images=self.x.detach(),
            losses={name: float(value) for name, value in self.terms.items()},
            iterations=self.iterations,
            clipped=edge_fraction(self.x.detach(), self.space),
            lr=self.lr,
            retried=retried,
        )

    def _fresh(self, span: int) -> tuple[Callable[[int], None], Callable[[Tensor], None]]:
        """A new Adam over the images, with (set the rate of a step, look at a step's loss)."""
        settings = self.settings
        self.optimiser = torch.optim.Adam([self.x], lr=self.lr, betas=settings.betas, foreach=False)
        group = self.optimiser.param_groups[0]
        if settings.schedule == "plateau":
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
                self.optimiser, factor=0.1, patience=settings.patience, min_lr=settings.floor
            )
            return lambda step: None, lambda loss: plateau.step(float(loss))

        def set_lr(step: int) -> None:
            cosine = settings.schedule == "cosine"
            group["lr"] = cosine_lr(self.lr, step, span, settings.warmup) if cosine else self.lr

        return set_lr, lambda loss: None

    def _iterate(self, scale: int) -> bool:
        """One step of the images; True when the loss fell below ``stop_below``."""
        settings, log = self.settings, self._is_logged()
        self.optimiser.zero_grad(set_to_none=True)
        view = F.avg_pool2d(self.x, scale) if scale > 1 else self.x
        self.terms = self.objective.backward(view, scale, log)
        self.iterations[scale] = self.iterations.get(scale, 0) + 1
        self.optimiser.step()
        if settings.clip:
            with torch.no_grad():
                self.x.clamp_(self.low, self.high)
        self.objective.stepped()
        if log:
            self._log()
        self.done += 1
        return settings.stop_below is not None and float(self.terms["loss"]) <= settings.stop_below

    def _is_logged(self) -> bool:
        return self.done % self.settings.log_every == 0 or self.done == self.settings.iterations - 1

    def _log(self) -> None:
        """Curves and progress, and the check for finiteness: a NaN stays in Adam's state, so it cannot be missed."""
        for name, value in self.terms.items():
            self.ctx.log_scalar(name, self.done, float(value))
        if "clipped" not in self.terms:
            self.ctx.log_scalar("clipped", self.done, edge_fraction(self.x.detach(), self.space))
        self.ctx.report("invert", self.done + 1, self.settings.iterations)
        if not math.isfinite(float(self.terms["loss"])):
            raise NonFiniteLoss(f"loss is {float(self.terms['loss'])} at iteration {self.done}")
