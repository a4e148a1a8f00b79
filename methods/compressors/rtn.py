"""RTN: nearest rounding after batch-norm folding, ranges by search; the baseline every learned rounding must beat.

No paper of its own; Nagel et al., "A White Paper on Neural Network Quantization" (arXiv 2106.08295), equations 4 to 7
and section 3.1, describes it.  The range search (80 shrunk min-max ranges, exponent 2.4) is BRECQ's (arXiv 2102.05426),
the activation placement too; activations are calibrated in one full-precision pass and searched over zero points
besides, as QDrop does.  Weights need no data.

Known deviations:
- Activations are not calibrated progressively behind a quantised prefix; one full-precision pass serves all tensors.
- A random subset of ``range_values`` values per tensor is searched (``paper``: 2^22).
- Zero always lies in the range; BRECQ's search does not force it.

Published figure: MixMix (ICCV 2021) prints none for plain rounding; ours stands in the board's rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from bench.interfaces import Compressed, ImageSet, MethodParams, ModelHandle, RunContext, Setting
from methods.compressors._base import ForWeightedLayers, quantised
from methods.quant.choices import RangeMethod

if TYPE_CHECKING:
    from methods.quant.model import QuantModel


class RtnParams(MethodParams):
    """``calibration`` images at most choose the activation ranges, from ``range_values`` values per tensor."""

    calibration: int = Field(default=256, ge=1)
    range_values: int = Field(default=1 << 16, ge=1 << 8, le=1 << 24)
    weight_range: RangeMethod = "mse"
    act_range: RangeMethod = "mse-2d"
    per_channel: bool = True
    max_layers: int = Field(default=8, ge=1, le=64)


class Rtn(ForWeightedLayers):
    """The compressor; see the module's docstring."""

    version = 3
    summary = "nearest rounding; activation ranges from one pass over the images"
    paper = "Nagel et al., A White Paper on Neural Network Quantization, arXiv 2106.08295 (2021)"
    accepts = frozenset({"bits"})
    keeps_zeros = True
    Params: type[MethodParams] = RtnParams
    presets: Mapping[str, Mapping[str, Any]] = {
        "mini": {},
        "thorough": {},
        "paper": {"range_values": 1 << 22},
    }

    def compress(
        self, model: ModelHandle, images: ImageSet, setting: Setting, params: Any, ctx: RunContext
    ) -> Compressed:
        """Round ``model`` to ``setting``'s bits; the report holds each layer's relative weight error."""
        from methods.quant.model import Options, Sampling, quantize_with

        data = images.images.to(ctx.device, ctx.dtype)
        options = Options(
            params.weight_range, params.act_range, per_channel=params.per_channel, max_layers=params.max_layers
        )
        net = quantize_with(model.module, data[:2], setting, options).to(ctx.device)
        ctx.report("calibrate", 0, 1)
        net.calibrate(data, Sampling(params.calibration, params.range_values))
        ctx.report("calibrate", 1, 1)
        net.freeze()
        cost = float(min(params.calibration, len(data)))
        return Compressed((quantised(net, setting),), {"weight_error": weight_errors(net)}, cost)


def weight_errors(net: QuantModel) -> dict[str, float]:
    """Relative L2 error of each layer's quantised weight."""
    found = {}
    for name, quantizer in net.weights.items():
        weight = net.layer(name).weight.detach()
        found[name] = float((quantizer(weight) - weight).norm() / weight.norm().clamp_min(1e-12))
    return found


METHOD = Rtn()
