"""What a quantised network shows of its inside to who asks which layer loses the accuracy.  No torch import at run
time."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from bench.interfaces.methods import Units
from bench.interfaces.settings import LayerBits

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class InputGrid:
    """The quantiser of one tensor: its bits, the least and the greatest value of its grid, and the step between two."""

    tensor: str
    bits: int
    low: float
    high: float
    step: float


class Inspection(Protocol):
    """A quantised network opened up.  Layers are called as in ``Variant.layer_bits``; what is switched within one of
    the contexts is as before after it.

    A layer's own quantisers are that of its weight and those of the tensors it reads.  A tensor that several layers
    read has one quantiser, which belongs to each of them.

    ``baseline`` says what :meth:`floating` computes where that is not the network that was compressed; else it is
    empty.
    """

    @property
    def baseline(self) -> str:
        """See the class."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Weighted layers in order of execution."""

    @property
    def blocks(self) -> Units:
        """The network's blocks in order of execution."""

    def bits(self, layer: str) -> LayerBits:
        """Bits in use of its weight and of the most finely quantised tensor it reads."""

    def module(self, layer: str) -> nn.Module:
        """What is called with the layer's input, quantised already where a quantiser stands behind it, and returns its
        output (before the activation; behind a normalisation where that is folded)."""

    def weight(self, layer: str) -> tuple[Tensor, Tensor]:
        """The layer's weight in floating point and as it is used, both of one shape."""

    def grids(self, layer: str) -> tuple[InputGrid, ...]:
        """The quantisers of the tensors it reads; none for the image and for what is left in floating point."""

    def watched(self, tensor: str) -> nn.Module:
        """The quantiser of this name, a module that is called with the tensor."""

    def quantised(self, tensor: str, values: Tensor) -> Tensor:
        """``values`` as the quantiser of this name leaves them, whether it is switched on or not."""

    def forward(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Logits [N, K] of images [N, C, H, W], and the output of each block in the order of ``blocks``; () where the
        network's graph is not known."""

    def floating(self) -> AbstractContextManager[None]:
        """Within: no quantiser works, which is the network that was compressed, or what
        ``baseline`` says."""

    def alone(self, layer: str) -> AbstractContextManager[None]:
        """Within: this layer's own quantisers work and no others."""

    def calibrate(self, images: Tensor, bits: int) -> None:
        """Choose, for every tensor that has fewer, a grid of ``bits`` bits for what one pass of ``images`` [N, C, H, W]
        shows, in floating point, or in the network as it is where that is what was trained; :meth:`lifted` takes
        them."""

    def lifted(self, layer: str, bits: int) -> AbstractContextManager[None]:
        """Within: this layer's own quantisers of fewer bits are replaced by ones of ``bits`` bits, its weight's rounds
        the floating-point weight to nearest.  Nothing is learned anew; the other layers are as they are.

        Raises:
            LookupError: no grids of so many bits were chosen.
        """

    def each_alone(self, images: Tensor, layers: Sequence[str]) -> Generator[Tensor]:
        """Logits of ``images``: in floating point, then within :meth:`alone` of each of ``layers``."""

    def each_lifted(self, images: Tensor, layers: Sequence[str], bits: int) -> Generator[Tensor]:
        """Logits of ``images``: of the network as it is, then within :meth:`lifted` of each of ``layers``.

        Raises:
            LookupError: as :meth:`lifted`.
        """
