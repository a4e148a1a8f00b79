"""The integer program against brute force, its ties, its limits and its front."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from bench.errors import BenchError
from bench.interfaces import LayerBits
from bench.interfaces.program import Choice, Limits, Solution, front, solve

BITS = (2, 3, 4, 6)
EQUAL = tuple(LayerBits(b, b) for b in BITS)


def instance(rng: np.random.Generator, layers: int = 6, pairs: Sequence[LayerBits] = EQUAL) -> list[Choice]:
    """Layers of random sizes and costs."""
    return [
        Choice(
            f"l{i}",
            int(rng.integers(1, 10**6)),
            int(rng.integers(1, 10**4)),
            {pair: float(rng.random() / (pair.weight * pair.input)) for pair in pairs},
        )
        for i in range(layers)
    ]


class Brute:
    """Every policy there is: costs, BitOPs and weight bits as arrays."""

    def __init__(self, choices: Sequence[Choice]) -> None:
        self.choices = choices
        pairs = [list(choice.costs) for choice in choices]
        grid = np.array(list(itertools.product(*(range(len(own)) for own in pairs))))
        self.cost, self.bitops, self.weight_bits = (
            np.zeros(len(grid)),
            np.zeros(len(grid), int),
            np.zeros(len(grid), int),
        )
        allowed = np.ones(len(grid), bool)
        seen: dict[tuple[str, str], np.ndarray] = {}
        for column, (choice, own) in enumerate(zip(choices, pairs, strict=True)):
            at = grid[:, column]
            weight, act = np.array([p.weight for p in own])[at], np.array([p.input for p in own])[at]
            self.cost += np.array([choice.costs[p] for p in own])[at]
            self.bitops += choice.macs * weight * act
            self.weight_bits += choice.weights * weight
            for word, kind, value in (("tied", choice.tied, 100 * weight + act), ("reads", choice.reads, act)):
                if kind:
                    allowed &= seen.setdefault((word, kind), value) == value
        self.cost[~allowed] = np.inf
        self.allowed = allowed

    def best(self, limits: Limits) -> float:
        """Least cost within the limits, infinite without one."""
        inside = self.allowed.copy()
        for name, most in limits.items():
            inside &= getattr(self, name) <= most
        return float(self.cost[inside].min()) if inside.any() else np.inf


def holds(solution: Solution, choices: Sequence[Choice], limits: Limits) -> None:
    """What it says of itself is so, and it is within the limits."""
    assert list(solution.policy) == [choice.name for choice in choices]
    bits = [solution.policy[choice.name] for choice in choices]
    pairs = list(zip(choices, bits, strict=True))
    assert solution.bitops == sum(c.macs * b.weight * b.input for c, b in pairs)
    assert solution.weight_bits == sum(c.weights * b.weight for c, b in pairs)
    assert solution.cost == pytest.approx(sum(c.costs[b] for c, b in pairs))
    for name, most in limits.items():
        assert getattr(solution, name) <= most
    for word in ("reads", "tied"):
        for first, second in itertools.combinations(pairs, 2):
            if getattr(first[0], word) and getattr(first[0], word) == getattr(second[0], word):
                assert first[1].input == second[1].input
                assert word == "reads" or first[1] == second[1]


def between(rng: np.random.Generator, values: np.ndarray) -> int:
    """A limit that leaves out part of the policies."""
    return int(values.min() + rng.random() * (values.max() - values.min()))


@pytest.mark.parametrize("kind", ["one limit", "two limits", "shared"])
def test_it_finds_what_trying_all_finds(kind: str) -> None:
    """200 instances in all of 6 layers and 4 pairs."""
    rng = np.random.default_rng({"one limit": 0, "two limits": 1, "shared": 2}[kind])
    for _ in range(67):
        choices = instance(rng)
        if kind == "shared":
            reads = [f"t{int(rng.integers(3))}" for _ in choices]
            choices = [replace(c, reads=r) for c, r in zip(choices, reads, strict=True)]
            choices[1:3] = [replace(c, tied="pair", reads="") for c in choices[1:3]]
        brute = Brute(choices)
        limits = Limits(between(rng, brute.bitops), between(rng, brute.weight_bits) if kind == "two limits" else None)
        best = brute.best(limits)
        if np.isinf(best):
            with pytest.raises(BenchError):
                solve(choices, limits)
            continue
        solution = solve(choices, limits)
        holds(solution, choices, limits)
        assert solution.cost == pytest.approx(best, rel=1e-9, abs=1e-12)


def test_weight_and_input_bits_are_apart() -> None:
    rng = np.random.default_rng(3)
    pairs = [LayerBits(w, a) for w in (2, 4) for a in (2, 4)]
    solved = 0
    for _ in range(20):
        choices = [replace(c, reads=f"t{i // 2}") for i, c in enumerate(instance(rng, 6, pairs))]
        brute = Brute(choices)
        limits = Limits(between(rng, brute.bitops), between(rng, brute.weight_bits))
        if np.isfinite(brute.best(limits)):
            solution = solve(choices, limits)
            holds(solution, choices, limits)
            assert solution.cost == pytest.approx(brute.best(limits), rel=1e-9)
            solved += 1
    assert solved >= 5


def test_costs_that_span_many_decades_are_told_apart() -> None:
    """The solver's own tolerance is a millionth of the greatest cost, and here that is more than the optimum."""
    rng = np.random.default_rng(11)
    solved = 0
    for _ in range(20):
        choices = [
            replace(c, costs={p: v * 10 ** float(-8 * rng.random()) for p, v in c.costs.items()}) for c in instance(rng)
        ]
        brute = Brute(choices)
        limits = Limits(between(rng, brute.bitops))
        if np.isfinite(brute.best(limits)):
            assert solve(choices, limits).cost == pytest.approx(brute.best(limits), rel=1e-6)
            solved += 1
    assert solved >= 5


