"""Settings of a network of several bit-widths (docs/methods/quantisation.md#adaptive). No torch: a plan reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.interfaces import FLOAT_BITS, BitPolicy, Setting


@dataclass(frozen=True)
class Widths:
    """Settings of one network: what was ``asked``, those it trains at, widest first, and those it is only evaluated at.

    ``zero_shot`` ones take clips and batch normalisation of the trained setting whose place ``nearest`` gives.
    """

    asked: Setting
    trained: tuple[Setting, ...]
    zero_shot: tuple[Setting, ...] = ()
    nearest: tuple[int, ...] = ()

    @property
    def all(self) -> tuple[Setting, ...]:
        """Trained ones, then the others; the place of each is its width's."""
        return self.trained + self.zero_shot


def widths_of(asked: Setting, trained: Sequence[int], zero_shot: Sequence[int]) -> Widths:
    """What ``asked`` comes to at each width, widest first, equal ones once.

    A setting that is not trained goes by the nearest trained one that has at least its bits, else by the widest.
    """
    kept = tuple(dict.fromkeys(narrowed(asked, width) for width in sorted(trained, reverse=True)))
    others = dict.fromkeys(narrowed(asked, width) for width in sorted(zero_shot, reverse=True))
    left = tuple(setting for setting in others if setting not in kept)
    return Widths(asked, kept, left, tuple(_nearest(setting, kept) for setting in left))


def _nearest(setting: Setting, trained: Sequence[Setting]) -> int:
    enough = [
        place
        for place, other in enumerate(trained)
        if other.weight_bits >= setting.weight_bits and other.act_bits >= setting.act_bits
    ]
    return max(enough, default=0)


def narrowed(setting: Setting, width: int) -> Setting:
    """``setting`` with at most ``width`` bits for weights and for activations; floating point stays."""
    return setting.joined(Setting(_cut(setting.weight_bits, width), _cut(setting.act_bits, width)))


def _cut(asked: int, most: int) -> int:
    return asked if asked >= FLOAT_BITS else min(asked, most)


def capped(setting: Setting, asked: Setting, ends: tuple[str, str]) -> Setting:
    """``setting`` with the policy that ``asked`` comes to there: where it has fewer bits than asked for, no layer but
    the ends has more than these; floating point stays."""
    if not asked.policy:
        return setting
    most = [
        own if own < whole else FLOAT_BITS
        for own, whole in ((setting.weight_bits, asked.weight_bits), (setting.act_bits, asked.act_bits))
    ]
    layers = {
        name: (bits.weight, bits.input) if name in ends else (_cut(bits.weight, most[0]), _cut(bits.input, most[1]))
        for name, bits in asked.policy.items()
    }
    return setting.with_policy(BitPolicy.of(layers))
