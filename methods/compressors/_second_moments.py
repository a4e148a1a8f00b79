"""Rounding by second moments (GPTQ, algorithm 1): a layer's H from what it reads, and its weights in closed form."""

from __future__ import annotations

import math
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
    """Of a layer of G groups whose filters read D inputs, over ``positions``: ``sums`` float64 [G, D, D] = X X' of what
    it reads, ``cross`` = X0 X' with X0 what it would read in the full-precision network (None: not asked for)."""

    sums: Tensor
    cross: Tensor | None = None
    positions: int = 0


class _Seen(Exception):
    """Ends a unit's forward once the layer's input was seen."""


def round_layers(
    model: QuantModel, images: Tensor, damp: float, *, by_energy: bool, asymmetric: bool, ctx: RunContext
) -> tuple[list[dict[str, Any]], float]:
    """Round every layer in place, in order of execution, each on the inputs that the layers before it now give.

    Args:
        model: calibrated, in eval mode, on ``ctx.device``; left with its weights rounded, not frozen.
        images: normalised [N, C, H, W] on ``ctx.device``.
        asymmetric: towards the full-precision network's output, not towards the layer's own on these inputs.

    Returns:
        A line for each layer: its relative output error, nearest and rounded here; and what all took, in forward
        passes of an image through the weighted layers, the moments' products counted.
    """
    model.eval().requires_grad_(False)
    prefix, full = Prefix(model, images, True, False), Prefix(model, images, False, False)
    rows: list[dict[str, Any]] = []
    work, forward = 0, 0
    total = sum(len(unit.layers) for unit in model.units)
    for unit in model.units:
        module = model.unit_module(unit)
        x_full = full.enter(unit) if asymmetric else None
        if x_full is not None:
            full.leave(cached(module, x_full))
        x = prefix.enter(unit)
        for name in unit.layers:
            quantiser, layer = model.weights[name], model.layer(name)
            if not quantiser.is_identity:
                moments = moments_of(model, name, module, x, x_full)
                groups, inputs, _ = moments.sums.shape
                work += (4 if asymmetric else 2) * moments.positions * groups * inputs * inputs
                forward += moments.positions * layer.weight.numel()
                rows.append({"layer": name, **_put(quantiser, layer, moments, damp, by_energy)})
            ctx.report("round", len(rows), total)
        prefix.leave(cached(module, x))
    depth = sum(len(unit.layers) for unit in model.units) / max(len(model.units), 1)
    ctx.report("round", total, total)
    return rows, (1 + depth) * (2 if asymmetric else 1) + work / max(forward, 1)


def moments_of(
    model: QuantModel, name: str, module: nn.Module, inputs: Cache, full_inputs: Cache | None = None
) -> Moments:
    """The second moments of what the layer ``name`` of ``module`` reads for all ``inputs``, with those of what it reads
    for ``full_inputs`` in full precision where they are given."""
    layer = model.layer(name)
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    size = layer.weight[0].numel()
    zeros = torch.zeros(groups, size, size, dtype=torch.float64, device=layer.weight.device)
    found = Moments(zeros, None if full_inputs is None else zeros.clone())
    others = inputs.chunks(EVALUATION_BATCH) if full_inputs is None else full_inputs.chunks(EVALUATION_BATCH)
    for chunk, other in zip(inputs.chunks(EVALUATION_BATCH), others, strict=True):
        model.set_state(True, False)
        rows = patches(layer, _read_by(model.quant_layer(name), module, chunk))
        found.sums += (rows @ rows.transpose(1, 2)).double()
        found.positions += rows.shape[2]
        if found.cross is not None:
            model.set_state(False, False)
            full = patches(layer, _read_by(model.quant_layer(name), module, other))
            found.cross += (full @ rows.transpose(1, 2)).double()
    model.set_state(True, False)
    return found


