"""DFQ: weights made easy to quantise by equalising neighbouring layers, and quantisation's bias taken out.

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019 (arXiv 1906.04721):
cross-layer equalisation (equations 9 to 11), absorbing high biases (equations 12 to 15), bias correction from batch
norm (equations 16 to 19) or from images (section 4.2.2 and appendix D).

Known deviations:
- Weights have one grid per channel and activation ranges come from the images, as for the other compressors here;
  the preset ``paper`` has one grid per weight tensor, and mean +- 6 standard deviations of batch norm as ranges.
- ReLU6 becomes ReLU, as in the paper; the report says by how much that moves the logits.  ``relu6: keep`` skips those
  pairs instead (the paper has no such option).
- Biases are absorbed only where the second layer pads nothing, since elsewhere it is not exact (``absorb: all``).
- Pairs must be joined by nothing, a ReLU or a leaky ReLU; SiLU and squeeze-excite products stop equalisation.
- Behind other activations than ReLU, E[x] comes from a 64-point quadrature of the normal density.  Layers whose input
  cannot be told from batch norm (the image, products, attention, a max-pool's or a layer's output without one) are
  corrected from the images, listed as ``empirical``.
- The correction for images uses quantised weights and full-precision activations in the layers before.

Published figure (paper, table 2): MobileNetV2 W8A8 per tensor 71.19 % (FP 71.72 %), without DFQ 0.12 %.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, fx, nn

from bench.interfaces import Compressed, ImageSet, MethodParams, ModelHandle, RunContext, Setting, Variant
from methods.compressors._base import ForWeightedLayers
from methods.quant.equalise import Absorb, absorb, add_to_bias, equalise, find_pairs, grouped, through, unclip_relu6
from methods.quant.graph import Prepared, prepare
from methods.quant.model import Options, QuantModel, quantize_prepared
from methods.quant.moments import Moments, propagate
from methods.quant.quantizers import ActQuantizer
from methods.quant.ranges import RangeMethod


class DfqParams(MethodParams):
    """``correction``: analytic (batch norm), empirical (images) or none; ``act_source``: images or statistics."""

    equalise: bool = True
    relu6: Literal["relu", "keep"] = "relu"
    absorb: Absorb = "unpadded"
    correction: Literal["analytic", "empirical", "none"] = "analytic"
    act_source: Literal["images", "statistics"] = "images"
    sigmas: float = Field(default=6.0, gt=0, le=20)
    sweeps: int = Field(default=20, ge=1, le=1000)
    calibration: int = Field(default=256, ge=1)
    range_values: int = Field(default=1 << 16, ge=1 << 8, le=1 << 24)
    weight_range: RangeMethod = "mse"
    act_range: RangeMethod = "mse"
    per_channel: bool = True


class Dfq(ForWeightedLayers):
    """The compressor; see the module's docstring."""

    version = 2
    summary = "cross-layer equalisation and bias correction from batch norm, nearest rounding"
    paper = "Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, ICCV 2019"
    accepts = frozenset({"bits"})
    keeps_zeros = True
    Params: type[MethodParams] = DfqParams
    presets: Mapping[str, Mapping[str, Any]] = {
        "mini": {},
        "thorough": {},
        "paper": {"per_channel": False, "act_source": "statistics", "weight_range": "minmax", "absorb": "all"},
    }

    def compress(
        self, model: ModelHandle, images: ImageSet, setting: Setting, params: Any, ctx: RunContext
    ) -> Compressed:
        """Quantise ``model`` to ``setting``'s bits; the report says what was equalised, absorbed and corrected."""
        data = images.images.to(ctx.device, ctx.dtype)
        sample = data[: params.calibration]
        ctx.report("equalise", 0, 3)
        prepared = prepare(model.module, data[:2])
        report = _equalise(prepared, params, sample[:64])
        moments = propagate(prepared.graph, prepared.stats) if prepared.graph is not None else {}
        inputs = _input_means(prepared, moments)
        options = Options(params.weight_range, params.act_range, per_channel=params.per_channel)
        net = quantize_prepared(prepared, setting, options).to(ctx.device)
        ctx.report("calibrate", 1, 3)
        net.calibrate(sample, count=params.calibration, max_values=params.range_values)
        if params.act_source == "statistics":
            report["ranges_from_statistics"] = _ranges(net, moments, params.sigmas)
        ctx.report("correct", 2, 3)
        report["empirical"] = correct_biases(net, params.correction, inputs, sample)
        net.freeze()
        net.eval().requires_grad_(False)
        scales, zero_points = net.parameter_count()
        protocol = {**net.protocol(), "activation_source": params.act_source}
        variant = Variant(setting, net, net.layer_bits(), scales, zero_points, nonzero=net.nonzero(), protocol=protocol)
        cost = len(sample) * (1.0 + 0.5 * len(report["empirical"])) + len(sample[:64])
        return Compressed((variant,), report, cost)


def _equalise(prepared: Prepared, params: DfqParams, sample: Tensor) -> dict[str, Any]:
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


def _input_means(prepared: Prepared, moments: Mapping[fx.Node, Moments]) -> dict[str, Tensor]:
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


def _ranges(net: QuantModel, moments: Mapping[fx.Node, Moments], sigmas: float) -> int:
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


METHOD = Dfq()
