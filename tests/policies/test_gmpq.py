"""GMPQ: attributions by hand, their loss, its gradient, the search."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from methods.policies._attribution import AttributionObjective, FeatureMap, attribution, attribution_loss
from methods.policies.gmpq import GmpqParams
from tests.contracts import kit
from tests.policies.asking import ask
from tests.policies.super_toys import BITS, batch, net, pictures, proxy, supernet
from tests.quant.nets import Untraceable

QUICK: dict[str, Any] = {"epochs": 2, "batch": 8, "lr_arch": 1.0}


def maps(seed: int = 0) -> Tensor:
    return torch.randn(6, 4, 4, generator=torch.Generator().manual_seed(seed)).relu().double()


def linear(features: Tensor) -> tuple[Tensor, Tensor]:
    """Global pooling and a linear head: logits and its weight [K, C]."""
    weight = torch.randn(5, features.shape[1], generator=torch.Generator().manual_seed(1)).to(features)
    return features.mean((2, 3)) @ weight.T, weight


def test_of_a_pooled_linear_head_it_is_the_class_activation_map() -> None:
    """d logit / d f is w / HW everywhere, so its sum over places is the predicted class's row."""
    features = torch.randn(6, 3, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    logits, weight = linear(features)
    found = attribution(logits, features, graph=False)
    rows = weight[logits.argmax(1)]
    assert torch.allclose(found, (rows[:, :, None, None] * features).sum(1).relu(), atol=1e-6)
    assert float(found.detach().min()) >= 0
    assert float(found.detach().max()) > 0


def test_identical_maps_lose_nothing_at_power_one_and_something_at_three() -> None:
    own = maps()
    assert float(attribution_loss(own, own, 1.0)) == 0
    assert float(attribution_loss(own, own, 3.0)) > 0


def test_the_loss_by_hand() -> None:
    own, full = torch.tensor([[[3.0, 4.0]]]), torch.tensor([[[1.0, 0.0]]])
    assert float(attribution_loss(own, full, 3.0)) == pytest.approx(((0.6 - 1) ** 2 + 0.8**2) / 2)


def test_the_loss_does_not_see_the_maps_size() -> None:
    own, full = maps(0), maps(1)
    scale = torch.logspace(-6, 6, 6, dtype=own.dtype)[:, None, None]
    wanted = attribution_loss(own, full, 3.0)
    assert torch.allclose(attribution_loss(scale * own, full, 3.0), wanted)
    assert torch.allclose(attribution_loss(own, scale * full, 3.0), wanted)


def test_a_map_of_zeros_has_a_finite_loss_and_gradient() -> None:
    raw = torch.tensor([[[-1.0, -2.0]], [[1.0, 2.0]]], requires_grad=True)
    loss = attribution_loss(raw.relu(), torch.zeros(2, 1, 2), 3.0)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(1 / 4)
    assert bool(torch.isfinite(raw.grad).all())  # type: ignore[arg-type]
    assert torch.equal(raw.grad[0], torch.zeros(1, 2))  # type: ignore[index]


def test_the_map_is_what_the_pooling_reads() -> None:
    found = supernet()
    _, features = FeatureMap(found.student, None)(pictures())
    assert features.shape == (16, 16, 4, 4)
    logits, full = FeatureMap(found.teacher, None)(pictures().requires_grad_())
    head = found.teacher.body.get_submodule("head")
    assert torch.allclose(head(full.mean((2, 3))), logits)


@pytest.mark.parametrize("module", [net, lambda: kit.built(Untraceable, 0).eval()], ids=["graph", "modules"])
def test_the_losss_gradient_reaches_weights_and_choices_and_fills_no_grad(module: Any) -> None:
    found = supernet(module())
    found.student.train()
    made = AttributionObjective(found, proxy(), GmpqParams())
    with_loss, _ = made.task(batch())
    assert all(p.grad is None for p in found.student.parameters())
    found.student.train()
    made.params = GmpqParams(attribution=0)
    without, _ = made.task(batch())
    part = with_loss - without
    assert float(part.detach()) > 0
    grads = torch.autograd.grad(part, found.architecture)
    assert all(bool(torch.isfinite(grad).all()) for grad in grads)
    assert sum(float(grad.abs().max()) > 1e-7 for grad in grads) > len(grads) / 2


def test_the_gradient_of_the_gradient_is_right() -> None:
    """Through the last layer's weight, which the attribution holds as a gradient, against finite differences."""
    features = torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    layer = nn.Linear(4, 5).double()
    target = maps(3)[:3, :2, :2] + 0.1

    def loss(weight: Tensor) -> Tensor:
        leaf = features.clone().requires_grad_()
        logits = leaf.mean((2, 3)) @ weight.T
        return attribution_loss(attribution(logits, leaf, graph=True), target, 1.0)

    with torch.no_grad():
        layer.weight.copy_(torch.linspace(-1, 2, 20, dtype=torch.float64).reshape(5, 4))
    assert torch.autograd.gradcheck(loss, (layer.weight,))


def test_the_power_can_follow_the_bits() -> None:
    found = supernet()
    made = AttributionObjective(found, proxy(), GmpqParams(power=0))
    mean = sum(BITS) / len(BITS)
    assert made.power() == pytest.approx(24 / mean**2)
    made.params = GmpqParams(power=2.0)
    assert made.power() == 2.0


def test_without_the_loss_it_is_edmips() -> None:
    own, other = ask("gmpq", net(), attribution=0.0, **QUICK), ask("edmips", net(), **QUICK)
    assert own.policy == other.policy
    assert own.report == other.report
    assert own.forward_equivalents == other.forward_equivalents + 2 * 16  # the other network's forward


def test_the_policy_is_within_the_budget_and_repeats() -> None:
    first, again = (ask("gmpq", net(), budget={"average": 2.5}, **QUICK) for _ in range(2))
    assert first == again
    assert first.report["bitops"] <= first.report["budget_bitops"]
    assert first.report["probabilities"] != ask("edmips", net(), **QUICK).report["probabilities"]
