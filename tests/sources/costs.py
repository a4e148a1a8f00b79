"""What a synthesis costs by its parameters alone, for the suites' budgets; ``test_costs`` holds the methods to it."""

from __future__ import annotations

from typing import Any


def passes(method: str, p: Any, count: int) -> float:
    """Images sent forward and backward through one network, generators included, to store ``count`` images.

    A forward alone, such as the last look at every image, is half a pass.  For full-size views; of ``qimera``, whose
    two kinds of images are sampled in full batches of their own, the most it can be.
    """
    if not hasattr(p, "iterations"):
        return 0.0
    if hasattr(p, "images"):
        return -(-count // p.images) * _generator(method, p)
    stored = p.batch * getattr(p, "groups", 1)
    batches = -(-count // stored)
    networks = getattr(p, "mix", 1)
    trained = {"genie": 2}.get(method, networks)  # genie's generator is trained with the images
    looks = {"genie": 2, "intraq": 3}.get(method, networks)  # forwards of each finished image
    noise = p.noise_images if getattr(p, "slack", False) else 0  # dsg finds its bands for every stored batch
    return float(batches * (stored * (p.iterations * trained + looks / 2) + noise / 2))


def _generator(method: str, p: Any) -> float:
    """One generator: it and its networks in training, then it and the teacher for each image."""
    step = 2 + getattr(p, "mix", 0)
    sampled = -(-p.images // p.batch) * p.batch
    if method == "qimera" and 0 < p.superpose < 1 and p.images > 1:
        sampled = (-(-(p.images - 1) // p.batch) + 1) * p.batch
    return float(p.iterations * p.batch * step + sampled)
