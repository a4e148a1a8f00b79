"""Image measures: closed forms, pooled against single-shot statistics, bounds
(docs/methods/measures.md#image-measure-invariants)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.errors import NotApplicable
from bench.measure.images import (
    bn_loss,
    bn_statistics,
    classifier_score,
    label_agreement,
    score_from_log_probabilities,
    zoo_top1,
)


def _net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, stride=2),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    ).eval()


def _images(n: int, seed: int = 1) -> Tensor:
    return torch.randn(n, 2, 12, 12, generator=torch.Generator().manual_seed(seed)) * 1.7 + 0.3


def _single_shot(net: nn.Sequential, images: Tensor) -> list[tuple[Tensor, Tensor]]:
    with torch.no_grad():
        first = net[0](images).double()
        second = net[3](net[2](net[1](net[0](images)))).double()
    return [(t.mean((0, 2, 3)), t.var((0, 2, 3), unbiased=False)) for t in (first, second)]


@pytest.mark.parametrize("batch", [1, 7, 50, 64])
def test_pooled_statistics_equal_single_shot(batch: int) -> None:
    net, images = _net(), _images(50)
    found = [calls[0] for calls in bn_statistics(net, images, batch).values()]
    for statistics, (mean, variance) in zip(found, _single_shot(net, images), strict=True):
        torch.testing.assert_close(statistics.mean, mean, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(statistics.variance, variance, rtol=1e-5, atol=1e-6)
    assert found[0].mean.dtype == torch.float64
    assert found[0].count == 50 * 25


def test_both_units_by_hand() -> None:
    net, images = _net(), _images(40)
    norms, squares = 0.0, []
    for bn, (mean, var) in zip((net[1], net[4]), _single_shot(net, images), strict=True):
        m, v = mean - bn.running_mean.double(), var - bn.running_var.double()
        norms += math.sqrt((m**2).sum()) + math.sqrt((v**2).sum())
        squares.append(float((m**2).mean() + (v**2).mean()))
    found = bn_loss(net, images)
    assert found.u1 == pytest.approx(norms, rel=1e-5)
    assert found.u2 == pytest.approx(np.mean(squares), rel=1e-5)
    assert found.u1 == pytest.approx(sum(found.layers.values()))
    assert (found.n, found.batch) == (40, 40)


def test_loss_is_zero_on_the_images_the_statistics_are_of() -> None:
    net, images = _net(), _images(40)
    for _ in range(2):  # the second layer's input depends on the first layer's statistics
        for name, calls in bn_statistics(net, images).items():
            net.get_submodule(name).running_mean.copy_(calls[0].mean)
            net.get_submodule(name).running_var.copy_(calls[0].variance)
    assert bn_loss(net, images).u1 < 1e-5
    assert bn_loss(net, images).u2 < 1e-10
    small = bn_loss(net, images, batch=8)
    assert small.u1 > 0.01  # statistics of eight images scatter
    assert small.batch == 8


def test_per_batch_loss_is_the_mean_over_full_batches() -> None:
    net, images = _net(), _images(20)
    parts = [bn_loss(net, images[i : i + 8]) for i in (0, 8)]
    found = bn_loss(net, images, batch=8)
    assert found.u1 == pytest.approx(np.mean([p.u1 for p in parts]))
    assert found.u2 == pytest.approx(np.mean([p.u2 for p in parts]))
    with pytest.raises(ValueError, match="less than one batch"):
        bn_loss(net, images, batch=21)


class _Twice(nn.Module):
    """One BN module called twice per forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn(self.bn(x) * 3 + 1)
        return out


def test_repeated_calls_are_kept_apart() -> None:
    net, images = _Twice().eval(), _images(30)
    calls = bn_statistics(net, images, batch=4)["bn"]
    assert len(calls) == 2
    torch.testing.assert_close(calls[1].mean, calls[0].mean * 3 + 1, rtol=1e-4, atol=1e-4)


def test_no_statistics_is_said_and_nothing_is_left_behind() -> None:
    with pytest.raises(NotApplicable, match="BatchNorm"):
        bn_loss(nn.Conv2d(2, 3, 3), _images(4))
    net = _net().train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    bn_loss(net, _images(10))
    assert net.training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert not any(part._forward_pre_hooks for part in net.modules())


class _Says(nn.Module):
    """Predicts a fixed class for every image."""

    def __init__(self, classes: Tensor) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.one_hot(self.classes[images[:, 0, 0, 0].long()], 4).float()


def test_zoo_top1_has_the_population_deviation() -> None:
    images = torch.zeros(4, 1, 1, 1)
    images[:, 0, 0, 0] = torch.arange(4)
    labels = torch.tensor([0, 1, 2, 3])
    models = {
        "right": _Says(labels),
        "half": _Says(torch.tensor([0, 1, 0, 0])),
        "wrong": _Says(torch.tensor([1, 2, 3, 0])),
    }
    found = zoo_top1(models, images, labels)
    assert found.per_model == {"right": 100.0, "half": 50.0, "wrong": 0.0}
    assert found.mean == pytest.approx(50)
    assert found.std == pytest.approx(math.sqrt(5000 / 3))
    assert found.over(["right", "half"]).mean == pytest.approx(75)
    # right-half agree on 2, right-wrong on none, half-wrong on one
    assert label_agreement(models, images) == pytest.approx(100 * (2 + 0 + 1) / 12)
    with pytest.raises(ValueError):
        zoo_top1(models, images, labels[:2])
    with pytest.raises(ValueError):
        label_agreement({"right": models["right"]}, images)


def test_score_of_uniform_is_one_and_of_balanced_one_hot_is_the_class_count() -> None:
    uniform = torch.full((100, 5), 0.2, dtype=torch.float64).log()
    assert score_from_log_probabilities(uniform).mean == pytest.approx(1.0)
    hot = torch.eye(5, dtype=torch.float64).repeat_interleave(200, 0).log()
    for order in (torch.arange(1000), torch.arange(1000).reshape(5, 200).T.flatten()):  # by class, and in turn
        found = score_from_log_probabilities(hot[order])
        assert found.mean == pytest.approx(5.0, abs=0.2)
        assert (found.n, found.splits) == (1000, 10)
        assert score_from_log_probabilities(hot[order], splits=1).mean == pytest.approx(5.0)


def test_score_by_hand_and_within_bounds() -> None:
    p = torch.tensor([[0.9, 0.1], [0.2, 0.8]], dtype=torch.float64)
    marginal = p.mean(0)
    kl = float((p * (p / marginal).log()).sum(1).mean())
    assert score_from_log_probabilities(p.log(), splits=1).mean == pytest.approx(math.exp(kl))
    score = classifier_score(_net(), _images(60), splits=4)
    assert 1 <= score.mean <= 4
    assert [classifier_score(_net(), _images(n)).splits for n in (3, 199, 200, 256)] == [1, 1, 2, 2]
    with pytest.raises(ValueError, match="splits"):
        classifier_score(_net(), _images(3), splits=4)
