"""HAQ-reduced: what actions mean, the sweep, knobs, the agent, episodes and what they return."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.errors import BenchError
from bench.interfaces import BitPolicy, Setting
from bench.interfaces.program import Limits
from methods.policies._agent import Agent, Habits, Transition, truncated_normal
from methods.policies._base import Budget, SearchParams, limits_of
from methods.policies._haq_episodes import accuracy_of, choice_of, explore, states_of
from methods.policies._knobs import fits, knobs_of, policy_of, raised, swept
from methods.policies._space import Space, space_of
from methods.policies._switched import Switched, lsq_weight
from methods.policies.haq import METHOD, HaqParams
from tests.compressors.recon_toys import context, digest, handle, image_set

W3 = Setting(3, 3)
BITS = (2, 3, 4, 6)


def space() -> Space:
    return space_of(handle().module, image_set().images, W3)


def episodes(worth: Any, seed: int = 0, **params: Any) -> Any:
    """Episodes on the toy network in a world where a policy is worth what ``worth`` says."""
    where = space()
    small = HaqParams(**{"trials": 8, "warmup": 3, **params})
    return explore(where, handle().module, limits_of(where, W3, small.budget), small, context(seed), 90.0, worth)


@pytest.mark.parametrize("count", [1, 2, 4, 5])
def test_actions_hit_all_candidates_with_equal_measure(count: int) -> None:
    grid = [(i + 0.5) / 1000 for i in range(1000)]
    hits = Counter(choice_of(action, count) for action in grid)
    assert dict(hits) == dict.fromkeys(range(count), 1000 // count)
    assert choice_of(0.0, count) == 0
    assert choice_of(1.0, count) == count - 1


def test_knobs_cover_every_open_weight_and_tensor_once() -> None:
    where = space()
    knobs = knobs_of(where, SearchParams())
    weights = [name for knob in knobs for name in knob.weights]
    assert weights == [place.name for place in where.searched if place.weight]
    readers = [name for knob in knobs for name in knob.readers]
    assert sorted(readers) == sorted(place.name for place in where.searched if place.input)
    policy = policy_of(where, knobs, [len(knob.bits) - 1 for knob in knobs])
    assert policy == where.uniform(6, 6)
    assert policy_of(where, knobs, [0] * len(knobs)) == where.uniform(2, 2)


def test_a_tensor_has_one_knob_for_all_that_read_it() -> None:
    where = space()
    first, second, *rest = where.searched
    shared = Space((first, replace(second, reads=first.reads), *rest))
    knobs = knobs_of(shared, SearchParams())
    assert len(knobs) == len(knobs_of(where, SearchParams())) - 1
    (both,) = [knob for knob in knobs if len(knob.readers) == 2]
    assert both.readers == (first.name, second.name)


def test_equal_and_tied_layers_turn_together() -> None:
    where = space()
    equal = knobs_of(where, SearchParams(equal=True, act_bits=(3, 4, 8)))
    assert all(knob.bits == (3, 4) for knob in equal if knob.weights and knob.readers)
    policy = policy_of(where, equal, [0] * len(equal))
    assert all(bits.weight == bits.input for bits in policy.values())
    tied = knobs_of(where, SearchParams(ties=("depthwise",)))
    group = where.tied(("depthwise",))
    assert len(set(group.values())) < len(group)
    for at in ([0] * len(tied), [index % len(knob.bits) for index, knob in enumerate(tied)]):
        found = policy_of(where, tied, at)
        assert all(found[name] == found[first] for name, first in group.items())


def test_the_sweep_ends_within_the_budget_or_at_the_least() -> None:
    where, params = space(), SearchParams()
    knobs = knobs_of(where, params)
    generator = torch.Generator().manual_seed(0)
    limits = Limits(where.used(where.uniform(3, 3)).bitops)
    for _ in range(100):
        at = [int(torch.randint(len(knob.bits), (), generator=generator)) for knob in knobs]
        found = swept(where, knobs, at, limits)
        assert fits(where, policy_of(where, knobs, found), limits)
        assert all(new <= old for new, old in zip(found, at, strict=True))
        if fits(where, policy_of(where, knobs, at), limits):
            assert found == at
    assert swept(where, knobs, [3] * len(knobs), Limits(0)) == [0] * len(knobs)
    assert swept(where, knobs, [3] * len(knobs), Limits(None, 0)) == [0] * len(knobs)


def test_the_sweep_goes_from_the_last_layer_input_before_weight() -> None:
    where = space()
    knobs = knobs_of(where, SearchParams())
    top = [3] * len(knobs)
    limits = Limits(where.used(where.uniform(6, 6)).bitops - 1)
    found = swept(where, knobs, top, limits)
    assert found == [*top[:-1], 2]
    assert knobs[-1].readers
    assert not knobs[-1].weights
    tighter = Limits(where.used(policy_of(where, knobs, found)).bitops - 1)
    assert swept(where, knobs, top, tighter) == [*top[:-2], 2, 2]


def test_what_is_left_is_used_from_the_first_layer_on_until_nothing_fits() -> None:
    where = space()
    knobs = knobs_of(where, SearchParams())
    generator = torch.Generator().manual_seed(0)
    limits = Limits(where.used(where.uniform(3, 3)).bitops)
    for _ in range(50):
        drawn = [int(torch.randint(len(knob.bits), (), generator=generator)) for knob in knobs]
        at = swept(where, knobs, drawn, limits)
        found = raised(where, knobs, at, limits)
        assert fits(where, policy_of(where, knobs, found), limits)
        assert all(new >= old for new, old in zip(found, at, strict=True))
        for index, knob in enumerate(knobs):
            more = [place + (which == index) for which, place in enumerate(found)]
            assert more[index] == len(knob.bits) or not fits(where, policy_of(where, knobs, more), limits)
    lowest = [0] * len(knobs)
    one_up = where.used(policy_of(where, knobs, [1, *lowest[1:]])).bitops
    assert raised(where, knobs, lowest, Limits(one_up)) == [1, *lowest[1:]]
    assert raised(where, knobs, lowest, Limits(None)) == [len(knob.bits) - 1 for knob in knobs]


def test_states_are_ten_numbers_between_0_and_1() -> None:
    where = space()
    knobs = knobs_of(where, SearchParams())
    states = states_of(where, handle().module, knobs)
    assert states.shape == (len(knobs), 10)
    assert float(states.min()) == 0.0
    assert float(states.max()) == 1.0
    depthwise = [knob.layer == "depthwise" for knob in knobs]
    assert states[:, 0].tolist() == [float(own) for own in depthwise]
    assert states[:, 9].tolist() == [float(not knob.weights) for knob in knobs]
    assert states[:, 7].tolist() == sorted(states[:, 7].tolist())


def test_noise_is_a_truncated_normal() -> None:
    assert truncated_normal(0.5, 0.3, 0.5) == pytest.approx(0.5)
    values = torch.tensor([truncated_normal(0.9, 0.5, (i + 0.5) / 400) for i in range(400)])
    assert 0 <= float(values.min()) < float(values.max()) <= 1
    # Mean of a normal density of 0.9 and 0.5 cut to [0, 1].
    low, high = -1.8, 0.2
    density = [math.exp(-x * x / 2) / math.sqrt(2 * math.pi) for x in (low, high)]
    mass = 0.5 * (math.erf(high / math.sqrt(2)) - math.erf(low / math.sqrt(2)))
    assert float(values.mean()) == pytest.approx(0.9 + 0.5 * (density[0] - density[1]) / mass, abs=0.005)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_agent_learns_which_action_pays(sign: int) -> None:
    """One state, where more pays, or less: the actor moves from about a half to that end."""
    agent = Agent(10, 1000, Habits(hidden=32, actor_lr=3e-3), torch.Generator().manual_seed(0))
    state = torch.zeros(10)
    assert 0.3 < agent.act(state, 0.0) < 0.7
    for _ in range(100):
        action = agent.guess()
        agent.remember([Transition(state, action, sign * action, state, True)])
    for _ in range(150):
        agent.learn()
    end = agent.act(state, 0.0)
    assert end > 0.9 if sign > 0 else end < 0.1


def test_the_agent_draws_from_its_generator_alone() -> None:
    def actions(seed: int) -> list[float]:
        agent = Agent(10, 10, Habits(hidden=8), torch.Generator().manual_seed(seed))
        return [agent.guess(), agent.act(torch.ones(10), 0.3), agent.act(torch.ones(10), 0.0)]

    state = torch.get_rng_state()
    assert actions(0) == actions(0) != actions(1)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_best_episode_is_returned_and_no_policy_is_measured_twice() -> None:
    asked: list[BitPolicy] = []

    def worth(policy: BitPolicy) -> float:
        asked.append(policy)
        return 10.0 * policy["conv1"].weight + policy["pointwise"].input

    found = episodes(worth, trials=20)
    assert len(asked) == len(set(asked)) == found.looked_at
    assert len(found.accuracies) == 20
    values = [10.0 * policy["conv1"].weight + policy["pointwise"].input for policy in asked]
    assert found.best.accuracy == max(values) == max(found.accuracies)
    assert found.best.policy == asked[values.index(max(values))]


def test_a_world_of_equal_rewards_leaves_the_budget_kept() -> None:
    where = space()
    asked: list[BitPolicy] = []

    def worth(policy: BitPolicy) -> float:
        asked.append(policy)
        return 50.0

    found = episodes(worth, trials=12, budget=Budget(uniform=0.9))
    limit = int(0.9 * where.bitops(where.uniform(3, 3)))
    assert all(where.bitops(policy) <= limit for policy in asked)
    assert found.best.policy == asked[0]
    filled = asked.copy()
    asked.clear()
    episodes(worth, trials=12, budget=Budget(uniform=0.9), fill=False)
    assert sum(map(where.bitops, asked)) / len(asked) < sum(map(where.bitops, filled)) / len(filled)
    for policy in asked:
        assert set(policy) == {place.name for place in where.searched}
        assert all(bits in BITS for pair in policy.values() for bits in pair)
    # First and last layer are counted at 8 bits and asked for by nobody.
    assert "stem.0" not in asked[0]
    assert "head" not in asked[0]


def test_same_seed_same_episodes() -> None:
    def run(seed: int) -> Any:
        return episodes(lambda policy: float(policy["conv2"].weight), seed)

    assert run(0) == run(0)
    assert run(0).accuracies != run(1).accuracies or run(0).best != run(1).best


def test_accuracy_is_read_after_the_statistics_are_estimated() -> None:
    """Wrong statistics are forgotten: an episode does not depend on the one before."""
    module, images, where = handle().module, image_set().images, space()
    switched = Switched(module, images[:16], where, W3, (BITS, BITS), lsq_weight("mse"), "mse")
    labels = module(images[16:]).argmax(1)
    worth = accuracy_of(switched, where, images[:16], images[16:], labels, 8)
    first = worth(where.uniform(6, 6))
    worth(where.uniform(2, 2))
    norms = [part for part in switched.net.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        assert norm.running_mean is not None
        norm.running_mean.fill_(100.0)
    assert worth(where.uniform(6, 6)) == first
    (stem, *_) = norms
    convolved = switched.net.get_submodule("stem.0")(images[:16])
    assert stem.running_mean is not None
    assert torch.allclose(stem.running_mean, convolved.mean((0, 2, 3)), atol=1e-5)
    assert not any(norm.training for norm in norms)
    assert all(norm.momentum == 0.1 for norm in norms)


def test_more_bits_agree_more() -> None:
    module, images, where = handle().module, image_set(128).images, space()
    bits = (2, 8)
    switched = Switched(module, images[:64], where, W3, (bits, bits), lsq_weight("mse"), "mse")
    full = torch.nn.functional.log_softmax(module(images[64:]), 1)

    def gap(bit: int) -> float:
        switched.choose(where, where.uniform(bit, bit))
        other = torch.nn.functional.log_softmax(switched.net(images[64:]), 1).detach()
        return float((full.exp() * (full - other)).sum(1).mean())

    assert gap(8) < 0.1 * gap(2)


def search(seed: int = 0, labels: Tensor | None = None, **params: Any) -> Any:
    small = {"trials": 4, "warmup": 2, "calibration": 16, "samples": 32} | params
    return METHOD.search(handle(), replace(image_set(), labels=labels), W3, HaqParams(**small), context(seed))


def test_a_search_keeps_its_budget_its_network_and_its_seed() -> None:
    net = handle()
    before = digest(net.module)
    params = HaqParams(trials=4, warmup=2, calibration=16, samples=32)
    one, same = (METHOD.search(net, image_set(), W3, params, context()) for _ in range(2))
    assert one == same
    assert digest(net.module) == before
    assert one.report["bitops"] <= one.report["budget_bitops"]
    assert one.report["accuracy_full"] == 100.0
    assert one.report["accuracy_best"] == max(one.report["accuracies"])
    # Labels, first ranges, the network itself, then calibration and measurement of each policy.
    assert one.forward_equivalents == 48 + 16 + 32 + one.report["policies_measured"] * 48
    assert search().report["labels"] != search(labels=torch.zeros(64, dtype=torch.int64)).report["labels"]


def test_a_budget_out_of_reach_is_refused_before_anything_is_run() -> None:
    with pytest.raises(BenchError, match="at least"):
        search(budget=Budget(uniform=0.1))
