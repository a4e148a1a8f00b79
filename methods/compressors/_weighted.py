"""What can be compressed at all: a network with weighted layers."""

from __future__ import annotations

from typing import Any

from torch import nn

from bench.errors import NotApplicable
from bench.interfaces import ModelHandle


class ForWeightedLayers:
    """Base of the compressors that work on convolutions and linear layers."""

    def check(self, params: Any, model: ModelHandle) -> None:
        """Raise NotApplicable when the network has no convolution or linear layer."""
        if not any(isinstance(part, nn.Conv2d | nn.Linear) for part in model.module.modules()):
            raise NotApplicable(
                "the network has no Conv2d or Linear layer to compress", where=model.name, got=model.architecture
            )
