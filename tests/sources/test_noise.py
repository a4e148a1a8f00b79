"""Noise: its moments, its box."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from methods.sources._augment import PixelSpace
from methods.sources.noise import METHOD
from tests.sources.toy import GREY, context, request


def images_of(**params: Any) -> Tensor:
    return METHOD.synthesize_batch(request(METHOD, (), **params), context()).images


def test_it_is_the_lower_control() -> None:
    assert (METHOD.access, METHOD.control, METHOD.models) == ("T1", "lower", "none")


def test_noise_has_the_moments_it_claims() -> None:
    images = images_of(batch=512)
    n = images.numel()
    assert abs(float(images.mean())) < 5 / n**0.5
    assert abs(float(images.std()) - 1) < 5 / (2 * n) ** 0.5
    space = PixelSpace.of(GREY)
    pixels = space.denormalise(images_of(batch=64, law="uniform_pixel"))
    assert 0 <= float(pixels.min()) < 0.01 < 0.99 < float(pixels.max()) <= 1
    low, high = space.box(images)
    clipped = images_of(batch=64, clip=True)
    assert bool(((clipped >= low) & (clipped <= high)).all())
