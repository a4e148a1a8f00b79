"""Class margins: the ratio against numpy, what it does not depend on, collapsed classes, the picture, the report."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.run.reports import plain
from methods.policies._margins import IMAGES, POINTS, class_margins, evenly, margin_of, penultimate, principal
from tests.policies.asking import ask
from tests.policies.super_toys import net, pictures, proxy, supernet
from tests.quant.nets import Untraceable, seeded

K, D, N = 4, 6, 40


def given(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features about centres of their own, classes of unlike size."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(K, (N,), generator=generator)
    centres = 3 * torch.randn(K, D, generator=generator, dtype=torch.float64)
    return centres[labels] + torch.randn(N, D, generator=generator, dtype=torch.float64), labels


def ratio(features: Tensor, labels: Tensor) -> float:
    found = margin_of(features, labels).ratio
    assert found is not None
    return found


def test_the_ratio_is_that_of_the_definition() -> None:
    features, labels = given()
    x, y = features.numpy(), labels.numpy()
    centres = np.array([x[y == k].mean(axis=0) for k in range(K)])
    spread = np.mean([np.sqrt(((x[y == k] - centres[k]) ** 2).sum(axis=1).mean()) for k in range(K)])
    nearest = min(np.linalg.norm(centres[j] - centres[k]) for j in range(K) for k in range(j))
    assert ratio(features, labels) == pytest.approx(nearest / spread)
    pairs = [np.linalg.norm(centres[j] - centres[k]) for j in range(K) for k in range(j)]
    assert margin_of(features, labels).mean_ratio == pytest.approx(np.mean(pairs) / spread)


def test_two_classes_by_hand() -> None:
    features = torch.tensor([[0.0, 1.0], [0.0, -1.0], [8.0, 3.0], [8.0, -3.0]])
    found = margin_of(features, torch.tensor([5, 5, 7, 7]))
    assert (found.between, found.within, found.ratio) == (8, 2, 4)
    assert (found.apart, found.mean_ratio) == (8, 4)  # one pair


def test_moving_turning_scaling_and_renaming_change_nothing() -> None:
    features, labels = given()
    wanted = ratio(features, labels)
    turn = torch.linalg.qr(torch.randn(D, D, generator=torch.Generator().manual_seed(5), dtype=torch.float64))[0]
    for other in (features + torch.linspace(-50, 70, D, dtype=torch.float64), 1e-4 * features, features @ turn):
        assert ratio(other, labels) == pytest.approx(wanted)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(6))
    assert ratio(features[order], 10 - labels[order]) == pytest.approx(wanted)


def test_classes_further_apart_or_narrower_have_more_margin() -> None:
    features, labels = given()
    means = torch.stack([features[labels == k].mean(0) for k in range(K)])[labels]
    assert ratio(features + means, labels) == pytest.approx(2 * ratio(features, labels))
    assert ratio(means + 0.25 * (features - means), labels) == pytest.approx(4 * ratio(features, labels))


def test_collapsed_classes_are_said_and_not_infinite() -> None:
    _, labels = given()
    centres = torch.randn(K, D, generator=torch.Generator().manual_seed(1))
    for features in (centres[labels], torch.ones(N, D), 1e3 + 1e-7 * given()[0]):
        found = margin_of(features.double(), labels)
        assert found.ratio is None
        assert "single point" in found.why


@pytest.mark.parametrize(
    ("features", "labels", "says"),
    [
        (torch.randn(6, 3), torch.zeros(6, dtype=torch.long), "fewer than two classes"),
        (torch.randn(3, 3), torch.arange(3), "fewer than two classes"),
        (torch.tensor([[0.0], [float("nan")], [1.0], [2.0]]), torch.tensor([0, 0, 1, 1]), "not finite"),
    ],
    ids=["one class", "one image each", "nan"],
)
def test_where_there_is_no_ratio_it_is_said(features: Tensor, labels: Tensor, says: str) -> None:
    found = margin_of(features, labels)
    assert found.ratio is None
    assert says in found.why


def test_a_class_of_one_image_is_left_out() -> None:
    features, labels = given()
    more = torch.cat([features, features[:1] + 0.1])
    assert ratio(more, torch.cat([labels, torch.tensor([K])])) == pytest.approx(ratio(features, labels))


def test_the_picture_is_the_eigenvectors_of_the_covariance() -> None:
    features, _ = given()
    found = principal(features)
    x = features.numpy() - features.numpy().mean(axis=0)
    values, vectors = np.linalg.eigh(x.T @ x)
    for axis in (0, 1):
        own = found[:, axis].numpy()
        assert own @ own == pytest.approx(values[-1 - axis])
        assert np.abs(own) == pytest.approx(np.abs(x @ vectors[:, -1 - axis]))
        loading = np.linalg.lstsq(x, own, rcond=None)[0]
        assert loading[np.abs(loading).argmax()] > 0
    assert torch.allclose(principal(features + 3), found)
    flat = principal(features[:, :1])
    assert flat.shape == (N, 2)
    assert float(flat[:, 1].abs().max()) == 0


def test_images_are_taken_from_all_classes_alike() -> None:
    labels = torch.tensor([0] * 500 + [1] * 30 + [2] * 400)
    found = evenly(labels, 100)
    assert found.tolist() == sorted(set(found.tolist()))
    counts = labels[found].bincount().tolist()
    assert counts == [35, 30, 35]
    assert found[labels[found] == 0].tolist() == list(range(35))
    assert evenly(labels, 10_000).tolist() == list(range(930))


@pytest.mark.parametrize("build", [net, lambda: seeded(Untraceable).eval()], ids=["graph", "modules"])
def test_features_are_what_the_classifier_reads(build: Any) -> None:
    network = build()
    last = [part for part in network.modules() if isinstance(part, nn.Linear)][-1]
    features = penultimate(network, last, pictures())
    assert torch.allclose(last(features), network(pictures()))
    found = supernet(network)
    quantised = penultimate(found.student, found.last, pictures())
    assert quantised.shape == features.shape
    assert torch.allclose(found.last(quantised), found.student(pictures())[0])
    assert not torch.equal(quantised, features)


def test_maps_are_averaged_over_their_places() -> None:
    """A last layer that is a convolution, the pooling behind it."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert torch.allclose(penultimate(network, network[1], pictures()), network[0](pictures()).mean((2, 3)))


