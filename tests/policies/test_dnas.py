"""DNAS-style: Gumbel draws, their temperature, turns of weights and choices, the cost's factor."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch

from methods.policies._gumbel import GumbelObjective, gumbel, temperature
from methods.policies._supernet_loop import train
from methods.policies.dnas import DnasParams
from tests.contracts.toys import context
from tests.policies.asking import ask
from tests.policies.super_toys import BITS, batch, net, proxy, supernet

QUICK: dict[str, Any] = {"epochs": 2, "batch": 4, "lr_arch": 1.0}


def objective(**params: Any) -> GumbelObjective:
    return GumbelObjective(supernet(), proxy(), DnasParams(**{"batch": 4, "lr_arch": 1.0, **params}))


def test_draws_are_gumbels() -> None:
    draws = gumbel(200_000, torch.Generator().manual_seed(0))
    assert float(draws.mean()) == pytest.approx(0.5772, abs=0.01)
    assert float(draws.var()) == pytest.approx(torch.pi**2 / 6, rel=0.02)


def test_the_likeliest_of_noisy_logits_follows_their_softmax() -> None:
    """The Gumbel-max trick, of which the softmax at a low temperature is the smooth form."""
    made = objective(tau_first=0.01, tau_last=0.01)
    choice = made.net.choices[0]
    with torch.no_grad():
        choice.logits.copy_(torch.tensor([0.0, 1.0, 0.5, -1.0]))  # type: ignore[union-attr,operator]
    counts, sharp, ctx = torch.zeros(4), 0, context(0, ".")
    for step in range(1500):
        made.before(step, 1500, ctx)
        _, shares = choice.shares()
        counts += shares.detach()
        sharp += float(shares.detach().max()) > 0.95
    assert (counts / 1500).tolist() == pytest.approx(choice.probabilities(), abs=0.05)
    assert sharp > 1400


def test_the_temperature_falls_in_equal_factors() -> None:
    found = [temperature(5.0, 0.5, step, 11) for step in range(11)]
    assert (found[0], found[-1]) == (5.0, pytest.approx(0.5))
    assert {round(high / low, 9) for high, low in pairwise(found)} == {round(10**0.1, 9)}


def test_weights_and_choices_move_in_turn_on_images_of_their_own() -> None:
    made = objective(arch_share=0.25)
    ctx = context(0, ".")
    stream = made.batches(ctx)
    own: tuple[set[bytes], set[bytes]] = (set(), set())
    for step in range(24):
        own[step % 2].update(image.numpy().tobytes() for image in next(stream).images)
    assert (len(own[0]), len(own[1])) == (12, 4)
    assert not own[0] & own[1]
    assert [made.held(step) for step in range(3)] == [{"choices"}, {"weights"}, {"choices"}]


@pytest.mark.parametrize(("step", "moves"), [(0, "weights"), (1, "choices")])
def test_a_turn_moves_one_of_them(step: int, moves: str) -> None:
    made = objective(epochs=1)
    before = {id(p): p.detach().clone() for p in made.net.student.parameters()}
    held = made.held
    made.held = lambda _: held(step)  # type: ignore[method-assign]
    train(made, 1, context(0, "."), "search")
    choices = {id(p) for p in made.net.architecture}
    moved = {id(p) for p in made.net.student.parameters() if not torch.equal(p, before[id(p)])}
    assert moved == (choices if moves == "choices" else before.keys() - choices)


def test_the_costs_factor_is_one_at_first_and_falls_with_the_bits() -> None:
    made = objective(exponent=2.0)
    task, _ = made.task(batch())
    assert float(made.total(task).detach()) == pytest.approx(float(task.detach()), rel=1e-5)
    gradient = torch.autograd.grad(made.total(task.detach()), made.net.choices[0].logits)[0]  # type: ignore[arg-type]
    assert gradient[0] < 0 < gradient[-1]


def test_noise_ends_with_the_search() -> None:
    made = objective()
    train(made, 2, context(0, "."), "search")
    for choice in made.net.choices:
        shares = choice.shares()[1].detach().double()
        assert shares.tolist() == pytest.approx(choice.probabilities(), abs=1e-6)


def test_the_policy_is_within_the_budget_and_repeats() -> None:
    first, again = (ask("dnas", net(), budget={"average": 2.5}, **QUICK) for _ in range(2))
    assert first == again
    assert first.report["bitops"] <= first.report["budget_bitops"]
    assert all(w in BITS and a in BITS for w, a in first.policy.values())
    assert ask("dnas", net(), samples=1, **QUICK).report["images"] == 1
