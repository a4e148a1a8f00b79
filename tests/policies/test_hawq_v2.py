"""HAWQ-V2: exact traces, what the budget does to Omega, ties of weight and input, which tensors count."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.errors import BenchError
from bench.interfaces import LayerBits, Setting
from bench.interfaces.program import Solution
from methods.policies._base import Budget, cheapest
from methods.policies._hutchinson import hutchinson
from methods.policies._sensitivity import Data, Table, input_loss, weight_loss
from methods.policies._space import Space, space_of
from methods.policies.hawq_v2 import METHOD, HawqV2Params
from tests.compressors.recon_toys import Residual, context, digest, handle, image_set
from tests.quant.nets import Chain, seeded

W3 = Setting(3, 3)
BITS = (2, 3, 4, 6)


def search(net: nn.Module | None = None, seed: int = 0, **params: Any) -> Any:
    small = {"samples": 32, "probes": 8} | params
    # Labels the network does not answer with: its loss is steep.
    given = replace(image_set(), labels=torch.arange(64) % 5)
    return METHOD.search(handle(net), given, W3, HawqV2Params(**small), context(seed))


def space(net: nn.Module | None = None) -> Space:
    return space_of(handle(net).module, image_set().images, W3)


def test_the_trace_of_a_quadratic_is_found() -> None:
    """f = (a^T A a + b^T B b) / 2 + a^T C b: the traces of A and B, whatever C is, within three standard errors."""
    generator = torch.Generator().manual_seed(1)
    big, small, mixed = (torch.randn(n, m, generator=generator) for n, m in ((20, 20), (7, 7), (20, 7)))
    big, small = big @ big.T, small @ small.T
    a, b = torch.randn(20, requires_grad=True), torch.randn(7, requires_grad=True)

    def part(share: float) -> tuple[Tensor, list[Tensor]]:
        return share * (0.5 * (a @ big @ a + b @ small @ b) + a @ mixed @ b), [a, b]

    found = hutchinson([partial(part, 0.25), partial(part, 0.75)], 400, 0.0, torch.Generator().manual_seed(2))
    assert found.probes == 400
    for mean, error, exact in zip(found.means, found.errors, (big.trace(), small.trace()), strict=True):
        assert error > 0
        assert error < 0.05 * float(exact)
        assert abs(mean - float(exact)) < 3 * error


def test_a_diagonal_needs_one_probe_and_stops_after_two() -> None:
    """v^T D v is the trace for any signs v."""
    diagonal, x = torch.arange(1.0, 6.0), torch.zeros(5, requires_grad=True)
    found = hutchinson([lambda: (0.5 * (diagonal * x * x).sum(), [x])], 50, 1e-3, torch.Generator())
    assert found.means == (15.0,)
    assert found.errors == (0.0,)
    assert found.probes == 2


def test_a_layers_trace_is_that_of_its_hessian() -> None:
    """Against the Hessian of one layer written out entry by entry."""
    from methods.policies._hawq_v2_traces import curvature

    net = seeded(lambda: Residual(4))
    module = handle(net).module
    images = image_set(8).images
    data = Data(images, torch.arange(8) % 5, 0.0)
    where = space(net)
    for name in ("conv2", "pointwise"):
        weight = module.get_submodule(name).weight
        assert isinstance(weight, Tensor)

        def loss(value: Tensor, name: str = name) -> Tensor:
            out = torch.func.functional_call(module, {f"{name}.weight": value}, (images,))
            return F.cross_entropy(out, data.labels)

        size = weight.numel()
        hessian: Any = torch.autograd.functional.hessian(loss, weight.detach(), vectorize=True)
        exact = float(hessian.reshape(size, size).trace()) / size
        alone = Space(tuple(place for place in where.searched if place.name == name))
        found = curvature(module, data, alone, HawqV2Params(probes=100, tolerance=0.0, batch=8), context())
        trace = found.weights[name]
        assert abs(trace.mean - exact) < 3 * trace.error
        assert trace.error < 0.3 * abs(exact)
        for bits in BITS:
            assert found.table.weights[name, bits] == pytest.approx(trace.used * weight_loss(weight, bits))


def test_one_draw_of_signs_is_for_the_whole_batch_however_it_is_cut() -> None:
    from methods.policies._hawq_v2_traces import curvature

    module, where = handle().module, space()
    data = Data(image_set(8).images, torch.arange(8) % 5, 0.0)
    whole, cut = (curvature(module, data, where, HawqV2Params(probes=2, batch=b), context()) for b in (8, 3))
    for name, trace in whole.weights.items():
        assert cut.weights[name].mean == pytest.approx(trace.mean, rel=1e-3)


def test_rounding_loses_a_sum_of_squares() -> None:
    values = torch.tensor([-1.0, -0.4, 0.4, 1.0])
    assert weight_loss(values, 8) < 1e-4
    one, two = weight_loss(values, 3), weight_loss(values.repeat(2), 3)
    assert two == pytest.approx(2 * one)
    assert one > 0
    assert input_loss(torch.tensor([0.0, 1.0, 2.0, 3.0]), 2) == pytest.approx(0.0, abs=1e-9)


def test_inputs_count_once_for_all_that_read_them() -> None:
    """A tensor of two readers: the first bears its cost."""
    where = space()
    first, second = where.searched[0], where.searched[1]
    shared = replace(second, reads=first.reads)
    two = Space((first, shared))
    table = Table({(p.name, 2): 1.0 for p in two.searched}, {(first.reads, 3): 10.0})
    cost = table.cost(two)
    assert cost(first, LayerBits(2, 3)) == 11.0
    assert cost(shared, LayerBits(2, 3)) == 1.0


def falling(where: Space) -> Table:
    """Sensitivities that fall with the bits, each layer's by its own size."""
    places = enumerate(where.searched, 1)
    return Table({(place.name, bits): number / 4.0**bits for number, place in places for bits in BITS}, {})


