"""Activation quantisers that training learns: LSQ, LSQ+, PACT, and fixed steps
(docs/methods/quantisation.md#learned-quantisers).

Sources: LSQ (arXiv 1902.08153, eq. 1 to 3 and section 2.2), LSQ+ (arXiv 2004.09576, eq. 1 to 6), PACT (arXiv
1805.06085, eq. 1 to 3), DoReFa-Net (arXiv 1606.06160, eq. 5 to 10).  All are per tensor.  The weights' are in
`methods.quant.learned_weights`.

``relative`` makes the learned number a multiple of the start value instead of the step itself: Adam moves each number
by about its learning rate per step, and steps of 8 and of 2 bits differ by a hundred.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bench.interfaces import FLOAT_BITS
from methods.quant.choices import ClipStart, StepInit
from methods.quant.quantizers import fake_quant
from methods.quant.ranges import MIN_STEP, Grid, grid_limits, search_range

_SAMPLE = 1 << 16


class LearnedActivation(nn.Module, ABC):
    """Base of the activation quantisers: one tensor, one grid that holds zero.

    Attributes:
        bits: 2..16, or 32 and more for the identity.
        nonnegative: the producer is a ReLU, a sigmoid or a pooling of such.
        signed: found by `begin`; unsigned takes a producer and first images without negative values.
        observing: the next forward begins the quantiser with what it sees, and returns it as it is.
        enabled: off returns the input itself.
    """

    def __init__(self, bits: int, nonnegative: bool) -> None:
        super().__init__()
        self.bits, self.nonnegative = bits, nonnegative
        self.signed, self.observing, self.enabled = True, False, True

    @property
    def levels(self) -> int:
        """How many values the grid has."""
        return 1 << self.bits

    @property
    def zero_points(self) -> int:
        """How many zero points have to be stored with the step: none on unsigned and symmetric grids."""
        return 0

    def begin(self, x: Tensor) -> None:
        """Choose the grid for ``x`` [N, ...]."""
        self.signed = not (self.nonnegative and float(x.min()) >= 0)

    @abstractmethod
    def quantise(self, x: Tensor) -> Tensor:
        """Fake-quantise ``x``."""

    def keep_positive(self) -> None:
        """After an optimiser step: make the learned sizes positive again."""

    def forward(self, x: Tensor) -> Tensor:
        """``x`` fake-quantised, of the same shape; ``x`` itself while observing, switched off or at 32 bits."""
        if self.bits >= FLOAT_BITS or not self.enabled:
            return x
        if self.observing:
            with torch.no_grad():
                self.begin(x.detach())
            self.observing = False
            return x
        return self.quantise(x)


class StepActivation(LearnedActivation):
    """LSQ's activation: unsigned or symmetric grid, learned step, gradient scaled by 1 / sqrt(C H W p).

    With ``learn`` off the step keeps its start value: DoReFa's activation, whose clip at 1 becomes one at a fixed
    multiple of the step.  ``clip`` gives the upper end instead of the search.
    """

    unit: Tensor

    def __init__(
        self,
        bits: int,
        nonnegative: bool,
        init: StepInit,
        *,
        learn: bool = True,
        clip: float | None = None,
        relative: bool = False,
    ) -> None:
        super().__init__(bits, nonnegative)
        self.init, self.clip, self.relative, self.g = init, clip, relative, 1.0
        self.register_buffer("unit", torch.tensor(1.0))
        self.factor = nn.Parameter(torch.tensor(1.0), requires_grad=learn and bits < FLOAT_BITS)

    @property
    def scale(self) -> Tensor:
        """The step, []."""
        return self.unit * self.factor

    @property
    def limits(self) -> tuple[int, int]:
        """Lowest and highest level."""
        return grid_limits(self.bits, self._grid)

    @property
    def _grid(self) -> Grid:
        return "symmetric" if self.signed else "unsigned"

    def begin(self, x: Tensor) -> None:
        super().begin(x)
        _, p = self.limits
        step = self._first_step(x)
        self.unit.copy_(step if self.relative else torch.ones_like(step))
        self.factor.copy_(step / self.unit.to(step))
        self.g = 1.0 / math.sqrt(x[0].numel() * p)

    def _first_step(self, x: Tensor) -> Tensor:
        if self.clip is not None:
            return torch.tensor(self.clip / self.limits[1])
        return search_range(sample(x), self.bits, method=self.init, grid=self._grid, exponent=2.0)[0]

    def quantise(self, x: Tensor) -> Tensor:
        return fake_quant(x, self.scale, *self.limits, self.g)

    @torch.no_grad()
    def keep_positive(self) -> None:
        self.factor.abs_().clamp_min_(MIN_STEP)


class AffineQuant(torch.autograd.Function):
    """``scale * (clip(round(x / scale + z), 0, p) - z)`` with z = round(zero), so that zero lies on the grid.

    Gradients of LSQ+ (arXiv 2004.09576, eq. 4 and 5, its offset being -scale * zero): to x and to the step as in
    `methods.quant.quantizers.FakeQuant`; to ``zero``, -scale where x lies outside the range, 0 inside; both sums times
    ``g``.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero: Tensor, p: int, g: float) -> Tensor:
        z = float(zero.round())
        ctx.low, ctx.high, ctx.g = -z, p - z, g
        ctx.save_for_backward(x, scale)
        out: Tensor = torch.div(x, scale).clamp_(ctx.low, ctx.high).round_().mul_(scale)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, Tensor, Tensor, None, None]:
        (grad,) = grads
        x, scale = ctx.saved_tensors
        v = x / scale
        inside = v.clone().ge_(ctx.low).mul_(v.clone().le_(ctx.high))
        strict = v.clone().gt_(ctx.low).mul_(v.clone().lt_(ctx.high))
        level = v.clamp(ctx.low, ctx.high).round_()
        grad_scale = level.addcmul_(v, strict, value=-1).mul_(grad).sum() * ctx.g
        grad_zero = (1 - inside).mul_(grad).sum() * -scale * ctx.g
        grad_x = inside.mul_(grad) if ctx.needs_input_grad[0] else None
        return grad_x, grad_scale.reshape(scale.shape), grad_zero.reshape(scale.shape), None, None


