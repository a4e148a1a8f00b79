"""Words that a suite may choose from in quantising methods' parameters. No torch: a plan reads it."""

from __future__ import annotations

from typing import Literal

RangeMethod = Literal["mse", "mse-2d", "minmax", "percentile", "aciq", "aciq-gauss", "lsq"]
"""How a range is found, see `methods.quant.ranges`."""

StepInit = Literal["lsq", "mse"]
"""Where a learned step starts: LSQ's 2 mean(abs) / sqrt(p), or the least squared error."""

Absorb = Literal["none", "unpadded", "all"]
"""Where high biases are absorbed: nowhere, where the second layer pads nothing (exact), everywhere."""
