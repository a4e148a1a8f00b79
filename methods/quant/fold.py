"""Folding batch normalisation into the layer before it (docs/methods/quantisation.md#folding)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeGuard

import torch
from timm.layers import Conv2dSame
from timm.layers import Linear as TimmLinear
from torch import Tensor, fx, nn

from bench.interfaces.inventory import has_hooks, is_plain_batch_norm
from methods.quant.layers import module_of, tensor_inputs

_LAYERS = (nn.Conv2d, nn.Linear, nn.ConvTranspose2d)
_OWN = frozenset(kind.forward for kind in (*_LAYERS, Conv2dSame, TimmLinear))
"""Forwards that are linear in weight and bias: torch's own, and two that pad or cast around these."""


@dataclass
class BatchStats:
    """What a folded BN knew: gamma and beta are the standard deviation and mean of its output per channel (float32
    [O]); mean and var those of its input; factor (float64 [O]) is what the weight was multiplied by.  Cross-layer
    equalisation rescales gamma and beta."""

    gamma: Tensor
    beta: Tensor
    mean: Tensor
    var: Tensor
    factor: Tensor | None = None


def fold_batch_norm(graph: fx.GraphModule) -> dict[str, BatchStats]:
    """Fold in place each BN whose input is the only use of a layer that is called once; return {layer: its BN}.

    a = gamma / sqrt(var + eps), W' = a W, b' = beta + a (b - mean), in float64, stored in the layer's dtype.
    A BN before a convolution (pre-activation networks) stays: padding and the ReLU between make folding wrong.  So do
    classes with a forward of their own, on either side, and modules with hooks: they may compute something else.
    """
    calls: dict[str, int] = {}
    for node in graph.graph.nodes:
        if node.op == "call_module":
            calls[str(node.target)] = calls.get(str(node.target), 0) + 1
    table: dict[str, BatchStats] = {}
    for node in list(graph.graph.nodes):
        norm = module_of(graph, node)
        if not is_plain_batch_norm(norm) or norm.running_mean is None or norm.training:
            continue
        source = node.args[0] if len(tensor_inputs(node)) == 1 else None
        if not isinstance(source, fx.Node) or len(source.users) != 1:
            continue
        layer = module_of(graph, source)
        if not _takes_fold(layer) or calls[str(source.target)] != 1 or calls[str(node.target)] != 1:
            continue
        table[str(source.target)] = fold_into(layer, norm)
        node.replace_all_uses_with(source)
        graph.graph.erase_node(node)
    graph.delete_all_unused_submodules()
    graph.recompile()
    return table


def _takes_fold(layer: nn.Module | None) -> TypeGuard[nn.Conv2d | nn.Linear | nn.ConvTranspose2d]:
    return isinstance(layer, _LAYERS) and type(layer).forward in _OWN and not has_hooks(layer)


@torch.no_grad()
def fold_into(layer: nn.Conv2d | nn.Linear | nn.ConvTranspose2d, norm: nn.modules.batchnorm._BatchNorm) -> BatchStats:
    """Fold ``norm`` into ``layer`` in place and return what it knew; missing gamma, beta, bias count as 1, 0, 0."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, var = norm.running_mean.double(), norm.running_var.double()
    gamma = torch.ones_like(mean) if norm.weight is None else norm.weight.double()
    beta = torch.zeros_like(mean) if norm.bias is None else norm.bias.double()
    factor = gamma / torch.sqrt(var + norm.eps)
    weight = layer.weight
    if isinstance(layer, nn.ConvTranspose2d):
        grouped = weight.double().reshape(layer.groups, -1, *weight.shape[1:])
        scaled = (grouped * factor.reshape(layer.groups, 1, -1, *[1] * (weight.dim() - 2))).reshape(weight.shape)
    else:
        scaled = weight.double() * factor.reshape(-1, *[1] * (weight.dim() - 1))
    bias = torch.zeros_like(mean) if layer.bias is None else layer.bias.double()
    layer.weight = nn.Parameter(scaled.to(weight.dtype), requires_grad=weight.requires_grad)
    folded = (beta + factor * (bias - mean)).to(weight.dtype)
    layer.bias = nn.Parameter(folded, requires_grad=weight.requires_grad)
    return BatchStats(gamma.float(), beta.float(), mean.float(), var.float(), factor)