def solved(where: Space, share: float) -> Solution:
    params = HawqV2Params(budget=Budget(uniform=share))
    return cheapest(where, W3, params, falling(where).cost(where))


def test_a_wider_budget_never_raises_omega() -> None:
    where = space()
    made = [solved(where, share).cost for share in (0.85, 0.9, 1.0, 1.5, 2.0, 4.0)]
    assert made == sorted(made, reverse=True)
    assert len(set(made)) >= 4
    found = [search(budget=Budget(uniform=share)).report for share in (0.9, 4.0)]
    assert found[0]["omega"] >= found[1]["omega"]
    assert all(report["bitops"] <= report["budget_bitops"] for report in found)


def test_the_budget_of_uniform_bits_is_kept_and_a_large_one_gives_the_most() -> None:
    where = space()
    found = search()
    assert found.report["budget_bitops"] == where.bitops(where.uniform(3, 3))
    assert where.bitops(found.policy) <= where.bitops(where.uniform(3, 3))
    assert set(found.policy) == {"conv1", "conv2", "depthwise", "pointwise"}
    assert solved(where, 4.0).policy == where.uniform(6, 6)
    assert where.bitops(where.uniform(6, 6)) <= 4 * where.bitops(where.uniform(3, 3))


def test_one_candidate_more_anywhere_breaks_the_budget_or_gains_nothing() -> None:
    found = search()
    where, candidates = space(), (2, 3, 4, 6)
    limit = found.report["budget_bitops"]
    sensitivity = found.report["sensitivities"]["weights"]
    assert any(bits.weight < 6 for _, bits in found.policy.items())
    for name, bits in found.policy.items():
        if bits.weight < 6:
            up = candidates[candidates.index(bits.weight) + 1]
            raised = dict(found.policy) | {name: LayerBits(up, up)}
            gain = sensitivity[name][str(bits.weight)] - sensitivity[name][str(up)]
            assert where.bitops(raised) > limit or gain <= 0


def test_twice_the_work_and_twice_the_budget_change_nothing() -> None:
    """MACs and the limit doubled."""
    from bench.interfaces.program import Limits, solve
    from methods.policies._hawq_v2_traces import curvature

    module, where, params = handle().module, space(), HawqV2Params(probes=4)
    images = image_set().images[:16]
    table = curvature(module, Data(images, module(images).argmax(1), 0.0), where, params, context()).table
    policies = []
    for times in (1, 2):
        scaled = Space(tuple(replace(place, macs=times * place.macs) for place in where.places))
        choices = scaled.choices(params.weight_bits, params.act_bits, table.cost(scaled), equal=True)
        macs = sum(place.macs for place in scaled.searched)
        policies.append(solve(choices, Limits(9 * macs)).policy)
    assert policies[0] == policies[1]


def test_weights_decide_unless_inputs_have_a_term_of_their_own() -> None:
    assert all(bits.weight == bits.input for bits in search().policy.values())
    apart = search(activations=True, equal=False)
    assert any(bits.weight != bits.input for bits in apart.policy.values())
    inputs = apart.report["sensitivities"]["inputs"]
    assert set(inputs) == {place.reads for place in space().searched if place.input}
    for own in inputs.values():
        assert own["6"] <= own["2"]
    assert search().report["sensitivities"]["inputs"] == {}


def test_negative_traces_count_as_nothing_and_are_told() -> None:
    from methods.policies._hawq_v2_traces import Trace

    assert (Trace(-0.5, 0.1).used, Trace(0.5, 0.1).used) == (0.0, 0.5)
    report = search(probes=1).report
    negative = [name for name, trace in report["traces"].items() if trace < 0]
    assert report["negative_traces"] == len(negative)
    assert all(set(report["sensitivities"]["weights"][name].values()) == {0.0} for name in negative)


def test_it_is_a_function_of_its_inputs_and_the_seed() -> None:
    net = handle()
    before = digest(net.module)
    given = image_set()
    params = HawqV2Params(samples=16, probes=2)
    one, same, other = (METHOD.search(net, given, W3, params, context(seed)) for seed in (0, 0, 1))
    assert one == same
    assert one.report["traces"] != other.report["traces"]
    assert digest(net.module) == before
    assert not any(p.requires_grad for p in net.module.parameters())
    # Own answers for labels, then a forward, a backward and a backward of both for each probe.
    assert one.forward_equivalents == 16 + 4 * 16 * 2


def test_given_labels_are_used() -> None:
    given = image_set()
    answers = handle().module(given.images).argmax(1)
    params = HawqV2Params(samples=16, probes=2)

    def traces(labels: Tensor | None) -> Any:
        return METHOD.search(handle(), replace(given, labels=labels), W3, params, context()).report["traces"]

    assert traces(answers) == traces(None)
    assert traces((answers + 1) % 5) != traces(None)


def test_a_budget_out_of_reach_is_refused() -> None:
    with pytest.raises(BenchError, match="at least"):
        search(Chain(), budget=Budget(uniform=0.1))
