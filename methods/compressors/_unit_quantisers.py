"""What reconstruction learns of a unit: how its layers' weights round and its activations' steps; put in place, frozen,
taken back.  In which order, on which inputs and whether it stays is _blocks.py's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from methods.compressors._reconstruct import Learner, Rounding, WeightRule, fill
from methods.compressors._rounding import Grid, Substitute
from methods.quant.model import QuantModel
from methods.quant.quantizers import ActQuantizer, WeightQuantizer
from methods.quant.units import Unit

LEARNED_BELOW = 8
"""Activation steps of fewer bits are learned.  At 8 bits the calibrated step is as good as any, while one update of a
short run's rate is two thirds of a squeeze-excite gate's step (1/255)."""


class LearnedWeights:
    """A unit's learned weights in their layers' quantisers: soft, then hard, or taken back."""

    def __init__(
        self,
        quantisers: dict[str, WeightQuantizer],
        slots: dict[str, Substitute],
        rounding: Rounding,
        learners: list[Learner],
    ) -> None:
        self._quantisers, self.slots, self.rounding, self.learners = quantisers, slots, rounding, learners
        self._before = {name: quantiser.scale.clone() for name, quantiser in quantisers.items()}

    @torch.no_grad()
    def soften(self) -> None:
        """Let the layers use the weights as learning left them."""
        fill(self.slots, self.rounding.soft()[0])

    @torch.no_grad()
    def harden(self) -> None:
        """Let the layers use the weights as they stay, and the quantisers know their grids."""
        fill(self.slots, self.rounding.hard())
        for name, scale in self.rounding.scales().items():
            self._quantisers[name].scale.copy_(scale)

    @torch.no_grad()
    def withdraw(self) -> None:
        """Nearest rounding, and the steps there were."""
        for name, quantiser in self._quantisers.items():
            quantiser.rounding = None
            quantiser.scale.copy_(self._before[name])


class UnitQuantisers:
    """The quantisers of a network's units."""

    def __init__(self, model: QuantModel) -> None:
        self._model = model
        self._weights, self.activations = dict(model.weights), dict(model.activations)
        self._first = next(iter(self._weights), None)

    def layers(self, unit: Unit) -> list[str]:
        """The unit's layers whose rounding is learned: all but the network's first and those in full precision."""
        return [name for name in unit.layers if name != self._first and not self._weights[name].is_identity]

    def steps(self, unit: Unit) -> list[ActQuantizer]:
        """The unit's activation quantisers whose step is learned."""
        found = (self.activations[name] for name in unit.activations)
        return [quantiser for quantiser in found if quantiser.bits < LEARNED_BELOW]

    def attach(self, names: Sequence[str], rule: WeightRule) -> LearnedWeights:
        """Put weights that ``rule`` learns in place of the layers' nearest rounding."""
        grids, slots = {}, {}
        for name in names:
            quantiser, weight = self._weights[name], self._model.layer(name).weight
            quantiser.unfreeze()
            grids[name] = Grid(weight, quantiser.scale, quantiser.zero_point, quantiser.n, quantiser.p)
            slots[name] = quantiser.rounding = Substitute(weight.detach())
        return LearnedWeights({name: self._weights[name] for name in names}, slots, *rule.begin(grids, slots))

    def detach(self, weights: LearnedWeights) -> None:
        """Go back to nearest rounding on the grids there were."""
        weights.withdraw()
        self.freeze(list(weights.slots))

    def freeze(self, names: Sequence[str]) -> None:
        """Quantise weights that are not being learned once instead of at every forward."""
        for name in names:
            self._weights[name].freeze(self._model.layer(name).weight)


@contextmanager
def dropping(quantisers: Sequence[ActQuantizer], keep: float, generator: torch.Generator) -> Iterator[None]:
    """Let each quantiser pass an element on unquantised with probability 1 - ``keep``."""
    for quantiser in quantisers:
        quantiser.keep_probability, quantiser.generator = keep, generator
    try:
        yield
    finally:
        for quantiser in quantisers:
            quantiser.keep_probability, quantiser.generator = 1.0, None


@torch.no_grad()
def restore(quantisers: Sequence[ActQuantizer], scales: Sequence[Tensor]) -> None:
    """Give the quantisers their earlier steps back."""
    for quantiser, scale in zip(quantisers, scales, strict=True):
        quantiser.scale.copy_(scale)
