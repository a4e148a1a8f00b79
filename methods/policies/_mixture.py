"""A sum of fake-quantised copies of one tensor, sum_k share_k Q_k(x), that keeps the tensor alone for its gradient.

Kept by autograd, the copies of K candidates would take K tensors per layer.  Here forward adds each copy up as it is
made and backward makes it again.  On a CPU both go through pieces that stay in a core's cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

_CPU_CHUNK = 1 << 16


class Levels(NamedTuple):
    """A uniform quantiser: step times (round(clip(x / step - offset, low, high)) + offset).

    ``gain`` multiplies the gradient to the step (LSQ's g); with ``through`` the gradient to x passes unchanged, else it
    is 0 outside of the clip.
    """

    low: float
    high: float
    gain: float = 1.0
    offset: float = 0.0
    through: bool = False


class Mixture(torch.autograd.Function):
    """The sum for ``shares`` [K] and ``steps`` [K]; gradients to all three.

    To x and to the steps they are LSQ's (arXiv 1902.08153, eq. 3 and 5) times the share, as in
    `methods.quant.quantizers.FakeQuant` but for values that lie exactly on the lowest or highest level, which count as
    inside; to a share it is the inner product with the candidate's copy.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, shares: Tensor, steps: Tensor, levels: Sequence[Levels]) -> Tensor:
        ctx.save_for_backward(x, shares, steps)
        ctx.levels = levels
        flat = x.contiguous().view(-1)
        out = torch.zeros_like(flat)
        work = torch.empty_like(flat[: _size(flat)])
        for part, goal in zip(_pieces(flat), _pieces(out), strict=True):
            level = work[: len(part)]
            for k, grid in enumerate(levels):
                torch.div(part, steps[k], out=level)
                _round(level, grid)
                goal.addcmul_(level, steps[k] * shares[k])
        return out.view(x.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor, Tensor, None]:
        (grad,) = grads
        x, shares, steps = ctx.saved_tensors
        # With a graph of the gradient asked for, what follows must be recorded, so nothing is overwritten.
        made = _recorded if torch.is_grad_enabled() else _gradients
        return (*made(grad, x, shares, steps, ctx.levels), None)


def mixture(x: Tensor, shares: Tensor, steps: Tensor, levels: Sequence[Levels]) -> Tensor:
    """sum_k shares[k] Q_k(x), of x's shape; see `Mixture`."""
    out: Tensor = Mixture.apply(x, shares, steps, levels)
    return out


def _size(flat: Tensor) -> int:
    return _CPU_CHUNK if flat.device.type == "cpu" else max(len(flat), 1)


def _pieces(flat: Tensor) -> tuple[Tensor, ...]:
    return torch.split(flat, _size(flat))


def _round(level: Tensor, grid: Levels) -> None:
    """x / step to its level, in place."""
    if grid.offset:
        level.sub_(grid.offset).clamp_(grid.low, grid.high).round_().add_(grid.offset)
    else:
        level.clamp_(grid.low, grid.high).round_()


def _gradients(
    grad: Tensor, x: Tensor, shares: Tensor, steps: Tensor, levels: Sequence[Levels]
) -> tuple[Tensor, Tensor, Tensor]:
    """To x, shares and steps."""
    flat, up = x.contiguous().view(-1), grad.contiguous().view(-1)
    to_x = torch.zeros_like(flat)
    on_level = torch.zeros_like(shares)  # <grad, level>
    on_value = torch.zeros_like(shares)  # <grad, x / step> inside of the clip
    spare = [torch.empty_like(flat[: _size(flat)]) for _ in range(3)]
    for part, above, goal in zip(_pieces(flat), _pieces(up), _pieces(to_x), strict=True):
        value, level, inside = (work[: len(part)] for work in spare)
        for k, grid in enumerate(levels):
            torch.div(part, steps[k], out=value)
            shifted = torch.sub(value, grid.offset, out=inside) if grid.offset else inside.copy_(value)
            torch.clamp(shifted, grid.low, grid.high, out=level)
            inside.eq_(level).mul_(above)
            level.round_()
            if grid.offset:
                level.add_(grid.offset)
            on_level[k] += torch.dot(above, level)
            on_value[k] += torch.dot(inside, value)
            goal.addcmul_(above if grid.through else inside, shares[k])
    gains = _gains(levels, shares)
    return to_x.view(x.shape), on_level * steps, (on_level - on_value) * shares * gains


def _recorded(
    grad: Tensor, x: Tensor, shares: Tensor, steps: Tensor, levels: Sequence[Levels]
) -> tuple[Tensor, Tensor, Tensor]:
    """`_gradients` from operations that can be differentiated again."""
    to_x = torch.zeros_like(x)
    on_level, on_value = [], []
    for k, grid in enumerate(levels):
        value = x / steps[k]
        clipped = (value.detach() - grid.offset).clamp(grid.low, grid.high)
        inside = (value.detach() - grid.offset).eq(clipped).to(x.dtype)
        to_x = to_x + shares[k] * (grad if grid.through else inside * grad)
        on_level.append((grad * (clipped.round() + grid.offset)).sum())
        on_value.append((grad * inside * value).sum())
    level, inner = torch.stack(on_level), torch.stack(on_value)
    return to_x, level * steps, (level - inner) * shares * _gains(levels, shares)


def _gains(levels: Sequence[Levels], like: Tensor) -> Tensor:
    return torch.tensor([grid.gain for grid in levels], dtype=like.dtype, device=like.device)
