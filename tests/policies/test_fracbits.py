"""FracBits: quantisers of real bits, the penalty, rounding by one offset, the search."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from methods.policies._base import FULL
from methods.policies._fractional import FractionalObjective, distance, largest_offset, real_bits, rounded
from methods.policies._mixed import MixedActivation, MixedWeight, RealChoice
from methods.policies.fracbits import FracbitsParams
from methods.quant.learned import StepActivation
from methods.quant.learned_weights import LsqWeight
from tests.policies.asking import ask
from tests.policies.super_toys import net, pictures, plain, proxy, supernet

WHOLE = (2, 3, 4, 5, 6)
QUICK: dict[str, Any] = {"epochs": 2, "batch": 8}


def real(start: float) -> RealChoice:
    return RealChoice(WHOLE, start)


def weight() -> torch.Tensor:
    return torch.randn(8, 9, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("bits", WHOLE)
def test_whole_bits_are_the_plain_quantisers(bits: int) -> None:
    assert torch.equal(MixedWeight(weight(), real(bits), "mse")(weight()), LsqWeight(weight(), bits, "mse")(weight()))
    x = weight().relu()
    mixed, single = MixedActivation(True, real(bits), "mse"), StepActivation(bits, True, "mse")
    with torch.no_grad():
        mixed.begin(x)
        single.begin(x)
    assert torch.equal(mixed(x), single(x))


def test_a_network_of_whole_bits_is_the_plain_one() -> None:
    network = net()
    found = supernet(network, make=lambda: real(4.0))
    policy = rounded(found.space, real_bits(found), WHOLE, WHOLE)
    assert {bits for pair in policy.values() for bits in pair} == {4}
    assert torch.equal(found.student(pictures())[0], plain(network, policy).student(pictures())[0])


@pytest.mark.parametrize("bits", [3, 4, 5])
def test_the_quantiser_is_continuous_at_whole_bits(bits: int) -> None:
    mixed = MixedWeight(weight(), real(bits), "mse")
    found = {}
    for away in (-1e-4, 0.0, 1e-4, -0.5, 0.5):
        with torch.no_grad():
            mixed.choice.value.fill_(bits + away)  # type: ignore[union-attr,operator]
        found[away] = mixed(weight()).detach()
    for away in (-1e-4, 1e-4):
        assert float((found[away] - found[0.0]).abs().max()) < 1e-3
    low, high = (LsqWeight(weight(), b, "mse")(weight()).detach() for b in (bits, bits + 1))
    assert torch.allclose(found[0.5], (low + high) / 2)


def test_bits_at_the_ends_have_the_gradient_from_inside() -> None:
    for bits, other in ((2, 3), (6, 5)):
        mixed = MixedWeight(weight(), real(bits), "mse")
        up = torch.ones(8, 9)
        mixed(weight()).backward(up)
        own, near = (LsqWeight(weight(), b, "mse")(weight()).detach() for b in (bits, other))
        slope = float((near - own).sum()) * (1 if other > bits else -1)
        assert float(mixed.choice.value.grad) == pytest.approx(slope, rel=1e-3, abs=1e-3)  # type: ignore[arg-type,union-attr]


def test_bits_stay_between_the_ends() -> None:
    choice = real(9.0)
    assert float(choice.value.detach()) == 6
    with torch.no_grad():
        choice.value.fill_(1.3)
    choice.settle()
    assert float(choice.value.detach()) == 2
    alone = RealChoice((4,), 7.0)
    assert (alone.shares()[0], alone.shares()[1].tolist(), alone.probabilities()) == ((0,), [1.0], [1.0])
    assert set(ask("fracbits", net(), act_bits=(4,), **QUICK).policy.values()) <= {(b, 4) for b in (2, 3, 4, 6)}


def test_the_cost_is_macs_times_real_bits() -> None:
    found = supernet(make=lambda: real(3.5))
    with torch.no_grad():
        for number, choice in enumerate(found.choices):
            choice.value.fill_(2.3 + 0.3 * number)  # type: ignore[union-attr,operator]
    bits = real_bits(found)
    wanted = sum(place.macs * bits[place.name][0] * bits[place.name][1] for place in found.space.searched)
    assert float(found.bitops().detach()) == pytest.approx(wanted)
    # bilinear in the four corners
    place = found.space.searched[0]
    w, a = bits[place.name]
    (w0, a0), (f, g) = (int(w), int(a)), (w % 1, a % 1)
    corners = sum(
        share * (w0 + i) * (a0 + j)
        for i, j, share in ((0, 0, (1 - f) * (1 - g)), (1, 0, f * (1 - g)), (0, 1, (1 - f) * g), (1, 1, f * g))
    )
    assert corners == pytest.approx(w * a)


def test_the_penalty_is_the_distance_from_the_budget_and_draws_to_it() -> None:
    found = supernet(make=lambda: real(3.5))
    cost = float(found.bitops().detach())
    for limit, sign in ((cost / 2, 1), (cost * 2, -1)):
        made = FractionalObjective(found, proxy(), FracbitsParams(kappa=0.1), limit)
        penalty = made.total(torch.zeros(()))
        assert float(penalty.detach()) == pytest.approx(0.1 * abs(cost / limit - 1))
        grads = torch.autograd.grad(penalty, found.architecture)
        assert all(float(grad) * sign > 0 for grad in grads)


def test_a_larger_offset_never_costs_less() -> None:
    found = supernet(make=lambda: real(3.5))
    with torch.no_grad():
        for number, choice in enumerate(found.choices):
            choice.value.fill_(2.1 + 0.37 * number)  # type: ignore[union-attr,operator]
    bits = real_bits(found)
    offsets = [step / 7 for step in range(-40, 41)]
    costs = [found.space.bitops(rounded(found.space, bits, WHOLE, WHOLE, offset)) for offset in offsets]
    assert costs == sorted(costs)
    assert len(set(costs)) > 8
    ends = [found.space.bitops(found.space.uniform(b, b)) for b in (2, 6)]
    assert [costs[0], costs[-1]] == ends


def test_the_largest_offset_is_the_last_that_fits() -> None:
    assert largest_offset(lambda offset: offset <= 0.3) == pytest.approx(0.3, abs=1e-9)
    found = largest_offset(lambda offset: offset <= 0.3)
    assert found is not None
    assert found <= 0.3
    assert largest_offset(lambda offset: True) == 8.0
    assert largest_offset(lambda offset: False) is None


def test_halves_round_upwards() -> None:
    found = supernet(make=lambda: real(2.5))
    assert set(rounded(found.space, real_bits(found), WHOLE, WHOLE).values()) == {(3, 3)}


@pytest.mark.parametrize("budget", [{"average": 2.6}, {"uniform": 1.3}, {"bytes": 750}])
def test_the_policy_is_within_the_budget(budget: dict[str, Any]) -> None:
    found = ask("fracbits", net(), weight_bits=WHOLE, act_bits=WHOLE, budget=budget, fill=False, **QUICK)
    report = found.report
    assert report["bitops"] <= (report["budget_bitops"] or 10**12)
    assert report["weight_bytes"] <= (report["budget_bytes"] or 10**12)
    assert not report["projected_from_rounded"]
    assert found.policy.to_json() == report["rounded"]
    assert len(report["real_bits"]) == len(found.policy)


@pytest.mark.parametrize("average", [2.2, 2.6, 3.3])
def test_the_policy_fills_the_budget(average: float) -> None:
    params: dict[str, Any] = {"weight_bits": WHOLE, "act_bits": WHOLE, "budget": {"average": average}, **QUICK}
    left, full = ask("fracbits", net(), fill=False, **params).report, ask("fracbits", net(), **params).report
    fixed = supernet().space.fixed.bitops  # of the layers that are not searched
    limit = left["budget_bitops"] - fixed
    assert FULL * limit <= full["bitops"] - fixed <= limit
    assert full["projected_from_rounded"] == (left["bitops"] - fixed < FULL * limit)


def test_bits_that_are_no_candidates_are_projected_and_the_report_says_so() -> None:
    found = ask("fracbits", net(), weight_bits=(2, 8), act_bits=(2, 8), **QUICK)
    assert found.report["projected_from_rounded"]
    assert all(bits in (2, 8) for pair in found.policy.values() for bits in pair)
    assert found.report["bitops"] <= found.report["budget_bitops"]


def test_ties_and_equal_bits_are_projected() -> None:
    params = {"weight_bits": WHOLE, "act_bits": WHOLE, "equal": True, "ties": ("depthwise",)}
    found = ask("fracbits", net(), lr_arch=2.0, **params, **QUICK)
    assert all(w == a for w, a in found.policy.values())
    assert found.policy["depthwise"] == found.policy["pointwise"]


def test_the_distance_is_to_the_moved_bits() -> None:
    found = supernet(make=lambda: real(3.5))
    place = found.space.searched[0]
    cost = distance({place.name: (3.25, 4.0)}, -0.25)
    assert cost(place, place.bits(3, 4)) == pytest.approx(0.0625)


def test_the_same_seed_finds_the_same_and_bits_move() -> None:
    first, again = (ask("fracbits", net(), **QUICK) for _ in range(2))
    assert first == again
    assert {bits for pair in first.report["real_bits"].values() for bits in pair} != {3.5}
