"""EdMIPS: hard budgets, what gamma does and costs, the two answers, EdMIPS' own quantisers."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from bench.errors import BenchError
from bench.interfaces import BitPolicy, Searched
from methods.policies._base import FULL, choices_of
from methods.policies._differentiable import PressureParams
from methods.policies._supernet_loop import Objective, train
from tests.contracts.toys import context
from tests.policies.asking import ask
from tests.policies.super_toys import BITS, SETTING, batch, net, plain, proxy, supernet

QUICK: dict[str, Any] = {"epochs": 2, "batch": 8, "lr_arch": 1.0}


def search(**params: Any) -> Searched:
    return ask("edmips", net(), **(QUICK | params))


@pytest.mark.parametrize("budget", [{"average": 2.5}, {"uniform": 1.4}, {"average": 4.0, "bytes": 700}])
def test_the_policy_is_within_the_budget_and_could_not_be_likelier(budget: dict[str, Any]) -> None:
    found = search(budget=budget, fill=False)
    report, space = found.report, supernet().space
    assert set(found.policy) == {place.name for place in space.searched}
    assert all(w in BITS and a in BITS for w, a in found.policy.values())
    assert report["bitops"] == space.bitops(found.policy) <= (report["budget_bitops"] or 10**12)
    assert report["weight_bytes"] <= (report["budget_bytes"] or 10**12)
    # A layer one candidate further: too much, or not likelier.
    for place in space.searched:
        for low, high in pairwise(BITS):
            weight, act = found.policy[place.name]
            if weight != low:
                continue
            other = BitPolicy.of(dict(found.policy) | {place.name: (high, act)})
            shares = report["probabilities"][place.name]["weight"]
            within = space.bitops(other) <= report["budget_bitops"]
            within &= space.weight_bits(other) / 8 <= (report["budget_bytes"] or 10**12)
            assert not within or shares[str(high)] <= shares[str(low)]


def test_without_a_limit_the_projection_is_each_choices_likeliest_bits() -> None:
    found = search(budget={"average": 8}, fill=False)
    assert found.policy.to_json() == found.report["argmax"] == found.report["projected"]
    assert found.report["moved_by_projection"] == 0


def test_a_budget_that_the_likeliest_bits_leave_is_filled_with_the_least_reward() -> None:
    loose = {"budget": {"average": 4.5}, "pressure": 3.0}
    left, full = search(fill=False, **loose).report, search(**loose).report
    assert left["bitops"] < 0.9 * left["budget_bitops"]
    assert left["reward_of_filling"] == 0 < full["reward_of_filling"]
    ends = left["budget_bitops"] - left["bitops"]
    assert 0 <= full["budget_bitops"] - full["bitops"] < 0.1 * ends
    assert left["argmax"] == full["argmax"]


@pytest.mark.parametrize("average", [2.1, 2.5, 3.5])
def test_only_a_budget_that_is_not_full_already_is_filled(average: float) -> None:
    asked: dict[str, Any] = {"budget": {"average": average}, "pressure": 0.0}
    left, full = search(fill=False, **asked).report, search(**asked).report
    fixed = supernet().space.fixed.bitops  # of the layers that are not searched
    limit = left["budget_bitops"] - fixed
    assert (full["reward_of_filling"] == 0) == (left["bitops"] - fixed >= FULL * limit)
    assert FULL * limit <= full["bitops"] - fixed <= limit


def test_the_other_answer_may_exceed_the_budget_and_says_so() -> None:
    tight = {"budget": {"average": 2.1}, "pressure": 0.0}
    held, raw = search(**tight), search(answer="argmax", **tight)
    assert raw.policy.to_json() == held.report["argmax"] != held.policy.to_json()
    assert raw.report["bitops"] == held.report["argmax_bitops"] > held.report["budget_bitops"] >= held.report["bitops"]
    assert held.report["moved_by_projection"] > 0


def test_the_policy_can_be_applied_and_read_back() -> None:
    policy = search().policy
    bits = plain(net(), policy).layer_bits()
    assert {name: bits[name] for name in policy} == dict(policy)
    assert [bits[name].weight for name in bits if name not in policy] == [8, 8]


def test_equal_bits_and_ties_hold() -> None:
    found = search(equal=True, ties=("add", "sibling", "depthwise"))
    assert all(weight == act for weight, act in found.policy.values())
    assert found.policy["depthwise"] == found.policy["pointwise"]


def test_the_same_seed_finds_the_same_and_another_trains_otherwise() -> None:
    first, again, other = search(), search(), ask("edmips", net(), seed=4, **QUICK)
    assert first == again
    assert first.report["probabilities"] != other.report["probabilities"]


def test_gamma_zero_leaves_the_choices_to_the_task() -> None:
    found = supernet()
    objective = Objective(found, proxy(), PressureParams(gamma=0.0))
    objective.gamma = 0.0
    found.student.eval()
    task, _ = objective.task(batch())
    wanted = torch.autograd.grad(task, found.architecture, retain_graph=True)
    given = torch.autograd.grad(objective.total(task), found.architecture)
    assert all(torch.equal(one, other) for one, other in zip(wanted, given, strict=True))
    assert any(float(grad.abs().max()) > 0 for grad in given)


def test_pressure_is_the_share_of_the_tasks_loss_in_the_first_step() -> None:
    found = supernet()
    objective = Objective(found, proxy(), PressureParams(pressure=0.3))
    found.student.eval()
    task, scores = objective.task(batch())
    assert float(task.detach()) == pytest.approx(float(F.cross_entropy(scores, batch().labels).detach()))
    assert float(objective.total(task).detach()) == pytest.approx(1.3 * float(task.detach()))


def test_pressure_lowers_the_expected_bits() -> None:
    light, heavy = (search(pressure=pressure).report["expected_bitops"] for pressure in (0.0, 3.0))
    assert heavy < 0.95 * light


def test_looking_for_gamma_counts_every_trial() -> None:
    found = search(pressure=None, gamma_trials=3)
    trials = found.report["gamma_trials"]
    assert 1 <= len(trials) <= 3
    assert trials[0]["gamma"] == pytest.approx(1e-3)  # the middle of [1e-5, 1e-1] in its logarithm
    for one, other in pairwise(trials):
        assert (other["gamma"] > one["gamma"]) == (one["off_budget"] > 0)
        assert abs(one["off_budget"]) >= 0.02
    best = min(trials, key=lambda trial: abs(trial["off_budget"]))
    assert found.report["gamma"] == best["gamma"]
    # Noise without labels: 16 passes for them; each training 2 per image and one over the first; 2 for margins.
    assert [trial["forward_equivalents"] for trial in trials] == [2 * 16 + 16] * len(trials)
    assert found.forward_equivalents == 16 + len(trials) * 48 + (2 * 2 * 16 + 16) + 2 * 16


def test_a_trial_close_to_the_budget_ends_the_looking() -> None:
    """The budget is what the first trial's likeliest bits take."""
    first = search(pressure=None, gamma_trials=1).report["gamma_trials"][0]
    found = search(pressure=None, gamma_trials=6, budget={"bitops": first["argmax_bitops"] / 1e9})
    assert len(found.report["gamma_trials"]) == 1


