"""A training whose soft labels come from another network than the target (docs/methods/compressors.md#teacher)."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from bench.interfaces import ModelHandle


class Taught(nn.Module):
    """Logits [N, K] of ``teacher`` beside the features of ``target``, whose units the student shares.

    Takes images [N, C, H, W] in the constants of ``model`` (the target's handle); those of the teacher may be others.

    Args:
        target: the untouched target, returning logits and features; None where no features are compared.

    Attributes:
        look: forward-equivalents of one image: the teacher's multiply-accumulates over the target's, and one more for
            the target's features.
    """

    def __init__(self, teacher: ModelHandle, model: ModelHandle, target: nn.Module | None) -> None:
        super().__init__()
        self.teacher, self.target = deepcopy(teacher.module), target
        self.look = teacher.macs / max(model.macs, 1) + (target is not None)
        self.same = (teacher.mean, teacher.std) == (model.mean, model.std)
        mean, std, own_mean, own_std = (
            torch.tensor(values).view(1, -1, 1, 1) for values in (model.mean, model.std, teacher.mean, teacher.std)
        )
        self.register_buffer("scale", std / own_std)
        self.register_buffer("shift", (mean - own_mean) / own_std)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        seen = x if self.same else x * self.get_buffer("scale") + self.get_buffer("shift")
        logits: Tensor = self.teacher(seen)
        return logits, self.target(x)[1] if self.target is not None else ()
