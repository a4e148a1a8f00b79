"""The one reconstruction loop: learn some variables of a unit so that its output matches the full-precision one.

What is learned is a ``Learner``: rounding variables (AdaRound, BRECQ stage 1), activation steps (BRECQ stage 2), both
(QDrop), or masks and weights (pruning).  The loop gathers a batch from the caches, lets every learner put its variables
in place, runs the unit and follows the gradient with Adam.  Nothing in it waits for the device: batches and schedules
are known beforehand and losses stay in a tensor that is read a few times per unit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from methods.compressors._caches import Cache, Inputs
from methods.compressors._rounding import Grid, Substitute, UnitRounding, anneal

READ_EVERY = 50
"""Steps between two looks at the losses (progress, curve, and whether they are still finite)."""

MIN_STEP = 1e-8
"""Smallest activation step; Adam may otherwise carry one through zero."""

Watch = Callable[[int, float], None]


class SquaredError(torch.autograd.Function):
    """Sum over channels, mean over batch and space, of weight * (output - target)^2; gradient to the output only.

    All are [B, C, ...]; a linear layer's [B, C] has one position, a token sequence's [B, T, C] has T.
    """

    @staticmethod
    def forward(ctx: Any, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        difference = output - target
        ctx.positions = positions(output)
        if weight is None:
            ctx.save_for_backward(difference)
            # reductions over a strided view copy; the elements' order is of no account here
            flat = difference.permute(0, 2, 3, 1) if difference.dim() == 4 else difference
            flat = (flat if flat.is_contiguous() else difference).reshape(-1)
            loss: Tensor = torch.dot(flat, flat) / positions(output)
            return loss
        pull = difference * weight
        ctx.save_for_backward(pull)
        return (pull * difference).sum() / positions(output)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None]:
        (pull,) = ctx.saved_tensors
        return pull * (grads[0] * (2.0 / ctx.positions)), None, None


def squared_error(output: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """The reconstruction loss [], see ``SquaredError``."""
    loss: Tensor = SquaredError.apply(output, target, weight)
    return loss


def positions(output: Tensor) -> int:
    """Batch times space: how many channel vectors ``output`` holds ([B, C], [B, C, H, W] or [B, T, C])."""
    channels = output.shape[-1] if output.dim() == 3 else output.shape[1]
    return output.numel() // channels


class Learner(Protocol):
    """Variables of a unit and how they are learned."""

    def parameters(self) -> list[nn.Parameter]:
        """What Adam updates."""

    def rate(self, step: int, total: int) -> float:
        """Learning rate at ``step``."""

    def place(self, step: int, total: int) -> Tensor | None:
        """Put the variables' current value into the unit; return a penalty to add to the loss."""

    def settle(self) -> None:
        """Bring the variables back into their domain after an update."""


class Rounding(Protocol):
    """How a unit's weights round, while it is learned and after."""

    def soft(self) -> tuple[dict[str, Tensor], Any]:
        """The weights per layer as learning has them, and a penalty."""

    def hard(self) -> dict[str, Tensor]:
        """The weights per layer as they stay, on the grids of :meth:`scales`; detached, of their own memory."""

    def scales(self) -> dict[str, Tensor]:
        """The layers' steps, where these were learned."""

    def flipped(self) -> float:
        """Fraction of the weights within the grid that round otherwise than to the nearest."""

    def converged(self) -> float:
        """Fraction of the weights that learning has decided on."""


class WeightRule(Protocol):
    """How a unit's weights are learned."""

    def begin(self, grids: Mapping[str, Grid], slots: dict[str, Substitute]) -> tuple[Rounding, list[Learner]]:
        """Variables for layers on ``grids`` and what learns them; ``slots`` are where the layers read their weights."""


@dataclass(frozen=True)
class RoundingRule:
    """How rounding is learned: Adam's rate, weight of the regulariser (lambda) and its annealing
    (docs/methods/compressors.md#rounding)."""

    lr: float
    weight: float
    warmup: float = 0.2
    beta_start: float = 20.0
    beta_end: float = 2.0

    def begin(self, grids: Mapping[str, Grid], slots: dict[str, Substitute]) -> tuple[Rounding, list[Learner]]:
        """AdaRound's variables."""
        rounding = UnitRounding(grids, channels_last=True)
        return rounding, [RoundingLearner(rounding, slots, self)]


def fill(slots: Mapping[str, Substitute], weights: Mapping[str, Tensor]) -> None:
    """Hand ``weights`` to the layers that read from ``slots``."""
    for name, slot in slots.items():
        slot.value = weights[name]


