"""What each test image takes of a network whose bits depend on the image, as a record holds it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from torch import Tensor

from bench.errors import BenchError
from bench.interfaces import ModelHandle, Variant
from bench.interfaces.ranks import rank_correlation
from bench.measure.complexity import count
from bench.measure.dynamic import difficulties, scale_of, taken
from bench.store.image_bits import ImageBits, outside, pack_floats, unpack_floats

Batches = Callable[[], Iterable[tuple[Tensor, Tensor]]]
"""The test images anew: batches of images and labels."""


def image_bits(
    variant: Variant, target: ModelHandle, shape: tuple[int, int, int], batches: Batches, *, device: Any, where: str
) -> ImageBits | None:
    """Bit operations and difficulty of each test image; None where bits do not depend on the image.

    Args:
        target: the uncompressed network, which says how hard an image is.
        shape: of an image (C, H, W).
        where: the compressor, for messages.

    Raises:
        BenchError: what the compressor says of an image cannot be (:mod:`bench.measure.dynamic`), or lies outside the
            closed-form bounds of its layers.
    """
    if variant.image_bitops is None:
        return None
    how: dict[str, Any] = {"device": device, "mean": target.mean, "std": target.std}
    scale = scale_of(variant, count(variant.network or target.module, shape), where)
    values = taken(variant, batches(), where=where, **how)
    if wrong := outside(values, scale.least_g, scale.most_g):
        what = "an image's bit operations lie outside what its layers can take (1e9)"
        raise BenchError(what, where=where, got=wrong)
    hardness = difficulties(target.module, batches(), **how)
    return ImageBits(bitops_g=pack_floats(values), difficulty=pack_floats(hardness), **asdict(scale))


def metrics_of(found: ImageBits, images: int) -> dict[str, float | None]:
    """A record's metrics: ``bitops_g``, the images' mean; ``image_bits``, their mean bits; ``bits_difficulty``,
    Spearman's rank correlation of bit operations and difficulty, None where either is the same for all."""
    values, hardness = unpack_floats(found.bitops_g, images), unpack_floats(found.difficulty, images)
    # lists hold 32-bit floats: what a constant choice leaves of rounding is no order
    related = None if found.constant else rank_correlation(values.tolist(), hardness.tolist())
    return {
        "bitops_g": float(values.mean()),
        "image_bits": float(found.bits_of(values).mean()),
        "bits_difficulty": related,
    }
