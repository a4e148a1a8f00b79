"""The steps of DFQ: weights equalised before quantisation, biases corrected and ranges set from statistics after it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, fx, nn

from methods.quant.equalise import absorb, add_to_bias, equalise, find_pairs, grouped, through, unclip_relu6
from methods.quant.graph import Prepared
from methods.quant.model import QuantModel
from methods.quant.moments import Moments
from methods.quant.quantizers import ActQuantizer

if TYPE_CHECKING:
    from methods.compressors.dfq import DfqParams


def equalised(prepared: Prepared, params: DfqParams, sample: Tensor) -> dict[str, Any]:
    """Everything before quantisation, in place; ``sample`` images measure what giving up ReLU6 changes."""
    graph = prepared.graph
    if graph is None:
        return {"pairs": 0, "reason": prepared.reason}
    report: dict[str, Any] = {"relu6_replaced": 0}
    if params.equalise and params.relu6 == "relu":
        with torch.no_grad():
            before = graph(sample)
            report["relu6_replaced"] = unclip_relu6(graph)
            change = (graph(sample) - before).norm() / before.norm().clamp_min(1e-12)
        report["relu6_logit_change"] = float(change)
    pairs = find_pairs(graph) if params.equalise else []
    report["pairs"] = len(pairs)
    report["largest_log_scale"] = equalise(prepared, pairs, sweeps=params.sweeps)
    report["absorbed"] = absorb(prepared, pairs, params.absorb)
    return report


def input_means(prepared: Prepared, moments: Mapping[fx.Node, Moments]) -> dict[str, Tensor]:
    """{layer: E[x] per input channel}, for the layers whose input batch norm tells of."""
    means: dict[str, Tensor] = {}
    for node in prepared.graph.graph.nodes if prepared.graph is not None else ():
        if node.op == "call_module" and node.args and node.args[0] in moments:
            layer = prepared.body.get_submodule(str(node.target))
            mean = moments[node.args[0]].mean
            channels = getattr(layer, "in_channels", getattr(layer, "in_features", -1))
            # Flattening a map larger than 1x1 repeats each channel.
            if isinstance(layer, (nn.Conv2d, nn.Linear)) and channels % len(mean) == 0:
                means[str(node.target)] = mean.repeat_interleave(channels // len(mean))
    return means


@torch.no_grad()
def correct_biases(
    net: QuantModel,
    correction: Literal["analytic", "empirical", "none"],
    inputs: Mapping[str, Tensor],
    images: Tensor,
) -> list[str]:
    """Take the mean output error of each layer's quantised weight out of its bias; return the layers done by images.

    Analytic: b -= sum over input channels and taps of (Wq - W) E[x], where ``inputs`` holds E[x]; the others by images.
    Empirical: in order of execution, the mean over ``images`` and positions of the layer's output against the
    full-precision network's, with quantised weights in the layers before.
    """
    if correction == "none":
        return []
    by_images = [name for name in net.weights if correction == "empirical" or name not in inputs]
    by_images = [name for name in by_images if not net.weights[name].is_identity]
    net.set_state(False, False)
    targets = mean_outputs(net, by_images, images)
    net.set_state(True, False)
    for name, quantizer in net.weights.items():
        if quantizer.is_identity:
            continue
        layer = net.layer(name)
        if name in targets:
            shift = targets[name] - mean_outputs(net, [name], images)[name]
        else:
            error = quantizer(layer.weight) - layer.weight
            shift = -through(error.reshape(grouped(layer).shape), inputs[name].to(error.device))
        add_to_bias(layer, shift)
    net.set_state(True, True)
    return by_images


class _Stop(Exception):
    """Ends a forward once the last wanted layer has run."""


@torch.no_grad()
def mean_outputs(net: QuantModel, names: Sequence[str], images: Tensor, batch_size: int = 64) -> dict[str, Tensor]:
    """{layer: mean output [O] over images and positions} under the network's present state; each layer runs once."""
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    def note(name: str, out: Tensor) -> None:
        axis = 1 if isinstance(net.layer(name), nn.Conv2d) else out.dim() - 1
        flat = out.detach().movedim(axis, 0).flatten(1)
        sums[name] = sums[name] + flat.sum(1) if name in sums else flat.sum(1)
        counts[name] = counts.get(name, 0) + flat.shape[1]
        if len(names) == 1:
            raise _Stop

    hooks = [net.quant_layer(n).register_forward_hook(lambda _, __, out, n=n: note(n, out)) for n in names]
    try:
        for batch in torch.split(images, batch_size) if names else ():
            with contextlib.suppress(_Stop):
                net(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: sums[name] / counts[name] for name in names}


def ranges_from(net: QuantModel, moments: Mapping[fx.Node, Moments], sigmas: float) -> int:
    """Set activation ranges from batch norm where it tells of the tensor; return how many."""
    known = {node.name: found for node, found in moments.items()}
    count = 0
    for name, quantizer in net.activations.items():
        if name in known and not quantizer.is_identity:
            _set_ends(quantizer, *known[name].range(sigmas))
            count += 1
    return count


def _set_ends(quantizer: ActQuantizer, low: float, high: float) -> None:
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / (quantizer.p - quantizer.n), 1e-8)
    zero = min(max(round(-low / scale), quantizer.n), quantizer.p)
    assert math.isfinite(scale)
    quantizer.signed = low < 0
    quantizer.set_range(scale, float(zero))
