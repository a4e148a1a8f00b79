"""FlexRound's variables: what each weight is divided by before it rounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from methods.compressors._reconstruct import CosineLearner, Learner, Rounding, fill
from methods.compressors._rounding import Grid, Substitute
from methods.quant.quantizers import fake_quant


class Division:
    """One layer's step and divisors, as logarithms: ``step`` of s1 over its start, ``each`` of S2, ``rows`` of s3 and,
    in a convolution that has several, ``columns`` of s4."""

    def __init__(self, grid: Grid) -> None:
        self.grid, weight = grid, grid.weight.detach()
        self.step = nn.Parameter(torch.zeros_like(grid.scale))
        self.each = nn.Parameter(torch.zeros_like(weight))
        self.rows = nn.Parameter(weight.new_zeros(len(weight), *[1] * (weight.dim() - 1)))
        self.columns = nn.Parameter(weight.new_zeros(1, weight.shape[1], 1, 1)) if weight.dim() == 4 else None

    def variables(self) -> list[nn.Parameter]:
        """All of them."""
        return [v for v in (self.step, self.each, self.rows, self.columns) if v is not None]

    def scale(self) -> Tensor:
        """s1, of the grid's step's shape."""
        return self.grid.scale * self.step.exp()

    def divided(self) -> Tensor:
        """W / (S2 s3 s4)."""
        exponent = self.each + self.rows
        if self.columns is not None:
            exponent = exponent + self.columns
        return self.grid.weight.detach() * (-exponent).exp()

    def value(self) -> Tensor:
        """W_hat (equation 2), clipped to the grid; gradients as of LSQ."""
        grid = self.grid
        return fake_quant(self.divided(), self.scale(), grid.low - grid.zero_point, grid.high - grid.zero_point)

    @torch.no_grad()
    def moved(self) -> tuple[int, int]:
        """How many weights round otherwise than to the nearest on the first grid, and how many there are."""
        grid = self.grid
        ends = grid.low - grid.zero_point, grid.high - grid.zero_point
        now = (self.divided() / self.scale()).clamp(*ends).round()
        nearest = (grid.weight / grid.scale).clamp(*ends).round()
        return int((now != nearest).sum()), now.numel()


class UnitDivision:
    """The divisions of one unit's layers."""

    def __init__(self, grids: Mapping[str, Grid]) -> None:
        self.layers = {name: Division(grid) for name, grid in grids.items()}

    def soft(self) -> tuple[dict[str, Tensor], Tensor | None]:
        """The weights per layer, which carry gradient; there is no penalty."""
        return {name: layer.value() for name, layer in self.layers.items()}, None

    @torch.no_grad()
    def hard(self) -> dict[str, Tensor]:
        """The same weights."""
        return {name: layer.value().detach() for name, layer in self.layers.items()}

    @torch.no_grad()
    def scales(self) -> dict[str, Tensor]:
        """Each layer's learned step."""
        return {name: layer.scale().detach() for name, layer in self.layers.items()}

    def flipped(self) -> float:
        """Fraction of the weights that round otherwise than to the nearest on the first grid."""
        counts = [layer.moved() for layer in self.layers.values()]
        return sum(moved for moved, _ in counts) / max(sum(there for _, there in counts), 1)

    def converged(self) -> float:
        """All of it: rounding is never soft."""
        return 1.0


class DivisionLearner(CosineLearner):
    """Divisors and steps, which are in place only after the weights were formed from them."""

    def __init__(self, rounding: UnitDivision, slots: dict[str, Substitute], lr: float) -> None:
        super().__init__([v for layer in rounding.layers.values() for v in layer.variables()], lr)
        self._rounding, self._slots = rounding, slots

    def place(self, step: int, total: int) -> Tensor | None:
        fill(self._slots, self._rounding.soft()[0])
        return None


@dataclass(frozen=True)
class DivisionRule:
    """Adam at the rate ``lr``, falling along a half cosine."""

    lr: float

    def begin(self, grids: Mapping[str, Grid], slots: dict[str, Substitute]) -> tuple[Rounding, list[Learner]]:
        """Divisors of one."""
        rounding = UnitDivision(grids)
        return rounding, [DivisionLearner(rounding, slots, self.lr)]
