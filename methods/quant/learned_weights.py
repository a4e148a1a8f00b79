"""Weight quantisers that training learns: LSQ's and DoReFa's (docs/methods/quantisation.md#learned-quantisers).

Sources: LSQ (arXiv 1902.08153, eq. 1 to 3 and section 2.2), DoReFa-Net (arXiv 1606.06160, eq. 5 to 10).  Both are per
tensor.  They are parametrisations (`torch.nn.utils.parametrize`): the layer keeps its class, its ``weight`` is the
fake-quantised one and what trains is ``parametrizations.weight.original``.  ``relative`` makes the learned number a
multiple of the start value, as in `methods.quant.learned`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from methods.quant.choices import StepInit
from methods.quant.quantizers import fake_quant
from methods.quant.ranges import MIN_STEP, grid_limits, search_range

WeightMaker = Callable[[Tensor, int], nn.Module]
"""(weight, bits) -> its parametrisation."""


class LsqWeight(nn.Module):
    """Per-tensor symmetric weight quantiser with a learned step; its gradient is scaled by 1 / sqrt(numel * p)."""

    unit: Tensor

    def __init__(self, weight: Tensor, bits: int, init: StepInit, *, relative: bool = False) -> None:
        super().__init__()
        self.n, self.p = grid_limits(bits, "symmetric")
        step, _ = search_range(weight, bits, method=init, grid="symmetric", exponent=2.0)
        step = step.to(weight)
        self.register_buffer("unit", step if relative else torch.ones_like(step))
        self.factor = nn.Parameter(step / self.unit)
        self.g = 1.0 / math.sqrt(weight.numel() * self.p)

    @property
    def scale(self) -> Tensor:
        """The step, []."""
        return self.unit * self.factor

    def forward(self, weight: Tensor) -> Tensor:
        """The fake-quantised weight, of the same shape."""
        return fake_quant(weight, self.scale, self.n, self.p, self.g)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """What trains starts as the weight itself (`torch.nn.utils.parametrize` asks)."""
        return weight

    @torch.no_grad()
    def keep_positive(self) -> None:
        """After an optimiser step: make the step positive again."""
        self.factor.abs_().clamp_min_(MIN_STEP)


class _RoundThrough(torch.autograd.Function):
    """Round half to even; the gradient passes unchanged."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Tensor:
        grad: Tensor = grads[0]
        return grad


def dorefa_weight(weight: Tensor, bits: int) -> Tensor:
    """DoReFa's weight (eq. 9), 2 round(t L) / L - 1 in [-1, 1] with L = 2^bits - 1.

    t = tanh(W) / (2 max abs tanh(W)) + 1/2.  An all-zero weight gives the level next to zero, with a finite gradient.
    """
    levels = (1 << bits) - 1
    squashed = torch.tanh(weight)
    t = squashed / (2 * squashed.abs().max().clamp_min(MIN_STEP)) + 0.5
    rounded: Tensor = _RoundThrough.apply(t * levels)
    return 2 * rounded / levels - 1


class DorefaWeight(nn.Module):
    """DoReFa's weight quantiser; ``rescale`` multiplies by norm(W) / norm(Q(W)), fixed at the start, without which a
    trained layer loses its scale."""

    factor: Tensor

    def __init__(self, weight: Tensor, bits: int, *, rescale: bool) -> None:
        super().__init__()
        self.bits = bits
        ratio = weight.norm() / dorefa_weight(weight, bits).norm() if rescale else torch.tensor(1.0)
        self.register_buffer("factor", ratio.detach().to(weight))

    def forward(self, weight: Tensor) -> Tensor:
        """The fake-quantised weight, of the same shape."""
        return self.factor * dorefa_weight(weight, self.bits)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """What trains starts as the weight itself (`torch.nn.utils.parametrize` asks)."""
        return weight
