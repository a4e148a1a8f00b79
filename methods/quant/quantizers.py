"""Fake quantisers: one autograd function, a weight quantiser and an activation quantiser
(docs/methods/quantisation.md#grids, #gradients)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from bench.interfaces import FLOAT_BITS
from methods.quant.ranges import MIN_STEP, Grid, RangeMethod, grid_limits, search_range

__all__ = ["FLOAT_BITS", "ActQuantizer", "FakeQuant", "WeightQuantizer", "fake_quant", "grid_limits", "search_range"]


class FakeQuant(torch.autograd.Function):
    """``scale * round(clip(x / scale, low, high))`` with the LSQ gradients (arXiv 1902.08153, eq. 3 and 5).

    ``low = n - zero_point`` and ``high = p - zero_point``, so that the affine grid needs no extra pass.  Gradients:
    to x, 1 on the inclusive range, else 0; to the step, round(v) - v strictly inside, ``low`` at and below it,
    ``high`` at and above it, with v = x / scale, summed to the step's shape and multiplied by ``g``.

    The masks are explicit because the gradient of ``torch.clamp`` at its bound changed between torch 2.13 (1) and
    2.15 (0), which loses every ReLU zero and every value on the last level.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, low: Any, high: Any, g: float) -> Tensor:
        ctx.bounds = low, high
        ctx.g = g
        ctx.save_for_backward(x, scale)
        out: Tensor = torch.div(x, scale).clamp_(low, high).round_().mul_(scale)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        (grad,) = grads
        x, scale = ctx.saved_tensors
        low, high = ctx.bounds
        v = x / scale
        # Masks as in-place float comparisons: boolean masks with `where` cost ten times as much on a CPU.
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = v.clone().ge_(low).mul_(v.clone().le_(high)).mul_(grad)
        grad_scale = None
        if ctx.needs_input_grad[1]:
            strict = v.clone().gt_(low).mul_(v.clone().lt_(high))
            level = v.clamp(low, high).round_()
            grad_scale = level.addcmul_(v, strict, value=-1).mul_(grad).sum_to_size(scale.shape).mul(ctx.g)
        return grad_x, grad_scale, None, None, None


def fake_quant(x: Tensor, scale: Tensor, low: Tensor | float, high: Tensor | float, g: float = 1.0) -> Tensor:
    """Fake-quantise ``x``; ``scale`` (and tensor bounds) broadcast against it.  See `FakeQuant`."""
    out: Tensor = FakeQuant.apply(x, scale, low, high, g)
    return out


class WeightQuantizer(nn.Module):
    """Fake-quantises one layer's weight [O, ...], one grid per output channel (or one for all).

    Attributes:
        bits: 2..16, or 32 and more for the identity.
        enabled: off returns the weight itself.
        scale, zero_point: buffers [O, 1, ...] (all ones without ``per_channel``).
        n, p: lowest and highest integer of the grid.
        rounding: None rounds to nearest; else called as ``rounding(weight, scale, zero_point, n, p)`` and returns the
            fake-quantised weight (AdaRound's soft or hard rounding).
        frozen: the fake-quantised weight kept by `freeze`, returned as it is until `unfreeze`.
    """

    scale: Tensor
    zero_point: Tensor
    frozen: Tensor | None

    def __init__(
        self,
        weight: Tensor,
        bits: int,
        *,
        method: RangeMethod = "mse",
        grid: Grid = "affine",
        per_channel: bool = True,
    ) -> None:
        super().__init__()
        self.bits, self.method, self.grid, self.per_channel = bits, method, grid, per_channel
        self.enabled = True
        self.n, self.p = (0, 0) if self.is_identity else grid_limits(bits, grid)
        self.rounding: nn.Module | None = None
        shape = [weight.shape[0] if per_channel else 1] + [1] * (weight.dim() - 1)
        self.register_buffer("scale", torch.ones(shape, device=weight.device))
        self.register_buffer("zero_point", torch.zeros(shape, device=weight.device))
        self.register_buffer("frozen", None, persistent=False)
        self.set_range(weight)

    @property
    def is_identity(self) -> bool:
        """Whether the bits leave the weight in floating point."""
        return self.bits >= FLOAT_BITS

    @torch.no_grad()
    def set_range(self, weight: Tensor) -> None:
        """Choose scale and zero point for ``weight`` by the quantiser's range method."""
        if self.is_identity:
            return
        scale, zero = search_range(
            weight, self.bits, 0 if self.per_channel else None, method=self.method, grid=self.grid
        )
        self.scale.copy_(scale.reshape(self.scale.shape))
        self.zero_point.copy_(zero.reshape(self.scale.shape))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the fake-quantised weight, of the same shape."""
        if self.is_identity or not self.enabled:
            return weight
        if self.frozen is not None:
            return self.frozen
        if self.rounding is not None:
            rounded: Tensor = self.rounding(weight, self.scale, self.zero_point, self.n, self.p)
            return rounded
        return fake_quant(weight, self.scale, self.n - self.zero_point, self.p - self.zero_point)

    def floor_levels(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return floor(W / s) and the rest W / s - floor(W / s) in [0, 1), without the zero point and unclipped.

        AdaRound's weight is ``s * (clip(floor + h + z, n, p) - z)`` with h in [0, 1].
        """
        level = weight.detach() / self.scale
        floor = level.floor()
        return floor, level - floor

    @torch.no_grad()
    def freeze(self, weight: Tensor) -> None:
        """Keep today's fake-quantised weight, so that forwards skip the rounding."""
        self.frozen = None
        if not self.is_identity:
            enabled, self.enabled = self.enabled, True
            self.frozen = self(weight).detach().clone()
            self.enabled = enabled

    def unfreeze(self) -> None:
        """Forget the weight kept by `freeze`."""
        self.frozen = None


