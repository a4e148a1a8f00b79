"""What of a compressed network is integer: the grids its weights and activations lie on, and the network that says so
in plain layers (docs/export.md#interface).  Imported by itself, as it needs torch.

A compressor simulates its quantisers in whatever classes suit its training; who writes the network down needs the grids
alone.  `Integers` is where both meet: `Variant.integers` makes one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class WeightGrid:
    """The grid of one layer's weight: ``scale * (code - zero_point) + offset`` with whole codes low..high.

    ``scale``, ``zero_point`` (whole numbers, float32) and ``offset`` are [O], one per output channel, or [] for all;
    ``offset`` is that of grids without a zero (None: they hold it).  ``bits`` are those in use: the codes have at most
    2^bits values.
    """

    bits: int
    low: int
    high: int
    scale: Tensor
    zero_point: Tensor
    offset: Tensor | None = None

    def _shaped(self, values: Tensor, weight: Tensor) -> Tensor:
        return values.reshape(-1, *[1] * (weight.dim() - 1)).to(weight) if values.dim() else values.to(weight)

    def codes(self, weight: Tensor) -> Tensor:
        """Codes int32 of a weight [O, ...] that lies on the grid, of its shape; unclipped, so that one that does not
        shows."""
        shifted = weight if self.offset is None else weight - self._shaped(self.offset, weight)
        level = torch.round(shifted.double() / self._shaped(self.scale, weight).double())
        return (level + self._shaped(self.zero_point, weight)).to(torch.int32)

    def values(self, codes: Tensor) -> Tensor:
        """The weight float32 that ``codes`` [O, ...] stand for, computed as DequantizeLinear does."""
        like = codes.to(torch.float32)
        found = (like - self._shaped(self.zero_point, like)) * self._shaped(self.scale, like)
        return found if self.offset is None else found + self._shaped(self.offset, like)


class GridPoint(nn.Module):
    """Where one activation tensor is rounded to ``scale * (clip(round(x / scale) + zero_point, low, high) -
    zero_point)``, one grid per tensor, ties to even; what stands in a quantiser's place in `Integers`.

    ``bits`` are those in use.
    """

    scale: Tensor

    def __init__(self, bits: int, low: int, high: int, scale: Tensor | float, zero_point: Tensor | float) -> None:
        super().__init__()
        self.bits, self.low, self.high = bits, low, high
        self.zero_point = int(zero_point)
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float32).detach().clone().reshape(()))

    def forward(self, x: Tensor) -> Tensor:
        """``x`` on the grid, of the same shape."""
        low, high = self.low - self.zero_point, self.high - self.zero_point
        return torch.div(x, self.scale).clamp_(low, high).round_().mul_(self.scale)


@dataclass(frozen=True)
class Integers:
    """A compressed network in plain layers.

    Attributes:
        module: computes what the compressed network does, in eval mode: weights are plain parameters that hold the
            values in use, a `GridPoint` stands where an activation is quantised.  A copy; who has it may change it.
        weights: {layer: grid of its weight}, for the layers not left in floating point.  The layer's name is that of
            the network that was compressed, and of the module in ``module`` whose ``weight`` is meant.
        points: {tensor: path of its `GridPoint` in ``module``}, in order of execution.
    """

    module: nn.Module
    weights: Mapping[str, WeightGrid] = field(default_factory=dict)
    points: Mapping[str, str] = field(default_factory=dict)