def test_fixed_steps_learn_none() -> None:
    found = supernet(init=None)
    names = [name for name, _ in found.body.named_parameters() if "parts" in name]
    assert names == []
    assert search(quantisers="fixed").report["steps"] == 4


def test_pretraining_and_few_images_serve() -> None:
    found = search(pretrain_epochs=2, batch=512, samples=10)
    assert found.report["steps"] == 2
    assert found.forward_equivalents == 10 + 2 * 2 * 10 + 2 * 2 * 10 + 10 + 2 * 10
    assert search(samples=1, batch=1).report["images"] == 1


def test_training_moves_weights_steps_and_choices() -> None:
    found = supernet()
    before = {name: p.detach().clone() for name, p in found.student.named_parameters()}
    objective = Objective(found, proxy(), PressureParams(batch=8, lr_arch=1.0))
    curve = train(objective, 1, context(0, "."), "search")
    moved = {name for name, p in found.student.named_parameters() if not torch.equal(p, before[name])}
    assert moved == before.keys()
    assert curve.passes == 2 * 16
    assert not found.student.training


def test_a_budget_that_cannot_be_reached_fails_before_the_training() -> None:
    with pytest.raises(BenchError, match="at least"):
        search(budget={"average": 1.5})


def test_a_loss_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(BenchError, match="not finite"):
        search(lr=10.0, clip=0.0, epochs=40, decay=1.0)


def test_ties_take_the_same_pairs_into_the_program() -> None:
    found = supernet()
    choices = choices_of(found.space, PressureParams(), found.costs())
    assert {choice.name for choice in choices} == {place.name for place in found.space.searched}
    assert found.setting == SETTING
