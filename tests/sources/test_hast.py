"""HAST: the focused class term and the consumer's promotion (docs/methods/sources.md#invariant-14)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bench.interfaces import Batch, ModelHandle
from methods.sources._losses import focused_ce, mse_var
from methods.sources._objectives import Network
from methods.sources.hast import METHOD, HastParams, Promotion
from tests.sources.toy import CLASSES, GREY, Curves, context, fingerprint, request


def rows(seed: int = 0) -> tuple[Tensor, Tensor]:
    return torch.randn(6, 5, generator=torch.Generator().manual_seed(seed)), torch.arange(6) % 5


def test_focus_zero_is_plain_cross_entropy_and_focus_weighs_by_difficulty() -> None:
    logits, labels = rows()
    assert torch.equal(focused_ce(logits, labels, 0.0), F.cross_entropy(logits, labels))
    p = logits.softmax(1)[torch.arange(6), labels]
    for g in (0.5, 1.0, 2.0):
        expected = ((1 - p) ** g * -p.log()).mean()
        torch.testing.assert_close(focused_ce(logits, labels, g), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("focus", [0.5, 2.0])
def test_certain_image_has_a_finite_gradient(focus: float) -> None:
    logits = torch.tensor([[200.0, 0.0], [0.0, 1.0]], requires_grad=True)
    focused_ce(logits, torch.tensor([0, 0]), focus).backward()
    assert logits.grad is not None
    assert bool(torch.isfinite(logits.grad).all())
    assert float(logits.grad[1].abs().sum()) > 0


def test_easy_images_pull_less_than_under_cross_entropy() -> None:
    logits = torch.tensor([[3.0, 0.0], [0.0, 3.0]], requires_grad=True)
    labels = torch.tensor([0, 0])
    shares = []
    for focus in (0.0, 2.0):
        (gradient,) = torch.autograd.grad(focused_ce(logits, labels, focus), logits)
        pull = gradient.abs().sum(1)
        shares.append(float(pull[0] / pull[1]))
    assert shares[1] < 0.2 * shares[0]


def test_objective_is_the_sum_of_its_two_terms(zoo: tuple[ModelHandle, ...]) -> None:
    prepared = METHOD.prepare(request(METHOD, zoo[:1], batch=8), context())
    x = prepared.init.clone().requires_grad_()
    loss = prepared.objective.backward(x, 1, False)["loss"]
    logits, stats = Network(zoo[0], GREY, context())(prepared.init)
    assert stats is not None
    p = logits.softmax(1)[torch.arange(8), torch.arange(8) % CLASSES]
    expected = mse_var(stats) + 10.0 * ((1 - p) ** 2 * -p.log()).mean()
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    assert x.grad is not None
    assert float(x.grad.abs().sum()) > 0
    assert all(param.grad is None for n in prepared.networks for param in n.taps.module.parameters())


def test_promotion_steps_by_epsilon_uphill_and_leaves_the_student_alone(zoo: tuple[ModelHandle, ...]) -> None:
    student = zoo[0].module
    before = fingerprint(student)
    x = torch.randn(8, *GREY.shape, generator=torch.Generator().manual_seed(0))
    kept, labels = x.clone(), torch.arange(8) % CLASSES

    def loss(images: Tensor) -> Tensor:
        return F.cross_entropy(student(images), labels)

    with torch.no_grad():  # a consumer may call it while it measures
        harder = Promotion(0.01).promoted(x, loss)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf), leaf)
    torch.testing.assert_close(harder, x + 0.01 * gradient.sign())
    assert loss(harder).item() > loss(x).item()
    assert not harder.requires_grad
    assert torch.equal(x, kept)
    assert all(p.grad is None for p in student.parameters())
    assert fingerprint(student) == before
    assert torch.equal(Promotion(0.0).promoted(x, loss), x)


def test_same_request_same_bits_and_harder_images_than_plain(zoo: tuple[ModelHandle, ...]) -> None:
    def made(**params: object) -> Tensor:
        values = {"batch": 16, "iterations": 40, "lr": 0.1, **params}
        return METHOD.synthesize_batch(request(METHOD, zoo[:1], **values), context(3)).images

    assert torch.equal(made(), made())
    labels = torch.arange(16) % CLASSES
    reached = []
    for focus in (0.0, 2.0):
        images = made(focus=focus)
        with torch.no_grad():
            p = zoo[0].module(images).softmax(1)
        reached.append(float(p[torch.arange(16), labels].mean()))
    assert reached[1] < reached[0]


def test_statistics_fall_and_labels_are_hit(zoo: tuple[ModelHandle, ...]) -> None:
    curves, before = Curves(), fingerprint(zoo[0].module)
    params = request(METHOD, zoo[:1], iterations=100, batch=32, lr=0.1, hard_weight=1.0, crop=0.4)
    batch = METHOD.synthesize_batch(params, context(curves=curves))
    bn, ce = ([value for _, value in curves.points[name]] for name in ("bn", "ce"))
    assert bn[-1] * 2 < bn[0]
    assert ce[-1] * 2 < ce[0]
    assert batch.labels is not None
    assert min(batch.info["top1"].values()) >= 90
    assert batch.info["augment"] == ["crop"]
    assert batch.forward_equivalents == 32 * (2 * 100 + 1)
    assert fingerprint(zoo[0].module) == before


@pytest.mark.parametrize(("crop", "waits"), [(0.0, 20), (0.4, 50)])
def test_the_plateau_waits_longer_where_crops_make_the_loss_noisy(crop: float, waits: int) -> None:
    assert METHOD.settings(HastParams(iterations=400, crop=crop)).patience == waits
    assert METHOD.settings(HastParams(iterations=2000, crop=crop)).patience == 100
    assert METHOD.settings(HastParams(iterations=400, crop=crop, patience=7)).patience == 7


@pytest.mark.parametrize("epsilon", [None, 0.02])
def test_the_hook_trains_on_the_batch_and_on_its_promoted_copy(epsilon: float | None) -> None:
    params = METHOD.Params() if epsilon is None else METHOD.Params(promotion=epsilon)
    x, labels = torch.randn(4, 1, 6, 6, generator=torch.Generator().manual_seed(0)), torch.arange(4)
    made = METHOD.hook(params)(Batch(x, labels), 0, 1, lambda images: images.square().sum(), torch.Generator())
    assert made.labels is not None
    assert torch.equal(made.images[:4], x)
    torch.testing.assert_close(made.images[4:], x + (epsilon or 0.01) * x.sign())
    assert torch.equal(made.labels, torch.cat([labels, labels]))