def test_both_networks_over_the_proxy_and_what_it_took() -> None:
    network, images = net(), proxy(20)
    found, passes = class_margins(network, supernet(network), images)
    assert passes == 2 * 20
    assert (found["images"], found["classes"], found["why"]) == (20, 5, {})
    features = penultimate(network, network.get_submodule("head"), images.images).double()
    assert found["float"] == pytest.approx(ratio(features, images.labels))
    assert found["float"] != found["searched"]
    for side in ("float", "searched"):
        assert found[side] == pytest.approx(found["between"][side] / found["within"][side])
        assert len(found["point_classes"]) == 20
    for axis, exact in zip("xy", principal(features).T, strict=True):
        assert found["points"]["float"][axis] == pytest.approx(exact.tolist(), rel=5.1e-3)


def test_many_images_are_read_in_part() -> None:
    network, images = net(), proxy(IMAGES + 40)
    found, passes = class_margins(network, supernet(network), images)
    assert passes == 2 * IMAGES
    assert found["images"] == IMAGES
    assert len(found["points"]["searched"]["x"]) == len(found["points"]["searched"]["y"]) == POINTS
    assert {found["point_classes"].count(k) for k in range(5)} == {POINTS // 5}


def test_a_searchs_report_has_them_and_counts_them() -> None:
    params: dict[str, Any] = {"epochs": 1, "batch": 8}
    found = ask("seam", net(), **params)
    margins = plain(found.report)["class_margins"]
    json.dumps(margins, allow_nan=False)
    assert margins["images"] == 16
    assert found.report["labels"] == "target"
    # labels, the classes' means, one training pass and back, the steps' first images, both networks
    assert found.forward_equivalents == 16 + 16 + 2 * 16 + 16 + 2 * 16
    assert margins == plain(ask("seam", net(), **params).report)["class_margins"]


def test_networks_stay_as_they_were() -> None:
    network = net()
    found = supernet(network)
    before = [{name: value.clone() for name, value in one.state_dict().items()} for one in (network, found.student)]
    class_margins(network, found, proxy())
    for one, kept in zip((network, found.student), before, strict=True):
        assert all(torch.equal(value, kept[name]) for name, value in one.state_dict().items())
        assert not any(part._forward_hooks for part in one.modules())
