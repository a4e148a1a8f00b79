"""What a compressor declares unless it says otherwise, and the base of those that need weighted layers."""

from __future__ import annotations

from typing import Any

from bench.errors import NotApplicable
from bench.interfaces import Delivery, ModelHandle, Setting


class Defaults:
    """Cached images, no zeros made or kept, one network for what was asked; see `bench.interfaces.Compressor`."""

    needs: frozenset[str] = frozenset()
    deliveries: frozenset[Delivery] = frozenset({"cached"})
    makes_zeros: bool = False
    keeps_zeros: bool = False

    def variants(self, params: Any, setting: Setting) -> tuple[Setting, ...]:
        """The setting itself."""
        return (setting,)


class ForWeightedLayers(Defaults):
    """Base of the compressors that work on convolutions and linear layers."""

    def check(self, params: Any, model: ModelHandle) -> None:
        """Raise NotApplicable when the network has no convolution or linear layer."""
        from torch import nn

        if not any(isinstance(part, nn.Conv2d | nn.Linear) for part in model.module.modules()):
            raise NotApplicable(
                "the network has no Conv2d or Linear layer to compress", where=model.name, got=model.architecture
            )
