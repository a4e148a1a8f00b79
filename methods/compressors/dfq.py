"""DFQ: weights made easy to quantise by equalising neighbouring layers, and quantisation's bias taken out.

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019 (arXiv 1906.04721):
cross-layer equalisation (equations 9 to 11), absorbing high biases (equations 12 to 15), bias correction from batch
norm (equations 16 to 19) or from images (section 4.2.2 and appendix D).

Known deviations:
- Data-free as the preset ``paper`` only, which has one grid per weight tensor and mean +- 6 standard deviations of
  batch norm as activation ranges.  Elsewhere weights have one grid per channel and activation ranges come from the
  images, as for the other compressors here.
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

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from bench.interfaces import Compressed, ImageSet, MethodParams, ModelHandle, RunContext, Setting
from methods.compressors._base import ForWeightedLayers, quantised
from methods.quant.choices import Absorb, RangeMethod


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
    act_range: RangeMethod = "mse-2d"
    per_channel: bool = True


class Dfq(ForWeightedLayers):
    """The compressor; see the module's docstring."""

    version = 3
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
        from methods.compressors._dfq import correct_biases, equalised, input_means, ranges_from
        from methods.quant.graph import prepare
        from methods.quant.model import Options, Sampling, quantize_prepared
        from methods.quant.moments import propagate

        data = images.images.to(ctx.device, ctx.dtype)
        sample = data[: params.calibration]
        ctx.report("equalise", 0, 3)
        prepared = prepare(model.module, data[:2])
        report = equalised(prepared, params, sample[:64])
        moments = propagate(prepared.graph, prepared.stats) if prepared.graph is not None else {}
        inputs = input_means(prepared, moments)
        options = Options(params.weight_range, params.act_range, per_channel=params.per_channel)
        net = quantize_prepared(prepared, setting, options).to(ctx.device)
        ctx.report("calibrate", 1, 3)
        net.calibrate(sample, Sampling(params.calibration, params.range_values))
        if params.act_source == "statistics":
            report["ranges_from_statistics"] = ranges_from(net, moments, params.sigmas)
        ctx.report("correct", 2, 3)
        report["empirical"] = correct_biases(net, params.correction, inputs, sample)
        net.freeze()
        variant = quantised(net, setting, activation_source=params.act_source)
        cost = len(sample) * (1.0 + 0.5 * len(report["empirical"])) + len(sample[:64])
        return Compressed((variant,), report, cost)


METHOD = Dfq()
