"""GPTQ: weights are rounded one input after the other, and what is left takes up the error; no gradient, no iteration.

Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers", ICLR 2023 (arXiv
2210.17323), which is OBQ (Frantar and Alistarh, "Optimal Brain Compression", NeurIPS 2022, arXiv 2208.11580) with one
order of the inputs for all rows.  Per layer, with X what it reads ([D, positions], im2col of a convolution),

    H = 2 X X'                                              (GPTQ, equation 1; the factor 2 cancels)
    q_i = quant(w_i),  e_i = (w_i - q_i) / [H^-1]_ii,  w_F <- w_F - e_i [H^-1]_{i,F}       (equations 2 and 3)

where the rows of H^-1 for the inputs F that are left come from one Cholesky factor (GPTQ, algorithm 1).  The layer's
error on these images, tr((W - Q) H (W - Q)'), is all it looks at: of the images only their second moments matter, so
its rows say how well a source's images give these.

Known deviations:
- The paper quantises language models; OBQ's convolutions are treated by GPTQ's algorithm, one H per group.
- Layers are done in order of execution, each on inputs of the quantised prefix (the authors' ``true-sequential``); the
  authors' default collects a whole block's inputs at once.
- ``asymmetric`` (not in the paper, off in ``paper``): a layer aims at what the full-precision network gives, as in
  AdaRound's equation 25, not at its own full-precision output on inputs that are wrong already: with X0 what it would
  read there, W + W (X0 - X) X' (X X')^-1 takes the place of W.  Without it errors add up along a network.  At W2A4, on
  training images and held-out test images, one seed, ResNet-34-like and MobileNetV2: 80.3 and 32.2 %, with it 90.5 and
  85.7 (nearest 64.2, 10.3; AdaRound 90.4, 88.2).  At W4A4 it is not needed: with it 92.7 and 90.8, without it and with
  ``damp`` 0.1 93.0 and 91.8.
- ``order: energy`` takes inputs by falling H_ii (the authors' ``act-order``, which came after the paper); ``given`` as
  they lie, the paper's (77.3 and 24.5 above, without asymmetry).
- Weights of inputs that are zero on all images round to nearest (the authors set them to zero): other images may use
  them.
- Grids are this benchmark's (affine, per channel, least squared error), activations are calibrated as in rtn.
- Weights that are exactly zero stay zero, and what that costs is passed on as well.

Published figures: GPTQ's are of language models, which none of ours compares with; OBC's tables hold convolutional
networks with activations in floating point.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from bench.interfaces import Compressed, ImageSet, MethodParams, ModelHandle, RunContext, Setting
from methods.compressors._base import ForWeightedLayers, quantised
from methods.quant.choices import RangeMethod


class GptqParams(MethodParams):
    """``damp``: share of H's mean diagonal added to it; ``order`` of the inputs; ``asymmetric``:
    towards the full-precision network's output; ``calibration`` images at most choose
    the activation ranges, from ``range_values`` values per tensor (both as in rtn)."""

    damp: float = Field(default=0.01, gt=0, le=1)
    order: Literal["given", "energy"] = "energy"
    asymmetric: bool = True
    calibration: int = Field(default=256, ge=1)
    range_values: int = Field(default=1 << 16, ge=1 << 8, le=1 << 24)
    weight_range: RangeMethod = "mse"
    act_range: RangeMethod = "mse-2d"
    max_layers: int = Field(default=8, ge=1, le=64)


class Gptq(ForWeightedLayers):
    """The compressor; see the module's docstring."""

    version = 1
    summary = "weights rounded in closed form by the second moments of what their layers read"
    paper = (
        "Frantar et al., GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers, ICLR 2023"
    )
    accepts = frozenset({"bits"})
    keeps_zeros = True
    Params: type[MethodParams] = GptqParams
    presets: Mapping[str, Mapping[str, Any]] = {
        "mini": {},
        "thorough": {},
        "paper": {"order": "given", "asymmetric": False, "range_values": 1 << 22},
    }

    def compress(
        self, model: ModelHandle, images: ImageSet, setting: Setting, params: Any, ctx: RunContext
    ) -> Compressed:
        """Round ``model`` to ``setting``'s bits; the report holds each layer's relative output error."""
        from methods.compressors._second_moments import round_layers
        from methods.quant.model import Options, Sampling, quantize_with

        data = images.images.to(ctx.device, ctx.dtype)
        options = Options(params.weight_range, params.act_range, max_layers=params.max_layers)
        net = quantize_with(model.module, data[:2], setting, options).to(ctx.device)
        net.calibrate(data, Sampling(params.calibration, params.range_values))
        rows, passes = round_layers(
            net, data, params.damp, by_energy=params.order == "energy", asymmetric=params.asymmetric, ctx=ctx
        )
        net.set_state(True, True)
        net.freeze()
        cost = min(params.calibration, len(data)) + passes * len(data)
        return Compressed((quantised(net, setting),), {"layers": rows, "undone": net.undone}, cost)


METHOD = Gptq()
