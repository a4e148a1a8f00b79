"""Weight quantisers that training learns: LSQ's, DoReFa's, AdaBits' (docs/methods/quantisation.md#learned-quantisers).

Sources: LSQ (arXiv 1902.08153, eq. 1 to 3 and section 2.2), DoReFa-Net (arXiv 1606.06160, eq. 5 to 10), AdaBits (arXiv
1912.09666), SAT (arXiv 1912.10207).  All are per tensor.  They are parametrisations (`torch.nn.utils.parametrize`): the
layer keeps its class, its ``weight`` is the fake-quantised one and what trains is ``parametrizations.weight.original``.
``relative`` makes the learned number a multiple of the start value, as in `methods.quant.learned`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from methods.quant.choices import StepInit, WeightGrid, WeightScale
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

    def unrounded(self, weight: Tensor) -> Tensor:
        """What is rounded: the weight itself."""
        return weight

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


class _FloorThrough(torch.autograd.Function):
    """Round down, to ``top`` at most; the gradient passes unchanged."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, top: int) -> Tensor:
        return x.floor().clamp_(0, top)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:
        return grads[0], None


def _squashed(weight: Tensor) -> Tensor:
    """t = tanh(W) / (2 max abs tanh(W)) + 1/2, in [0, 1]."""
    squashed = torch.tanh(weight)
    return squashed / (2 * squashed.abs().max().clamp_min(MIN_STEP)) + 0.5


def dorefa_weight(weight: Tensor, bits: int) -> Tensor:
    """DoReFa's weight (eq. 9), 2 round(t L) / L - 1 in [-1, 1] with L = 2^bits - 1.

    t = tanh(W) / (2 max abs tanh(W)) + 1/2.  An all-zero weight gives the level next to zero, with a finite gradient.
    """
    levels = (1 << bits) - 1
    rounded: Tensor = _RoundThrough.apply(_squashed(weight) * levels)
    return 2 * rounded / levels - 1


def modified_weight(weight: Tensor, bits: int, *, centred: bool = False) -> Tensor:
    """AdaBits' weight, 2 c / 2^bits - 1 in [-1, 1) with the code c = min(floor(2^bits t), 2^bits - 1), t as DoReFa's.

    The codes are nested: shifting an 8-bit code right by 8 - b gives that of b bits.  Rounding down lowers the mean by
    2^-bits; ``centred`` adds half a step to each code, which takes that back.
    """
    levels = 1 << bits
    code: Tensor = _FloorThrough.apply(_squashed(weight) * levels, levels - 1)
    return 2 * (code + 0.5 if centred else code) / levels - 1


def squashed_weight(weight: Tensor, bits: int, grid: WeightGrid) -> Tensor:
    """The weight on one of the three grids, within [-1, 1]."""
    return dorefa_weight(weight, bits) if grid == "dorefa" else modified_weight(weight, bits, centred=grid == "centred")


class SquashedWeight(nn.Module):
    """A squashed weight on one of the three grids, times a number.

    ``scale`` norm: norm(W) / norm(Q(W)), fixed at the start, without which a trained layer loses its scale; sat (SAT,
    arXiv 1912.10207): what gives the quantised weight the standard deviation 1 / sqrt(O kh kw), anew in every pass and
    without a gradient; none: 1.
    """

    factor: Tensor

    def __init__(self, weight: Tensor, bits: int, grid: WeightGrid, scale: WeightScale) -> None:
        super().__init__()
        self.bits, self.grid, self.scale = bits, grid, scale
        self.spread = 1.0 / math.sqrt(weight.shape[0] * math.prod(weight.shape[2:]))
        ratio = weight.norm() / squashed_weight(weight, bits, grid).norm() if scale == "norm" else torch.tensor(1.0)
        self.register_buffer("factor", ratio.detach().to(weight))

    def forward(self, weight: Tensor) -> Tensor:
        """The fake-quantised weight, of the same shape."""
        out = squashed_weight(weight, self.bits, self.grid)
        return self._times(out) * out

    def unrounded(self, weight: Tensor) -> Tensor:
        """What is rounded, 2 t - 1, times the number that the quantised weight gets."""
        return self._times(squashed_weight(weight, self.bits, self.grid)) * (2 * _squashed(weight) - 1)

    def _times(self, quantised: Tensor) -> Tensor:
        if self.scale == "sat":
            return self.spread / quantised.detach().std(unbiased=False).clamp_min(MIN_STEP)
        return self.factor

    def right_inverse(self, weight: Tensor) -> Tensor:
        """What trains starts as the weight itself (`torch.nn.utils.parametrize` asks)."""
        return weight


class DorefaWeight(SquashedWeight):
    """DoReFa's weight quantiser; ``rescale`` keeps the norm as `SquashedWeight` does."""

    def __init__(self, weight: Tensor, bits: int, *, rescale: bool) -> None:
        super().__init__(weight, bits, "dorefa", "norm" if rescale else "none")
