"""Cross-layer equalisation and bias absorption on a folded graph (docs/methods/quantisation.md#equalisation).

Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019
(arXiv 1906.04721), sections 4.1.1 and 4.1.3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from timm.layers import Conv2dSame
from torch import Tensor, fx, nn

from methods.quant.choices import Absorb
from methods.quant.graph import Prepared
from methods.quant.layers import function_name, module_of, tensor_inputs
from methods.quant.moments import clip_of

_LIMIT = 1e6


@dataclass(frozen=True)
class Pair:
    """Two layers of which the second alone reads the first; ``rectified``: a ReLU stands between them."""

    first: str
    second: str
    rectified: bool


def unclip_relu6(graph: fx.GraphModule) -> int:
    """Turn every ReLU6 into a ReLU, which equalisation can pass; return how many there were."""
    count = 0
    for node in graph.graph.nodes:
        if clip_of(graph, node) == (0.0, 6.0):
            count += 1
            if node.op == "call_module":
                graph.add_submodule(str(node.target), nn.ReLU())
            else:
                node.op, node.target = "call_function", torch.relu
                node.args, node.kwargs = (tensor_inputs(node)[0],), {}
    graph.recompile()
    return count


def find_pairs(graph: fx.GraphModule) -> list[Pair]:
    """Pairs joined by nothing, a ReLU or a leaky ReLU, each tensor between them with one reader."""
    calls = [str(node.target) for node in graph.graph.nodes if node.op == "call_module"]
    pairs = []
    for node in graph.graph.nodes:
        if not isinstance(module_of(graph, node), (nn.Conv2d, nn.Linear)):
            continue
        user = _only_user(node)
        rectified = user is not None and clip_of(graph, user) == (0.0, float("inf"))
        if user is not None and (rectified or _is_leaky(graph, user)):
            user = _only_user(user)
        if user is None or not isinstance(module_of(graph, user), (nn.Conv2d, nn.Linear)):
            continue
        if calls.count(str(node.target)) == calls.count(str(user.target)) == 1:
            pairs.append(Pair(str(node.target), str(user.target), rectified))
    return pairs


def _only_user(node: fx.Node) -> fx.Node | None:
    users = list(node.users)
    return users[0] if len(users) == 1 else None


def _is_leaky(graph: fx.GraphModule, node: fx.Node) -> bool:
    return isinstance(module_of(graph, node), nn.LeakyReLU) or function_name(node) == "leaky_relu"


def grouped(layer: nn.Conv2d | nn.Linear) -> Tensor:
    """View of the weight as [groups, O / groups, I / groups, taps]."""
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    weight = layer.weight.detach()
    return weight.view(groups, weight.shape[0] // groups, weight.shape[1], -1)


@torch.no_grad()
def equalise(prepared: Prepared, pairs: list[Pair], *, sweeps: int = 20, tolerance: float = 1e-3) -> float:
    """Scale each pair's channels until both layers' ranges agree, in place; return the last sweep's largest abs(log s).

    s = sqrt(r1 r2) / r2 with r1, r2 the largest abs weight of output channel i of the first and input channel i of the
    second layer; W1 and b1 are divided by s, W2 is multiplied, and so are the stored gamma and beta of layer 1.
    Channels that are dead on either side keep s = 1.
    """
    largest = 0.0
    for _ in range(sweeps):
        largest = 0.0
        for pair in pairs:
            first, second = _layers(prepared, pair)
            top = first.weight.detach().flatten(1).abs().amax(1)
            view = grouped(second)
            below = view.abs().amax((1, 3)).flatten()
            alive = (top > 0) & (below > 0)
            scale = torch.where(alive, (top / below.clamp_min(1e-30)).sqrt(), 1.0).clamp(1 / _LIMIT, _LIMIT)
            first.weight.div_(scale.reshape(-1, *[1] * (first.weight.dim() - 1)))
            if first.bias is not None:
                first.bias.div_(scale)
            view.mul_(scale.reshape(view.shape[0], 1, view.shape[2], 1))
            if pair.first in prepared.stats:
                prepared.stats[pair.first].gamma.div_(scale)
                prepared.stats[pair.first].beta.div_(scale)
            largest = max(largest, float(scale.log().abs().max()))
        if largest < tolerance:
            break
    return largest


@torch.no_grad()
def absorb(prepared: Prepared, pairs: list[Pair], mode: Absorb) -> int:
    """Move c = max(0, beta - 3 abs(gamma)) of rectified pairs into the second layer's bias; return how many pairs.

    Exact where the pre-activation exceeds c and nothing is padded, hence "unpadded" by default.
    """
    count = 0
    for pair in pairs:
        entry = prepared.stats.get(pair.first)
        first, second = _layers(prepared, pair)
        # timm's "same" convolutions say padding 0 and pad at run time.
        padded = isinstance(second, nn.Conv2d) and (
            isinstance(second, Conv2dSame) or second.padding not in (0, (0, 0), "valid")
        )
        if mode == "none" or (mode == "unpadded" and padded) or not pair.rectified or entry is None:
            continue
        shift = (entry.beta - 3 * entry.gamma.abs()).clamp_min(0)
        if first.bias is None or not bool(shift.any()):
            continue
        first.bias.sub_(shift)
        entry.beta.sub_(shift)
        add_to_bias(second, through(grouped(second), shift))
        count += 1
    return count


def through(view: Tensor, mean: Tensor) -> Tensor:
    """Output [O] of weights [G, O/G, I/G, taps] for an input that is constant, ``mean`` [I], all over the map."""
    per_group = mean.reshape(view.shape[0], view.shape[2], 1)
    return torch.matmul(view.sum(3), per_group).flatten()


def add_to_bias(layer: nn.Conv2d | nn.Linear, shift: Tensor) -> None:
    """Add ``shift`` [O] to the layer's bias, which is made where there is none."""
    if layer.bias is None:
        layer.bias = nn.Parameter(torch.zeros_like(shift), requires_grad=False)
    layer.bias.data.add_(shift.to(layer.bias.dtype))


def _layers(prepared: Prepared, pair: Pair) -> tuple[nn.Conv2d | nn.Linear, nn.Conv2d | nn.Linear]:
    first, second = (prepared.body.get_submodule(name) for name in (pair.first, pair.second))
    assert isinstance(first, (nn.Conv2d, nn.Linear))
    assert isinstance(second, (nn.Conv2d, nn.Linear))
    return first, second
