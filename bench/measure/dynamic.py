"""Networks whose bits depend on the image: what each test image takes, and how hard the uncompressed target finds it
(docs/methods/measures.md#image-bits)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bench.errors import BenchError
from bench.interfaces import FLOAT_BITS, LayerBits, Variant
from bench.measure.accuracy import eval_mode, to_input
from bench.measure.complexity import Counts, bitops
from bench.zoo.outputs import is_logits, no_logits

Floats = npt.NDArray[np.float64]

GIGA = 1e9


@dataclass(frozen=True)
class Scale:
    """1e9 bit operations that an image takes at the fewest and at the most bits (closed form).  ``fixed_g`` of them are
    the same for all images; the rest over ``unit_g`` are an image's bits, or their square where ``squared``: the mean
    bits of the inputs of the layers whose bits an image decides, by MACs × weight bits, or effective bits where the
    weights' bits depend on the image, too."""

    least_g: float
    most_g: float
    fixed_g: float
    unit_g: float
    squared: bool


def entropies(logits: Tensor) -> Tensor:
    """Entropy in nats of each prediction [B] float64, from logits [B, classes]: 0 certain, log(classes) at a loss."""
    logs = logits.double().log_softmax(dim=1)
    return -(logs.exp() * logs).sum(dim=1)


def difficulties(
    module: nn.Module,
    data: Iterable[tuple[Tensor, Tensor]],
    *,
    device: torch.device | str,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Floats:
    """Entropy in nats of the module's prediction of each image [N]; arguments as
    :func:`bench.measure.accuracy.evaluate` takes them.

    Raises:
        WeightsError: the module returns something else than logits [B, classes].
    """

    def of(images: Tensor) -> Tensor:
        logits = module(images)
        if not is_logits(logits):
            raise no_logits(logits)
        return entropies(logits)

    with eval_mode(module):
        return _each(of, data, device, mean, std)


def taken(
    variant: Variant,
    data: Iterable[tuple[Tensor, Tensor]],
    *,
    device: torch.device | str,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    where: str,
) -> Floats:
    """1e9 bit operations of each image of ``data`` [N], by ``variant.image_bitops``.

    Args:
        data, device, mean, std: as :func:`bench.measure.accuracy.evaluate` takes them.
        where: the compressor, for messages.

    Raises:
        BenchError: no value for each image, one that is not finite, or values that depend on the batch.
    """
    answer = variant.image_bitops
    if answer is None:
        raise BenchError("the compressor says of no image what it takes", where=where)

    def ask(images: Tensor) -> Tensor:
        values = answer(images)
        if not isinstance(values, Tensor) or values.shape != images.shape[:1]:
            got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise BenchError(
                "the compressor counts bit operations of other images than it was given",
                where=where,
                got=got,
                expected=f"one value for each of {len(images)} images",
            )
        return values

    compared = False

    def of(images: Tensor) -> Tensor:
        nonlocal compared
        values = ask(images)
        if not compared:
            compared = True
            _same_alone(ask, images, values, where)
        return values

    with eval_mode(variant.module):
        values = _each(of, data, device, mean, std) / GIGA
    if not np.isfinite(values).all():
        raise BenchError(
            "an image's bit operations are no finite number",
            where=where,
            got=f"{int((~np.isfinite(values)).sum())} of {len(values)} images",
        )
    return values


def _same_alone(ask: Callable[[Tensor], Tensor], images: Tensor, values: Tensor, where: str) -> None:
    """Ask again of some images in pairs, which must change nothing: rounding in convolutions depends on the batch and
    may move an image between two choices that are all but equal, but not many images."""
    some = range(0, min(len(images), 2 * _PAIRS), 2)
    again = torch.cat([ask(images[start : start + 2].flip(0)).flip(0) for start in some])
    moved = int((~torch.isclose(again, values[: len(again)].to(again), rtol=1e-6, equal_nan=True)).sum())
    if moved > _MOVED * len(again):
        raise BenchError(
            "an image's bit operations depend on the batch it is in",
            where=where,
            got=f"{moved} of {len(again)} images take another number in pairs",
            expected="what each image takes by itself",
        )


_PAIRS = 16
"""How many pairs are asked again."""
_MOVED = 0.25
"""Share of images whose choice rounding may move."""


def scale_of(variant: Variant, counts: Counts, where: str) -> Scale:
    """The closed-form bounds of what an image can take, and how its bits follow from what it takes.

    Args:
        counts: of the network whose layers ``variant`` names.
        where: the compressor, for messages.

    Raises:
        BenchError: ``variant.bits_between`` names other layers, or fewest bits above the most.
    """
    moving = variant.bits_between
    if not moving:  # nothing said: any bits from 1 to floating point, in every layer
        macs = counts.macs / GIGA
        return Scale(least_g=macs, most_g=macs * FLOAT_BITS**2, fixed_g=0.0, unit_g=macs, squared=True)
    unknown = sorted(set(moving) - set(counts.layers))
    upside = [name for name, (low, high) in moving.items() if low[0] > high[0] or low[1] > high[1] or min(low) < 1]
    if unknown or upside:
        raise BenchError(
            "the compressor's bounds of bits per layer are none",
            where=where,
            got=f"no such layers: {', '.join(unknown)}" if unknown else f"fewest above most: {', '.join(upside)}",
        )
    least, most = (_bitops(counts, variant, {name: ends[i] for name, ends in moving.items()}) for i in (0, 1))
    squared = any(low[0] != high[0] for low, high in moving.values())
    unit = sum(counts.layers[name].macs * (1 if squared else low[0]) for name, (low, _) in moving.items())
    moved = sum(counts.layers[name].macs * math.prod(low) for name, (low, _) in moving.items())
    return Scale(
        least_g=least,
        most_g=most,
        fixed_g=max(least - moved / GIGA, 0.0),
        unit_g=unit / GIGA,
        squared=squared,
    )


def _bitops(counts: Counts, variant: Variant, moved: dict[str, LayerBits]) -> float:
    return bitops(counts, {**variant.layer_bits, **moved}) / GIGA


def _each(
    value: Callable[[Tensor], Tensor],
    data: Iterable[tuple[Tensor, Tensor]],
    device: torch.device | str,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> Floats:
    """A value of each image [N], one batch at a time, without gradients."""
    parts = bytearray()  # not an array per batch, as in bench.measure.accuracy.evaluate
    with torch.inference_mode():
        for images, _ in data:
            parts += value(to_input(images, torch.device(device), mean, std)).double().cpu().numpy().tobytes()
    return np.frombuffer(parts, dtype=np.float64).copy()
