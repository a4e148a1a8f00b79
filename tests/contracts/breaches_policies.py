"""A search of bit policies that keeps its contract, and one for each way to break it."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from pydantic import Field

from bench.errors import AccessDenied, NotApplicable
from bench.interfaces import BitPolicy, ImageSet, MethodParams, ModelHandle, RunContext, Searched, Setting
from tests.contracts import policies
from tests.contracts.breaches import Breaches
from tests.contracts.breaches_compressors import weighted

BREACHES = Breaches()


class Params(MethodParams):
    rounds: int = Field(20, ge=1)


class Good:
    """More bits for the layers that the images excite most; ties are drawn."""

    version = 1
    summary = "a search that keeps its contract"
    paper = "none"
    control = written = False
    needs: frozenset[str] = frozenset()
    Params = Params
    presets: Mapping[str, Mapping[str, Any]] = {"mini": {}, "thorough": {}, "paper": {"rounds": 100}}

    def check(self, params: Any, model: ModelHandle) -> None:
        if not weighted(model.module):
            raise NotApplicable("nothing to give bits to")

    def search(self, model: ModelHandle, images: ImageSet, setting: Setting, params: Any, ctx: RunContext) -> Searched:
        order = torch.randperm(len(weighted(model.module)), generator=ctx.generator).tolist()
        layers = zip(order, weighted(model.module), strict=True)
        bits = {name: 2 + (rank + self.extra(model, images, ctx)) % 7 for rank, name in layers}
        return Searched(
            BitPolicy.of({name: (bit, setting.act_bits) for name, bit in bits.items()}), {"order": order}, 1.0
        )

    def extra(self, model: ModelHandle, images: ImageSet, ctx: RunContext) -> int:
        """Where the breaches come in."""
        return 0


@BREACHES.of(policies.declares_what_the_plan_reads)
class TakesOtherArguments(Good):
    def search(self, model: ModelHandle) -> Searched:  # type: ignore[override]
        return Searched(BitPolicy())


class HiddenParams(Params):
    images: int = Field(20, ge=1)


@BREACHES.of(policies.declares_what_the_plan_reads)
class HidesAParameterBehindAnOption(Good):
    Params = HiddenParams


@BREACHES.of(policies.gives_bits_to_layers_that_exist)
class InventsALayer(Good):
    def search(self, *given: Any) -> Searched:
        return Searched(BitPolicy.of({"tail": (4, 4)}))


@BREACHES.of(policies.gives_bits_to_layers_that_exist)
class GivesOneBit(Good):
    def search(self, model: ModelHandle, *given: Any) -> Searched:
        return Searched(BitPolicy.of(dict.fromkeys(weighted(model.module), (1, 4))))


@BREACHES.of(policies.gives_bits_to_layers_that_exist)
class GivesATable(Good):
    def search(self, *given: Any) -> Any:
        return super().search(*given).policy


class Rates(Good):
    """Reports what each layer's pair costs."""

    def costs(self, policy: BitPolicy) -> dict[str, dict[str, float]]:
        return {name: {f"{w},{a}": 1.0} for name, (w, a) in policy.items()}

    def search(self, model: ModelHandle, *given: Any) -> Searched:
        found = super().search(model, *given)
        return replace(found, report={"pair_costs": self.costs(found.policy)})


@BREACHES.of(policies.rates_pairs_of_the_layers_it_searched)
class RatesALayerItDoesNotName(Rates):
    def costs(self, policy: BitPolicy) -> dict[str, dict[str, float]]:
        return super().costs(policy) | {"tail": {"4,4": 1.0}}


@BREACHES.of(policies.rates_pairs_of_the_layers_it_searched)
class RatesWithoutNumbers(Rates):
    def costs(self, policy: BitPolicy) -> dict[str, dict[str, float]]:
        return {name: dict.fromkeys(pairs, float("nan")) for name, pairs in super().costs(policy).items()}


@BREACHES.of(policies.rates_pairs_of_the_layers_it_searched)
class DoesNotRateItsOwn(Rates):
    def costs(self, policy: BitPolicy) -> dict[str, dict[str, float]]:
        return {name: {"8,7": 1.0} for name in policy}


@BREACHES.of(policies.leaves_its_inputs_as_they_were)
class LeavesGradientsOn(Good):
    def extra(self, model: ModelHandle, images: ImageSet, ctx: RunContext) -> int:
        model.module.requires_grad_(True)
        return 0


@BREACHES.of(policies.leaves_its_inputs_as_they_were)
class WritesOnTheImages(Good):
    def extra(self, model: ModelHandle, images: ImageSet, ctx: RunContext) -> int:
        images.images.add_(1)
        return 0


@BREACHES.of(policies.same_seed_same_policy)
class Counts(Good):
    made = 0

    def extra(self, model: ModelHandle, images: ImageSet, ctx: RunContext) -> int:
        self.made += 1
        return self.made // len(weighted(model.module))


@BREACHES.of(policies.keeps_out_of_the_world)
class DrawsFromEverybody(Good):
    def extra(self, model: ModelHandle, images: ImageSet, ctx: RunContext) -> int:
        return random.randrange(7)


@BREACHES.of(policies.keeps_out_of_the_world)
class TriesToReadData(Good):
    def extra(self, model: ModelHandle, images: ImageSet, ctx: RunContext) -> int:
        with contextlib.suppress(AccessDenied):
            ctx.data.training_set()
        return 0


@BREACHES.of(policies.says_when_a_network_does_not_serve)
class TakesNetworksItCannotServe(Good):
    def check(self, params: Any, model: ModelHandle) -> None: ...

    def search(self, model: ModelHandle, *given: Any) -> Searched:
        return Searched(BitPolicy.of({next(iter(weighted(model.module)), "first"): (4, 4)}))
