"""A policy as a row of knobs: what a search that decides layer by layer turns.

A knob is the weight bits of a layer, or of layers that are tied, or the input bits of a tensor, whoever reads it; with
equal weight and input bits it is both.  Whatever the knobs say is a policy of the space with its ties.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.interfaces import BitPolicy
from bench.interfaces.program import Limits
from methods.policies._base import SearchParams
from methods.policies._space import Space
from methods.policies._ties import groups


@dataclass(frozen=True)
class Knob:
    """``weights``: layers whose weight bits it sets; ``readers``: those whose input bits; ``bits``: to one of these."""

    weights: tuple[str, ...]
    readers: tuple[str, ...]
    bits: tuple[int, ...]

    @property
    def layer(self) -> str:
        """The first layer it is of."""
        return (*self.weights, *self.readers)[0]


def knobs_of(space: Space, params: SearchParams) -> tuple[Knob, ...]:
    """All knobs in the order of their layers, a layer's weight before its input."""
    weight = {place.name: f"w {place.name}" for place in space.searched if place.weight}
    act = {place.name: f"a {place.reads}" for place in space.searched if place.input}
    pairs = []
    for name, first in space.tied(params.ties).items():
        pairs += [(own[name], own[first]) for own in (weight, act) if name in own and first in own]
    if params.equal:
        pairs += [(weight[name], act[name]) for name in weight.keys() & act.keys()]
    atoms = list(dict.fromkeys(own[p.name] for p in space.searched for own in (weight, act) if p.name in own))
    joined = groups(atoms, pairs)
    found: dict[str, tuple[list[str], list[str]]] = {}
    for place in space.searched:
        for kind, own in enumerate((weight, act)):
            if place.name in own:
                atom = own[place.name]
                found.setdefault(joined.get(atom, atom), ([], []))[kind].append(place.name)
    return tuple(Knob(tuple(w), tuple(a), _bits(bool(w), bool(a), params)) for w, a in found.values())


def policy_of(space: Space, knobs: Sequence[Knob], at: Sequence[int]) -> BitPolicy:
    """The bits with each knob at its ``at``-th candidate."""
    weight = {name: knob.bits[i] for knob, i in zip(knobs, at, strict=True) for name in knob.weights}
    act = {name: knob.bits[i] for knob, i in zip(knobs, at, strict=True) for name in knob.readers}
    every = space.searched
    return BitPolicy.of({p.name: (weight.get(p.name, p.fixed.weight), act.get(p.name, p.fixed.input)) for p in every})


def fits(space: Space, policy: BitPolicy, limits: Limits) -> bool:
    """Whether the searched layers take at most ``limits``."""
    used = space.used(policy)
    return all(getattr(used, name) <= limit for name, limit in limits.items())


def swept(space: Space, knobs: Sequence[Knob], at: Sequence[int], limits: Limits) -> list[int]:
    """``at``, lowered from the last layer to the first, its input before its weight, one candidate at a time and round
    by round, until the policy fits or nothing can be lowered."""
    found = list(at)
    while not fits(space, policy_of(space, knobs, found), limits) and any(found):
        for index in reversed(range(len(knobs))):
            if found[index] > 0:
                found[index] -= 1
                if fits(space, policy_of(space, knobs, found), limits):
                    return found
    return found


def raised(space: Space, knobs: Sequence[Knob], at: Sequence[int], limits: Limits) -> list[int]:
    """``at``, raised from the first layer to the last, its weight before its input, one candidate at a time and round
    by round, wherever the policy still fits."""
    found = list(at)
    able = [index for index, knob in enumerate(knobs) if found[index] + 1 < len(knob.bits)]
    while able:
        for index in able:
            found[index] += 1
            if not fits(space, policy_of(space, knobs, found), limits):
                found[index] -= 1
                able = [other for other in able if other != index]
        able = [index for index in able if found[index] + 1 < len(knobs[index].bits)]
    return found


def _bits(weight: bool, act: bool, params: SearchParams) -> tuple[int, ...]:
    if weight and act:
        return tuple(bits for bits in params.weight_bits if bits in params.act_bits)
    return params.weight_bits if weight else params.act_bits
