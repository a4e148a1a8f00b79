"""FlexRound: weights are divided by learned numbers before they round, so large ones can move further than by one.

Lee et al., "FlexRound: Learnable Rounding based on Element-wise Division for Post-Training Quantization", ICML 2023
(arXiv 2306.00317).  Per layer, with the grid's step s1, one number S2 for each weight, one s3 for each output channel
and, in convolutions, one s4 for each input channel, all positive and all learned:

    W_hat = s1 * round(W / (s1 * S2 * s3 * s4))                       (equation 2; linear layers: no s4)

Rounding is passed straight through, so a weight's own number moves in proportion to the weight.  No regulariser: what
is learned is what is used.  Blocks, their squared error, steps of activations and the random drop are QDrop's.

Known deviations:
- s1 over its start, S2, s3, s4 are exp of variables that start at 0 (the paper asks for positive numbers), so one rate
  serves all.
- ``mini`` runs 280 iterations at the rate ``travel`` / 280; the paper's rates differ by network and are not followed.
- The grid is affine and its step is per channel, found by least squared error; its zero point stays.
- A weight that is exactly zero stays zero, as dividing leaves it.
- The first layer keeps nearest rounding (8 bits).
- Guard (not in the paper): a block that learning made worse over all images goes back to nearest rounding.

Measured once (W2A4, 256 training images, held-out test images, one seed; ResNet-34-like, MobileNetV2): travel 0.2, 1,
4: 89.1, 90.5, 91.0 and 81.8, 86.3, 86.2 %; QDrop 91.5 and 88.2, so the claim does not show at 280 iterations.
Published claim (abstract): learning a common step together with a number for each weight rounds better than adding to
the weight (AdaRound), since weights of large magnitude may reach more than their two neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from bench.interfaces import Compressed, ImageSet, MethodParams, ModelHandle, RunContext, Setting
from methods.compressors._base import Blockwise
from methods.compressors._recipes import DropParams, compress, joint_recipe


class FlexRoundParams(DropParams):
    """As DropParams; ``travel`` is the rate of the divisors' logarithms times the iterations."""

    travel: float = Field(default=1.0, gt=0, le=100)


class FlexRound(Blockwise):
    """The compressor; see the module's docstring."""

    version = 1
    summary = "weights divided by learned numbers before rounding, activation steps with them"
    paper = "Lee et al., FlexRound: Learnable Rounding based on Element-wise Division for PTQ, ICML 2023"
    accepts = frozenset({"bits"})
    keeps_zeros = True
    Params: type[MethodParams] = FlexRoundParams
    presets: Mapping[str, Mapping[str, Any]] = {
        "mini": {},
        "thorough": {"iterations": 700},
        "paper": {"iterations": 20_000, "range_values": 1 << 22},
    }

    def compress(
        self, model: ModelHandle, images: ImageSet, setting: Setting, params: Any, ctx: RunContext
    ) -> Compressed:
        """Quantise ``model`` to ``setting``'s bits; the report holds a row per unit."""
        from methods.compressors._division import DivisionRule

        rule = DivisionRule(params.travel / max(params.iterations, 1))
        return compress(model, images, setting, params, joint_recipe(params, rule), ctx)


METHOD = FlexRound()
