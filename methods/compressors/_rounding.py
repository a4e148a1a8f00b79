"""Soft rounding: one variable per weight decides between floor and ceiling; all of a unit's lie in one buffer.

    Wq(V) = s * (clip(floor(W / s) + h(V) + z, n, p) - z)        h(V) = clip(1.2 * sigmoid(V) - 0.1, 0, 1)

(AdaRound, Nagel et al. 2020, equations 22 and 23.)  Whether the clip to [n, p] cuts does not depend on V: either both
of a weight's neighbours lie on the grid, or both are cut to the same end.  So a step is the one fused multiply-add
``base + step * h`` with constants ``base = s * (clip(floor + z) - z)`` and ``step = s`` (0 where cut).  A weight
that is exactly zero (pruned before) stays zero: it counts as cut.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

STRETCH = 1.2
OFFSET = 0.1
_BOUND_SLACK = 1e-6  # sigmoid's float32 error where a weight lies on the grid; the clip's bounds are inclusive


@dataclass(frozen=True)
class Grid:
    """A layer's weight [O, ...] with its step and zero point (broadcastable to it) and integer range [low, high]."""

    weight: Tensor
    scale: Tensor
    zero_point: Tensor
    low: int
    high: int


def soft_bit(logits: Tensor) -> Tensor:
    """h(V) in [0, 1], any shape; no gradient of its own (see ``SoftWeights``)."""
    return torch.sigmoid(logits).mul_(STRETCH).sub_(OFFSET).clamp_(0.0, 1.0)


def initial_logits(fraction: Tensor) -> Tensor:
    """V with h(V) = ``fraction``, the part of W / s above its floor, in [0, 1): -ln(1.2 / (r + 0.1) - 1)."""
    return -torch.log(STRETCH / (fraction + OFFSET) - 1.0)


def anneal(step: int, total: int, *, warmup: float, start: float, end: float) -> float | None:
    """Exponent beta of the regulariser at ``step`` 1..total: None (off) before ``warmup * total``, then start to end,
    linear."""
    begin = warmup * total
    if step < begin:
        return None
    return start + (end - start) * (step - begin) / max(total - begin, 1e-9)


def regulariser(bit: Tensor, beta: float) -> Tensor:
    """AdaRound's sum of 1 - abs(2h - 1)^beta (equation 24): 0 where every h is 0 or 1, largest at 0.5."""
    return (1.0 - (2.0 * bit - 1.0).abs().pow(beta)).sum()


