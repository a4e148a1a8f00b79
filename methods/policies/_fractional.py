"""Real numbers of bits: their loss, and the way from them to whole ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from bench.interfaces import BitPolicy, LayerBits
from methods.policies._mixed import RealChoice
from methods.policies._proxy import Proxy
from methods.policies._space import Place, Space
from methods.policies._supernet import Supernet
from methods.policies._supernet_loop import Objective

_HALVINGS = 50

Bits = Mapping[str, tuple[float, float]]
"""Layer → real bits of weight and input."""


class FractionalObjective(Objective):
    """CE + kappa abs(C / T - 1) with C = sum_l M_l lambda_w lambda_a of the searched layers."""

    def __init__(self, net: Supernet, proxy: Proxy, params: Any, limit: float) -> None:
        super().__init__(net, proxy, params)
        self.limit = limit

    def total(self, task: Tensor) -> Tensor:
        away = (self.net.bitops() / self.limit - 1).abs()
        return task + float(self.params.kappa) * away


def real_bits(net: Supernet) -> Bits:
    """What a trained supernet holds."""
    with torch.no_grad():
        found = {place.name: net.expected(place) for place in net.space.searched}
        return {name: (float(weight), float(act)) for name, (weight, act) in found.items()}


def rounded(space: Space, bits: Bits, weight: tuple[int, ...], act: tuple[int, ...], offset: float = 0.0) -> BitPolicy:
    """round(lambda + offset), halves upwards, between the first and the last candidate."""

    def near(value: float, candidates: tuple[int, ...]) -> int:
        return min(max(math.floor(value + offset + 0.5), candidates[0]), candidates[-1])

    return BitPolicy.of(
        {
            place.name: place.bits(near(bits[place.name][0], weight), near(bits[place.name][1], act))
            for place in space.searched
        }
    )


def largest_offset(fits: Callable[[float], bool], reach: float = 8.0) -> float | None:
    """The largest offset within ``reach`` that ``fits``, which holds below some number and not above it; None where it
    holds nowhere."""
    low, high = -reach, reach
    if not fits(low):
        return None
    if fits(high):
        return high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def distance(bits: Bits, offset: float) -> Callable[[Place, LayerBits], float]:
    """Squared distance of a pair from the layer's real bits, moved by the offset."""

    def cost(place: Place, pair: LayerBits) -> float:
        weight, act = bits[place.name]
        away = (weight + offset - pair.weight) ** 2 if place.weight else 0.0
        return away + ((act + offset - pair.input) ** 2 if place.input else 0.0)

    return cost


def whole(bits: tuple[int, ...]) -> tuple[int, ...]:
    """All whole numbers from the first to the last candidate."""
    return tuple(range(bits[0], bits[-1] + 1))


def choice(bits: tuple[int, ...], start: float) -> Callable[[], RealChoice]:
    """What makes a real choice between the first and the last candidate."""
    return lambda: RealChoice(whole(bits), start)
