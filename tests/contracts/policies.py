"""The contract of a search of bit policies, as checks that take any search; found breaches are AssertionErrors.

``CHECKS`` run over every registered search (test_policies.py), and over searches that break one rule each
(test_breaches.py), so that each check is seen to fail.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.data.access import DataAccess
from bench.interfaces import FLOAT_BITS, BitPolicy, ImageSet, ModelHandle, PolicySearch, RunContext, Searched, Setting
from bench.run.reports import plain
from bench.spec import axes
from tests.contracts import kit
from tests.contracts.toys import SPEC, Weightless, context, images, teacher, value_of
from tests.contracts.world import reseeded, sealed


@dataclass(frozen=True)
class Found:
    """What was found, what was read or tried for it, and whether the generator was drawn from."""

    searched: Searched
    reads: list[dict[str, Any]]
    drew: bool

    @property
    def policy(self) -> BitPolicy:
        """The bits."""
        return self.searched.policy


class Search(kit.Case):
    """A search and how to ask it."""

    def setting(self) -> Setting:
        """Few bits."""
        return Setting(**value_of(axes.axis("bits")))

    def make(self, model: ModelHandle | None = None, given: ImageSet | None = None, *, seed: int = 3) -> Found:
        """One search."""
        with tempfile.TemporaryDirectory() as scratch:
            return self.run(context(seed, scratch), model or teacher(), given or images())

    def run(self, ctx: RunContext, model: ModelHandle, given: ImageSet) -> Found:
        """As the engine asks: ``check`` first."""
        before = ctx.generator.get_state()
        self.method.check(self.params, model)
        searched = self.method.search(model, given, self.setting(), self.params, ctx)
        assert isinstance(ctx.data, DataAccess)
        return Found(searched, ctx.data.audit, not torch.equal(before, ctx.generator.get_state()))


def declares_what_the_plan_reads(case: Search) -> None:
    """The Protocol's attributes, presets within Params."""
    kit.check_declaration(case.method, PolicySearch)
    kit.check_options(case.method, "policy")


def gives_bits_to_layers_that_exist(case: Search) -> None:
    """Names of weighted layers, bits that a compressor takes, and JSON that gives the same policy back."""
    model = teacher()
    searched = case.make(model).searched
    assert isinstance(searched, Searched), "a search answers with bench.interfaces.Searched"
    policy = searched.policy
    assert isinstance(policy, BitPolicy)
    json.dumps(plain(searched.report))
    assert searched.forward_equivalents >= 0
    weighted = {name for name, part in model.module.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)}
    assert set(policy) <= weighted, "bits of a layer that does not exist"
    for pair in policy.values():
        assert all(2 <= bits <= 8 or bits == FLOAT_BITS for bits in pair), f"{pair} are no bits"
    again = BitPolicy.from_json(json.loads(json.dumps(policy.to_json())))
    assert again == policy
    assert hash(again) == hash(policy)


def rates_pairs_of_the_layers_it_searched(case: Search) -> None:
    """Where the report has ``pair_costs`` (tables.foretelling reads them): finite, one for each pair of a layer
    that the policy names, the policy's own pairs among them."""
    searched = case.make().searched
    costs = searched.report.get("pair_costs")
    if costs is None:
        return
    assert costs, "no layer has a cost"
    for layer, pairs in costs.items():
        assert layer in searched.policy, f"{layer} was not searched"
        assert all(isinstance(cost, float) and math.isfinite(cost) for cost in pairs.values()), f"{layer}: no numbers"
        weight, act = searched.policy[layer]
        assert f"{weight},{act}" in pairs, f"{layer} has bits that cost nothing known"


def leaves_its_inputs_as_they_were(case: Search) -> None:
    """The given network and images."""
    model, given = teacher(), images()
    before, pixels = kit.state(model.module), kit.checksum(given.images)
    case.make(model, given)
    assert kit.state(model.module) == before, "the given network was changed"
    assert kit.checksum(given.images) == pixels, "the given images were changed"


def same_seed_same_policy(case: Search) -> None:
    """A function of its inputs and the generator."""
    first, again, other = (case.make(seed=seed) for seed in (3, 3, 4))
    assert first.policy == again.policy, "the same seed found another policy"
    if not first.drew:
        assert first.policy == other.policy, "random numbers come from somewhere else than the generator"


def keeps_out_of_the_world(case: Search) -> None:
    """No global state is read or written, no file but in scratch, nothing printed, no data read."""
    found = []
    for seed in (1, 2):
        with reseeded(seed), tempfile.TemporaryDirectory() as scratch:
            ctx, model, given = context(3, scratch), teacher(), images()
            with sealed(Path(scratch)):
                made = case.run(ctx, model, given)
            assert not made.reads, "a search reads no data"
            found.append(made.policy)
    assert found[0] == found[1], "the global random state matters"


def says_when_a_network_does_not_serve(case: Search) -> None:
    """A network without weighted layers: not applicable, or an empty policy."""
    model = kit.frozen(Weightless(), "toy/weightless", SPEC)
    if kit.serves(case.method, case.params, model):
        assert not case.make(model).policy


CHECKS: tuple[Callable[[Search], None], ...] = (
    declares_what_the_plan_reads,
    gives_bits_to_layers_that_exist,
    rates_pairs_of_the_layers_it_searched,
    leaves_its_inputs_as_they_were,
    same_seed_same_policy,
    keeps_out_of_the_world,
    says_when_a_network_does_not_serve,
)
