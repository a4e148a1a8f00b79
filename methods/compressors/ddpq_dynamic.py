"""DDPQ: each image chooses the bits of each layer's input, so that easy images cost less.

Hong et al., "Difficulty, Diversity, and Plausibility: Dynamic Data-Free Quantization", of which the supplementary
material alone was at hand: Table S1 gives the candidates, Figure S1 the losses (cross-entropy, distillation, bits).

In front of each quantised layer a selector reads the standard deviation of each channel of its input over space (no
gradient goes there) and gives a logit for each candidate by one linear layer.  The argmax quantises; the gradient is
that of the softmax mixture, out = hard + soft - stopgrad(soft), and likewise for the bits.  Each candidate has a range
of its own.  Loss: KL to the full-precision network, cross-entropy with the images' labels, lambda_b L_bit with L_bit
the batch's mean bits, weighted by MACs x weight bits, over the most bits.

What the supplement leaves open, with the choice made (other readings are parameters):
- The selector: that of the same group's earlier work on super-resolution, weights 1 and bias 1 for the most bits.  A
  tensor that several layers read has one selector, as it has one quantiser.  Its cost is in the report
  (``selector_macs``), not in the bit operations.
- What it reads: deviations as they are; ``deviations: standard`` takes them relative to their mean and spread over the
  first images.  How many selectors end at one candidate hangs on their rate more than on this (below).
- lambda_b: adapted during the training until the mean bits are the setting's (``pull: average``; ``fixed`` keeps
  ``bit_weight``).  ``settle`` then tilts all selectors by one number, bits times which is added to their logits, so
  that the mean over the training images is what was asked for.
- Whether weights follow: they have the setting's bits, in Table S1's rows the mean candidate; ``weights: follow``
  gives them the candidate's distance from it, too (all candidates' convolutions in training).
- Batch normalisation is shared; ``bn: switch`` gives each candidate its own.
- What is asked for in W4A4 is the mean: ``layer_bits`` hold the setting's bits, of which an image's may differ by what
  ``bits_between`` says; bytes are counted at these.

Known deviations:
- First and last layer and squeeze-excite have 8 bits, and a policy's layers their own: nobody chooses there.  The
  published bit-FLOPs follow from no rule for the ends, so compare relative changes.
- Labels count where the images have some of the target's classes (``labels``), else the KL alone.
- ``mini`` is `lsq`'s training (features matched, Adam with a cosine), with statistics that follow the batches to the
  end, and Adam at 0.01 for selectors; ``paper`` has 1e-4 for them and matches no features.
- Mixup of easy images is the source's hook (``source_hook: true``).
- A choice is the same for any batch but for what rounding in convolutions depends on the batch.

Published figures (Table S1, ImageNet, ResNet-18, about 4 bits; bit-FLOPs, top-1): {3, 4, 5} 2.50 %, 67.47; {3, 5}
2.48 %, 66.85; {2, 3, 4, 5, 6} 2.41 %, 65.59.
Ours (ResNet-18, 300 steps of 64, one seed; W4A4, top-1 on 2,000 other training images, which the full-precision network
has seen, with mean bits there; one candidate in the same training, then {3, 4, 5}): 1,024 training images 92.1, 92.5 at
4.00 bits; 384 inverted ones (kw) 92.1, 92.2 at 3.93: no difference beyond what 2,000 images tell, on
which these settings were chosen, too.  Bits of an image
spread by 0.14, 0.15; rank correlation with the full-precision network's entropy 0.26, 0.14.  Of sixteen selectors three
and two end at one candidate (at a selector rate of 0.001 seven, 92.1 %; ``standard``: none at 0.01, 92.2 %, spread
0.28, correlation 0.01; ten at 0.001, 92.2 %).  The training takes 1.8 times that with one candidate.  On the complete
test set (`ddpq_candidates`, training images, {3, 4, 5}, one seed) 90.36 % at 4.005 bits, and a correlation of 0.09
[0.07, 0.11] only: that of images the full-precision network has seen is no measure of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from bench.interfaces import Compressed, ImageSet, MethodParams, ModelHandle, RunContext, Setting
from methods.compressors._dynamic import DynamicCompressor, DynamicParams, compress, labels_where_there_are
from methods.compressors._qat import PRESETS

if TYPE_CHECKING:
    from methods.compressors._dynamic_training import BitLoss
    from methods.quant.dynamic_tensors import Choices


class DdpqDynamicParams(DynamicParams):
    """As DynamicParams; ``bit_weight`` is lambda_b, where it starts or what it stays at, by ``pull``; ``deviations``
    reach the selectors as they are or standardised over the first images."""

    labels: float = Field(default=1.0, ge=0, le=1e3)
    pull: Literal["average", "fixed"] = "average"
    bit_weight: float = Field(default=0.1, ge=0, le=1e6)
    selector_lr: float = Field(default=0.01, ge=0, le=10)
    deviations: Literal["plain", "standard"] = "plain"


class DdpqDynamic(DynamicCompressor):
    """The compressor; see the module's docstring."""

    version = 1
    summary = "training in which each image chooses the bits of each layer's input"
    paper = "Hong et al., Difficulty, Diversity, and Plausibility: Dynamic Data-Free Quantization"
    Params: type[MethodParams] = DdpqDynamicParams
    presets: Mapping[str, Mapping[str, Any]] = {
        "mini": {},
        "thorough": {"steps": 4000},
        "paper": {**PRESETS["paper"], "features": 0.0, "selector_lr": 1e-4},
    }

    def choices(self, params: Any, setting: Setting) -> Choices:
        """A selector for each tensor."""
        from methods.quant.dynamic_tensors import Choices

        candidates = params.candidates_for(setting)
        return Choices(
            candidates,
            params.weights_for(setting, candidates),
            norms=params.bn == "switch",
            standard=params.deviations == "standard",
        )

    def bit_loss(self, params: Any, setting: Setting) -> BitLoss:
        """lambda_b L_bit."""
        from methods.compressors._dynamic_training import BitLoss

        candidates = params.candidates_for(setting)
        return BitLoss(params.pull, params.bit_weight, setting.act_bits, candidates[0], candidates[-1])

    def compress(
        self, model: ModelHandle, images: ImageSet, setting: Setting, params: Any, ctx: RunContext
    ) -> Compressed:
        """Train a copy of ``model`` in which each image chooses; the setting's activation bits are the mean.

        Raises:
            NotApplicable: the candidates have no such mean; the recipe asks its teacher nothing.
            BenchError: a loss is not finite.
        """
        params = labels_where_there_are(params, images)
        choices, bit_loss = self.choices(params, setting), self.bit_loss(params, setting)
        if params.pull == "fixed":
            params = params.model_copy(update={"settle": False})
        return compress(model, images, setting, params, choices, bit_loss, ctx)


METHOD = DdpqDynamic()
