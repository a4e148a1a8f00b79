"""Switchable batch normalisation: one network at several bit-widths, trained jointly, with one clip for all widths.

Guerra et al., "Switchable Precision Neural Networks" (arXiv 2002.02815), and the baseline of that name in CoQuant's
tables: weights are shared, each width has batch normalisation of its own, and so it differs from `adabits` in its clips
alone.

Known deviations: those of `adabits`.  The shared clip starts at the 99.9 % quantile of the first images, for there is
no one grid whose error could be least.

Published figures (CoQuant, supplementary Table 3, trained at 8, 6, 4, 2, measured at 7, 5, 3 bits, ResNet-18):
ActivityNet 64.6, 64.7, 51.3; Mini-Kinetics 64.2, 64.1, 48.7.
Ours (VGG-8, steps and images as in `coquant`): 94.4, 94.5, 94.4, 88.9 at 8, 6, 4, 2 bits, 94.3, 93.8, 92.5 at 7, 5, 3,
which were not trained; with a clip that starts at the least error of 8 bits 94.3, 93.8, 93.1, 87.6 and 94.0, 93.6,
91.2.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bench.interfaces import MethodParams
from methods.compressors._adaptive import AdaptiveCompressor, AdaptiveParams
from methods.quant.choices import ClipStart


class SwitchableParams(AdaptiveParams):
    """As AdaptiveParams; clips are shared by all widths and start at the quantile."""

    clips: Literal["own", "shared"] = "shared"
    alpha: ClipStart | Annotated[float, Field(gt=0, le=1e3)] = "quantile"


class SwitchableBn(AdaptiveCompressor):
    """The compressor; see the module's docstring."""

    version = 1
    summary = "one network at several bit-widths, trained jointly, batch normalisation of each width"
    paper = "Guerra et al., Switchable Precision Neural Networks, arXiv 2002.02815 (2020)"
    Params: type[MethodParams] = SwitchableParams


METHOD = SwitchableBn()
