"""BRECQ: weights round as the block's output asks, then activation steps are learned.

Li et al., "BRECQ: Pushing the Limit of Post-Training Quantization by Block Reconstruction", ICLR 2021
(arXiv 2102.05426); the compressor of MixMix (Li et al., ICCV 2021), which gives the settings followed here.  Equation
10 of the paper is the block objective; weights are AdaRound's (its equations 22 to 24), activation steps have LSQ's
gradient (without LSQ's gradient scale).  Blocks are visited in execution order; stage 2 begins when all are rounded.

Known deviations:
- ``mini`` runs 200 + 80 iterations at rates 20 / 200 and 0.2 / 80 (paper: 20000 at 1e-3 and 5000 at 4e-5, cosine);
  the products lr * T are the published ones.
- The objective is the plain squared error, the public script's default; ``objective: fisher`` weighs it as equation 10
  does, by squared gradients divided by their mean (the script adds 1 to the gradients instead), in stage 1.
- lambda 0.1 from MixMix's appendix; ``penalty: auto`` takes BRECQ's public values per architecture.  At 200 iterations
  0.1, 0.3 and 1 end alike on four zoo networks and held-out images (W2A4, three seeds: 88.1, 88.1, 88.2 %;
  suites/tuning/brecq.yaml), though at 0.1 some five in a hundred rounding variables of a small first block end
  undecided.
- MixMix prints (appendix, equation 9) a plain sigmoid and an unsquared norm; BRECQ's stretched sigmoid and squared
  norm are used.
- The classifier's input has 8 bits (BRECQ's code leaves it at the activations' bits on ResNets).
- The first layer keeps nearest rounding; its output's step is learned.
- ``step_lr`` follows the paper's text (4e-5) and squared error, not the script's 4e-4 and L2.4.
- Activation ranges are chosen after stage 1, each tensor's behind the network quantised so far, as the script does; the
  script searches one end at a time on 64 images, here step and zero point together (``mse-2d``) on 256.
- Stage 2 sees full-precision inputs, as the script (the paper is silent); ``step_inputs: quantised`` feeds the
  quantised prefix's output instead.
- Stage 2 leaves 8-bit steps as calibrated: an update of the short run's rate, 2.5e-3, is two thirds of the step of a
  squeeze-excite gate (1/255).
- Ranges are searched on 2^16 values per tensor of 256 images, and hold zero.
- Maps are quantised before squeeze-excite's gate multiplies them and after it; tensors inside, the gate among them,
  have 8 bits.
- Guard (not in the paper): a block that learning made worse over all images goes back to nearest rounding, or to its
  calibrated steps.

Published figures (MixMix, tables 3 and 6, ImageNet, real data): ResNet-50 W4A4 74.72 %, W2A4 68.87 % (FP 77.00 %);
MobileNetV2 W4A4 64.61 % (72.49 %); MNasNet W4A4 58.86 % (73.52 %).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from bench.interfaces import Compressed, ImageSet, MethodParams, ModelHandle, RunContext, Setting
from methods.compressors._base import Blockwise
from methods.compressors._recipes import RoundingParams, StepParams, compress, rule_for, step_rate


class BrecqParams(StepParams, RoundingParams):
    """As RoundingParams, the ``objective`` of stage 1, ``step_iterations`` of stage 2 (0 leaves the calibrated steps),
    and behind which prefix, the full-precision or the quantised one, activation ranges are chosen and stage 2's units
    are learned."""

    objective: Literal["squared", "fisher"] = "squared"
    step_iterations: int = Field(default=80, ge=0, le=1_000_000)
    range_inputs: Literal["quantised", "full"] = "quantised"
    step_inputs: Literal["quantised", "full"] = "full"


class Brecq(Blockwise):
    """The compressor; see the module's docstring."""

    version = 4
    summary = "learned rounding of weights block by block, then learned activation steps"
    paper = "Li et al., BRECQ: Pushing the Limit of Post-Training Quantization by Block Reconstruction, ICLR 2021"
    accepts = frozenset({"bits"})
    keeps_zeros = True
    Params: type[MethodParams] = BrecqParams
    presets: Mapping[str, Mapping[str, Any]] = {
        "mini": {},
        "thorough": {"iterations": 500, "step_iterations": 200},
        "paper": {"iterations": 20_000, "step_iterations": 5_000, "range_values": 1 << 22},
    }

    def compress(
        self, model: ModelHandle, images: ImageSet, setting: Setting, params: Any, ctx: RunContext
    ) -> Compressed:
        """Quantise ``model`` to ``setting``'s bits; the report holds a row per unit and stage."""
        from methods.compressors._blocks import Recipe
        from methods.quant.calibrate import Sampling

        recipe = Recipe(
            rule_for(params, model),
            params.iterations,
            params.batch,
            step_iterations=params.step_iterations,
            step_lr=step_rate(params, params.step_iterations),
            step_prefix=params.step_inputs == "quantised",
            ranges=Sampling(params.calibration, params.range_values) if params.range_inputs == "quantised" else None,
            fisher=params.objective == "fisher",
            guard=params.guard,
        )
        return compress(model, images, setting, params, recipe, ctx)


METHOD = Brecq()