class AffineStepActivation(StepActivation):
    """LSQ+'s activation: step and zero point are learned for two-sided tensors; unsigned ones are LSQ's.

    A SiLU's values reach from -0.28 to far above: of a symmetric grid of 4 bits they use nine levels of sixteen.  Both
    start where they lose least (``mse-2d``, squared error).  The zero point moves in levels.
    """

    def __init__(self, bits: int, nonnegative: bool, init: StepInit, *, relative: bool = False) -> None:
        super().__init__(bits, nonnegative, init, relative=relative)
        self.zero = nn.Parameter(torch.tensor(0.0), requires_grad=bits < FLOAT_BITS)

    @property
    def _grid(self) -> Grid:
        return "affine" if self.signed else "unsigned"

    @property
    def zero_points(self) -> int:
        return int(self.signed)

    def _first_step(self, x: Tensor) -> Tensor:
        if not self.signed:
            return super()._first_step(x)
        step, zero = search_range(sample(x), self.bits, method="mse-2d", grid="affine", exponent=2.0)
        self.zero.copy_(zero)
        return step

    def quantise(self, x: Tensor) -> Tensor:
        if not self.signed:
            return super().quantise(x)
        out: Tensor = AffineQuant.apply(x, self.scale, self.zero, (1 << self.bits) - 1, self.g)
        return out

    @torch.no_grad()
    def keep_positive(self) -> None:
        super().keep_positive()
        self.zero.clamp_(0, (1 << self.bits) - 1)


