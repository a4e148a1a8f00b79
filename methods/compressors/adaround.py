"""AdaRound: weights round up or down as the layer's output asks, one layer at a time.

Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization", ICML 2020 (arXiv 2004.10568).
Equation 21 is the relaxed problem (squared error of the layer's output plus the regulariser), 22 the soft weight, 23
the rectified sigmoid, 24 the regulariser, 25 the asymmetric form with the activation function inside: the input comes
from the network with the layers before already quantised, the target from the full-precision network.

Known deviations:
- ``mini`` runs 200 iterations with Adam's rate 20 / iterations = 0.1 (the paper: 10000 iterations);
  ``paper`` follows the benchmark's source, MixMix: 20000 at 1e-3.
- lambda is 0.1 (MixMix's appendix; the paper 0.01); ``penalty: auto`` takes the values of BRECQ's public settings.
- Weights have one affine grid per channel (the paper: one symmetric grid per tensor).
- Activations are calibrated, not learned, on full-precision inputs before the weights round.
- A layer's loss includes its activation function only where the graph shows the activation as the layer's sole user;
  a convolution before a residual sum matches the convolution's own output.
- The first layer keeps nearest rounding (8 bits), as in BRECQ.
- Ranges are searched on 2^16 values per tensor of 256 images, activations' over steps and zero points, and hold zero.
- Maps are quantised before squeeze-excite's gate multiplies them and after it; tensors inside, the gate among them,
  have 8 bits.
- Guard (not in the paper): a layer whose error over all images is larger than nearest rounding's goes back to it.

Published figure (paper, abstract): 4-bit weights within 1 point of full precision on ResNet-18 and ResNet-50.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from bench.interfaces import Compressed, ImageSet, MethodParams, ModelHandle, RunContext, Setting
from methods.compressors._base import ForWeightedLayers
from methods.compressors._recipes import RoundingParams, compress, rule_for


class AdaRoundParams(RoundingParams):
    """As RoundingParams; units are single layers, so ``max_layers`` is 1."""

    max_layers: int = Field(default=1, ge=1, le=1)


class AdaRound(ForWeightedLayers):
    """The compressor; see the module's docstring."""

    version = 3
    summary = "learned rounding of weights, layer by layer"
    paper = "Nagel et al., Up or Down? Adaptive Rounding for Post-Training Quantization, ICML 2020"
    accepts = frozenset({"bits"})
    keeps_zeros = True
    Params: type[MethodParams] = AdaRoundParams
    presets: Mapping[str, Mapping[str, Any]] = {
        "mini": {},
        "thorough": {"iterations": 500},
        "paper": {"iterations": 20_000, "range_values": 1 << 22},
    }

    def compress(
        self, model: ModelHandle, images: ImageSet, setting: Setting, params: Any, ctx: RunContext
    ) -> Compressed:
        """Quantise ``model`` to ``setting``'s bits; the report holds one row per layer."""
        from methods.compressors._blocks import Recipe

        recipe = Recipe(rule_for(params, model), params.iterations, params.batch, guard=params.guard)
        return compress(model, images, setting, params, recipe, ctx)


METHOD = AdaRound()
