"""What a search by gradients decides with: choices among bits, and quantisers that follow them.

A choice gives every candidate its share; a mixed quantiser is the sum of its candidates' quantisers, weighted so
(EdMIPS, arXiv 2004.05795, its composite convolution).  With all of the share on one candidate it is that candidate's
quantiser, bit for bit.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from methods.policies._mixture import Levels, mixture
from methods.quant.choices import StepInit
from methods.quant.learned import LearnedActivation, StepActivation
from methods.quant.learned_weights import LsqWeight
from methods.quant.ranges import MIN_STEP

_NORMAL = {1: 1.596, 2: 0.996, 3: 0.586, 4: 0.336, 5: 0.1881, 6: 0.1041, 7: 0.0569, 8: 0.0308}
"""Bits → step of the mid-rise grid for a standard normal variable; up to 4 as EdMIPS has them, above the least squared
error."""
_HALF = {1: 0.799, 2: 0.538, 3: 0.3217, 4: 0.185, 5: 0.1055, 6: 0.0573, 7: 0.0309, 8: 0.0165}
"""The same for its positive half, on a grid that holds zero."""

START = 0.01
"""Every logit's first value, EdMIPS'."""


class Choice(nn.Module, ABC):
    """Among ``bits``, ascending: how much of each a quantiser takes."""

    def __init__(self, bits: tuple[int, ...]) -> None:
        super().__init__()
        self.bits = bits

    @abstractmethod
    def shares(self) -> tuple[tuple[int, ...], Tensor]:
        """Indices of the candidates in use and their shares, which sum to 1."""

    @abstractmethod
    def expected(self) -> Tensor:
        """Bits on average, []."""

    @abstractmethod
    def probabilities(self) -> list[float]:
        """Of all candidates, without noise."""

    def settle(self) -> None:
        """After an optimiser step: keep what is learned within its bounds."""

    def picked(self) -> int:
        """The likeliest candidate, of equal ones the lowest."""
        found = self.probabilities()
        return self.bits[found.index(max(found))]


class SoftmaxChoice(Choice):
    """Shares softmax((logits + noise) / tau); noise is zero unless a search draws it."""

    noise: Tensor

    def __init__(self, bits: tuple[int, ...]) -> None:
        super().__init__(bits)
        self.logits = nn.Parameter(torch.full((len(bits),), START))
        self.register_buffer("noise", torch.zeros(len(bits)))
        self.tau = 1.0

    def _all(self) -> Tensor:
        return torch.softmax((self.logits + self.noise) / self.tau, 0)

    def shares(self) -> tuple[tuple[int, ...], Tensor]:
        return tuple(range(len(self.bits))), self._all()

    def expected(self) -> Tensor:
        shares = self._all()
        return (shares * torch.tensor(self.bits, dtype=shares.dtype, device=shares.device)).sum()

    def probabilities(self) -> list[float]:
        return torch.softmax(self.logits.detach().double(), 0).tolist()


class RealChoice(Choice):
    """A real number of bits between the first and the last candidate, which are whole numbers in a row: a value between
    two of them takes both, linearly."""

    def __init__(self, bits: tuple[int, ...], start: float) -> None:
        super().__init__(bits)
        self.value = nn.Parameter(torch.tensor(float(min(max(start, bits[0]), bits[-1]))))

    def shares(self) -> tuple[tuple[int, ...], Tensor]:
        if len(self.bits) == 1:
            return (0,), torch.ones(1, dtype=self.value.dtype, device=self.value.device)
        low = min(max(math.floor(float(self.value.detach())), self.bits[0]), self.bits[-1] - 1)
        above = self.value - low
        index = low - self.bits[0]
        return (index, index + 1), torch.stack([1 - above, above])

    def expected(self) -> Tensor:
        return self.value

    def probabilities(self) -> list[float]:
        with torch.no_grad():
            indices, shares = self.shares()
        found = [0.0] * len(self.bits)
        for index, share in zip(indices, shares.tolist(), strict=True):
            found[index] = share
        return found

    @torch.no_grad()
    def settle(self) -> None:
        self.value.clamp_(self.bits[0], self.bits[-1])


class MixedWeight(nn.Module):
    """Parametrisation of a weight, per tensor: candidates with LSQ's learned steps, or with steps in proportion to the
    weight's standard deviation and a gradient that passes unclipped (``init`` "fixed", EdMIPS' own)."""

    def __init__(self, weight: Tensor, choice: Choice, init: StepInit | None) -> None:
        super().__init__()
        self.choice, self.init = choice, init
        made = [] if init is None else [LsqWeight(weight, bits, init) for bits in choice.bits]
        self.parts = nn.ModuleList(made)
        if init is None:
            self._levels = [_mid_rise(bits, through=True) for bits in choice.bits]
        else:
            self._levels = [Levels(part.n, part.p, part.g) for part in made]

    def forward(self, weight: Tensor) -> Tensor:
        """The mixture, of the weight's shape."""
        indices, shares = self.choice.shares()
        if self.init is None:
            spread = weight.detach().std().clamp_min(MIN_STEP)
            steps = torch.stack([spread * _NORMAL[self.choice.bits[i]] for i in indices])
        else:
            steps = torch.stack([self.parts[i].scale for i in indices])  # type: ignore[misc]
        return mixture(weight, shares, steps, [self._levels[i] for i in indices])

    def right_inverse(self, weight: Tensor) -> Tensor:
        """What trains starts as the weight itself (`torch.nn.utils.parametrize` asks)."""
        return weight


class MixedActivation(LearnedActivation):
    """The same for a tensor; its steps start at the first images.

    Fixed steps are EdMIPS' half-wave Gaussian ones times the first images' spread, as the networks here do not have
    activations of unit variance; a two-sided tensor gets the weights' grid.
    """

    spread: Tensor

    def __init__(self, nonnegative: bool, choice: Choice, init: StepInit | None) -> None:
        super().__init__(max(choice.bits), nonnegative)
        self.choice, self.init = choice, init
        made = [] if init is None else [StepActivation(bits, nonnegative, init) for bits in choice.bits]
        self.parts = nn.ModuleList(made)
        self.register_buffer("spread", torch.tensor(1.0))

    def begin(self, x: Tensor) -> None:
        super().begin(x)
        for part in self._steps():
            part.begin(x)
        # Of a half-wave variable the mean square is half of the whole one's.
        square = x.square().mean() * (1 if self.signed else 2)
        self.spread.copy_(square.sqrt().clamp_min(MIN_STEP))

    def _steps(self) -> list[StepActivation]:
        return [part for part in self.parts if isinstance(part, StepActivation)]

    def quantise(self, x: Tensor) -> Tensor:
        indices, shares = self.choice.shares()
        if self.init is None:
            table = _NORMAL if self.signed else _HALF
            bits = [self.choice.bits[i] for i in indices]
            steps = torch.stack([self.spread * table[b] for b in bits])
            levels = [_mid_rise(b) if self.signed else Levels(0, (1 << b) - 1) for b in bits]
        else:
            parts = self._steps()
            steps = torch.stack([parts[i].scale for i in indices])
            levels = [Levels(*parts[i].limits, parts[i].g) for i in indices]
        return mixture(x, shares, steps, levels)


def _mid_rise(bits: int, *, through: bool = False) -> Levels:
    """Levels at odd multiples of half a step, as many below zero as above."""
    half = 1 << (bits - 1)
    return Levels(-half, half - 1, offset=0.5, through=through)