class ActQuantizer(nn.Module):
    """Fake-quantises one activation tensor with one affine grid.

    Attributes:
        bits: 2..16, or 32 and more for the identity.
        enabled: off returns the input itself.
        nonnegative: the producer is a ReLU, a sigmoid or a pooling of such, so the grid is unsigned when no
            calibration value was negative either.
        signed: what the calibration found; True until then.
        scale: parameter [] (learnable, keep it positive with `keep_positive`), zero_point: buffer [].
        keep_probability, generator: each element is quantised with this probability and passed on as it is
            otherwise (QDrop, arXiv 2203.05740, eq. 6); 1.0 always quantises.  The generator lives on the CPU.
        grad_scale: factor on the step's gradient (LSQ's g).
    """

    zero_point: Tensor

    def __init__(self, bits: int, *, method: RangeMethod = "mse-2d", nonnegative: bool = False) -> None:
        super().__init__()
        self.bits, self.method, self.nonnegative = bits, method, nonnegative
        self.enabled = True
        self.signed = True
        self.n, self.p = (0, 0) if self.is_identity else grid_limits(bits, "affine")
        self.scale = nn.Parameter(torch.tensor(1.0), requires_grad=not self.is_identity)
        self.register_buffer("zero_point", torch.tensor(0.0))
        self.keep_probability = 1.0
        self.generator: torch.Generator | None = None
        self.grad_scale = 1.0
        self._low, self._high = float(self.n), float(self.p)
        self._samples: list[Tensor] | None = None
        self._ends = (math.inf, -math.inf)
        self._share = 1.0
        self._sampler: torch.Generator | None = None

    @property
    def is_identity(self) -> bool:
        """Whether the bits leave the tensor in floating point."""
        return self.bits >= FLOAT_BITS

    @property
    def levels(self) -> int:
        """How many values the grid has."""
        return self.p - self.n + 1

    @torch.no_grad()
    def set_range(self, scale: Tensor | float, zero_point: Tensor | float) -> None:
        """Set step (> 0) and zero point (an integer of the grid)."""
        self.scale.fill_(float(scale))
        self.zero_point.fill_(float(zero_point))
        self._refresh()

    def _refresh(self) -> None:
        # Plain numbers as bounds keep the forward free of device synchronisation and of broadcast clamps.
        zero = float(self.zero_point)
        self._low, self._high = self.n - zero, self.p - zero

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._refresh()

    @torch.no_grad()
    def keep_positive(self) -> None:
        """After an optimiser step: make the step positive again."""
        self.scale.abs_().clamp_min_(MIN_STEP)

    def start_observing(self, share: float, seed: int) -> None:
        """Collect a random ``share`` (0, 1] of the values of each following forward; draws depend on ``seed`` only."""
        self._samples, self._share, self._ends = [], share, (math.inf, -math.inf)
        self._sampler = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        """Add values of ``x`` to the sample.  Its extremes are noted apart: the search starts from them, but among a
        few sampled values they would weigh more than they do among all."""
        if self._samples is None:
            self.start_observing(1.0, 0)
        flat = x.detach().reshape(-1)
        if self._share < 1:
            count = max(int(flat.numel() * self._share), 1)
            index = torch.randint(flat.numel(), (count,), generator=self._sampler).to(flat.device)
            picked = flat[index]
        else:
            picked = flat.clone()
        assert self._samples is not None
        self._samples.append(picked)
        low, high = (float(end) for end in flat.aminmax())
        self._ends = min(self._ends[0], low), max(self._ends[1], high)

    @torch.no_grad()
    def calibrate(self) -> None:
        """Choose step and zero point for the observed values and forget them.

        Raises:
            RuntimeError: nothing was observed.
        """
        samples, self._samples, self._sampler = self._samples, None, None
        if self.is_identity:
            return
        if not samples:
            raise RuntimeError("nothing was observed before calibrate()")
        values = torch.cat(samples)
        self.signed = not (self.nonnegative and self._ends[0] >= 0)
        grid: Grid = "affine" if self.signed else "unsigned"
        self.set_range(*search_range(values, self.bits, method=self.method, grid=grid, ends=self._ends))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` fake-quantised (same shape), or ``x`` itself when switched off or of 32 bits."""
        if self._samples is not None:
            self.observe(x)
        if self.is_identity or not self.enabled:
            return x
        out = fake_quant(x, self.scale, self._low, self._high, self.grad_scale)
        if self.keep_probability < 1:
            keep = _keep_mask(x, self.keep_probability, self.generator)
            out = out * keep + x * (1 - keep)
        return out


def _keep_mask(x: Tensor, probability: float, generator: torch.Generator | None) -> Tensor:
    """Mask of zeros and ones like ``x``, one with ``probability`` (to 1/256): eight bytes per draw, as drawing costs
    more than quantising."""
    count = x.numel()
    words = torch.empty((count + 7) // 8, dtype=torch.int64).random_(-(1 << 63), None, generator=generator)
    levels = words.view(torch.uint8)[:count].to(x.dtype).lt_(round(probability * 256))
    return levels.reshape(x.shape).to(x.device)
