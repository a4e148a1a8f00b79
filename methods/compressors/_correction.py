"""Distribution correction: a unit's full-precision inputs are moved until what its batch norms read has the statistics
that these have stored (PD-Quant, arXiv 2212.07048).

    sum over batch norms of ||mean(z) - mu||^2 + ||std(z) - sigma||^2   +   closeness * ||x - x0||^2

z is what a batch norm reads, told from the output of the layer it is folded into; the last term is the sum over
channels, the mean over batch and space.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from methods.compressors._caches import Cache
from methods.compressors._reconstruct import squared_error
from methods.quant.fold import BatchStats
from methods.quant.model import QuantModel
from methods.quant.units import Unit

EPS = 1e-6
"""Added to a variance before its root."""

_DEAD = 1e-4  # a channel that is scaled by less (gamma) does not tell what its batch norm read

Over = Literal["image", "batch"]


@dataclass(frozen=True)
class Correction:
    """``iterations`` of Adam on the activations of ``batch`` images at a time, at a rate that falls from ``lr`` to 0
    along a half cosine; ``over``: statistics of each image's map, or of the batch."""

    iterations: int
    lr: float
    closeness: float
    over: Over
    batch: int


@dataclass(frozen=True)
class Corrected:
    """The moved inputs, mean BN distance before and after, and the root of the mean squared move."""

    inputs: Cache
    before: float
    after: float
    moved: float


@dataclass(frozen=True)
class Norm:
    """Where a batch norm's input is seen (``module``'s output if it was folded, else the batch norm's own input), and
    z = (that - ``shift``) / ``scale`` + ``mean`` of the channels that are ``alive`` [C]."""

    module: nn.Module
    folded: bool
    scale: Tensor
    shift: Tensor
    mean: Tensor
    deviation: Tensor
    alive: Tensor

    def distance(self, seen: Tensor, over: Over) -> Tensor:
        """Squared distance [] of mean and deviation of ``seen`` [B, C, ...] from those stored, summed over channels and
        averaged over what they are taken ``over``.  A map of one position has no deviation: there it is the batch's."""
        maps = seen.flatten(2) if seen.dim() > 2 else seen.unsqueeze(2)
        shape = (1, -1, 1)
        z = (maps - self.shift.view(shape)) / self.scale.view(shape) + self.mean.view(shape)
        if over == "batch" or z.shape[2] == 1:
            z = z.transpose(0, 1).flatten(1).unsqueeze(0)
        mean = z.mean(2)
        variance = z.var(2, correction=1) if z.shape[2] > 1 else torch.zeros_like(mean)
        apart = (mean - self.mean).square() + ((variance + EPS).sqrt() - self.deviation).square()
        return (apart * self.alive).sum() / len(apart)


def norms(model: QuantModel, unit: Unit, module: nn.Module) -> list[Norm]:
    """The batch norms inside a unit (``module``): those folded into its layers and those that stayed."""
    found = [_folded(model.quant_layer(name), model.stats[name]) for name in unit.layers if name in model.stats]
    stayed = [part for part in module.modules() if isinstance(part, _BatchNorm) and part.running_mean is not None]
    return found + [_stayed(part) for part in stayed]


def _folded(layer: nn.Module, stats: BatchStats) -> Norm:
    device = next(layer.parameters()).device
    assert stats.factor is not None
    scale = stats.factor.to(device, torch.float32)
    mean, gamma = stats.mean.to(device), stats.gamma.to(device)
    alive = gamma.abs() > _DEAD
    deviation = (stats.var.to(device) + EPS).sqrt()
    return Norm(layer, True, torch.where(alive, scale, 1.0), stats.beta.to(device), mean, deviation, alive.float())


def _stayed(norm: _BatchNorm) -> Norm:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, ones = norm.running_mean.detach(), torch.ones_like(norm.running_mean)
    # with this shift z is what was seen
    return Norm(norm, False, ones, mean, mean, (norm.running_var.detach() + EPS).sqrt(), ones)


@dataclass
class _Distances:
    over: Over
    found: list[Tensor] = field(default_factory=list)

    def take(self) -> Tensor:
        """The sum of what the last forward gave."""
        total = torch.stack(self.found).sum()
        self.found.clear()
        return total


@contextmanager
def watching(seen: list[Norm], over: Over) -> Iterator[_Distances]:
    """Collect the distances of every forward."""
    distances = _Distances(over)

    def hook(norm: Norm) -> Any:
        def note(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            distances.found.append(norm.distance(output if norm.folded else args[0], over))

        return note

    handles = [norm.module.register_forward_hook(hook(norm)) for norm in seen]
    try:
        yield distances
    finally:
        for handle in handles:
            handle.remove()


def correct(module: nn.Module, inputs: Cache, seen: list[Norm], rule: Correction) -> Corrected:
    """Inputs whose statistics at the ``seen`` batch norms of the unit ``module`` (in full precision) are nearer to
    those stored.  A batch for which they are not, or are not finite, stays as it was."""
    parts, before, after = [], 0.0, 0.0
    with watching(seen, rule.over) as distances:
        for start in inputs.chunks(rule.batch):
            x, first, last = _move(module, start, distances, rule)
            parts.append(x)
            before, after = before + first * len(start), after + last * len(start)
    found = torch.cat(parts)
    moved = float((found - inputs.all()).square().mean().sqrt())
    return Corrected(Cache(found, channels_last=True), before / len(found), after / len(found), moved)


def _move(module: nn.Module, start: Tensor, distances: _Distances, rule: Correction) -> tuple[Tensor, float, float]:
    """One batch of inputs moved, and its distance before and after."""
    with torch.enable_grad():
        x = nn.Parameter(start.detach().clone())
        optimiser = torch.optim.Adam([x], lr=rule.lr)
        before = math.nan
        for step in range(rule.iterations):
            optimiser.param_groups[0]["lr"] = rule.lr * 0.5 * (1.0 + math.cos(math.pi * step / rule.iterations))
            module(x)
            distance = distances.take()
            before = float(distance.detach()) if step == 0 else before
            loss = distance + rule.closeness * squared_error(x, start)
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimiser.step()
    with torch.no_grad():
        module(x)
        after = float(distances.take())
    return (x.detach(), before, after) if after < before else (start, before, before)
