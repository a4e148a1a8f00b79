"""What a layer reads or returns while a network runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from torch import Tensor, nn


@contextmanager
def caught(layer: nn.Module | None, side: Literal["input", "output"]) -> Iterator[list[Tensor]]:
    """The tensors of ``layer``, newest last, while the context is open; none where there is no layer."""
    found: list[Tensor] = []

    def keep(_: nn.Module, given: tuple[Any, ...], out: Tensor) -> None:
        found.append(given[0] if side == "input" else out)

    handle = layer.register_forward_hook(keep) if layer is not None else None
    try:
        yield found
    finally:
        if handle is not None:
            handle.remove()
