"""DAFL: its three terms, pseudo labels, and that the classes fill up (docs/methods/sources.md#dafl)."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from bench.interfaces import ModelHandle
from methods.sources._dafl import DaflObjective
from methods.sources._generators import Codes
from methods.sources._objectives import Network
from methods.sources.dafl import METHOD
from tests.sources.toy import CLASSES, GREY, Curves, NoNorm, context, handle, request

SHORT = {"iterations": 2, "batch": 8, "width": 8, "latent": 6}


def objective(zoo: tuple[ModelHandle, ...], **params: float) -> DaflObjective:
    ctx = context()
    values = METHOD.Params(**SHORT, **params)
    return DaflObjective(Network(zoo[0], GREY, ctx), GREY.shape, CLASSES, values, ctx.generator)


def test_loss_is_the_published_one(zoo: tuple[ModelHandle, ...]) -> None:
    x = torch.randn(8, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    leaf, own = x.clone().requires_grad_(), x.clone().requires_grad_()
    found, logits = objective(zoo, one_hot=0.7, activation=0.3, entropy=2.0).backward(leaf, Codes(x[:, 0]), False)
    net = zoo[0].module
    inner = F.relu(net.bn2(net.conv2(F.relu(net.bn1(net.conv1(own))))))
    features = F.adaptive_avg_pool2d(inner, 2).flatten(1)
    answers = net.fc(features)
    p = answers.softmax(1)
    share = p.mean(0)
    loss = (
        -0.7 * p.max(1).values.log().mean()
        - 0.3 * features.abs().mean()
        + 2.0 * (share * share.log()).sum() / math.log(10)
    )
    (gradient,) = torch.autograd.grad(loss, own)
    assert float(found["loss"]) == pytest.approx(float(loss.detach()), rel=1e-5)
    torch.testing.assert_close(leaf.grad, gradient, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(logits, answers.detach())


def test_entropy_term_is_least_for_equal_shares_and_finite_for_one_class(zoo: tuple[ModelHandle, ...]) -> None:
    made = objective(zoo)
    features = torch.ones(CLASSES, 3)
    even = made.terms(100.0 * torch.eye(CLASSES), features)["entropy"]
    assert float(even) == pytest.approx(-5.0 * math.log10(CLASSES), rel=1e-5)
    one = torch.tensor([[1e4, 0.0, 0.0, 0.0]]).repeat(CLASSES, 1).requires_grad_()
    term = made.terms(one, features)["entropy"]
    assert float(term.detach()) == 0.0
    (gradient,) = torch.autograd.grad(term, one)
    assert bool(torch.isfinite(gradient).all())


def test_labels_are_the_teachers_answers(zoo: tuple[ModelHandle, ...]) -> None:
    request_ = request(METHOD, zoo, **SHORT, images=8)
    batch = METHOD.synthesize_batch(request_, context())
    assert batch.labels is not None
    assert torch.equal(batch.labels, zoo[0].module(batch.images).argmax(1))
    assert "top1" not in batch.info
    assert batch.info["histogram"] == torch.bincount(batch.labels, minlength=CLASSES).tolist()
    live = METHOD.stream(request_, context()).next_batch()
    assert live.labels is not None
    assert torch.equal(live.labels, zoo[0].module(live.images).argmax(1))


def test_training_fills_the_classes(zoo: tuple[ModelHandle, ...]) -> None:
    curves = Curves()
    params = {"iterations": 80, "batch": 64, "images": 128, "width": 16, "latent": 16, "lr": 3e-3}
    batch = METHOD.synthesize_batch(request(METHOD, zoo[:1], **params), context(curves=curves))
    loss = [value for _, value in curves.points["loss"]]
    assert loss[-1] < loss[0]
    assert min(batch.info["histogram"]) >= 128 / CLASSES / 2


def test_presets_and_declarations() -> None:
    assert (METHOD.access, METHOD.label_kind) == ("T2a", "pseudo")
    values: dict[str, Any] = {name: METHOD.Params(**preset) for name, preset in METHOD.presets.items()}
    assert (values["mini"].iterations, values["mini"].batch, values["mini"].images) == (300, 128, 1024)
    assert (values["thorough"].iterations, values["thorough"].width) == (12_000, 128)


def test_a_network_without_batch_norm_serves() -> None:
    bare = (handle(NoNorm().eval(), "plain"),)
    METHOD.check(METHOD.Params(), bare)
    params = {"iterations": 3, "batch": 8, "images": 12, "width": 8, "latent": 6}
    assert METHOD.synthesize_batch(request(METHOD, bare, **params), context()).info["clean_bn"] == {}
