"""Counting what a quantised network really uses: distinct values on each grid."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from methods.quant.bits import BitPlan


@torch.no_grad()
def count_levels(weight: Tensor, per_channel: bool) -> int:
    """The most distinct values that share a scale: in one output channel of ``weight`` [O, ...], or in all of it.

    A fake-quantised value is one product of scale and integer, so equal levels are equal to the last bit.
    """
    rows = weight.detach().reshape(weight.shape[0] if per_channel else 1, -1).sort(1).values
    return 1 + int((rows[:, 1:] != rows[:, :-1]).sum(1).max())


def input_levels(plan: BitPlan, levels: Mapping[str, int]) -> dict[str, int]:
    """{layer: the most ``levels`` of the tensors it reads}, for the layers of which all tensors have some."""
    return {
        layer: max(levels[name] for name in plan.reads[layer])
        for layer in plan.layers
        if plan.reads[layer] <= levels.keys()
    }
