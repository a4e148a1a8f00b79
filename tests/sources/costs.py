"""What a synthesis costs by its parameters alone, for the suites' budgets; ``test_costs`` holds the methods to it."""

from __future__ import annotations

import math
from typing import Any


def generator_macs(method: str, p: Any, shape: tuple[int, int, int]) -> int:
    """Multiply-accumulates of the generator of a source for one image; 0 for a source without one.

    A linear layer to maps of a quarter of the side, then 3x3 convolutions: ``genie`` has none behind the first map.
    """
    if not hasattr(p, "width"):
        return 0
    channels, height, width = shape
    quarter, half = (math.ceil(height / k) * math.ceil(width / k) for k in (4, 2))
    full, wide, narrow = height * width, p.width, p.width // 2
    if method == "genie":
        return 256 * wide * quarter + 9 * (wide * narrow * 4 * quarter + narrow * channels * full)
    return p.latent * wide * quarter + 9 * (wide * wide * half + wide * narrow * full + narrow * channels * full)


def passes(method: str, p: Any, count: int, generator: float = 0.0) -> float:
    """Images sent forward and backward through one network to store ``count`` images, where one sent through the
    source's generator counts ``generator`` (its multiply-accumulates over the network's).

    A forward alone, such as the last look at every image, is half a pass.  For full-size views; of ``qimera``, whose
    two kinds of images are sampled in full batches of their own, the most it can be.
    """
    if not hasattr(p, "iterations"):
        return 0.0
    if hasattr(p, "images"):
        return -(-count // p.images) * _generator(method, p, generator)
    stored = p.batch * getattr(p, "groups", 1)
    batches = -(-count // stored)
    networks = getattr(p, "mix", 1)
    trained = networks + generator  # genie's is trained with the images
    looks = 3 if method == "intraq" else networks + generator  # forwards of each finished image
    noise = p.noise_images if getattr(p, "slack", False) else 0  # dsg finds its bands for every stored batch
    return float(batches * (stored * (p.iterations * trained + looks / 2) + noise / 2))


def _generator(method: str, p: Any, generator: float) -> float:
    """One generator: it and its networks in training, then it and the teacher for each image."""
    step = 1 + generator + getattr(p, "mix", 0)
    sampled = -(-p.images // p.batch) * p.batch
    if method == "qimera" and 0 < p.superpose < 1 and p.images > 1:
        sampled = (-(-(p.images - 1) // p.batch) + 1) * p.batch
    return float(p.iterations * p.batch * step + sampled * (1 + generator) / 2)
