"""PACT: quantisation-aware training whose activation clips are learned, with DoReFa's weights.

Choi et al., "PACT: Parameterized Clipping Activation for Quantized Neural Networks" (arXiv 1805.06085): equation 1 is
the clip, equation 2 the grid, equation 3 the clip's gradient (1 where x >= alpha, else 0); alpha has weight decay
(section 3).  Weights are DoReFa's (arXiv 1606.06160, equation 9), as in the paper.  The training is MixMix's (see
`lsq`): taught by the full-precision network, per tensor, first and last layer 8 bits.

Known deviations:
- alpha starts at the 99.9 % quantile of the first images (paper: a constant, 6 to 10): the network is trained already.
- Two-sided tensors (linear bottlenecks, SiLU) have a second learned clip for the negative side; zero stays on the grid.
- DoReFa's weights are multiplied by norm(W) / norm(Q(W)), fixed at the start (``rescale``), else a trained layer would
  lose its scale.
- First and last layer are quantised to 8 bits (paper: left in floating point).
- The teacher's answers replace the labels; see `lsq` for the rest of the training.

Published figures: MixMix measures no PACT.  The paper (ImageNet, labelled training set): ResNet-18 W4A4 69.2 %
(FP 70.2 %), ResNet-50 W4A4 76.5 % (76.9 %).
Ours, on the networks before their second training cycle (suites ``qat_w4a4``, ``qat_w2a4``, 1,024 images, one seed;
narrow ResNet-50, MobileNetV2, ResNet-18 at 32 pixels, uncompressed 91.4, 90.9, 91.4): W4A4 on training images 90.2,
88.3, 90.3, mixed 88.6, 83.0, 88.6, inverted from the target (kw) 88.0, 59.8, 88.7; W2A4 89.0, 86.4, 89.2, mixed 85.1,
70.0, 82.0, kw 82.0, 40.8, 83.4.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from bench.interfaces import MethodParams
from methods.compressors._qat import Family, QatCompressor, QatParams


class PactParams(QatParams):
    """As QatParams; clips start at ``quantile`` of the first images' values, ``rescale`` keeps each weight's norm."""

    quantile: float = Field(default=0.999, gt=0, le=1)
    rescale: bool = True


class Pact(QatCompressor):
    """The compressor; see the module's docstring."""

    version = 2
    summary = "training with fake quantisers, activation clips learned, DoReFa weights"
    paper = (
        "Choi et al., PACT: Parameterized Clipping Activation for Quantized Neural Networks, arXiv 1805.06085 (2018)"
    )
    Params: type[MethodParams] = PactParams

    def family(self, params: Any) -> Family:
        """DoReFa weights, learned activation clips."""
        from methods.quant.learned import PactActivation
        from methods.quant.learned_weights import DorefaWeight
        from methods.quant.training_parts import Makers

        return Family(
            Makers(
                lambda weight, bits: DorefaWeight(weight, bits, rescale=params.rescale),
                lambda bits, nonnegative: PactActivation(
                    bits, nonnegative, params.quantile, relative=params.relative_steps
                ),
            ),
            "dorefa",
            "unsigned after ReLU or the like, else affine",
            "rescaled to the weight's norm" if params.rescale else "[-1, 1]",
            "learned clip",
            decayed=("alpha", "beta"),
        )


METHOD = Pact()
