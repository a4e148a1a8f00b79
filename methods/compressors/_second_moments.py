"""Rounding by second moments (GPTQ, algorithm 1): a layer's H from what it reads, and its weights in closed form."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bench.interfaces import RunContext
from methods.compressors._caches import EVALUATION_BATCH, Cache, Prefix, cached
from methods.compressors._rounding import Substitute
from methods.quant.model import QuantModel
from methods.quant.quantizers import WeightQuantizer

BLOCK = 128
"""Inputs between two updates of all that are left (GPTQ's lazy batches): the result is the same."""


@dataclass
class Moments:
    """``sums`` float64 [G, D, D]: X X' of a layer of G groups whose filters read D inputs, over ``positions``."""

    sums: Tensor
    positions: int = 0


class _Seen(Exception):
    """Ends a unit's forward once the layer's input was seen."""


def round_layers(
    model: QuantModel, images: Tensor, damp: float, *, by_energy: bool, ctx: RunContext
) -> tuple[list[dict[str, Any]], float]:
    """Round every layer in place, in order of execution, each on the inputs that the layers before it now give.

    Args:
        model: calibrated, in eval mode, on ``ctx.device``; left with its weights rounded, not frozen.
        images: normalised [N, C, H, W] on ``ctx.device``.

    Returns:
        A line for each layer: its relative output error, nearest and rounded here; and what all took, in forward
        passes of an image through the weighted layers, the moments' products counted.
    """
    model.eval().requires_grad_(False)
    prefix = Prefix(model, images, True, False)
    rows: list[dict[str, Any]] = []
    work, forward = 0, 0
    total = sum(len(unit.layers) for unit in model.units)
    for unit in model.units:
        module = model.unit_module(unit)
        x = prefix.enter(unit)
        for name in unit.layers:
            quantiser, layer = model.weights[name], model.layer(name)
            if not quantiser.is_identity:
                moments = moments_of(model, name, module, x)
                groups, inputs, _ = moments.sums.shape
                work += 2 * moments.positions * groups * inputs * inputs
                forward += moments.positions * layer.weight.numel()
                rows.append({"layer": name, **_put(quantiser, layer, moments.sums, damp, by_energy)})
            ctx.report("round", len(rows), total)
        prefix.leave(cached(module, x))
    depth = sum(len(unit.layers) for unit in model.units) / max(len(model.units), 1)
    ctx.report("round", total, total)
    return rows, 1 + depth + work / max(forward, 1)


def moments_of(model: QuantModel, name: str, module: nn.Module, inputs: Cache) -> Moments:
    """The second moments of what the layer ``name`` of ``module`` reads for all ``inputs``."""
    layer = model.layer(name)
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    size = layer.weight[0].numel()
    found = Moments(torch.zeros(groups, size, size, dtype=torch.float64, device=layer.weight.device))
    with _watched(model.quant_layer(name), found):
        for chunk in inputs.chunks(EVALUATION_BATCH):
            try:
                module(chunk)
            except _Seen:
                continue
    return found


@contextmanager
def _watched(watched: nn.Module, found: Moments) -> Iterator[None]:
    layer = watched.layer
    assert isinstance(layer, nn.Conv2d | nn.Linear)

    def note(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        rows = patches(layer, args[0])
        found.sums += (rows @ rows.transpose(1, 2)).double()
        found.positions += rows.shape[2]
        raise _Seen

    hook = watched.register_forward_pre_hook(note)
    try:
        yield
    finally:
        hook.remove()


@torch.no_grad()
def patches(layer: nn.Conv2d | nn.Linear, x: Tensor) -> Tensor:
    """What each filter reads at each position: [G, D, positions] with D in the order of ``weight[0].flatten()``.

    The layer itself gathers them, with unit filters for weights, so that its padding is whatever it does.
    """
    if isinstance(layer, nn.Linear):
        return x.reshape(1, -1, layer.in_features).transpose(1, 2)
    shape = layer.weight.shape[1:]
    unit = torch.eye(math.prod(shape), device=x.device, dtype=x.dtype).reshape(-1, *shape)
    weight = unit.repeat(layer.groups, 1, 1, 1)
    given = {"weight": weight} if layer.bias is None else {"weight": weight, "bias": weight.new_zeros(len(weight))}
    out: Tensor = torch.func.functional_call(layer, given, (x,))
    return out.transpose(0, 1).reshape(layer.groups, len(unit), -1)


@torch.no_grad()
def _put(
    quantiser: WeightQuantizer, layer: nn.Conv2d | nn.Linear, sums: Tensor, damp: float, by_energy: bool
) -> dict[str, float]:
    """Round one layer; its relative output error before and after."""
    weight = layer.weight.detach()
    shape = (sums.shape[0], -1, sums.shape[1])
    full = weight.reshape(shape).double()

    def error(value: Tensor) -> float:
        off = value.reshape(shape).double() - full
        return float(((off @ sums) * off).sum() / ((full @ sums) * full).sum().clamp_min(1e-30))

    scale = quantiser.scale.expand(len(weight), *quantiser.scale.shape[1:]).reshape(*shape[:2], 1).double()
    zero = quantiser.zero_point.expand(len(weight), *quantiser.scale.shape[1:]).reshape(*shape[:2], 1).double()
    quantiser.unfreeze()
    nearest = error(quantiser(weight))
    levels = rounded(full, sums, scale, quantiser.n - zero, quantiser.p - zero, damp, by_energy=by_energy)
    value = (levels.to(weight.dtype) * scale.to(weight.dtype)).reshape(weight.shape)
    quantiser.rounding = Substitute(value)
    return {"nearest": nearest, "rounded": error(value)}


@torch.no_grad()
def rounded(
    weight: Tensor, sums: Tensor, scale: Tensor, low: Tensor, high: Tensor, damp: float, *, by_energy: bool
) -> Tensor:
    """GPTQ's integers of ``weight`` [G, O, D], less the zero point; grids ``scale`` [G, O, 1] from ``low`` to ``high``.

    Args:
        sums: X X' [G, D, D].
        damp: share of its mean diagonal that is added to it.
        by_energy: inputs by falling diagonal of the groups' mean, else as they lie.  One order serves all groups.
    """
    groups, _, size = weight.shape
    energy = sums.diagonal(dim1=1, dim2=2)
    order = torch.arange(size, device=weight.device)
    if by_energy:
        order = energy.mean(0).argsort(descending=True, stable=True)
    left, zeros = weight[..., order].clone(), weight[..., order] == 0
    mean = energy.mean(1)
    # a group that reads nothing has no moments: each of its weights rounds to nearest
    ridge = torch.where(mean > 0, damp * mean, torch.ones_like(mean))
    h = sums[:, order][:, :, order] + ridge[:, None, None] * torch.eye(size, device=weight.device, dtype=weight.dtype)
    factor = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(h)), upper=True)
    levels = torch.zeros_like(left)
    for start in range(0, size, BLOCK):
        end = min(start + BLOCK, size)
        errors = left.new_zeros(groups, left.shape[1], end - start)
        for i in range(start, end):
            quotient = left[..., i] / scale[..., 0]
            level = quotient.clamp(low[..., 0], high[..., 0]).round().masked_fill(zeros[..., i], 0.0)
            levels[..., i] = level
            error = (left[..., i] - level * scale[..., 0]) / factor[:, None, i, i]
            left[..., i:end] -= error[..., None] * factor[:, None, i, i:end]
            errors[..., i - start] = error
        left[..., end:] -= errors @ factor[:, start:end, end:]
    return levels[..., order.argsort()]
