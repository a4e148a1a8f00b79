"""Drawn policies fill the budget and never exceed it; the same seed draws the same."""

from __future__ import annotations

import pytest
import torch

from bench.errors import BenchError
from bench.interfaces import Setting
from methods.policies._base import FULL, Budget, limits_of
from methods.policies.random import RandomParams, filled
from tests.policies.asking import ask
from tests.policies.test_space import Block, space


@pytest.mark.parametrize("ties", [(), ("sibling", "depthwise")])
@pytest.mark.parametrize("equal", [False, True])
def test_the_budget_is_filled_and_kept(ties: tuple[str, ...], equal: bool) -> None:
    found = space(Block())
    params = RandomParams(ties=ties, equal=equal, budget=Budget(average=3.4))
    limits = limits_of(found, Setting(3, 3), params.budget)
    shares, policies = [], set()
    for seed in range(8):
        policy = filled(found, params, limits, torch.Generator().manual_seed(seed))
        assert policy is not None
        assert all(pair[0] in params.weight_bits and pair[1] in params.act_bits for pair in policy.values())
        tied = found.tied(ties)
        assert all(policy[name] == policy[first] for name, first in tied.items())
        reads = {place.name: place.reads for place in found.searched}
        assert len({(reads[name], policy[name].input) for name in reads}) == len(set(reads.values()))
        assert not equal or all(pair[0] == pair[1] for pair in policy.values())
        shares.append(found.used(policy).bitops / limits.bitops)  # type: ignore[operator]
        policies.add(policy)
    assert max(shares) <= 1
    # Four layers have coarse steps: not every walk meets a policy within 1 % of this budget.
    assert min(shares) >= (0.95 if not ties and not equal else 0.5)
    assert equal or ties or max(shares) >= FULL
    assert len(policies) > 3 or equal


def test_draws_of_one_seed_differ_and_repeat() -> None:
    first, again, other = (ask("random", Block(), draw=draw, budget={"uniform": 1.2}) for draw in (0, 0, 1))
    assert first.policy == again.policy != other.policy
    assert first.report["bitops"] <= first.report["budget_bitops"]


def test_a_budget_that_cannot_be_reached_names_the_least_that_can() -> None:
    with pytest.raises(BenchError, match="at least") as caught:
        ask("random", Block(), budget={"average": 1.5})
    found = space(Block())
    least = sum(place.macs * 4 for place in found.searched)
    assert f"at least {least}" in str(caught.value)