def test_of_equal_policies_the_same_is_taken_whatever_the_noise() -> None:
    """Costs that differ by less than 1e-12 are equal; then fewest BitOPs win, then the order."""
    rng = np.random.default_rng(4)
    choices = [
        Choice(f"l{i}", 1000, 10, {LayerBits(w, a): 1.0 / (w * a) for w in BITS for a in BITS}) for i in range(8)
    ]
    limits = Limits(8 * 1000 * 9)
    expected = solve(choices, limits)
    for _ in range(5):
        noisy = [replace(c, costs={p: v + 1e-12 * float(rng.random()) for p, v in c.costs.items()}) for c in choices]
        assert solve(noisy, limits).policy == expected.policy
    shuffled = [replace(c, costs=dict(reversed(list(c.costs.items())))) for c in choices]
    assert solve(shuffled, limits).policy == expected.policy


def test_without_a_difference_in_cost_the_fewest_bitops_are_taken() -> None:
    choices = [Choice(f"l{i}", 7, 1, dict.fromkeys(EQUAL, 0.5)) for i in range(4)]
    solution = solve(choices, Limits(4 * 7 * 36))
    assert set(solution.policy.values()) == {LayerBits(2, 2)}


@pytest.mark.parametrize("name", ["bitops", "weight_bits"])
def test_a_budget_out_of_reach_names_the_least_that_is_not(name: str) -> None:
    choices = instance(np.random.default_rng(5))
    least = int(getattr(Brute(choices), name).min())
    with pytest.raises(BenchError) as caught:
        solve(choices, Limits(**{name: least - 1}))
    assert str(least) in str(caught.value)
    assert getattr(solve(choices, Limits(**{name: least})), name) == least


def test_two_budgets_that_exclude_each_other_say_what_is_left() -> None:
    """Few weights need input bits, which the other budget forbids."""
    pairs = (LayerBits(2, 8), LayerBits(8, 1))
    choices = [Choice("l", 10, 10, dict.fromkeys(pairs, 1.0))]
    with pytest.raises(BenchError, match="at once") as caught:
        solve(choices, Limits(bitops=100, weight_bits=40))
    assert "at least 160" in str(caught.value)
    assert solve(choices, Limits(bitops=160, weight_bits=40)).policy["l"] == LayerBits(2, 8)


def test_tied_layers_without_a_common_pair_are_refused() -> None:
    choices = [Choice("a", 1, 1, {LayerBits(2, 2): 0.0}, "x"), Choice("b", 1, 1, {LayerBits(3, 3): 0.0}, "x")]
    with pytest.raises(BenchError, match="no pair"):
        solve(choices, Limits())


def test_costs_have_to_be_finite() -> None:
    with pytest.raises(BenchError, match="finite"):
        solve([Choice("a", 1, 1, {LayerBits(2, 2): float("nan")})], Limits())


def test_the_front_falls() -> None:
    """Each point takes fewer BitOPs and costs more than the one before; each is optimal for what it takes."""
    choices = instance(np.random.default_rng(6))
    brute = Brute(choices)
    points = front(choices, 12)
    assert len(points) > 5
    for one, other in itertools.pairwise(points):
        assert other.bitops < one.bitops
        assert other.cost > one.cost
    for point in points:
        assert point.cost == pytest.approx(brute.best(Limits(point.bitops)))
    assert points[0].cost == pytest.approx(brute.best(Limits()))
    assert points[-1].bitops == brute.bitops.min()


def test_a_wider_budget_never_costs_more_and_scale_changes_nothing() -> None:
    choices = instance(np.random.default_rng(7))
    brute = Brute(choices)
    limits = np.linspace(brute.bitops.min(), brute.bitops.max(), 9).astype(int)
    found = [solve(choices, Limits(int(limit))) for limit in limits]
    for one, other in itertools.pairwise(found):
        assert other.cost <= one.cost + 1e-12
    doubled = [replace(c, macs=2 * c.macs) for c in choices]
    assert [solve(doubled, Limits(2 * int(limit))).policy for limit in limits] == [one.policy for one in found]


def test_nothing_to_decide_is_no_policy() -> None:
    empty = solve([], Limits(0))
    assert (len(empty.policy), empty.cost, empty.bitops) == (0, 0.0, 0)
    single = solve([Choice("a", 5, 5, {LayerBits(3, 4): 2.0})], Limits())
    assert single == Solution(single.policy, 2.0, 60, 15)


@pytest.mark.parametrize("reads", [False, True])
def test_a_large_network_is_solved_within_its_budgets(reads: bool) -> None:
    """52 layers of 16 pairs, as ResNet50 has."""
    rng = np.random.default_rng(8)
    pairs = [LayerBits(w, a) for w in BITS for a in BITS]
    choices = instance(rng, 52, pairs)
    if reads:
        choices = [replace(c, reads=f"t{i // 2}" if i < 8 else "") for i, c in enumerate(choices)]
    limits = Limits(9 * sum(c.macs for c in choices), 4 * sum(c.weights for c in choices))
    holds(solve(choices, limits), choices, limits)
