"""One layer of a network changed at a time, for all layers: what the layers before it gave is not computed again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, fx, nn

from methods.quant.partial import Replay


class OneByOne(ABC):
    """Base of inspections; a subclass says how a layer is changed, and which tensors with a quantiser it reads."""

    @property
    @abstractmethod
    def body(self) -> nn.Module:
        """What computes the logits."""

    @abstractmethod
    def floating(self) -> AbstractContextManager[None]:
        """Within: no quantiser works."""

    @abstractmethod
    def alone(self, layer: str) -> AbstractContextManager[None]:
        """Within: the quantisers of this layer's weight and of what it reads work and no others."""

    @abstractmethod
    def lifted(self, layer: str, bits: int) -> AbstractContextManager[None]:
        """Within: this layer's weight and what it reads have at least so many bits."""

    @abstractmethod
    def _read(self, layer: str) -> tuple[str, ...]:
        """The tensors with a quantiser that the layer reads."""

    @abstractmethod
    def _coarse(self, layer: str, bits: int) -> tuple[str, ...]:
        """Those of fewer bits."""

    @abstractmethod
    def _places(self, tensors: Sequence[str]) -> Sequence[str]:
        """Where the quantisers of these tensors stand in ``body``."""

    def each_alone(self, images: Tensor, layers: Sequence[str]) -> Generator[Tensor]:
        """Behind the first layer that changes alone."""
        with self.floating():
            replay = self._replay(images)
            yield self._logits(replay, images)
        for layer in layers:
            with self.alone(layer):
                yield self._logits(replay, images, layer, self._read(layer))

    def each_lifted(self, images: Tensor, layers: Sequence[str], bits: int) -> Generator[Tensor]:
        """Behind the first layer that changes alone."""
        replay = self._replay(images)
        yield self._logits(replay, images)
        for layer in layers:
            replaced = self._coarse(layer, bits)  # within, there are none
            with self.lifted(layer, bits):
                yield self._logits(replay, images, layer, replaced)

    def _replay(self, images: Tensor) -> Replay | None:
        return Replay(self.body, images) if isinstance(self.body, fx.GraphModule) else None

    @torch.no_grad()
    def _logits(self, replay: Replay | None, images: Tensor, layer: str = "", tensors: Sequence[str] = ()) -> Tensor:
        """Of the network as it is now, after these parts were changed."""
        if replay is None:
            out: Tensor = self.body(images)
        else:
            out = replay.again((layer,), self._places(tensors)) if layer else replay.result
        return out