def _read_by(layer: nn.Module, module: nn.Module, inputs: Tensor) -> Tensor:
    """What ``layer`` reads when ``module`` runs on ``inputs``; no further than that."""
    seen: list[Tensor] = []

    def note(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen.append(args[0])
        raise _Seen

    hook = layer.register_forward_pre_hook(note)
    try:
        module(inputs)
    except _Seen:
        pass
    finally:
        hook.remove()
    return seen[0]


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
    quantiser: WeightQuantizer, layer: nn.Conv2d | nn.Linear, moments: Moments, damp: float, by_energy: bool
) -> dict[str, float]:
    """Round one layer; its relative output error on what it reads before and after."""
    weight, sums = layer.weight.detach(), moments.sums
    shape = (sums.shape[0], -1, sums.shape[1])
    plain = weight.reshape(shape).double()
    wanted = wanted_weight(plain, moments, damp)

    def error(value: Tensor) -> float:
        off = value.reshape(shape).double() - wanted
        return float(((off @ sums) * off).sum() / ((wanted @ sums) * wanted).sum().clamp_min(1e-30))

    scale = quantiser.scale.expand(len(weight), *quantiser.scale.shape[1:]).reshape(*shape[:2], 1).double()
    zero = quantiser.zero_point.expand(len(weight), *quantiser.scale.shape[1:]).reshape(*shape[:2], 1).double()
    quantiser.unfreeze()
    nearest = error(quantiser(weight))
    ends = quantiser.n - zero, quantiser.p - zero
    levels = rounded(wanted, sums, scale, *ends, damp, zeros=plain == 0, by_energy=by_energy)
    value = (levels.to(weight.dtype) * scale.to(weight.dtype)).reshape(weight.shape)
    quantiser.rounding = Substitute(value)
    return {"nearest": nearest, "rounded": error(value)}


def wanted_weight(weight: Tensor, moments: Moments, damp: float) -> Tensor:
    """The weight [G, O, D] that rounding aims at: W itself, or with cross moments the one whose output on X is nearest
    to that of W on X0,  W + W (X0 - X) X' (X X')^-1  (least squares; damped, it stays near W)."""
    if moments.cross is None:
        return weight
    inverse: Tensor = torch.linalg.inv(ridged(moments.sums, damp))
    return weight + weight @ (moments.cross - moments.sums) @ inverse


def ridged(sums: Tensor, damp: float) -> Tensor:
    """X X' [G, D, D] with ``damp`` of its mean diagonal added; a group that reads nothing gets ones."""
    mean = sums.diagonal(dim1=1, dim2=2).mean(1)
    ridge = torch.where(mean > 0, damp * mean, torch.ones_like(mean))
    return sums + ridge[:, None, None] * torch.eye(sums.shape[1], device=sums.device, dtype=sums.dtype)


@torch.no_grad()
def rounded(
    weight: Tensor,
    sums: Tensor,
    scale: Tensor,
    low: Tensor,
    high: Tensor,
    damp: float,
    *,
    zeros: Tensor | None = None,
    by_energy: bool,
) -> Tensor:
    """GPTQ's integers of ``weight`` [G, O, D], less the zero point; grids ``scale`` [G, O, 1] from ``low`` to ``high``.

    Args:
        sums: X X' [G, D, D].
        damp: share of its mean diagonal that is added to it.
        zeros: bool [G, O, D], weights that stay zero.
        by_energy: inputs by falling diagonal of the groups' mean, else as they lie.  One order serves all groups.
    """
    groups, _, size = weight.shape
    energy = sums.diagonal(dim1=1, dim2=2)
    order = torch.arange(size, device=weight.device)
    if by_energy:
        order = energy.mean(0).argsort(descending=True, stable=True)
    left = weight[..., order].clone()
    kept = None if zeros is None else zeros[..., order]
    # a group that reads nothing has no moments: each of its weights rounds to nearest
    h = ridged(sums, damp)[:, order][:, :, order]
    factor = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(h)), upper=True)
    levels = torch.zeros_like(left)
    for start in range(0, size, BLOCK):
        end = min(start + BLOCK, size)
        errors = left.new_zeros(groups, left.shape[1], end - start)
        for i in range(start, end):
            quotient = left[..., i] / scale[..., 0]
            level = quotient.clamp(low[..., 0], high[..., 0]).round()
            level = level if kept is None else level.masked_fill(kept[..., i], 0.0)
            levels[..., i] = level
            error = (left[..., i] - level * scale[..., 0]) / factor[:, None, i, i]
            left[..., i:end] -= error[..., None] * factor[:, None, i, i:end]
            errors[..., i - start] = error
        left[..., end:] -= errors @ factor[:, start:end, end:]
    return levels[..., order.argsort()]
