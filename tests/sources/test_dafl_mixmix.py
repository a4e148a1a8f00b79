"""DAFL with MixMix: mixed terms beside DAFL's, networks drawn at every step, and the plan's rows
(docs/methods/sources.md#dafl_mixmix)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from bench.errors import NotApplicable
from bench.interfaces import ModelHandle
from methods.sources._augment import mix_data
from methods.sources._dafl import DaflObjective
from methods.sources._dafl_mixmix_objective import DaflMixMixObjective
from methods.sources._generators import Codes
from methods.sources._losses import l2norm
from methods.sources._mixing import Targets
from methods.sources._objectives import Network
from methods.sources.dafl_mixmix import METHOD
from tests.sources.toy import CLASSES, GREY, ToyNet, context, handle, patterns, randomised, request

SHORT: dict[str, Any] = {"iterations": 2, "batch": 8, "width": 8, "latent": 6}


def objective(models: tuple[ModelHandle, ...], **params: Any) -> DaflMixMixObjective:
    made = METHOD.build(request(METHOD, models, **SHORT), context(), METHOD.Params(**{**SHORT, **params})).objective
    assert isinstance(made, DaflMixMixObjective)
    made.generator.manual_seed(9)
    return made


@pytest.fixture(scope="module")
def x() -> Tensor:
    """Images that the teacher puts into several classes, so that hosts and guests have different labels."""
    return patterns(8, torch.Generator().manual_seed(0))[0]


def joint(models: tuple[ModelHandle, ...], x: Tensor, mix: int) -> tuple[float, Tensor]:
    """The whole loss in one graph, with the draws in the objective's order."""
    generator = torch.Generator().manual_seed(9)
    ctx = context()
    teacher, pool = models[0], models[1:] or models
    leaf = x.clone().requires_grad_()
    plain = DaflObjective(Network(teacher, GREY, ctx), GREY.shape, CLASSES, METHOD.Params(**SHORT), ctx.generator)
    logits, _ = plain.teacher(leaf)
    total = sum(plain.terms(logits, plain.head.features()).values(), start=torch.zeros(()))
    mixed = mix_data(leaf, generator, (0.1, 0.4))
    targets = Targets.of(logits.argmax(1), mixed)
    for index in torch.randperm(len(pool), generator=generator)[:mix].tolist():
        answer, stats = Network(pool[index], GREY, ctx)(mixed.images)
        assert stats is not None
        total = total + (2.0 * targets.loss(answer) + l2norm(stats)) / mix
    total.backward()
    assert leaf.grad is not None
    return float(total.detach()), leaf.grad


@pytest.mark.parametrize(("count", "mix"), [(1, 1), (3, 1), (3, 2)])
def test_gradient_is_that_of_the_whole_sum(zoo: tuple[ModelHandle, ...], x: Tensor, count: int, mix: int) -> None:
    models = zoo[:count]
    leaf = x.clone().requires_grad_()
    found, _ = objective(models, mix=mix, ce_weight=2.0).backward(leaf, Codes(x[:, 0]), False)
    assert len(zoo[0].module(x).argmax(1).unique()) > 2
    loss, gradient = joint(models, x, mix)
    assert float(found["loss"]) == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(leaf.grad, gradient, rtol=1e-4, atol=1e-6)


def test_without_mixing_weight_it_is_dafl(zoo: tuple[ModelHandle, ...], x: Tensor) -> None:
    grads = []
    for made in (objective(zoo[:1], ce_weight=0.0, bn_weight=0.0), joint_free(zoo)):
        leaf = x.clone().requires_grad_()
        made.backward(leaf, Codes(x[:, 0]), False)
        grads.append(leaf.grad)
    torch.testing.assert_close(grads[0], grads[1])


def joint_free(zoo: tuple[ModelHandle, ...]) -> DaflObjective:
    ctx = context()
    return DaflObjective(Network(zoo[0], GREY, ctx), GREY.shape, CLASSES, METHOD.Params(**SHORT), ctx.generator)


