"""The weight of the statistics relative to the network (docs/methods/sources.md#kappa)."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from bench.interfaces import ModelHandle
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


@pytest.mark.parametrize("name", ["gdfq", "qimera", "dafl_mixmix"])
def test_a_generators_start_counts_kappa(name: str, zoo: tuple[ModelHandle, ...]) -> None:
    method: Any = pick.methods("sources")[name]
    asked = request(method, zoo[:1], batch=8, images=8, iterations=2, width=8, kappa=3.0)
    ctx = context()
    trainer = method.build(asked, ctx, asked.params)
    assert trainer.objective.info()["bn_weight"] != pytest.approx(3.0)
    trainer.step(log=True)
    first, weight = float(trainer.terms["bn"]), trainer.objective.info()["bn_weight"]
    if name == "dafl_mixmix":  # logs the term unweighted, and has a weight for each network
        weight = weight[zoo[0].name]
        first *= weight
    assert first == pytest.approx(3.0, rel=1e-5)
    trainer.step(log=True)
    kept = trainer.objective.info()["bn_weight"]
    assert (kept[zoo[0].name] if name == "dafl_mixmix" else kept) == weight
