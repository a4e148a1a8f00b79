"""Mean and variance of a tensor per channel, and the frozen batch norm that returns both beside its output."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Scope = Literal["batch", "image"]
"""Statistics over the batch, or of each image."""


def _channel_view(vector: Tensor, like: Tensor) -> Tensor:
    return vector.view(1, -1, *(1,) * (like.dim() - 2))


def values_behind(x: Tensor, scope: Scope) -> int:
    """Number of values behind one statistic of ``x``."""
    return math.prod(x.shape[2:]) * (x.shape[0] if scope == "batch" else 1)


def _is_channels_last(x: Tensor) -> bool:
    return x.dim() == 2 or (x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last))


def tensor_stats(x: Tensor, scope: Scope) -> tuple[Tensor, Tensor]:
    """Mean and biased variance per channel of ``x`` [B,C,...], float32: [C], or [B,C] in scope ``image``.

    On channels-last maps (and on CUDA) the batch-norm kernel reads ``x`` twice and writes nothing, which is some
    twenty times quicker than ``torch.var_mean`` on a CPU.  Other layouts centre first, for the sake of precision.
    """
    if scope == "batch" and (x.is_cuda or (x.dtype == torch.float32 and _is_channels_last(x))):
        mean, var = torch.batch_norm_update_stats(x, None, None, 0.0)
        return mean.float(), var.float()
    x = x.float()
    dims = [0, *range(2, x.dim())] if scope == "batch" else list(range(2, x.dim()))
    if not dims:  # one value per image and channel: its own mean, no variance
        return x, torch.zeros_like(x)
    mean = x.mean(dims, keepdim=True)
    var = (x - mean).square_().mean(dims)
    return mean.view(var.shape), var


def _affine(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """``x * scale + shift`` per channel in one pass, in the dtype of ``x``."""
    if x.dtype == scale.dtype and (x.is_cuda or _is_channels_last(x)):
        return torch.addcmul(_channel_view(shift, x), x, _channel_view(scale, x))
    # broadcasting over a contiguous NCHW map is slow on CPU, the batch-norm kernel is not; it also keeps half types
    # Not F.batch_norm: torch 2.11's refuses eps = 0, which is exact here.
    mean, var = torch.zeros_like(shift), torch.ones_like(scale)
    return torch.batch_norm(x, scale, shift, mean, var, False, 0.0, 0.0, False)


class TapFunction(torch.autograd.Function):
    """(x, scale, shift) -> (x*scale + shift, mean, var) with ``scope`` as fourth argument; frozen scale and shift."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, scope: Scope) -> tuple[Tensor, Tensor, Tensor]:
        mean, var = tensor_stats(x, scope)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, scale, mean)
        ctx.scope = scope
        return _affine(x, scale, shift), mean, var

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_y: Tensor | None, grad_mean: Tensor | None, grad_var: Tensor | None
    ) -> tuple[Tensor | None, None, None, None]:
        x, scale, mean = ctx.saved_tensors
        if not ctx.needs_input_grad[0] or (grad_y is None and grad_mean is None and grad_var is None):
            return None, None, None, None
        if grad_mean is None and grad_var is None:
            assert grad_y is not None
            return grad_y * _channel_view(scale.to(grad_y.dtype), grad_y), None, None, None
        # d(var)/dx = 2 (x - mean) / n and d(mean)/dx = 1 / n, so the statistics add slope * x + offset
        zero = torch.zeros_like(mean)
        slope = zero if grad_var is None else grad_var * (2.0 / values_behind(x, ctx.scope))
        offset = torch.addcmul(
            zero if grad_mean is None else grad_mean / values_behind(x, ctx.scope), slope, mean, value=-1
        )
        if ctx.scope == "image":
            spread = (*mean.shape, *(1,) * (x.dim() - 2))
            grad = torch.addcmul(offset.view(spread), x, slope.view(spread)).to(x.dtype)
        else:
            grad = _affine(x, slope, offset)
        if grad_y is not None:
            grad.addcmul_(grad_y, _channel_view(scale.to(grad.dtype), grad))
        return grad, None, None, None
