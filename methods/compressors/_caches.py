"""What enters and leaves a unit, for all calibration images: gathered by image, carried from unit to unit."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from bench.errors import BenchError
from methods.quant.model import QuantModel
from methods.quant.units import Unit

EVALUATION_BATCH = 128


class Cache:
    """Inputs or targets of all calibration images, gathered by image.

    With ``channels_last`` a [N, C, H, W] tensor is kept as [N, H, W, C] memory, so that a gathered batch is
    channels_last without a conversion.
    """

    def __init__(self, value: Tensor, *, channels_last: bool = False) -> None:
        self._permute = channels_last and value.dim() == 4
        self._value = value.permute(0, 2, 3, 1).contiguous() if self._permute else value.contiguous()
        self._rows = 1

    def __len__(self) -> int:
        return self._value.shape[0] // self._rows

    def take(self, index: Tensor) -> Tensor:
        """Images ``index`` int64 [B] in the original axis order, each with all of its rows."""
        if self._rows > 1:
            index = (index[:, None] * self._rows + torch.arange(self._rows, device=index.device)).flatten()
        return self._view(self._value.index_select(0, index))

    def of(self, images: int) -> Cache:
        """The same memory, taken by so many images of equally many rows each (windows of shifted-window attention).

        Raises:
            BenchError: the rows cannot be shared out so.
        """
        rows = self._value.shape[0]
        if rows % images:
            raise BenchError("a unit's rows do not follow the images", got=rows, expected=f"a multiple of {images}")
        found = copy.copy(self)
        found._rows = rows // images
        return found

    def all(self) -> Tensor:
        """Every image's value; no copy."""
        return self._view(self._value)

    def chunks(self, size: int) -> Iterator[Tensor]:
        """All rows in order, ``size`` at a time."""
        for start in range(0, self._value.shape[0], size):
            yield self._view(self._value[start : start + size])

    def _view(self, value: Tensor) -> Tensor:
        return value.permute(0, 3, 1, 2) if self._permute else value


class Carried:
    """Every unit's input for all images, carried from unit to unit where these form a chain; ``capture`` computes the
    others anew from the images."""

    def __init__(self, images: Tensor, capture: Callable[[Unit], Tensor]) -> None:
        self._capture = capture
        self._carried: Cache | None = Cache(images, channels_last=True)

    def enter(self, unit: Unit) -> Cache:
        """The unit's input for all images."""
        carried, self._carried = self._carried, None
        if unit.chain and carried is not None:
            return carried
        return Cache(self._capture(unit), channels_last=True)

    def leave(self, output: Cache) -> None:
        """Take the unit's output as the next one's input."""
        self._carried = output


class Prefix(Carried):
    """Every unit's input with the network in one state."""

    def __init__(self, model: QuantModel, images: Tensor, weights: bool, activations: bool) -> None:
        super().__init__(images, lambda unit: model.capture_inputs(unit, images, EVALUATION_BATCH))
        self._model, self._state = model, (weights, activations)

    def enter(self, unit: Unit) -> Cache:
        """Switch the network to this prefix's state and return the unit's input for all images."""
        self._model.set_state(*self._state)
        return super().enter(unit)


class Inputs(Protocol):
    """Where the loop takes a batch of unit inputs from."""

    def __len__(self) -> int:
        """How many images ``take`` chooses from."""

    def take(self, index: Tensor) -> Tensor:
        """Inputs of images ``index`` [B]."""

    def of(self, images: int) -> Inputs:
        """As `Cache.of`."""


class MixedInputs:
    """QDrop's input: each element from the quantised prefix with probability ``keep``, else from the FP prefix."""

    def __init__(self, quantised: Cache, full: Cache, keep: float, generator: torch.Generator) -> None:
        self._quantised, self._full, self._keep, self._generator = quantised, full, keep, generator

    def __len__(self) -> int:
        return len(self._quantised)

    def of(self, images: int) -> MixedInputs:
        """As `Cache.of`."""
        return MixedInputs(self._quantised.of(images), self._full.of(images), self._keep, self._generator)

    def take(self, index: Tensor) -> Tensor:
        """Inputs of images ``index`` [B], mixed afresh."""
        quantised, full = self._quantised.take(index), self._full.take(index)
        return torch.where(random_mask(quantised, self._keep, self._generator), quantised, full)


def random_mask(like: Tensor, keep: float, generator: torch.Generator) -> Tensor:
    """Bool mask of ``like``'s shape, layout and device, true with probability ``keep`` (in steps of 1/32768).

    Drawn on the CPU, so that a device changes no random number; four elements share one 64-bit draw.
    """
    count = like.numel()
    bits = torch.empty((count + 3) // 4, dtype=torch.int64).random_(generator=generator)
    # random_ fills 63 bits: the sign bit of each fourth element is always 0, so 15 bits are compared
    small = bits.view(torch.int16)[:count].bitwise_and(0x7FFF)
    mask = (small <= round(keep * 0x8000) - 1).to(like.device)  # 2^15 itself would overflow int16
    return mask.as_strided(like.shape, like.stride()) if dense(like) else mask.view(like.shape)


def dense(value: Tensor) -> bool:
    """Whether ``value`` fills its memory without gaps in some axis order."""
    return value.is_contiguous() or (value.dim() == 4 and value.is_contiguous(memory_format=torch.channels_last))


@torch.no_grad()
def run(unit: Callable[[Tensor], Tensor], inputs: Cache, size: int) -> Tensor:
    """The unit's output for all cached inputs, ``size`` images at a time, in memory of its own."""
    return torch.cat([unit(x) for x in inputs.chunks(size)])


def cached(unit: Callable[[Tensor], Tensor], inputs: Cache) -> Cache:
    """The unit's output for all inputs."""
    return Cache(run(unit, inputs, EVALUATION_BATCH), channels_last=True)
