"""DoReFa: quantisation-aware training with tanh-squashed weights and fixed activation clips.

Zhou et al., "DoReFa-Net: Training Low Bitwidth Convolutional Neural Networks with Low Bitwidth Gradients"
(arXiv 1606.06160): equation 9 quantises weights, equation 11 activations (clip to [0, 1], then 2^b - 1 steps).  The
training is MixMix's (see `lsq`): taught by the full-precision network, per tensor, first and last layer 8 bits.

Known deviations:
- The paper trains from scratch; here a trained network is fine-tuned.  Weights are therefore multiplied by
  norm(W) / norm(Q(W)), fixed at the start, and activations are clipped at a fixed multiple of 1, the one with the
  least squared error on the first images (``rescale``; off: [-1, 1] and [0, 1] as published).
- Two-sided tensors have a symmetric grid with the same clip.
- Gradients are not quantised.
- First and last layer are quantised to 8 bits (paper: left in floating point).
- The teacher's answers replace the labels; see `lsq` for the rest of the training.

Published figures: MixMix measures no DoReFa.  The paper's are of AlexNet with W1 to W8 on labelled ImageNet.
Ours, on the networks before their second training cycle (suites ``qat_w4a4``, ``qat_w2a4``, 1,024 images, one seed;
narrow ResNet-50, MobileNetV2, ResNet-18 at 32 pixels, uncompressed 91.4, 90.9, 91.4): W4A4 on training images 90.3,
89.0, 90.4, mixed 89.0, 83.1, 88.8, inverted from the target (kw) 88.4, 56.6, 89.7; W2A4 88.9, 86.7, 89.1, mixed 82.6,
68.5, 78.5, kw 81.3, 38.4, 83.5.
"""

from __future__ import annotations

from typing import Any

from bench.interfaces import MethodParams
from methods.compressors._qat import Family, QatCompressor, QatParams


class DorefaParams(QatParams):
    """As QatParams; ``rescale`` keeps each weight's norm and fits each activation's clip."""

    rescale: bool = True


class Dorefa(QatCompressor):
    """The compressor; see the module's docstring."""

    version = 1
    summary = "training with fake quantisers, tanh-squashed weights, fixed activation clips"
    paper = "Zhou et al., DoReFa-Net: Training Low Bitwidth Convolutional Neural Networks, arXiv 1606.06160 (2016)"
    Params: type[MethodParams] = DorefaParams

    def family(self, params: Any) -> Family:
        """DoReFa weights, fixed activation clips."""
        from methods.quant.learned import StepActivation
        from methods.quant.learned_weights import DorefaWeight
        from methods.quant.training_parts import Makers

        clip = None if params.rescale else 1.0
        return Family(
            Makers(
                lambda weight, bits: DorefaWeight(weight, bits, rescale=params.rescale),
                lambda bits, nonnegative: StepActivation(bits, nonnegative, "mse", learn=False, clip=clip),
            ),
            "dorefa",
            "unsigned after ReLU or the like, else symmetric",
            "rescaled to the weight's norm" if params.rescale else "[-1, 1]",
            "fixed, mse" if params.rescale else "[0, 1]",
        )


METHOD = Dorefa()
