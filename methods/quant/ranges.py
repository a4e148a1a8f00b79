"""Step sizes and zero points from data (docs/methods/quantisation.md#grids, #ranges), vectorised over channels.

A grid of b bits maps x to ``scale * (clip(round(x / scale) + zero_point, n, p) - zero_point)``.  Affine and unsigned
grids have n = 0, p = 2^b - 1, symmetric ones n = -2^(b-1), p = 2^(b-1) - 1 and zero point 0.  Zero always lies on the
grid: padding and ReLU put zeros everywhere.

Sources: BRECQ (arXiv 2102.05426) for the search over shrunk ranges with exponent 2.4, QDrop (arXiv 2203.05740) for the
search over zero points besides, ACIQ (arXiv 1810.05723) for the closed-form clipping, LSQ (arXiv 1902.08153) for its
initial step.  BRECQ's code lets a one-signed channel keep a zero point off the grid; here the range always holds zero
(docs/methods/quantisation.md#grids).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from methods.quant.choices import RangeMethod as RangeMethod

Grid = Literal["affine", "symmetric", "unsigned"]

MIN_STEP = 1e-8
_LAPLACE = (2.83, 3.90, 5.03, 6.20, 7.41, 8.65, 9.90)
_GAUSS = (1.71, 2.15, 2.56, 2.94, 3.29, 3.62, 3.92)
# Chunks that stay in a core's cache make the 80 passes of the search several times faster than whole tensors.
_CPU_CHUNK = 1 << 15
_GPU_CHUNK = 1 << 22
_BINS = 4096


def grid_limits(bits: int, grid: Grid) -> tuple[int, int]:
    """Lowest and highest integer (n, p) of a grid of ``bits`` (2..16).

    Raises:
        ValueError: ``bits`` is outside 2..16.
    """
    if not 2 <= bits <= 16:
        raise ValueError(f"a grid needs 2 to 16 bits, got {bits}")
    if grid == "symmetric":
        return -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    return 0, (1 << bits) - 1


def search_range(
    x: Tensor,
    bits: int,
    channel_axis: int | None = None,
    *,
    method: RangeMethod = "mse",
    grid: Grid = "affine",
    exponent: float = 2.4,
    candidates: int = 80,
    quantile: float = 0.9999,
    ends: tuple[float, float] | None = None,
) -> tuple[Tensor, Tensor]:
    """Step and zero point of a grid for ``x``.

    Args:
        x: values, any shape, floating point.
        bits: 2..16.
        channel_axis: axis with one range per entry; None for one range.
        method: ``minmax``; ``mse`` shrinks that range by 1 - 0.01 i, i < ``candidates``, and keeps the one with the
            least mean ``abs(Q(x) - x) ** exponent`` (i = 0 is minmax, so it is never worse); ``mse-2d`` searches the
            zero point with each of these steps, for one affine range (elsewhere it is ``mse``); ``percentile`` clips
            at the ``quantile`` of abs(x); ``aciq`` and ``aciq-gauss`` clip where a Laplace or Gauss density loses
            least; ``lsq`` is 2 mean(abs(x)) / sqrt(p).
        grid: affine, symmetric (zero point 0, signed) or unsigned (zero point 0, negative values clip to 0).
        ends: least and greatest value of what ``x`` is a sample of, where the search starts from (one range only);
            None takes those of ``x``.

    Returns:
        scale and zero point, float32, of shape [C], or [] without ``channel_axis``; scale is at least 1e-8.
    """
    n, p = grid_limits(bits, grid)
    axis = 0 if channel_axis is None else channel_axis
    flat = x.detach().float()
    flat = flat.reshape(1, -1) if channel_axis is None else flat.movedim(axis, 0).reshape(flat.shape[axis], -1)
    if method == "lsq":
        scale = (2 * flat.abs().mean(1) / math.sqrt(p)).clamp_min(MIN_STEP)
        low = flat.amin(1).clamp_max(0) if grid == "affine" else torch.zeros_like(scale)
        zero = torch.round(-low / scale).clamp(n, p)
    else:
        scale, zero = _step(*_bounds(flat, bits, method, grid, quantile, ends), n, p, grid)
        if method == "mse-2d" and grid == "affine" and channel_axis is None:
            scale, zero = _search_zero(flat[0], scale, p, exponent, candidates)
        elif method in ("mse", "mse-2d"):
            scale = _shrink(flat, scale, n - zero, p - zero, exponent, candidates)
    return (scale[0], zero[0]) if channel_axis is None else (scale, zero)


def _bounds(
    flat: Tensor, bits: int, method: RangeMethod, grid: Grid, quantile: float, ends: tuple[float, float] | None
) -> tuple[Tensor, Tensor]:
    """Lower and upper end [C] of each row of ``flat`` [C, K] (``ends``, where given), zero inside."""
    low, high = flat.amin(1), flat.amax(1)
    if ends is not None:
        low, high = torch.full_like(low, ends[0]), torch.full_like(high, ends[1])
    if method == "percentile":
        rank = min(max(math.ceil(quantile * flat.shape[1]), 1), flat.shape[1])
        limit = flat.abs().kthvalue(rank, dim=1).values
        low, high = torch.maximum(low, -limit), torch.minimum(high, limit)
    elif method in ("aciq", "aciq-gauss"):
        limit_low, limit_high = _aciq(flat, bits, method)
        low, high = torch.maximum(low, limit_low), torch.minimum(high, limit_high)
    low, high = low.clamp_max(0), high.clamp_min(0)
    return (torch.zeros_like(low) if grid == "unsigned" else low), high


def _aciq(flat: Tensor, bits: int, method: RangeMethod) -> tuple[Tensor, Tensor]:
    """Clipping ends of ACIQ: mean -/+ c_b times the spread; after a ReLU the positive half of a density around zero
    is left, whose range a grid of b bits covers as b + 1 bits cover the whole."""
    table = _LAPLACE if method == "aciq" else _GAUSS
    rectified = flat.amin(1) >= 0
    positive = flat.gt(0).sum(1).clamp_min(1)
    mean = flat.mean(1)
    centred = flat - mean[:, None]
    if method == "aciq":
        whole, half = centred.abs().mean(1), flat.clamp_min(0).sum(1) / positive
    else:
        whole, half = centred.square().mean(1).sqrt(), (flat.clamp_min(0).square().sum(1) / positive).sqrt()
    top = len(table) - 1
    full_c, half_c = table[min(max(bits - 2, 0), top)], table[min(max(bits - 1, 0), top)]
    low = torch.where(rectified, torch.zeros_like(mean), mean - full_c * whole)
    return low, torch.where(rectified, half_c * half, mean + full_c * whole)


def _step(low: Tensor, high: Tensor, n: int, p: int, grid: Grid) -> tuple[Tensor, Tensor]:
    """Step and zero point that map [low, high] onto the grid (symmetric: absmax / p, whose error stays below s/2)."""
    if grid == "symmetric":
        return (torch.maximum(-low, high) / p).clamp_min(MIN_STEP), torch.zeros_like(low)
    scale = ((high - low) / (p - n)).clamp_min(MIN_STEP)
    return scale, torch.round(-low / scale).clamp(n, p)


def _search_zero(values: Tensor, scale: Tensor, p: int, exponent: float, candidates: int) -> tuple[Tensor, Tensor]:
    """Best pair of a shrunk step and a zero point 0..p for ``values`` [K], each of shape [1].

    A frozen zero point loses a small side of the values: SiLU's lie above -0.28, so that from a maximum of 8 on, 4 bits
    of the min-max range have z = 0 and every negative value becomes 0.

    Of one value, abs(Q - x) ** exponent is convex in z (none to lose inside the range, a growing distance outside), and
    so is a sum of such: for each step the zero point is found by bisection, which looks at b of the 2^b.
    """
    value, weight = _histogram(values)
    shrink = 1 - 0.01 * torch.arange(candidates, device=values.device, dtype=values.dtype)
    steps = (scale * shrink).clamp_min(MIN_STEP)[:, None]
    level = torch.round(value / steps)

    def loss(zero: Tensor) -> Tensor:
        error = torch.maximum(torch.minimum(level, p - zero), -zero).mul_(steps).sub_(value)
        powered = error.square_() if exponent == 2 else error.abs_().pow_(exponent)
        return powered.double() @ weight

    low, high = torch.zeros_like(steps), torch.full_like(steps, p)
    while bool((low < high).any()):
        middle = torch.floor((low + high) / 2)
        rises = (loss(middle + 1) >= loss(middle))[:, None]
        high, low = torch.where(rises, middle, high), torch.where(rises, low, torch.minimum(middle + 1, high))
    best = loss(low).argmin()
    return steps[best], low[best]


def _histogram(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of the values in each bin that holds some, float32 [B], and how many, float64 [B]; at most 4,096 bins."""
    low, high = values.aminmax()
    index = ((values - low) * (_BINS / (high - low).clamp_min(MIN_STEP))).long().clamp_(0, _BINS - 1)
    count = torch.bincount(index, minlength=_BINS)
    total = torch.bincount(index, values.double(), minlength=_BINS)
    filled = count > 0
    return (total[filled] / count[filled]).float(), count[filled].double()


