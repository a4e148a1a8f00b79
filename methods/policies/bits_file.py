"""Bits from a file: a policy written down layer by layer; ``policy: {file: my.json}`` in a suite is this one.

Nothing is searched.  The file holds ``{layer: [weight bits, input bits]}``, alone or under ``bits`` beside what
``bench policy solve`` writes with it; its content, not its path, is the policy's identity.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from bench.interfaces import (
    ALLOWED_BITS,
    ALLOWED_WORDS,
    BitPolicy,
    ImageSet,
    MethodParams,
    ModelHandle,
    RunContext,
    Searched,
    Setting,
    check_layers,
)
from methods.policies._base import ForSearchedLayers, described, searched_bits


def _allowed(layers: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    for name, pair in layers.items():
        if not set(pair) <= set(ALLOWED_BITS):
            raise ValueError(f"layer {name}: {list(pair)} are no bits; allowed: {ALLOWED_WORDS}")
    return layers


class BitsFileParams(MethodParams):
    """``layers``: layer → weight bits and input bits, of every layer whose bits the setting leaves open;
    none: the setting's."""

    layers: Annotated[dict[str, tuple[int, int]], AfterValidator(_allowed)] = Field(default_factory=dict)


class BitsFile(ForSearchedLayers):
    """The policy; see the module's docstring."""

    version = 1
    written: bool = True
    summary = "a policy from a file: {file: my.json}"
    paper = "none: the user's own"
    Params: type[MethodParams] = BitsFileParams
    presets: Mapping[str, Mapping[str, Any]] = {"mini": {}, "thorough": {}, "paper": {}}

    def search(self, model: ModelHandle, images: ImageSet, setting: Setting, params: Any, ctx: RunContext) -> Searched:
        """The policy as it was given.

        Raises:
            BenchError: it names a layer that the network lacks, or misses one.
        """
        from bench.interfaces.program import Limits
        from methods.policies._space import space_of

        space = space_of(model.module, images.images[:2].to(ctx.device), setting)
        policy = BitPolicy.of(params.layers) or space.uniform(*searched_bits(setting))
        names, needed = [place.name for place in space.places], {place.name for place in space.searched}
        check_layers(policy, names, needed, where=model.name)
        return Searched(policy, described(space, policy, Limits()))


METHOD = BitsFile()
