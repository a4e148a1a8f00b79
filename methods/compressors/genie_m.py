"""GENIE-M: the step of each weight grid is learned together with how the weights round on it, activations as in QDrop.

Jeon et al., "GENIE: Show Me the Data for Quantization", CVPR 2023 (arXiv 2212.04780), its quantiser; its images are the
source `genie`.  AdaRound's soft weight has the step twice, in what is rounded down and in what the integers are
multiplied by.  Here the first is cut off at the start's value s0, so that no gradient passes through the floor:

    W_hat = s * (clip(floor(W / s0) + h(V) + z, n, p) - z)

and s, V and the activations' steps are learned at once.  Blocks, random drop and regulariser are QDrop's; lambda is 1.

Known deviations:
- s is s0 times a learned ratio that starts at 1, at the rate ``travel`` / iterations falling along a half cosine: the
  published absolute rate (Adam, 1e-4 for 20000) would be several times the step of small weights in a short run.
- Activation grids are affine (authors: symmetric); weight grids are affine, per channel, found by least squared error.
- The first layer keeps nearest rounding (8 bits).
- Guard (not in the paper): a block that learning made worse over all images goes back to nearest rounding and s0.

Measured once (W2A4, 256 training images, held-out test images, one seed; ResNet-34-like, MobileNetV2): travel 0.1, 0.5,
2: 90.9, 90.7, 90.7 and 88.6, 88.8, 88.8 %; QDrop 91.5 and 88.2.
Published figures: of ImageNet's networks; none is of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from bench.interfaces import Compressed, ImageSet, MethodParams, ModelHandle, RunContext, Setting
from methods.compressors._base import Blockwise
from methods.compressors._recipes import JointParams, compress, joint_recipe, rule_for


class GenieMParams(JointParams):
    """As JointParams; ``travel`` is the rate of the weight steps' ratios times the iterations."""

    penalty: Annotated[float, Field(ge=0, le=100)] | Literal["auto"] = 1.0
    travel: float = Field(default=0.5, ge=0, le=100)


class GenieM(Blockwise):
    """The compressor; see the module's docstring."""

    version = 1
    summary = "learned rounding, weight steps and activation steps at once, activations quantised at random"
    paper = "Jeon et al., GENIE: Show Me the Data for Quantization, CVPR 2023"
    accepts = frozenset({"bits"})
    keeps_zeros = True
    Params: type[MethodParams] = GenieMParams
    presets: Mapping[str, Mapping[str, Any]] = {
        "mini": {},
        "thorough": {"iterations": 700},
        "paper": {"iterations": 20_000, "range_values": 1 << 22},
    }

    def compress(
        self, model: ModelHandle, images: ImageSet, setting: Setting, params: Any, ctx: RunContext
    ) -> Compressed:
        """Quantise ``model`` to ``setting``'s bits; the report holds a row per unit."""
        from methods.compressors._scaled_rounding import ScaledRule

        rule = ScaledRule(rule_for(params, model), params.travel / max(params.iterations, 1))
        return compress(model, images, setting, params, joint_recipe(params, rule), ctx)


METHOD = GenieM()