class SoftWeights(torch.autograd.Function):
    """(V, base, step, penalty weight, beta) -> (soft weights, weighted regulariser), gradient to V only.

    Explicit because the derivative of torch.clamp at its bound changed between torch releases (1 up to 2.13, 0 in
    2.15): here it is 1 on the closed interval, so a weight that starts on the grid may move.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, base: Tensor, step: Tensor, weight: float, beta: float | None
    ) -> tuple[Tensor, Tensor]:
        sigmoid = torch.sigmoid(logits)
        raw = sigmoid * STRETCH
        raw -= OFFSET
        bit = raw.clamp(0.0, 1.0)
        # d raw / dV = 1.2 sigmoid (1 - sigmoid), zero where the clip cuts
        slope = torch.addcmul(sigmoid, sigmoid, sigmoid, value=-1.0).mul_(STRETCH)
        slope *= (raw - bit).abs_() <= _BOUND_SLACK
        soft = torch.addcmul(base, step, bit)
        pull = None
        penalty = logits.new_zeros(())
        if beta is not None and weight:
            signed = bit.mul_(2.0).sub_(1.0)
            size = signed.abs()
            power = size.pow(beta - 1.0)
            penalty = weight * (logits.numel() - torch.dot(power, size))
            # d penalty / dh = -2 beta |2h-1|^(beta-1) sign(2h-1), weighted
            pull = power.mul_(signed.sign_()).mul_(-2.0 * beta * weight)
        ctx.save_for_backward(step, slope, pull)
        return soft, penalty

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, None, None, None, None]:
        grad_soft, grad_penalty = grads
        step, slope, pull = ctx.saved_tensors
        total = grad_soft * step
        if pull is not None:
            total.addcmul_(pull, grad_penalty)
        return total.mul_(slope), None, None, None, None


class Substitute(nn.Module):
    """Stands in a weight quantiser and hands out ``value`` [O, ...]: the soft weight while learning, then the hard."""

    value: Tensor

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.register_buffer("value", value)

    def forward(self, weight: Tensor, *grid: Any) -> Tensor:
        """Return the rounded weight; what the quantiser passes is already in it."""
        return self.value


class UnitRounding:
    """The rounding variables of one unit's layers, in one flat buffer of n values.

    ``channels_last`` stores convolution weights as (O, kh, kw, I), so that the views handed out are channels_last
    without a copy.
    """

    def __init__(self, grids: Mapping[str, Grid], *, channels_last: bool = False) -> None:
        self._shapes = {name: grid.weight.shape for name, grid in grids.items()}
        self._channels_last = channels_last
        scales, levels, insides, fractions = [], [], [], []
        for grid in grids.values():
            weight, scale = grid.weight.detach(), grid.scale.detach()
            quotient = weight / scale
            floor = quotient.floor()
            shifted = floor + grid.zero_point
            inside = (shifted >= grid.low) & (shifted < grid.high) & (weight != 0)
            scales.append(self._flat(scale.expand_as(weight)))
            levels.append(self._flat(shifted.clamp(grid.low, grid.high) - grid.zero_point))
            insides.append(self._flat(inside))
            fractions.append(self._flat(quotient - floor))
        self._scale, self._level = torch.cat(scales), torch.cat(levels)
        self._inside, self._fraction = torch.cat(insides), torch.cat(fractions)
        self.base, self.step = self._scale * self._level, self._scale * self._inside
        self.logits = nn.Parameter(initial_logits(self._fraction))

    def _flat(self, value: Tensor) -> Tensor:
        return (value.permute(0, 2, 3, 1) if self._channels_last and value.dim() == 4 else value).reshape(-1)

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """Split a buffer [n] into one view per layer, of the layer's weight's shape."""
        out = {}
        for (name, shape), part in zip(
            self._shapes.items(), torch.split(flat, [math.prod(s) for s in self._shapes.values()]), strict=True
        ):
            if self._channels_last and len(shape) == 4:
                o, i, h, w = shape
                out[name] = part.view(o, h, w, i).permute(0, 3, 1, 2)
            else:
                out[name] = part.view(shape)
        return out

    def soft(self, weight: float = 0.0, beta: float | None = None) -> tuple[dict[str, Tensor], Tensor]:
        """Soft weights per layer and the weighted regulariser; both carry gradient to ``logits``."""
        flat, penalty = SoftWeights.apply(self.logits, self.base, self.step, weight, beta)
        return self.views(flat), penalty

    def hard(self) -> dict[str, Tensor]:
        """Weights with floor + 1[V >= 0], per layer; detached, of their own memory.

        One product of step and integer, so that unflipped weights equal nearest rounding to the last bit.
        """
        flat = self._scale * (self._level + (self._inside & (self.logits.detach() >= 0)))
        return {name: view.clone() for name, view in self.views(flat).items()}

    def scales(self) -> dict[str, Tensor]:
        """None: the grids are given."""
        return {}

    def flipped(self) -> float:
        """Fraction of the weights within the grid that round otherwise than to the nearest."""
        changed = ((self.logits.detach() >= 0) != (self._fraction >= 0.5)) & self._inside
        return float(changed.sum() / self._inside.sum().clamp_min(1))

    def converged(self) -> float:
        """Fraction of h outside (0.01, 0.99)."""
        bit = soft_bit(self.logits.detach())
        return float(((bit <= 0.01) | (bit >= 0.99)).float().mean())
