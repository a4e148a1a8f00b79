"""Uniform: the setting's bits in every layer whose bits a search decides on.

The row every search is compared with: it goes through the same policy, so that its BitOPs are counted by the same
rule.  Without a policy the stem's output keeps the first layer's bits in post-training methods
(docs/methods/quantisation.md#bits); here, as in every policy, it has those of the layer that reads it.

BitOPs equal the closed form sum M w a with 8 by 8 bits at the ends (SEAM's tables; tests/policies/test_bitops.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.interfaces import ImageSet, MethodParams, ModelHandle, RunContext, Searched, Setting
from methods.policies._base import ForSearchedLayers, described, searched_bits


class UniformParams(MethodParams):
    """None."""


class Uniform(ForSearchedLayers):
    """The search; see the module's docstring."""

    version = 1
    control: bool = True
    summary = "the setting's bits in every layer: what searches are compared with"
    paper = "none: the control of every search"
    Params: type[MethodParams] = UniformParams
    presets: Mapping[str, Mapping[str, Any]] = {"mini": {}, "thorough": {}, "paper": {}}

    def search(self, model: ModelHandle, images: ImageSet, setting: Setting, params: Any, ctx: RunContext) -> Searched:
        """The same bits everywhere; nothing is computed."""
        from bench.interfaces.program import Limits
        from methods.policies._space import space_of

        space = space_of(model.module, images.images[:2].to(ctx.device), setting)
        policy = space.uniform(*searched_bits(setting))
        return Searched(policy, described(space, policy, Limits()))


METHOD = Uniform()
