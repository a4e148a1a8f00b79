"""AdaRound's variables and, with them, the step that the rounded integers are multiplied by (GENIE-M)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from methods.compressors._reconstruct import Learner, Rounding, RoundingLearner, RoundingRule, StepLearner
from methods.compressors._rounding import Grid, Substitute, UnitRounding


class ScaledRounding(UnitRounding):
    """As `UnitRounding`, times a ratio of each layer's step [O, 1, ...] (or one for all) to its start."""

    def __init__(self, grids: Mapping[str, Grid], *, channels_last: bool = False) -> None:
        super().__init__(grids, channels_last=channels_last)
        self._steps = {name: grid.scale.detach().clone() for name, grid in grids.items()}
        self.ratios = {name: nn.Parameter(torch.ones_like(step)) for name, step in self._steps.items()}

    def soft(self, weight: float = 0.0, beta: float | None = None) -> tuple[dict[str, Tensor], Tensor]:
        """As in `UnitRounding`; the weights carry gradient to the ratios as well."""
        weights, penalty = super().soft(weight, beta)
        return {name: value * self.ratios[name] for name, value in weights.items()}, penalty

    def hard(self) -> dict[str, Tensor]:
        """As in `UnitRounding`, on the learned steps."""
        return {name: value * self.ratios[name].detach() for name, value in super().hard().items()}

    def scales(self) -> dict[str, Tensor]:
        """Each layer's learned step."""
        return {name: step * self.ratios[name].detach() for name, step in self._steps.items()}


@dataclass(frozen=True)
class ScaledRule:
    """``rounding`` as AdaRound's; the ratios' rate ``lr`` falls along a half cosine."""

    rounding: RoundingRule
    lr: float

    def begin(self, grids: Mapping[str, Grid], slots: dict[str, Substitute]) -> tuple[Rounding, list[Learner]]:
        """Ratios of one."""
        found = ScaledRounding(grids, channels_last=True)
        ratios = StepLearner(list(found.ratios.values()), self.lr)
        return found, [ratios, RoundingLearner(found, slots, self.rounding)]