def _shrink(flat: Tensor, scale: Tensor, low: Tensor, high: Tensor, exponent: float, candidates: int) -> Tensor:
    """Best of ``candidates`` shrunk steps per row.  Both ends shrink together, so the zero point stays."""
    shrink = 1 - 0.01 * torch.arange(candidates, device=flat.device, dtype=flat.dtype)
    steps = (scale[:, None] * shrink).clamp_min(MIN_STEP)
    loss = torch.zeros(steps.shape, device=flat.device, dtype=torch.float64)
    chunk = _CPU_CHUNK if flat.device.type == "cpu" else _GPU_CHUNK
    width = min(flat.shape[1], chunk)
    height = max(chunk // max(width, 1), 1)
    for top in range(0, flat.shape[0], height):
        rows = slice(top, top + height)
        for left in range(0, flat.shape[1], width):
            part = flat[rows, left : left + width].contiguous()
            for index in range(candidates):
                step = steps[rows, index, None]
                error = torch.div(part, step).clamp_(low[rows, None], high[rows, None]).round_().mul_(step).sub_(part)
                loss[rows, index] += _power_sum(error, exponent)
    best = loss.argmin(1, keepdim=True)
    return steps.gather(1, best)[:, 0]


def _power_sum(error: Tensor, exponent: float) -> Tensor:
    """Sum over the last axis of abs(error) ** exponent; overwrites ``error``."""
    powered = error.square_() if exponent == 2 else error.abs_().pow_(exponent)
    return powered.sum(1)
