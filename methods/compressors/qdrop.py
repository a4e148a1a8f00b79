"""QDrop: rounding and activation steps are learned together while activations are quantised at random.

Wei et al., "QDrop: Randomly Dropping Quantization for Extremely Low-bit Post-Training Quantization", ICLR 2022
(arXiv 2203.05740).  Equation 6 is the drop: each element of a block's input comes from the quantised prefix with
probability ``keep``, else from the full-precision one, and each activation quantiser inside passes an element on
unquantised with probability 1 - ``keep``.  When the network is used, everything is quantised.  Rounding is AdaRound's,
blocks are BRECQ's.

Known deviations:
- ``mini`` runs 280 iterations (BRECQ's 200 + 80) at rates 20 / 280 and 0.8 / 280, the steps' falling along a half
  cosine; the paper 20000 at 1e-3 and 4e-5: lr * T is the published one.
- Activation ranges are searched over 80 steps and all zero points on one full-precision pass (the paper: 100 ranges).
- Steps of 8 bits stay as calibrated: one update of the short run's rate is two thirds of a squeeze-excite gate's step.
- The first layer's output has 8 bits (QDrop's code: the activations' bits); the first layer keeps nearest rounding.
- lambda 0.1; ``penalty: auto`` takes the values per architecture.
- Guard (not in the paper): a block that learning made worse over all images, with everything quantised, goes back.

Published figures (paper, ImageNet, real images): W4A4 ResNet-18 69.13 %, ResNet-50 75.12 %,
MobileNetV2 67.83 %; W2A4 64.38 %, 70.31 %, 54.29 %.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.interfaces import Compressed, ImageSet, MethodParams, ModelHandle, RunContext, Setting
from methods.compressors._base import Blockwise
from methods.compressors._recipes import JointParams, compress, joint_recipe, rule_for


class QDrop(Blockwise):
    """The compressor; see the module's docstring."""

    version = 3
    summary = "learned rounding and activation steps at once, activations quantised at random"
    paper = "Wei et al., QDrop: Randomly Dropping Quantization for Extremely Low-bit PTQ, ICLR 2022"
    accepts = frozenset({"bits"})
    keeps_zeros = True
    Params: type[MethodParams] = JointParams
    presets: Mapping[str, Mapping[str, Any]] = {
        "mini": {},
        "thorough": {"iterations": 700},
        "paper": {"iterations": 20_000, "range_values": 1 << 22},
    }

    def compress(
        self, model: ModelHandle, images: ImageSet, setting: Setting, params: Any, ctx: RunContext
    ) -> Compressed:
        """Quantise ``model`` to ``setting``'s bits; the report holds a row per unit."""
        return compress(model, images, setting, params, joint_recipe(params, rule_for(params, model)), ctx)


METHOD = QDrop()
