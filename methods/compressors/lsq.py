"""LSQ: quantisation-aware training whose step sizes are learned.

Esser et al., "Learned Step Size Quantization", ICLR 2020 (arXiv 1902.08153): equations 1 and 2 are the quantiser,
equation 3 the step's gradient, section 2.2 its scale 1 / sqrt(N p).  The compressor of MixMix's Table 4 (Li et al.,
ICCV 2021, section 5.2 and appendix), whose training is followed: the full-precision network teaches (KL at temperature
3, no labels), intermediate features are matched, weights and activations are quantised per tensor (not per channel, as
in post-training quantisation), first and last layer have 8 bits, BN statistics stay from a given step on.

Known deviations:
- ``mini`` is another recipe, not the paper's scaled down: Adam at 0.005 with a cosine over 1,000 steps of 64 images,
  feature weight 3, flips only, steps learned as multiples of their start (least squared error instead of LSQ's
  2 mean(abs) / sqrt(p)).  On held-out training images at W2A4, trained on 8,000: ResNet-18 90.3 % after 400 steps,
  91.7 % after 1,000 (0.002: 91.4 %, 0.001: 91.6 %; one step per channel instead of per tensor: 90.8 %; full precision
  93.7 %, ``brecq`` 91.9 %), MobileNetV2 87.2 % and 87.5 % (93.5 %, ``brecq`` 85.7 %).  In 150 steps of SGD MobileNetV2
  reached 11 % (0.04, weight 0.1) to 75 % (0.01, weight 1), of Adam 84 % (0.006).
- The optimiser, its momentum and the factor tau^2 are unspecified in MixMix: ``paper`` and ``thorough`` use SGD 0.9 and
  tau^2.
- ``paper`` keeps the published blur of 1 to 2 pixels, meant for 224 pixels; ``thorough`` blurs by 0.1 to 0.5.
- The feature loss is the mean squared difference of each unit's output (after its activation, before the fake
  quantiser), averaged over units; MixMix and The Knowledge Within print neither taps nor normalisation.
- The gradient's norm is clipped at 5.
- The steps' gradient scale takes the values per image (LSQ's text leaves open whether the batch counts).
- The last iterate is kept.
- In a chain of steps the network made before is the teacher, not the untouched one, and a pruned one comes without
  batch normalisation (folded), so that nothing of it trains.
- The stem's output, where a layer reads it, has the activations' bits (post-training methods here: 8).
- LSQ's two-sided activations have a symmetric grid, of which SiLU tensors and linear bottlenecks use half.
  ``activation_grid: affine`` learns a zero point besides (LSQ+, Bhalgat et al., CVPR workshops 2020, arXiv 2004.09576;
  its offset is rounded to the grid here, so that zero stays on it).

Published figures (MixMix, Table 4, ImageNet, 100,000 real images): ResNet-50 W4A4 76.09 %, W2A4 70.20 % (FP 77.00 %);
MobileNetV2 W4A4 68.50 % (72.49 %).
Ours, on the networks before their second training cycle (suite ``qat_real``, narrow networks at 32 pixels, all 10,000
embedded training images, one seed; W4A4, W2A4, then ``brecq`` on the same images): ResNet-18 90.9, 90.1, 91.1, 90.3
(91.4), ResNet-50 90.7, 90.2, 90.8, 89.7 (91.4), MobileNetV2 89.5, 87.1, 87.6, 84.6 (90.9), MNasNet 89.3, 86.6, 88.3,
85.2 (90.7), MobileNet-b 87.9, 85.9, 86.9, 82.3 (89.7), EfficientNet 88.5, 86.5, 49.9, 23.2 (90.7). On 1,024 images
(``qat_w4a4``, ``qat_w2a4``; ResNet-50, MobileNetV2, ResNet-18): W4A4 training images 90.1, 89.3, 90.5, mixed 88.5,
82.3, 88.7, inverted from the target (kw) 88.3, 55.9, 89.5; W2A4 89.0, 86.6, 89.4, mixed 82.5, 66.7, 79.4, kw 81.6,
35.7, 77.9.
"""

from __future__ import annotations

from typing import Any, Literal

from bench.interfaces import MethodParams
from methods.compressors._qat import Family, QatCompressor, QatParams


class LsqParams(QatParams):
    """As QatParams, and the grid of two-sided activations: LSQ's symmetric one or LSQ+'s with a learned zero point."""

    activation_grid: Literal["symmetric", "affine"] = "symmetric"


class Lsq(QatCompressor):
    """The compressor; see the module's docstring."""

    version = 2
    summary = "training with fake quantisers, step sizes learned, taught by the target"
    paper = "Esser et al., Learned Step Size Quantization, ICLR 2020"
    Params: type[MethodParams] = LsqParams

    def family(self, params: Any) -> Family:
        """Learned steps for weights and activations."""
        from methods.quant.learned import AffineStepActivation, StepActivation
        from methods.quant.learned_weights import LsqWeight
        from methods.quant.training_parts import Makers

        init = params.init
        activation = AffineStepActivation if params.activation_grid == "affine" else StepActivation
        return Family(
            Makers(
                lambda weight, bits: LsqWeight(weight, bits, init, relative=params.relative_steps),
                lambda bits, nonnegative: activation(bits, nonnegative, init, relative=params.relative_steps),
            ),
            "symmetric",
            f"unsigned after ReLU or the like, else {params.activation_grid}",
            f"learned from {init}",
            f"learned from {init}",
        )


METHOD = Lsq()
