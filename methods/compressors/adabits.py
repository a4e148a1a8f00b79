"""AdaBits: one network at several bit-widths, trained jointly, with batch normalisation and clips of each width.

Jin et al., "AdaBits: Neural Network Quantization with Adaptive Bit-Widths", CVPR 2020 (arXiv 1912.09666): in each batch
every width answers, the gradients are summed, and one step follows.  The rival of CoQuant's tables.

Known deviations:
- A trained network is fine-tuned, as in the paper for all but its smallest bits.
- Weights keep their norm (``rescale: norm``); the paper's SAT factor for the classifier is ``rescale: sat``, which in a
  fine-tuning throws the classifier's trained scale away.
- Weights are the paper's nested codes half a step higher (``weights: centred``), what its authors advise for 2 and 3
  bits; ``modified`` is as printed, ``dorefa`` the original rule, whose codes are not nested.
- First and last layer have 8 bits at every width (paper: weights those of the widest, the classifier's input each
  width's).
- Widths that were not trained go by the nearest wider one, statistics taken anew (the code takes the widest's, as they
  are).
- The training is `lsq`'s: the full-precision network teaches, Adam; ``paper`` holds CoQuant's schedule (its Table 2),
  under which its tables have AdaBits.

Published figures (CoQuant, supplementary Table 3, trained at 8, 6, 4, 2, measured at 7, 5, 3 bits, ResNet-18):
ActivityNet 64.7, 64.5, 53.4; Mini-Kinetics 64.1, 63.7, 44.9.
Ours (VGG-8, steps and images as in `coquant`): 94.6, 94.6, 95.0, 92.3 at 8, 6, 4, 2 bits, 94.4, 94.5, 94.2 at 7, 5, 3,
which were not trained; with DoReFa's weights 94.8, 94.6, 94.2, 90.2 and 94.9, 94.7, 93.2; with the codes as printed
94.4, 94.3, 94.2, 20.0 and 94.3, 93.8, 32.0.  At lr 0.005, statistics kept after 23 % of the steps, MobileNetV2 91.4,
91.7, 90.5, 75.9.
"""

from __future__ import annotations

from methods.compressors._adaptive import AdaptiveCompressor


class AdaBits(AdaptiveCompressor):
    """The compressor; see the module's docstring."""

    version = 1
    summary = "one network at several bit-widths, trained jointly, clips of each width"
    paper = "Jin et al., AdaBits: Neural Network Quantization with Adaptive Bit-Widths, CVPR 2020"


METHOD = AdaBits()