def test_networks_are_distinct_drawn_anew_and_never_the_teacher() -> None:
    models = tuple(handle(randomised(ToyNet(4), s), f"n{s}") for s in range(6))
    made = objective(models, mix=3)
    drawn = [tuple(made.subset()) for _ in range(30)]
    assert all(len(set(s)) == 3 for s in drawn)
    assert len(set(drawn)) > 10
    assert {i for s in drawn for i in s} == set(range(5))
    assert made.info()["models"] == [f"n{i}" for i in range(6)]
    assert objective(models[:1]).info()["models"] == ["n0"]


def test_first_step_of_learned_weights(zoo: tuple[ModelHandle, ...], x: Tensor) -> None:
    made = objective(zoo, mix=2, weights="learned")
    found, _ = made.backward(x.clone().requires_grad_(), Codes(x[:, 0]), False)
    assert float(found["mixed"]) == pytest.approx(
        4.0, rel=1e-5
    )  # two terms of 1/1 + 1 for each of two networks, halved
    made.stepped()
    assert set(made.info()["alphas"]) == {"toy8", "toy10"}
    assert made.weights is not None
    assert made.weights.alpha.tolist() == pytest.approx([1.0] * 4, abs=1e-2)


@pytest.mark.parametrize(("given", "rate"), [({}, 1e-3 * 5000 / 200), ({"alpha_lr": 3e-3}, 3e-3)])
def test_rate_of_learned_weights_grows_as_the_budget_shrinks(
    zoo: tuple[ModelHandle, ...], x: Tensor, given: dict[str, float], rate: float
) -> None:
    """The first gradient is 0 (every term is its own first value); the second moves Adam by 0.1/0.19 / sqrt(1/1.999)
    of its rate, whatever its size."""
    made = objective(zoo[:1], weights="learned", **{**SHORT, "iterations": 200, "data_mixing": False, **given})
    for images in (x, 0.5 * x):
        made.backward(images.clone().requires_grad_(), Codes(x[:, 0]), False)
        made.stepped()
    assert made.weights is not None
    moved = (made.weights.alpha.detach() - 1.0).abs()
    torch.testing.assert_close(moved, torch.full((2,), rate * 0.1 / 0.19 * 1.999**0.5), rtol=0.01, atol=1e-6)


def test_too_few_networks(zoo: tuple[ModelHandle, ...]) -> None:
    with pytest.raises(NotApplicable, match="there is only the teacher"):
        METHOD.check(METHOD.Params(mix=3), zoo[:1])
    with pytest.raises(NotApplicable, match="there are 2 beside the teacher"):
        METHOD.check(METHOD.Params(mix=3), zoo)
    METHOD.check(METHOD.Params(mix=2), zoo)


def test_labels_and_features_are_the_first_networks(zoo: tuple[ModelHandle, ...]) -> None:
    batch = METHOD.synthesize_batch(request(METHOD, zoo, **SHORT, images=8, mix=2), context())
    assert batch.labels is not None
    assert torch.equal(batch.labels, zoo[0].module(batch.images).argmax(1))
    assert set(batch.info["clean_bn"]) == {zoo[0].name}


@pytest.mark.parametrize("bad", [{"box": (0.5, 0.2)}, {"mix": 0}, {"batch": 1}])
def test_impossible_parameters_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        METHOD.Params(**bad)


def test_presets_and_declarations() -> None:
    assert (METHOD.access, METHOD.label_kind) == ("T2b", "pseudo")
    values: dict[str, Any] = {name: METHOD.Params(**preset) for name, preset in METHOD.presets.items()}
    assert (values["mini"].iterations, values["mini"].batch, values["mini"].images) == (300, 128, 1024)
    assert (values["thorough"].iterations, values["thorough"].width) == (12_000, 128)
