"""Mean and variance of every tensor from batch-norm parameters alone (docs/methods/quantisation.md#moments, DFQ).

A folded layer's output is taken as normal with mean beta and standard deviation abs(gamma) per channel; activations,
sums, poolings and concatenations carry that on.  Where nothing is known (products, layers without BN) there is None.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from methods.quant.fold import BatchStats
from methods.quant.layers import function_name, is_activation, is_add, is_max_pool, is_pool, module_of, tensor_inputs

_POINTS = 64
_SQRT_2PI = math.sqrt(2 * math.pi)


@dataclass(frozen=True)
class Moments:
    """Per channel [C]: mean, variance, and ends a normal was clipped to (``low``, ``high``; infinite if none).
    ``spread`` is (mean, standard deviation) of the normal before the clip, for ranges."""

    mean: Tensor
    var: Tensor
    low: float
    high: float
    spread: tuple[Tensor, Tensor]

    def range(self, sigmas: float = 6.0) -> tuple[float, float]:
        """Smallest and largest over channels of mean -/+ ``sigmas`` standard deviations, cut to [low, high]."""
        mean, sd = self.spread
        low, high = float((mean - sigmas * sd).min()), float((mean + sigmas * sd).max())
        return max(low, self.low), min(high, self.high)


def clipped_normal(mean: Tensor, sd: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Mean and variance of clip(N(mean, sd^2), low, high), elementwise; ends may be infinite, sd may be 0."""
    mean, sd = mean.double(), sd.double().clamp_min(1e-12)
    a, c = (low - mean) / sd, (high - mean) / sd
    density_a, density_c = _density(a), _density(c)
    below, inside = _cumulative(a), _cumulative(c) - _cumulative(a)
    above = 1 - _cumulative(c)
    end_a, end_c = (0.0 if math.isinf(low) else low), (0.0 if math.isinf(high) else high)
    first = sd * (density_a - density_c) + mean * inside + end_a * below + end_c * above
    tails = torch.nan_to_num(a * density_a, 0.0, 0.0, 0.0) - torch.nan_to_num(c * density_c, 0.0, 0.0, 0.0)
    second = (mean.square() + sd.square()) * inside + sd.square() * tails + 2 * mean * sd * (density_a - density_c)
    second = second + end_a**2 * below + end_c**2 * above
    return first.float(), (second - first.square()).clamp_min(0).float()


def _density(x: Tensor) -> Tensor:
    return torch.exp(-0.5 * x.square()) / _SQRT_2PI


def _cumulative(x: Tensor) -> Tensor:
    below: Tensor = torch.special.ndtr(x)
    return below


def propagate(graph: fx.GraphModule, stats: Mapping[str, BatchStats]) -> dict[fx.Node, Moments]:
    """Moments of each node of a folded graph that they can be told of; ``stats`` as the folding returned them."""
    found: dict[fx.Node, Moments] = {}
    for node in graph.graph.nodes:
        moments = _of_node(graph, node, stats, found)
        if moments is not None:
            found[node] = moments
    return found


def _of_node(
    graph: fx.GraphModule, node: fx.Node, stats: Mapping[str, BatchStats], known: Mapping[fx.Node, Moments]
) -> Moments | None:
    if node.op == "call_module" and str(node.target) in stats:
        entry = stats[str(node.target)]
        return _normal(entry.beta, entry.gamma.abs())
    inputs = tensor_inputs(node)
    if not inputs or any(source not in known for source in inputs):
        return None
    first = known[inputs[0]]
    if is_add(node):
        second = known[inputs[1]]
        return _normal(first.mean + second.mean, (first.var + second.var).sqrt())
    if is_activation(graph, node):
        return _activated(graph, node, first)
    module = module_of(graph, node)
    if is_max_pool(graph, node):
        return None  # the mean of a maximum is not the maximum's argument's mean
    if is_pool(graph, node) or isinstance(module, nn.Flatten) or function_name(node) in ("flatten", "contiguous"):
        return first
    if function_name(node) in ("cat", "concat") and node.kwargs.get("dim", _second(node)) in (1, -3):
        return _joined([known[source] for source in inputs])
    return None


def _second(node: fx.Node) -> Any:
    return node.args[1] if len(node.args) > 1 else 0


def _normal(mean: Tensor, sd: Tensor) -> Moments:
    return Moments(mean, sd.square(), -math.inf, math.inf, (mean, sd))


def _joined(parts: list[Moments]) -> Moments:
    means, sds = [p.spread[0] for p in parts], [p.spread[1] for p in parts]
    return Moments(
        torch.cat([p.mean for p in parts]),
        torch.cat([p.var for p in parts]),
        min(p.low for p in parts),
        max(p.high for p in parts),
        (torch.cat(means), torch.cat(sds)),
    )


def _activated(graph: fx.GraphModule, node: fx.Node, before: Moments) -> Moments:
    mean, sd = before.mean, before.var.sqrt()
    ends = clip_of(graph, node)
    if ends is not None:
        new_mean, new_var = clipped_normal(mean, sd, *ends)
        return Moments(new_mean, new_var, *ends, (mean, sd))
    # Any other activation: Gauss-Hermite quadrature of its first two moments.
    nodes, weights = np.polynomial.hermite_e.hermegauss(_POINTS)
    point = torch.as_tensor(nodes, dtype=mean.dtype, device=mean.device)
    weight = torch.as_tensor(weights / weights.sum(), dtype=mean.dtype, device=mean.device)
    # Channels lie on axis 1, for PReLU's slopes.
    values = _apply(graph, node, (mean[None, :] + sd[None, :] * point[:, None])).detach()
    new_mean = (values * weight[:, None]).sum(0)
    new_var = ((values - new_mean).square() * weight[:, None]).sum(0)
    ends_seen = float(values.min()), float(values.max())
    return Moments(new_mean, new_var, *ends_seen, (new_mean, new_var.sqrt()))


def _apply(graph: fx.GraphModule, node: fx.Node, x: Tensor) -> Tensor:
    module = module_of(graph, node)
    if module is not None:
        out: Tensor = module(x)
        return out
    name = function_name(node)
    function: Any = getattr(F, name, None) or getattr(torch, name)
    result: Tensor = function(x, *node.args[1:], **node.kwargs)
    return result


def clip_of(graph: fx.GraphModule, node: fx.Node) -> tuple[float, float] | None:
    """Ends a ReLU-like node clips to, (0, inf) for ReLU and (0, 6) for ReLU6; None for other nodes."""
    module, name = module_of(graph, node), function_name(node)
    if isinstance(module, nn.Hardtanh):
        return float(module.min_val), float(module.max_val)
    if isinstance(module, nn.ReLU) or name == "relu":
        return 0.0, math.inf
    return (0.0, 6.0) if name == "relu6" else None
