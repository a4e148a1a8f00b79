"""The weight of the statistics relative to the network (docs/methods/sources.md#kappa)."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from bench.interfaces import ModelHandle, RunContext, SynthRequest
from methods.sources._generator_loop import GeneratorTrainer
from methods.sources._generator_source import GeneratorSource
from methods.sources._losses import BN_OBJECTIVES
from methods.sources._objectives import SingleObjective
from methods.sources._single import SingleSource
from tests import pick
from tests.sources.toy import context, handle, request

WEIGHED = {
    name: method
    for name, method in pick.methods("sources").items()
    if isinstance(method, SingleSource) and "kappa" in method.Params.model_fields
}


def far(one: ModelHandle) -> ModelHandle:
    """The same network with statistics ten times as far from noise's."""
    module = copy.deepcopy(one.module)
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            assert part.running_mean is not None
            part.running_mean.mul_(10).add_(5)
    return handle(module, "far")


@pytest.mark.parametrize("name", WEIGHED)
def test_the_start_counts_as_much_on_every_network(name: str, zoo: tuple[ModelHandle, ...]) -> None:
    method: Any = WEIGHED[name]
    weights = []
    for network in (zoo[0], far(zoo[0])):
        prepared = method.prepare(request(method, (network,), batch=8, iterations=2, kappa=3.0), context())
        objective = prepared.objective
        assert isinstance(objective, SingleObjective)
        with torch.no_grad():
            _, stats = prepared.networks[0](prepared.init)
        assert stats is not None
        start = BN_OBJECTIVES[objective.terms.bn].loss(stats, objective.terms.first)
        assert objective.terms.bn_weight * start.item() == pytest.approx(3.0, rel=1e-5)
        weights.append(objective.terms.bn_weight)
    assert weights[1] < weights[0] / 2


@pytest.mark.parametrize("name", WEIGHED)
def test_the_record_says_the_weight_in_use(name: str, zoo: tuple[ModelHandle, ...]) -> None:
    method: Any = WEIGHED[name]
    plain = method.synthesize_batch(request(method, zoo[:1], batch=8, iterations=2, bn_weight=0.5), context())
    relative = method.synthesize_batch(request(method, zoo[:1], batch=8, iterations=2, kappa=1.0), context())
    assert plain.info["bn_weight"] == 0.5
    assert relative.info["bn_weight"] not in (0.5, 1.0)


GENERATORS = {
    name: method
    for name, method in pick.methods("sources").items()
    if isinstance(method, GeneratorSource) and "kappa" in method.Params.model_fields
}


def weight_of(trainer: GeneratorTrainer, network: ModelHandle) -> float:
    """The weight in use; a source that mixes has one for each network."""
    found = trainer.objective.info()["bn_weight"]
    return float(found[network.name] if isinstance(found, dict) else found)


@pytest.mark.parametrize("name", GENERATORS)
def test_a_generators_start_counts_kappa(name: str, zoo: tuple[ModelHandle, ...]) -> None:
    """Whatever the network, and whether the logged term is weighted or not: the weight is kappa over the first one."""
    method: Any = GENERATORS[name]
    products = []
    for network in (zoo[0], far(zoo[0])):
        plain = method.build(*asked(method, network, bn_weight=1.0))
        plain.step(log=True)
        relative = method.build(*asked(method, network, kappa=3.0))
        relative.step(log=True)
        weight = weight_of(relative, network)
        products.append(weight * float(plain.terms["bn"]))
        relative.step(log=True)
        assert weight_of(relative, network) == weight
    assert products == pytest.approx([3.0, 3.0], rel=1e-4)


def asked(method: Any, network: ModelHandle, **params: Any) -> tuple[SynthRequest, RunContext, Any]:
    """A small generator's request, its context and its parameters."""
    found = request(method, (network,), batch=8, images=8, iterations=2, width=8, **params)
    return found, context(), found.params
