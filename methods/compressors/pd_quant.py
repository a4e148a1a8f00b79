"""PD-Quant: QDrop's rounding and activation steps, learned for the network's answers as well as for the unit's output.

Liu et al., "PD-Quant: Post-Training Quantization based on Prediction Difference Metric", CVPR 2023 (arXiv 2212.07048).
To QDrop's loss of a unit, whose squared error stays as the regulariser, comes the prediction difference

    w KL(softmax(f(x) / T) || softmax(f_q(x) / T))

f is the full-precision network and f_q the one whose units before are quantised, whose unit is as it is being learned
and whose rest is in full precision.  Before a unit is learned, its full-precision inputs are moved until what its batch
norms read has the stored means and deviations, without going far from where they were (distribution correction); its
targets are what the full-precision unit makes of them.

What the paper leaves open, or could not be established from it, and the reading here (the authors' script's where it
says):
- ``prediction`` w 10 and ``reconstruction`` 1: the script adds the divergence divided by 0.1.
- ``temperature`` T: auto is 1 for MobileNet and MNasNet, else 4, as in the script.
- ``closeness``, the weight of the squared distance from the activations there were: auto is the script's reciprocals
  (MobileNet 200, MNasNet 1000, RegNet 100, else 50).
- ``statistics``: over each image's map (``image``, as the script) or over the batch.
- The divergence is of inputs that are not mixed with full-precision ones; activations inside the unit drop (script).
- The unbiased variance; 1e-6 is added to it.

Known deviations:
- ``mini`` runs 280 iterations as `qdrop`, and moves activations for 40 at the rate 0.5 / 40 along a half cosine; the
  script 20000 and 500 at 1e-3, a tenth of it on a plateau: lr * T is the published one.  Rounding has QDrop's rate; the
  script's is three times that (preset ``paper``), with lambda per architecture.
- ``mini`` takes the divergence of 8 of a batch's 32 images: a pass through all that follows a unit is what costs most.
- What batch norms read is told from the folded layers' outputs; channels that gamma scales to nothing are left out.
- Activation ranges are one full-precision pass's, as in `qdrop` (the script: unit by unit behind the quantised prefix).
- The first layer keeps nearest rounding (8 bits); the images, its inputs, stay where its unit learns nothing.
- Where a network cannot be traced, no batch norm lies inside a unit: nothing is moved.
- Guards (not in the paper): a batch whose statistics did not come nearer is not moved; a unit whose squared error grew
  over all images goes back to nearest rounding.

Measured once (W2A4, 256 training images, held-out test images, one seed; ResNet-34-like, MobileNetV2): 91.8 and 88.3 %;
the divergence of whole batches 91.4, 89.0; no correction 91.0, 89.1; no divergence 91.3, 87.8, of batch statistics
90.7, 88.4; QDrop 91.5 and 88.2.  An interval is some 1.5 points to either side, so neither part's gain shows here.
Published figures (arXiv's first version by the authors' table, ImageNet, real images): W4A4 ResNet-18 69.30 %,
MobileNetV2 68.33 %; W2A4 65.07 %, 55.27 %.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from bench.errors import NotApplicable
from bench.interfaces import Compressed, ImageSet, MethodParams, ModelHandle, RunContext, Setting
from methods.compressors._base import Blockwise
from methods.compressors._recipes import JointParams, by_architecture, compress, joint_recipe, rule_for

if TYPE_CHECKING:
    from methods.compressors._correction import Correction
    from methods.compressors._prediction import Prediction

TEMPERATURE = {"mnasnet": 1.0, "mobilenet": 1.0}
"""T = auto: the authors' script, where it is not 4."""

CLOSENESS = {"mnasnet": 1000.0, "mobilenet": 200.0, "regnet": 100.0}
"""closeness = auto: the reciprocals of the authors' script, where they are not 50."""

CORRECTION_TRAVEL = 0.5
"""lr * T of the moved activations as published: 1e-3 for 500 iterations."""


class PDQuantParams(JointParams):
    """As JointParams; ``prediction`` weighs the divergence at ``temperature`` (0: off), which is taken of
    ``prediction_batch`` images of each batch, ``reconstruction`` the squared error; ``correction_iterations`` (0: off)
    move the activations, ``closeness`` holds them, ``statistics`` says over what means and deviations are taken."""

    prediction: float = Field(default=10.0, ge=0, le=1e6)
    prediction_batch: int = Field(default=8, ge=1, le=4096)
    reconstruction: float = Field(default=1.0, ge=0, le=1e6)
    temperature: Annotated[float, Field(gt=0, le=1000)] | Literal["auto"] = "auto"
    correction_iterations: int = Field(default=40, ge=0, le=100_000)
    closeness: Annotated[float, Field(ge=0, le=1e6)] | Literal["auto"] = "auto"
    statistics: Literal["image", "batch"] = "image"


class PDQuant(Blockwise):
    """The compressor; see the module's docstring."""

    version = 1
    summary = "learned rounding and activation steps for the answers too, on inputs moved to the stored statistics"
    paper = "Liu et al., PD-Quant: Post-Training Quantization based on Prediction Difference Metric, CVPR 2023"
    accepts = frozenset({"bits"})
    keeps_zeros = True
    Params: type[MethodParams] = PDQuantParams
    presets: Mapping[str, Mapping[str, Any]] = {
        "mini": {},
        "thorough": {"iterations": 700, "prediction_batch": 16, "correction_iterations": 100},
        "paper": {
            "iterations": 20_000,
            "prediction_batch": 32,
            "correction_iterations": 500,
            "lr": 3e-3,
            "penalty": "auto",
            "range_values": 1 << 22,
        },
    }

    def check(self, params: Any, model: ModelHandle) -> None:
        """As the base, and NotApplicable when activations shall be moved to statistics that no batch norm has."""
        from torch.nn.modules.batchnorm import _BatchNorm

        super().check(params, model)
        parts = model.module.modules()
        if params.correction_iterations and not any(
            isinstance(part, _BatchNorm) and part.running_mean is not None for part in parts
        ):
            raise NotApplicable(
                "the network has no batch norm with running statistics to correct activations to",
                where=model.name,
                got=f"correction_iterations: {params.correction_iterations}",
                expected="0 for this network",
            )

    def compress(
        self, model: ModelHandle, images: ImageSet, setting: Setting, params: Any, ctx: RunContext
    ) -> Compressed:
        """Quantise ``model`` to ``setting``'s bits; the report holds a row per unit."""
        from dataclasses import replace

        recipe = replace(
            joint_recipe(params, rule_for(params, model)),
            prediction=prediction_for(params, model),
            correction=correction_for(params, model),
        )
        return compress(model, images, setting, params, recipe, ctx)


def prediction_for(params: PDQuantParams, model: ModelHandle) -> Prediction | None:
    """The terms with the temperature resolved; None where they are QDrop's."""
    from methods.compressors._prediction import Prediction

    if not params.prediction and params.reconstruction == 1:
        return None
    temperature = by_architecture(params.temperature, model, TEMPERATURE, 4.0)
    images = min(params.prediction_batch, params.batch)
    return Prediction(params.prediction, temperature, images, params.reconstruction)


def correction_for(params: PDQuantParams, model: ModelHandle) -> Correction | None:
    """The correction with its weight resolved; None where it is off."""
    from methods.compressors._correction import Correction

    count = params.correction_iterations
    if not count:
        return None
    closeness = by_architecture(params.closeness, model, CLOSENESS, 50.0)
    return Correction(count, CORRECTION_TRAVEL / count, closeness, params.statistics, params.batch)


METHOD = PDQuant()
