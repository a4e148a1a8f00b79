"""What no job starts with: a network whose weights are no numbers, or not of the type everything is computed in."""

from __future__ import annotations

import torch

from bench.interfaces import ModelHandle
from bench.run.fp import GateClosed


def check_sound(target: ModelHandle) -> None:
    """Look at every parameter and buffer.

    Raises:
        GateClosed: one holds NaN or infinities, or floating-point numbers other than float32.
    """
    for name, value in target.module.state_dict().items():
        if not value.is_floating_point():
            continue
        if value.dtype != torch.float32:
            kind = str(value.dtype).removeprefix("torch.")
            raise GateClosed(f"fp_gate: {name} is {kind}; networks compute in float32", where=target.name)
        if wrong := int((~torch.isfinite(value)).sum()):
            raise GateClosed(f"fp_gate: {name} has {wrong} of {value.numel()} values not finite", where=target.name)
