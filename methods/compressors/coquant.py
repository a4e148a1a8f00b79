"""CoQuant: one network at several bit-widths, each taught by a wider one whose blocks stand in for its own.

Sun et al., "Improved Techniques for Quantizing Deep Networks with Adaptive Bit-Widths", of which the supplementary
material alone was at hand: Algorithm 1 is the training, Table 2 the hyper-parameters, section 4 lambda, section 5 the
widths that were not trained, section 7 the weights.  In each batch, widest first: the widest learns from what all learn
from; each other one answers with some blocks at its teacher's width (weights, clips, batch normalisation) and learns,
besides, by the KL from its teacher's answer.  The teacher is the wider width of least U + lambda D.

What the supplement leaves open, with the choice made (other readings are parameters):
- Equation 4: U is the mean entropy of the answers (``confidence: labels``: their cross-entropy with the labels), D the
  root of the summed squared differences of the quantised weights within [-1, 1].  D grows with the root of the number
  of weights, so it is multiplied by sqrt(11 million / weights) here, by which the published lambda means the same on a
  small network (``scaled: false``: as it is).
- Which p_i the deeper blocks have: from p_1 in the first block to 1 in the last (``depth: constant``: p_1 in
  all).  Each block is drawn anew for each width and batch.  Blocks are the units that reconstruction works on
  (docs/methods/quantisation.md#units), residual blocks where there are any; stem and classifier are never swapped.
- A swapped block's parameters learn from the student's pass too (``swapped_gradient: inputs``: they do not).  Running
  statistics follow the batches only in blocks at the student's own width.
- A width teaches by what it answered in this batch, be it with swapped blocks (``answers: fresh``: by an answer without
  them, at one pass more).
- The modified weights: AdaBits' nested codes.  Rounding them down lowers every weight's mean, which a short fine-tuning
  at 2 bits does not make up for, so ``mini`` and ``thorough`` take them half a step higher (centred: the same codes);
  ``paper`` takes them as AdaBits prints them.
- Weight decay (the clips' is taken), the temperature of the KL (1 in ``paper``), which widths the swapped features are
  compared at.

Known deviations:
- The network is fine-tuned from the full-precision one in all presets; the paper trains from scratch on CIFAR-10.
- The full-precision network's answers replace the labels in ``mini`` and ``thorough`` (KL at temperature 3, and
  features as `lsq` matches them), so that any images serve; ``paper`` trains on labels alone.  Labels are taken only
  where the images have them of the target's classes, else the cell is not applicable.
- First and last layer have 8 bits at every width.
- Clips start where the squared error of the first images is least (``paper``: 8); two-sided tensors have a second one.
- ``mini`` is Adam with a cosine as in `lsq`, at half the rate and with statistics that follow the batches to the end,
  flips only; ``paper`` lacks the paper's crops.

Published figures (supplementary Table 4, CIFAR-10, ResNet-18, full precision 95.3 %, 8 to 2 bits): trained at 8, 6, 4,
2 95.2, 95.2, 95.4, 95.3, 95.1, 94.6, 94.1; at 8, 2 95.2, 95.2, 95.2, 95.2, 94.5, 94.7, 94.5; at 8, 4 95.6, 95.5, 95.5,
95.3, 95.5, 93.8, 73.2.  Delta_B 98.3, 100.1, 97.7 with lambda 0, 0.001, 1.
Ours (150 steps of 64 from 2,000 training images, 1,000 other training images, which the full-precision network has
seen, one seed; 8, 6, 4, 2 bits, then 7, 5, 3, not trained): VGG-8 (full precision 95.6 %; `lsq` alone at W2A2, in as
many steps, 91.6) 94.6, 94.5, 94.4, 92.0, 94.2, 94.1, 94.1; ResNet-34 (93.7; 86.7) 92.2, 92.4, 92.1, 88.7, 92.2, 91.9,
91.3; MobileNetV2 (93.1; 63.4) 91.7, 91.6, 90.9, 77.9, 92.0, 91.4, 86.4.  VGG-8 after 500 steps 94.0, 94.3, 94.0, 92.1.
At lr 0.005, statistics kept after 23 % of the steps: VGG-8 93.8, 93.9, 92.7, 91.0, at 3 bits 93.0, without calibration
92.4; ResNet-34 91.6, 92.1, 91.4, 87.3; MobileNetV2 91.2, 91.3, 89.6, 74.4.  At these lengths the rivals are as good:
see `adabits`.  lambda D, scaled, is 0.5 from 4 to 2 bits on VGG-8 beside entropies of 0.44; the nearest width taught
most batches.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from bench.interfaces import Compressed, ImageSet, MethodParams, ModelHandle, RunContext, Setting
from methods.compressors._adaptive import AdaptiveCompressor, AdaptiveParams, CourseMaker
from methods.compressors._qat import check_labels


class CoquantParams(AdaptiveParams):
    """As AdaptiveParams, and who teaches whom.

    ``guide`` chooses the wider width that teaches: the one of least U + lambda D, always the widest, the next wider, or
    none (neither KL nor swapped blocks).  ``lambda_distance`` is lambda, ``scaled`` multiplies D by what its number of
    weights is smaller than the published network's; ``confidence`` is U: the entropy of the answers or their
    cross-entropy with the labels.  ``inner`` weighs the KL from the teacher.  ``p_init`` is p_1 at the start, ``depth``
    how p_i goes on over the blocks.  ``swapped_gradient`` inputs gives a swapped block's parameters nothing of the
    student's gradient; ``answers`` fresh lets a width teach by an answer without swapped blocks, at a pass each.
    """

    guide: Literal["dynamic", "widest", "next", "none"] = "dynamic"
    lambda_distance: float = Field(default=1e-3, ge=0, le=1e12)
    scaled: bool = True
    confidence: Literal["entropy", "labels"] = "entropy"
    inner: float = Field(default=1.0, ge=0, le=1e3)
    p_init: float = Field(default=0.9, ge=0, le=1)
    depth: Literal["rising", "constant"] = "rising"
    swapped_gradient: Literal["all", "inputs"] = "all"
    answers: Literal["cached", "fresh"] = "cached"


class Coquant(AdaptiveCompressor):
    """The compressor; see the module's docstring."""

    version = 1
    summary = "one network at several bit-widths, each taught by a wider one whose blocks stand in for its own"
    paper = "Sun et al., Improved Techniques for Quantizing Deep Networks with Adaptive Bit-Widths"
    Params: type[MethodParams] = CoquantParams

    def compress(
        self, model: ModelHandle, images: ImageSet, setting: Setting, params: Any, ctx: RunContext
    ) -> Compressed:
        """As the others; NotApplicable, too, where confidence is measured by labels that the images lack."""
        if params.guide == "dynamic" and params.confidence == "labels":
            check_labels(images, "confidence: labels")
        return super().compress(model, images, setting, params, ctx)

    def course(self, params: Any) -> CourseMaker:
        """Teachers by confidence and distance."""
        from methods.compressors._coquant_course import CoquantCourse

        return lambda net, generator: CoquantCourse(net, params, generator)


METHOD = Coquant()