class PactClip(torch.autograd.Function):
    """PACT: clip to [-beta, alpha], then round to 2^b - 1 steps of (alpha + beta) / (2^b - 1), zero on the grid.

    Gradients: to x, 1 on the inclusive range, else 0; to alpha, the sum of the upstream gradient where x >= alpha; to
    beta, minus that where x <= -beta.  beta = None is PACT's own one-sided form.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor, beta: Tensor | None, levels: int) -> Tensor:
        ctx.two_sided = beta is not None
        low = torch.zeros_like(alpha) if beta is None else -beta
        ctx.save_for_backward(x, alpha, low)
        step = (alpha - low) / levels
        zero = torch.round(-low / step)
        out: Tensor = torch.div(x, step).round_().clamp_(-zero, levels - zero).mul_(step)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, Tensor, Tensor | None, None]:
        (grad,) = grads
        x, alpha, low = ctx.saved_tensors
        above = x.clone().ge_(alpha)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = x.clone().ge_(low).mul_(x.clone().le_(alpha)).mul_(grad)
        grad_beta = x.clone().le_(low).mul_(grad).sum().neg() if ctx.two_sided else None
        return grad_x, above.mul_(grad).sum(), grad_beta, None


class PactActivation(LearnedActivation):
    """PACT's learned clip ``alpha`` [], with a second one, ``beta`` [], for the negative side of two-sided tensors.

    Both start at ``quantile`` of the values on their side, or, by ``start``, where the squared error of the first
    images is least, or at that number; ``units`` [2] are what they are multiples of.
    """

    units: Tensor

    def __init__(
        self,
        bits: int,
        nonnegative: bool,
        quantile: float,
        *,
        relative: bool = False,
        start: ClipStart | float = "quantile",
    ) -> None:
        super().__init__(bits, nonnegative)
        self.quantile, self.relative, self.start = quantile, relative, start
        self.register_buffer("units", torch.ones(2))
        learn = bits < FLOAT_BITS
        self.alpha = nn.Parameter(torch.tensor(1.0), requires_grad=learn)
        self.beta = nn.Parameter(torch.tensor(1.0), requires_grad=learn)

    @property
    def zero_points(self) -> int:
        return int(self.signed)

    def begin(self, x: Tensor) -> None:
        super().begin(x)
        ends = self._ends(sample(x))
        if self.relative:
            self.units.copy_(ends)
        self.alpha.copy_(ends[0] / self.units[0])
        self.beta.copy_(ends[1] / self.units[1])

    def _ends(self, values: Tensor) -> Tensor:
        """Where the clips start, [2], for ``values`` [K]."""
        if self.start == "quantile":
            return torch.stack([_upper(values, self.quantile), _upper(-values, self.quantile)])
        if self.start != "mse":
            return torch.full((2,), self.start).to(values)
        top = (1 << self.bits) - 1
        if not self.signed:
            step = search_range(values, self.bits, method="mse", grid="unsigned", exponent=2.0)[0]
            return torch.stack([step * top, step * top]).to(values).clamp_min(MIN_STEP)
        step, zero = search_range(values, self.bits, method="mse-2d", grid="affine", exponent=2.0)
        return torch.stack([step * (top - zero), step * zero]).to(values).clamp_min(MIN_STEP)

    def quantise(self, x: Tensor) -> Tensor:
        alpha = self.units[0] * self.alpha
        beta = self.units[1] * self.beta if self.signed else None
        out: Tensor = PactClip.apply(x, alpha, beta, (1 << self.bits) - 1)
        return out

    @torch.no_grad()
    def keep_positive(self) -> None:
        self.alpha.abs_().clamp_min_(MIN_STEP)
        self.beta.abs_().clamp_min_(MIN_STEP)


def _upper(values: Tensor, quantile: float) -> Tensor:
    """The quantile of ``values`` [K], positive."""
    return torch.quantile(values, quantile).clamp_min(MIN_STEP)


def sample(x: Tensor) -> Tensor:
    """Evenly spaced values of ``x`` [N, ...], flat, at most 2^16 + 1 of them.

    The stride has no divisor in common with the size of an image's part of ``x``: with one, some columns or channels
    would never be seen (a stride of 49 sees one corner of maps of 7 by 7).
    """
    stride, inner = -(-x.numel() // _SAMPLE), x[0].numel()
    while math.gcd(stride, inner) > 1:
        stride += 1
    return x.reshape(-1)[::stride]


ActivationMaker = Callable[[int, bool], LearnedActivation]
"""(bits, nonnegative) -> an activation quantiser."""
