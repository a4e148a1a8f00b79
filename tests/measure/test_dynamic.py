"""Bit operations of each image: the closed form, the bounds, and what a compressor may not answer."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import entropy, spearmanr
from torch import Tensor, nn

from bench.errors import BenchError
from bench.interfaces import BitPolicy, LayerBits, ModelHandle, Setting, Variant
from bench.measure.accuracy import batches
from bench.measure.complexity import bitops, count
from bench.measure.dynamic import difficulties, entropies
from bench.run.image_bits import image_bits, metrics_of
from bench.store.image_bits import ImageBits, unpack_floats

IMAGES = torch.randn(23, 1, 6, 6, generator=torch.Generator().manual_seed(1))
ENDS = {"0": (8, 8), "5": (8, 8)}


def net() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4, 5)).eval()


NET = net()
COUNTS = count(NET, (1, 6, 6))
INNER = COUNTS.layers["2"].macs


def fixed(weight: int, act: int) -> int:
    """Bit operations with the middle layer at these bits, in the image's own way of counting."""
    layers = COUNTS.layers
    return 64 * (layers["0"].macs + layers["5"].macs) + layers["2"].macs * weight * act


def chosen(images: Tensor) -> Tensor:
    """3, 4 or 5 bits of the middle layer's input, by the image alone."""
    return 3 + (images.flatten(1).mean(dim=1) > 0).int() + (images.flatten(1).std(dim=1) > 1).int()


def taken(images: Tensor) -> Tensor:
    return fixed(4, 0) + 4.0 * INNER * chosen(images).double()


def variant(ask: Callable[[Tensor], Any] = taken, **fields: Any) -> Variant:
    given: dict[str, Any] = {"bits_between": {"2": (LayerBits(4, 3), LayerBits(4, 5))}}
    given["layer_bits"] = BitPolicy.of(ENDS | {"2": (4, 4)})
    return Variant(Setting(4, 4), NET, image_bitops=ask, **given | fields)


def measured(size: int = 10, **fields: Any) -> ImageBits:
    target = ModelHandle("toy", NET, "d", "toy", "toy", INNER, "toy", (0.0,), (1.0,))
    data = partial(batches, IMAGES, size=size)
    found = image_bits(variant(**fields), target, (1, 6, 6), data, device="cpu", where="toy")
    assert found is not None
    return found


def test_entropy_is_scipys() -> None:
    logits = 5 * torch.randn(40, 7, generator=torch.Generator().manual_seed(2))
    expected = entropy(logits.double().softmax(dim=1).numpy(), axis=1)
    assert entropies(logits).numpy() == pytest.approx(expected)
    ends = entropies(torch.tensor([[0.0, 0.0, 0.0, 0.0], [1e4, 0.0, 0.0, 0.0]]))
    assert ends.tolist() == pytest.approx([math.log(4), 0.0])


def test_each_image_takes_what_its_bits_say() -> None:
    found = measured()
    by_hand = np.array([fixed(4, int(b)) for b in chosen(IMAGES)]) / 1e9
    assert unpack_floats(found.bitops_g, len(IMAGES)) == pytest.approx(by_hand, rel=1e-6)
    assert (found.least_g, found.most_g) == pytest.approx((fixed(4, 3) / 1e9, fixed(4, 5) / 1e9))
    assert found.bits_of(by_hand) == pytest.approx(chosen(IMAGES).numpy(), rel=1e-6)
    assert found.between == pytest.approx((3, 5))
    assert set(chosen(IMAGES).tolist()) == {3, 4, 5}
    assert not NET.training


def test_the_count_is_that_of_a_static_network() -> None:
    """An image at 4 bits takes what the static network of 4 bits does, by the same count."""
    same = measured(ask=lambda images: torch.full((len(images),), float(fixed(4, 4)), dtype=torch.float64))
    static = bitops(COUNTS, ENDS | {"2": (4, 4)}) / 1e9
    found = metrics_of(same, len(IMAGES))
    assert (found["bitops_g"], found["image_bits"]) == pytest.approx((static, 4), rel=1e-6)


def test_batches_change_nothing() -> None:
    assert measured(size=1).bitops_g == measured(size=23).bitops_g


def test_means_and_rank_correlation_are_the_lists() -> None:
    found = metrics_of(measured(), len(IMAGES))
    hard = difficulties(NET, batches(IMAGES), device="cpu").astype(np.float32)
    assert found["image_bits"] == pytest.approx(chosen(IMAGES).double().mean().item(), rel=1e-6)
    assert found["bits_difficulty"] == pytest.approx(spearmanr(chosen(IMAGES).numpy(), hard).statistic)


def test_where_weights_follow_bits_are_effective_ones() -> None:
    ends = {"2": (LayerBits(3, 3), LayerBits(5, 5))}
    found = measured(
        ask=lambda images: fixed(0, 0) + INNER * chosen(images).double() ** 2,
        bits_between=ends,
    )
    assert found.squared
    assert found.between == pytest.approx((3, 5))
    mean = chosen(IMAGES).double().mean().item()
    assert metrics_of(found, len(IMAGES))["image_bits"] == pytest.approx(mean, rel=1e-6)


def test_one_candidate_is_a_constant() -> None:
    one = {"2": (LayerBits(4, 4), LayerBits(4, 4))}
    found = measured(
        ask=lambda images: torch.full((len(images),), float(fixed(4, 4)), dtype=torch.float64), bits_between=one
    )
    assert found.constant
    assert found.between == pytest.approx((4, 4))
    assert metrics_of(found, len(IMAGES))["bits_difficulty"] is None


def test_without_bounds_any_bits_from_one_to_floating_point_are_possible() -> None:
    found = measured(bits_between={})
    assert (found.least_g, found.most_g) == pytest.approx((COUNTS.macs / 1e9, COUNTS.macs * 1024 / 1e9))
    assert found.between == pytest.approx((1, 32))
    mean = np.sqrt(np.array([fixed(4, int(b)) for b in chosen(IMAGES)]) / COUNTS.macs).mean()
    assert metrics_of(found, len(IMAGES))["image_bits"] == pytest.approx(mean, rel=1e-6)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"ask": lambda images: taken(images)[:-1]}, "of other images than it was given"),
        ({"ask": lambda images: taken(images)[:, None]}, "one value for each of 10 images"),
        ({"ask": lambda images: 4.0}, "got: float"),
        ({"ask": lambda images: taken(images) * torch.nan}, "23 of 23 images"),
        ({"ask": lambda images: taken(images - images.mean(0))}, "depend on the batch it is in"),
        (
            {"ask": lambda images: taken(images.mean(0, True)).expand(len(images))},
            "images take another number in pairs",
        ),
        ({"ask": lambda images: taken(images) + 4 * INNER}, "lie outside what its layers can take"),
        ({"ask": lambda images: taken(images) - 4 * INNER}, "lie outside what its layers can take"),
        ({"bits_between": {"9": (LayerBits(4, 3), LayerBits(4, 5))}}, "no such layers: 9"),
        ({"bits_between": {"2": (LayerBits(4, 5), LayerBits(4, 3))}}, "fewest above most: 2"),
    ],
)
def test_what_a_compressor_may_not_answer(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(BenchError) as caught:
        measured(**fields)
    assert said in str(caught.value)
    assert str(caught.value).startswith("toy: ")
