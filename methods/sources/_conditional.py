"""What GDFQ and Qimera share: a generator of given classes, trained for soft or hard cross-entropy and statistics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from methods.sources._generator_source import ConditionalParams
from methods.sources._generators import Codes
from methods.sources._losses import mse_var
from methods.sources._objectives import Network, StatisticsWeight, top1


class ConditionalObjective:
    """L_G = CE(T(x), label) + bn_weight * ``mse_var`` (docs/methods/sources.md#gdfq; soft labels in Qimera)."""

    def __init__(
        self, teacher: Network, classes: int, params: ConditionalParams, draw: Callable[[Tensor | None], Codes]
    ) -> None:
        self.teacher, self.classes, self._draw = teacher, classes, draw
        self.weight = StatisticsWeight(params.bn_weight, params.kappa)

    @property
    def macs(self) -> float:
        """One forward and backward of the teacher."""
        return 2.0 * self.teacher.macs

    def draw(self, classes: Tensor | None = None) -> Codes:
        """By the source's own law."""
        return self._draw(classes)

    def backward(self, images: Tensor, codes: Codes, log: bool) -> tuple[Mapping[str, Tensor], Tensor]:
        """One forward and backward of the teacher."""
        logits, stats = self.teacher(images)
        parts = {"ce": F.cross_entropy(logits, codes.soft(self.classes))}
        if stats is not None and self.weight.weighs:
            parts["bn"] = self.weight(mse_var(stats))
        loss = sum(parts.values(), start=logits.new_zeros(()))
        loss.backward()
        found = {"loss": loss.detach(), **{name: part.detach() for name, part in parts.items()}}
        if log:
            found["top1"] = top1(logits, codes.labels(self.classes))
        return found, logits.detach()

    def stepped(self) -> None:
        """Nothing else is learned."""

    def info(self) -> Mapping[str, Any]:
        """The weight of the statistics in use."""
        return {"bn_weight": self.weight.value}
