"""Switchable batch normalisation: one network at several bit-widths, trained jointly, with one clip for all widths.

Guerra et al., "Switchable Precision Neural Networks" (arXiv 2002.02815), and the baseline of that name in CoQuant's
tables: weights are shared, each width has batch normalisation of its own, and so it differs from `adabits` in its clips
alone.

Known deviations: those of `adabits`.  The shared clip starts at the 99.9 % quantile of the first images, for there is
no one grid whose error could be least.

Published figures (CoQuant, supplementary Table 3, trained at 8, 6, 4, 2, measured at 7, 5, 3 bits, ResNet-18):
ActivityNet 64.6, 64.7, 51.3; Mini-Kinetics 64.2, 64.1, 48.7.
Ours (lr 0.005, 150 steps of 64 from 2,000 training images, VGG-8, full precision 95.6 %, 1,000 held-out ones, one
seed): 93.1, 93.1, 92.3, 87.5 at 8, 6, 4, 2 bits, 91.7 at 3, which was not trained.
"""

from __future__ import annotations

from typing import Any, Literal

from bench.interfaces import MethodParams
from methods.compressors._adaptive import AdaptiveCompressor, AdaptiveParams, CourseMaker


class SwitchableParams(AdaptiveParams):
    """As AdaptiveParams; clips are shared by all widths."""

    clips: Literal["own", "shared"] = "shared"


class SwitchableBn(AdaptiveCompressor):
    """The compressor; see the module's docstring."""

    version = 1
    summary = "one network at several bit-widths, trained jointly, batch normalisation of each width"
    paper = "Guerra et al., Switchable Precision Neural Networks, arXiv 2002.02815 (2020)"
    Params: type[MethodParams] = SwitchableParams

    def course(self, params: Any) -> CourseMaker:
        """Nobody teaches but the full-precision network and the labels."""
        from methods.compressors._adaptive_training import Course

        return lambda net, generator: Course()


METHOD = SwitchableBn()
