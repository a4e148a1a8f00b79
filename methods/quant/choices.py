"""Words that a suite may choose from in quantising methods' parameters. No torch: a plan reads it."""

from __future__ import annotations

from typing import Literal

RangeMethod = Literal["mse", "mse-2d", "minmax", "percentile", "aciq", "aciq-gauss", "lsq"]
"""How a range is found, see `methods.quant.ranges`."""

StepInit = Literal["lsq", "mse"]
"""Where a learned step starts: LSQ's 2 mean(abs) / sqrt(p), or the least squared error."""

Absorb = Literal["none", "unpadded", "all"]
"""Where high biases are absorbed: nowhere, where the second layer pads nothing (exact), everywhere."""

WeightGrid = Literal["dorefa", "modified", "centred"]
"""Levels of a squashed weight (`methods.quant.learned_weights`): DoReFa's, AdaBits', AdaBits' moved by half a step."""

WeightScale = Literal["norm", "sat", "none"]
"""What a squashed weight is multiplied by: what keeps the layer's norm; in the last layer what gives it the spread of a
fresh one; 1."""

ClipStart = Literal["quantile", "mse"]
"""Where a learned clip starts: at a high quantile of the values, or where the squared error is least."""