class RoundingLearner:
    """All rounding variables of a unit; ``slots`` are the substitutes its layers read their weights from."""

    def __init__(self, rounding: UnitRounding, slots: dict[str, Substitute], rule: RoundingRule) -> None:
        self.rounding, self._slots, self._rule = rounding, slots, rule

    def parameters(self) -> list[nn.Parameter]:
        return [self.rounding.logits]

    def rate(self, step: int, total: int) -> float:
        return self._rule.lr

    def place(self, step: int, total: int) -> Tensor | None:
        rule = self._rule
        beta = anneal(step + 1, total, warmup=rule.warmup, start=rule.beta_start, end=rule.beta_end)
        weights, penalty = self.rounding.soft(rule.weight, beta)
        fill(self._slots, weights)
        return penalty if beta is not None else None

    def settle(self) -> None:
        return None


class CosineLearner:
    """Variables that are in place already, Adam with a rate that falls to 0 along a half cosine."""

    def __init__(self, variables: Sequence[nn.Parameter], lr: float) -> None:
        self._variables, self._lr = list(variables), lr

    def parameters(self) -> list[nn.Parameter]:
        return self._variables

    def rate(self, step: int, total: int) -> float:
        return self._lr * 0.5 * (1.0 + math.cos(math.pi * step / total))

    def place(self, step: int, total: int) -> Tensor | None:
        return None

    def settle(self) -> None:
        return None


class StepLearner(CosineLearner):
    """Steps, or their ratios to where they started, which stay positive."""

    @torch.no_grad()
    def settle(self) -> None:
        for value in self._variables:
            value.abs_().clamp_(min=MIN_STEP)


@dataclass(frozen=True)
class Extra:
    """The weight of the squared ``error``, and a ``term`` [] beside it for the images ``index`` [B] of a batch."""

    error: float
    term: Callable[[Tensor], Tensor]


def draw_batches(count: int, batch: int, total: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Index tensor int64 [total, min(batch, count)]; no image twice within a batch."""
    batch = min(batch, count)
    rows = [torch.randperm(count, generator=generator)[:batch] for _ in range(total)]
    return torch.stack(rows).to(device) if rows else torch.empty(0, batch, dtype=torch.int64, device=device)


def minimise(
    unit: Callable[[Tensor], Tensor],
    inputs: Inputs,
    targets: Cache,
    learners: Sequence[Learner],
    index: Tensor,
    watch: Watch,
    weights: Cache | None = None,
    extra: Extra | None = None,
) -> bool:
    """Run len(index) steps; True when every loss looked at was finite, else stop there and return False.

    ``weights`` [N, ...] weigh the squared error of each value of ``targets``; ``extra`` weighs it as a whole and adds
    to it.
    ``watch(step, loss)`` is called every ``READ_EVERY`` steps and after the last.
    """
    groups = [{"params": learner.parameters(), "lr": learner.rate(0, 1)} for learner in learners]
    fused = index.device.type in ("cpu", "cuda")
    optimiser = torch.optim.Adam(groups, fused=fused)
    total = index.shape[0]
    losses = torch.zeros(total, device=index.device)
    for step, rows in enumerate(index.unbind(0)):
        for learner, group in zip(learners, optimiser.param_groups, strict=True):
            group["lr"] = learner.rate(step, total)
        penalties = [p for p in (learner.place(step, total) for learner in learners) if p is not None]
        weight = None if weights is None else weights.take(rows)
        loss = squared_error(unit(inputs.take(rows)), targets.take(rows), weight)
        if extra is not None:
            loss = extra.error * loss + extra.term(rows)
        losses[step] = loss.detach()
        for penalty in penalties:
            loss = loss + penalty
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimiser.step()
        for learner in learners:
            learner.settle()
        if (step + 1) % READ_EVERY == 0 or step + 1 == total:
            # the variables are looked at too: a penalty or gradient may overflow where the error does not
            seen = losses[max(0, step + 1 - READ_EVERY) : step + 1].mean()
            for learner in learners:
                for value in learner.parameters():
                    seen = seen + 0.0 * value.detach().sum()
            if not math.isfinite(number := float(seen)):
                return False
            watch(step + 1, number)
    return True


@contextmanager
def learning(learners: Sequence[Learner]) -> Iterator[None]:
    """Gradients on, for the learners' variables; both are as before afterwards."""
    parameters = [p for learner in learners for p in learner.parameters()]
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        with torch.enable_grad():
            yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(False)
            parameter.grad = None


@torch.no_grad()
def mean_error(outputs: Tensor, targets: Tensor) -> float:
    """Sum over channels, mean over images and space, of (outputs - targets)^2."""
    return float((outputs - targets).square_().sum(dtype=torch.float64)) / positions(outputs)
