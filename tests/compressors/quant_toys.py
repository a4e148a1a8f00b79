"""A context, a handle and an image set around any network and images, for the tests of plain quantisation."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.interfaces import ImageSet, ModelHandle, RunContext


def context(tmp_path: Path) -> RunContext:
    no_data: Any = None
    return RunContext(
        torch.device("cpu"),
        torch.float32,
        torch.Generator().manual_seed(0),
        no_data,
        tmp_path,
        logging.getLogger("test"),
    )


def handle(net: nn.Module) -> ModelHandle:
    return ModelHandle("toy", net, "0", "toy", "toy", 0, "toy", (0.0,) * 3, (1.0,) * 3)


def image_set(x: Tensor) -> ImageSet:
    return ImageSet(x, None, None, "none", "0", "0")
