"""SEAM: the Gaussian classes' losses against closed forms, the margin, the features, the search."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal
from torch.nn import functional as F

from methods.policies._gaussian_head import WIDEST, GaussianHead, GaussianObjective, warmed
from methods.policies._supernet_loop import train
from methods.policies.seam import SeamParams
from tests.contracts.toys import context
from tests.policies.asking import ask
from tests.policies.super_toys import BITS, batch, net, pictures, proxy, supernet

K, D, B = 5, 7, 32


def head(*, diagonal: bool = True, seed: int = 0) -> GaussianHead:
    """Random means and variances."""
    generator = torch.Generator().manual_seed(seed)
    made = GaussianHead(K, D, diagonal=diagonal, generator=generator).double()
    if diagonal:
        with torch.no_grad():
            made.log_variance.copy_(torch.randn(K, D, generator=generator))
    return made


def given(seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(B, D, generator=generator).double(), torch.randint(K, (B,), generator=generator)


def test_without_margin_it_is_the_posterior_of_a_gaussian_mixture() -> None:
    made, (features, labels) = head(), given()
    parts = [MultivariateNormal(made.means[k], made.log_variance[k].exp().diag()) for k in range(K)]
    joint = torch.stack([part.log_prob(features) for part in parts], 1) - math.log(K)
    wanted = -(joint - joint.logsumexp(1, keepdim=True)).gather(1, labels[:, None]).mean()
    classified, _ = made.losses(features, labels, 0.0)
    assert float(classified.detach()) == pytest.approx(float(wanted.detach()), abs=1e-5)
    assert torch.allclose(made.scores(features).softmax(1), joint.softmax(1), atol=1e-6)


def test_the_inner_loss_is_the_likelihood_up_to_a_constant_and_least_at_the_mean() -> None:
    made, (features, labels) = head(), given()
    density = torch.stack(
        [
            MultivariateNormal(made.means[k], made.log_variance[k].exp().diag()).log_prob(x)
            for x, k in zip(features, labels.tolist(), strict=True)
        ]
    )
    wanted = -density.mean() - 0.5 * D * math.log(2 * math.pi) + math.log(K)
    assert float(made.losses(features, labels, 0.3)[1].detach()) == pytest.approx(float(wanted.detach()))
    at_mean = made.losses(made.means[labels].detach(), labels, 0.0)[1]
    assert float(at_mean.detach()) < float(made.losses(features, labels, 0.0)[1].detach())
    near = made.means[labels].detach().requires_grad_()
    (gradient,) = torch.autograd.grad(made.losses(near, labels, 0.0)[1], near)
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_the_loss_grows_with_the_margin_for_every_feature() -> None:
    made, (features, labels) = head(), given()
    for x, y in zip(features, labels, strict=True):
        losses = [float(made.losses(x[None], y[None], m)[0].detach()) for m in (0.0, 0.01, 0.3, 1.0)]
        assert losses == sorted(set(losses))
    # At the class's own mean d_y = 0, which no factor changes.
    still = made.means[2:3].detach()
    values = {float(made.losses(still, torch.tensor([2]), m)[0].detach()) for m in (0.0, 1.0)}
    assert len(values) == 1


def test_the_margin_multiplies_the_own_distance_only() -> None:
    made, (features, labels) = head(), given()
    scores = made.scores(features).clone()
    rows = torch.arange(B)
    scores[rows, labels] -= 0.3 * made.distances(features)[rows, labels]
    assert float(made.losses(features, labels, 0.3)[0].detach()) == pytest.approx(
        float(F.cross_entropy(scores, labels).detach())
    )


def test_distances_are_never_negative_and_none_at_the_mean() -> None:
    made, (features, _) = head(), given()
    assert float(made.distances(features).detach().min()) > 0
    assert float(made.distances(made.means)[range(K), range(K)].detach().abs().max()) == 0


def test_equal_norms_and_unit_covariance_are_a_linear_softmax_without_bias() -> None:
    made, (features, labels) = head(diagonal=False), given()
    with torch.no_grad():
        made.means.copy_(F.normalize(made.means, dim=1) * 2.5)
    wanted = F.cross_entropy(features @ made.means.T, labels)
    assert float(made.losses(features, labels, 0.0)[0].detach()) == pytest.approx(float(wanted.detach()))


def test_moving_features_and_means_together_changes_nothing() -> None:
    made, (features, labels) = head(), given()
    before = torch.stack(made.losses(features, labels, 0.3)).detach()
    vector = torch.linspace(-2, 3, D, dtype=torch.float64)
    with torch.no_grad():
        made.means += vector
    assert torch.allclose(torch.stack(made.losses(features + vector, labels, 0.3)), before)


def test_renaming_the_classes_changes_nothing() -> None:
    made, (features, labels) = head(), given()
    before, scores = torch.stack(made.losses(features, labels, 0.3)).detach(), made.scores(features).detach()
    order = torch.tensor([3, 0, 4, 1, 2])
    with torch.no_grad():
        made.means.copy_(made.means[order])
        made.log_variance.copy_(made.log_variance[order])
    renamed = torch.argsort(order)[labels]
    assert torch.allclose(torch.stack(made.losses(features, renamed, 0.3)), before)
    assert torch.allclose(made.scores(features), scores[:, order])


def test_variances_are_bounded() -> None:
    made, (features, labels) = head(), given()
    with torch.no_grad():
        made.log_variance.fill_(-50)
    narrow = made.distances(features).detach()
    with torch.no_grad():
        made.log_variance.fill_(-WIDEST)
    assert torch.allclose(narrow, made.distances(features))
    assert [name for name, _ in head(diagonal=False).named_parameters()] == ["means"]
    assert bool(torch.isfinite(torch.stack(made.losses(features, labels, 0.3))).all())


def test_means_start_at_their_classes() -> None:
    made, (features, labels) = head(), given()
    labels[labels == 4] = 0
    made.begin_at(features, labels)
    assert torch.allclose(made.means[1], features[labels == 1].mean(0))
    assert torch.allclose(made.means[4], features.mean(0))  # a class without images


def test_the_margin_grows_in_steps() -> None:
    assert warmed(0.3, 0, 100, 0.0) == 0.3
    found = [warmed(0.3, step, 100, 0.5) for step in range(100)]
    assert found == sorted(found)
    assert sorted({round(m, 6) for m in found}) == [0.1, 0.2, 0.3]
    assert found[50] == 0.3


def objective(**params: Any) -> GaussianObjective:
    made = GaussianObjective(supernet(), proxy(), SeamParams(**params))
    made.begin(context(0, "."))
    return made


def test_features_are_what_the_last_layer_reads() -> None:
    made = objective()
    kept = []
    last = made.net.body.get_submodule("head")
    handle = last.register_forward_hook(lambda module, inputs, out: kept.append((inputs[0], out)))
    features = made.features(pictures())
    handle.remove()
    assert torch.equal(features, kept[0][0])
    assert features.shape == (16, 16)
    assert not made.net.last._forward_pre_hooks


def test_predictions_have_no_margin_and_the_old_classifier_no_gradient() -> None:
    made = objective(margin=5.0)
    made.net.student.eval()
    loss, scores = made.task(batch())
    assert made.head is not None
    assert torch.equal(scores, made.head.scores(made.features(batch().images)))
    classified, inside = made.head.losses(made.features(batch().images), batch().labels, 5.0)
    assert float(loss.detach()) == pytest.approx(float((classified + 0.1 * inside).detach()))
    made.total(loss).backward()
    own = {id(p) for p in made.net.last.parameters()}
    for name, parameter in made.net.student.named_parameters():
        assert (parameter.grad is None) == (id(parameter) in own), name
        assert parameter.grad is None or bool(torch.isfinite(parameter.grad).all()), name
    assert made.head.means.grad is not None


@pytest.mark.parametrize("covariance", ["identity", "diagonal"])
def test_training_moves_the_means_and_only_learned_variances(covariance: str) -> None:
    made = GaussianObjective(supernet(), proxy(), SeamParams(batch=8, covariance=covariance))
    curve = train(made, 1, context(0, "."), "search")
    assert made.head is not None
    assert curve.passes == 16 + 2 * 16
    assert bool((made.head.log_variance != 0).any()) == (covariance == "diagonal")


def test_the_policy_is_within_the_budget_and_repeats() -> None:
    params = {"epochs": 2, "batch": 8, "lr_arch": 1.0, "budget": {"average": 2.5}}
    first, again = (ask("seam", net(), **params) for _ in range(2))
    assert first == again
    assert first.report["bitops"] <= first.report["budget_bitops"]
    assert all(w in BITS and a in BITS for w, a in first.policy.values())
    random = ask("seam", net(), means="xavier", **params)
    assert random.forward_equivalents == first.forward_equivalents - 15  # one image shows the features' number


def test_without_margin_and_inner_loss_only_the_head_differs_from_edmips() -> None:
    """With the classifier's rows as means, of equal norm, and no bias, the scores are the classifier's own."""
    made = objective(margin=0.0, lambda_inc=0.0)
    assert made.head is not None
    made.net.student.eval()
    last = made.net.last
    with torch.no_grad():
        last.parametrizations["weight"].original.copy_(torch.randn(5, 16, generator=torch.Generator().manual_seed(0)))  # type: ignore[index,union-attr]
        last.bias.zero_()  # type: ignore[union-attr,operator]
        rows = F.normalize(last.weight, dim=1)  # type: ignore[arg-type]
        made.head.means.copy_(rows)
    task, _ = made.task(batch())
    wanted = F.cross_entropy(made.features(batch().images) @ rows.T, batch().labels)
    assert float(task.detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)
    assert float((made.total(task) - task).detach()) == pytest.approx(0.01 * float(task.detach()), rel=1e-3)
