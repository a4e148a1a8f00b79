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

from bench.interfaces import BitPolicy, ImageSet, MethodParams, ModelHandle, RunContext, Searched, Setting
from methods.policies._base import FULL, ForSearchedLayers, SearchParams, cheapest, described, limits_of

if TYPE_CHECKING:
    import torch

    from bench.interfaces.program import Limits
    from methods.policies._space import Space

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
        found = filled(space, params, limits, generator)
        if found is None:  # raises when nothing is within the budget
            found = cheapest(space, setting, params, lambda place, bits: -float(bits.weight * bits.input)).policy
        share = 1.0 if limits.bitops is None else space.used(found).bitops / limits.bitops
        return Searched(found, described(space, found, limits) | {"reached": share})


def filled(space: Space, params: RandomParams, limits: Limits, generator: torch.Generator) -> BitPolicy | None:
    """A drawn policy within ``limits`` that fills the BitOPs: the first that does to 1 %, else the fullest of the walk;
    None when none within them was met."""
    import torch

    from methods.policies._knobs import fits, knobs_of, policy_of

    knobs = knobs_of(space, params)

    def drawn(count: int) -> int:
        return int(torch.randint(count, (), generator=generator))

    def risen() -> list[int] | None:
        """One knob up, of those with which the policy stays within."""
        able = [index for index, knob in enumerate(knobs) if at[index] + 1 < len(knob.bits)]
        while able:
            index = able.pop(drawn(len(able)))
            higher = [place + (which == index) for which, place in enumerate(at)]
            if fits(space, policy_of(space, knobs, higher), limits):
                return higher
        return None

    at = [drawn(len(knob.bits)) for knob in knobs]
    best: tuple[int, BitPolicy] | None = None
    for _ in range(STEPS):
        policy = policy_of(space, knobs, at)
        if fits(space, policy, limits):
            used = space.used(policy).bitops
            if best is None or used > best[0]:
                best = used, policy
            if limits.bitops is None or used >= FULL * limits.bitops:
                return policy
            if (higher := risen()) is not None:
                at = higher
                continue
        able = [index for index, place in enumerate(at) if place > 0]
        if able:
            at[able[drawn(len(able))]] -= 1
    return best[1] if best else None


METHOD = Random()
