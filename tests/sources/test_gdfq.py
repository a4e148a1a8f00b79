"""GDFQ: its loss, balanced labels, and that a short training teaches the classes (docs/methods/sources.md#gdfq)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from bench.interfaces import ModelHandle
from methods.sources._bn_taps import hooked
from methods.sources._generators import Codes
from methods.sources.gdfq import METHOD
from tests.sources.toy import CLASSES, Curves, context, request

SHORT = {"iterations": 2, "batch": 8, "width": 8, "latent": 6}


def test_loss_is_cross_entropy_and_a_tenth_of_the_statistics(zoo: tuple[ModelHandle, ...]) -> None:
    trainer = METHOD.build(request(METHOD, zoo, **SHORT), context(), METHOD.Params(**SHORT))
    x, labels = torch.randn(8, 1, 16, 16, generator=torch.Generator().manual_seed(0)), torch.arange(8) % CLASSES
    leaf, own = x.clone().requires_grad_(), x.clone().requires_grad_()
    found, _ = trainer.objective.backward(leaf, Codes(torch.zeros(8, 1, 6), labels[:, None]), False)
    net = zoo[0].module
    with hooked(net):
        before = net.conv1(own)
        after = net.conv2(F.relu(net.bn1(before)))
        error = torch.zeros(())
        for t, norm in ((before, net.bn1), (after, net.bn2)):
            mean, var = t.mean((0, 2, 3)), t.var((0, 2, 3), correction=0)
            error = error + ((mean - norm.running_mean) ** 2).mean() + ((var - norm.running_var) ** 2).mean()
        loss = F.cross_entropy(net(own), labels) + 0.1 * error / 2
        loss.backward()
    assert float(found["loss"]) == pytest.approx(float(loss.detach()), rel=1e-5)
    torch.testing.assert_close(leaf.grad, own.grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("condition", ["latent", "norms"])
def test_labels_are_assigned_and_balanced_over_stored_batches(zoo: tuple[ModelHandle, ...], condition: str) -> None:
    params = {**SHORT, "images": 10, "condition": condition}
    labels = []
    for index in range(2):
        made = METHOD.synthesize_batch(request(METHOD, zoo, index, **params), context(index))
        assert made.labels is not None
        labels.append(made.labels)
    assert torch.cat(labels).tolist() == [i % CLASSES for i in range(20)]


def test_class_reaches_the_image(zoo: tuple[ModelHandle, ...]) -> None:
    for condition in ("latent", "norms"):
        params = METHOD.Params(**SHORT, condition=condition)
        trainer = METHOD.build(request(METHOD, zoo, **SHORT), context(), params)
        if condition == "norms":
            torch.nn.init.normal_(trainer.generator.body.norms[0].scale)
        z = torch.randn(8, 1, 6, generator=torch.Generator().manual_seed(0))
        one, other = (trainer.generator(Codes(z, torch.full((8, 1), c))) for c in (0, 1))
        assert not torch.allclose(one, other)


def test_short_training_teaches_the_classes(zoo: tuple[ModelHandle, ...]) -> None:
    curves = Curves()
    params = {"iterations": 120, "batch": 32, "images": 64, "width": 16, "lr": 5e-3, "bn_weight": 3.0}
    batch = METHOD.synthesize_batch(request(METHOD, zoo[:1], **params), context(curves=curves))
    assert batch.info["top1"][zoo[0].name] >= 90
    bn = [value for _, value in curves.points["bn"]]
    assert bn[-1] * 2 <= bn[0]


def test_rate_falls_at_the_milestones(zoo: tuple[ModelHandle, ...]) -> None:
    params = METHOD.Params(**SHORT, milestones=(1, 3))
    trainer = METHOD.build(request(METHOD, zoo, **SHORT), context(), params)
    rates = []
    for _ in range(4):
        rates.append(trainer.optimiser.param_groups[0]["lr"])
        trainer.step()
    assert rates == pytest.approx([1e-3, 1e-4, 1e-4, 1e-5])


def test_presets_and_declarations() -> None:
    assert (METHOD.access, METHOD.label_kind) == ("T2a", "assigned")
    values: dict[str, Any] = {name: METHOD.Params(**preset) for name, preset in METHOD.presets.items()}
    assert (values["mini"].iterations, values["mini"].batch, values["mini"].images) == (300, 128, 1024)
    assert (values["thorough"].iterations, values["thorough"].width) == (10_000, 128)
    assert (values["paper"].batch, values["paper"].condition, values["paper"].betas) == (16, "norms", (0.5, 0.999))
