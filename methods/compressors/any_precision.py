"""Any-precision networks: one network at several bit-widths, each taught by the next wider one.

Yu et al., "Any-Precision Deep Neural Networks", AAAI 2021 (arXiv 1911.07346): the widest learns from the labels (here:
from the full-precision network, or both), every other one from the answers of the next wider width in the same batch
and from nothing else; batch normalisation is each width's own.

Known deviations:
- Clips are learned (PACT) and each width's own (paper: activations are clipped at 1).
- Weights are `adabits`' centred codes, nested as a stored network needs them to be (paper: DoReFa's rule with a scale
  of the mean; ``weights: dorefa``).
- First and last layer have 8 bits (paper: floating point); the rest is as in `adabits`.  Features are compared with the
  full-precision network's at the widest width alone, for they are no answer of a wider one.

Published figures: none among the tables shipped here.
Ours (VGG-8, steps and images as in `coquant`): 94.5, 94.5, 94.6, 91.7 at 8, 6, 4, 2 bits, 94.5, 94.4, 93.4 at 7, 5, 3,
which were not trained.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from bench.interfaces import MethodParams
from methods.compressors._adaptive import AdaptiveCompressor, AdaptiveParams, CourseMaker


class AnyPrecisionParams(AdaptiveParams):
    """As AdaptiveParams; ``inner`` weighs the KL from the next wider width."""

    inner: float = Field(default=1.0, gt=0, le=1e3)


class AnyPrecision(AdaptiveCompressor):
    """The compressor; see the module's docstring."""

    version = 1
    summary = "one network at several bit-widths, each taught by the next wider one"
    paper = "Yu et al., Any-Precision Deep Neural Networks, AAAI 2021 (arXiv 1911.07346)"
    Params: type[MethodParams] = AnyPrecisionParams

    def course(self, params: Any) -> CourseMaker:
        """The widest learns from the full-precision network and the labels, each other one from the next wider."""
        from methods.compressors._adaptive_training import Recursive

        return lambda net, generator: Recursive(params.inner)


METHOD = AnyPrecision()
