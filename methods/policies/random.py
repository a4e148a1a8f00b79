"""Random: bits drawn for each layer, then moved one candidate at a time until they fill the budget.

The control of every search: a policy that is no better than the mean of several drawn ones found nothing.  Weight bits
of each layer and input bits of each tensor are drawn uniformly; while BitOPs exceed the budget one that can fall falls
by one candidate, while they lie more than a hundredth below it one that fits rises, both drawn.

Deviations: the tolerance is 1 % (the projects this follows print none); where steps are too coarse for it the fullest
policy seen is kept, and ``reached`` in the report says how full it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from bench.interfaces import BitPolicy, ImageSet, LayerBits, MethodParams, ModelHandle, RunContext, Searched, Setting
from methods.policies._base import ForSearchedLayers, SearchParams, cheapest, described, limits_of

if TYPE_CHECKING:
    import torch

    from methods.policies._space import Space

FULL = 0.99
"""Share of the budget from which a policy fills it."""
STEPS = 500


class RandomParams(SearchParams):
    """``draw`` numbers the policies drawn with one seed."""

    draw: int = Field(default=0, ge=0, lt=1000)


class Random(ForSearchedLayers):
    """The search; see the module's docstring."""

    version = 1
    control: bool = True
    summary = "drawn bits that fill the budget: the control of every search"
    paper = "none: the control of every search"
    Params: type[MethodParams] = RandomParams
    presets: Mapping[str, Mapping[str, Any]] = {"mini": {}, "thorough": {}, "paper": {}}

    def search(self, model: ModelHandle, images: ImageSet, setting: Setting, params: Any, ctx: RunContext) -> Searched:
        """Draw a policy that takes at most the budget and, where the steps allow it, at most 1 % less.

        Raises:
            BenchError: the budget cannot be reached, with the smallest value that can.
        """
        import torch

        from methods.policies._space import space_of

        space = space_of(model.module, images.images[:2].to(ctx.device), setting)
        limits = limits_of(space, setting, params.budget)
        start = int(torch.randint(2**62, (), generator=ctx.generator))
        generator = torch.Generator().manual_seed((start + params.draw) % 2**63)
        found = Walk(space, params, generator).fill(limits)
        if found is None:  # raises when nothing is within the budget
            found = cheapest(space, setting, params, lambda place, bits: -float(bits.weight * bits.input)).policy
        share = 1.0 if limits.bitops is None else inside(space, found) / limits.bitops
        return Searched(found, described(space, found, limits) | {"reached": share})


def inside(space: Space, policy: Mapping[str, LayerBits]) -> int:
    """BitOPs of the searched layers alone."""
    return sum(place.macs * policy[place.name].weight * policy[place.name].input for place in space.searched)


class Walk:
    """Policies as places of knobs: a knob is the weight bits of tied layers, or the input bits of a tensor."""

    def __init__(self, space: Space, params: RandomParams, generator: torch.Generator) -> None:
        self._space, self._generator = space, generator
        from methods.policies._ties import groups

        tied = space.tied(params.ties)
        self._weight = {place.name: f"w {tied.get(place.name, place.name)}" for place in space.searched if place.weight}
        reads = {place.name: place.reads for place in space.searched if place.input}
        same = [(reads[name], reads[first]) for name, first in tied.items() if name in reads and first in reads]
        joined = groups(list(dict.fromkeys(reads.values())), same)
        self._input = {name: f"a {joined.get(tensor, tensor)}" for name, tensor in reads.items()}
        self._candidates: dict[str, tuple[int, ...]] = dict.fromkeys(self._weight.values(), params.weight_bits)
        self._candidates |= dict.fromkeys(self._input.values(), params.act_bits)
        if params.equal:
            self._join_equal(params)

    def _join_equal(self, params: RandomParams) -> None:
        """One knob for weight and input; tensors join the knobs of all weights that read them."""
        both = tuple(bit for bit in params.weight_bits if bit in params.act_bits)
        for name in self._weight.keys() & self._input.keys():
            self._weight = {n: self._input[name] if k == self._weight[name] else k for n, k in self._weight.items()}
        knobs = [*self._weight.values(), *self._input.values()]
        self._candidates = dict.fromkeys(knobs, both)

    def policy(self, at: Mapping[str, int]) -> BitPolicy:
        """The bits where the knobs are ``at``."""
        bits = {}
        for place in self._space.searched:
            weight, act = place.fixed
            if place.name in self._weight:
                knob = self._weight[place.name]
                weight = self._candidates[knob][at[knob]]
            if place.name in self._input:
                knob = self._input[place.name]
                act = self._candidates[knob][at[knob]]
            bits[place.name] = (weight, act)
        return BitPolicy.of(bits)

    def fill(self, limits: Any) -> BitPolicy | None:
        """A drawn policy within ``limits`` that fills the BitOPs, None when none within them was met."""
        at = {knob: self._draw(len(bits)) for knob, bits in self._candidates.items()}
        best: tuple[int, BitPolicy] | None = None
        for _ in range(STEPS):
            policy = self.policy(at)
            if self._within(policy, limits):
                used = inside(self._space, policy)
                if best is None or used > best[0]:
                    best = used, policy
                if limits.bitops is None or used >= FULL * limits.bitops:
                    return policy
                if self._rise(at, limits):
                    continue
            self._fall(at)
        return best[1] if best else None

    def _within(self, policy: BitPolicy, limits: Any) -> bool:
        if limits.bitops is not None and inside(self._space, policy) > limits.bitops:
            return False
        weights = sum(place.weights * policy[place.name].weight for place in self._space.searched)
        return limits.weight_bits is None or weights <= limits.weight_bits

    def _rise(self, at: dict[str, int], limits: Any) -> bool:
        """Move one knob up that stays within; whether there is one."""
        knobs = [knob for knob, bits in self._candidates.items() if at[knob] + 1 < len(bits)]
        while knobs:
            knob = knobs.pop(self._draw(len(knobs)))
            if self._within(self.policy(at | {knob: at[knob] + 1}), limits):
                at[knob] += 1
                return True
        return False

    def _fall(self, at: dict[str, int]) -> None:
        knobs = [knob for knob in self._candidates if at[knob] > 0]
        if knobs:
            at[knobs[self._draw(len(knobs))]] -= 1

    def _draw(self, count: int) -> int:
        import torch

        return int(torch.randint(count, (), generator=self._generator))


METHOD = Random()
