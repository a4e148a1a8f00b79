"""What images choose from, and which tensors have rows that belong to single images
(docs/methods/quantisation.md#dynamic)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from bench.interfaces.inventory import evaluating, probe_images


@dataclass(frozen=True)
class Choices:
    """What images choose from.

    ``inputs`` are the candidates, ascending; ``weights`` those of the layers that read a chosen tensor, in the same
    order, () where weights have the setting's bits.  ``selector`` own is one for each tensor, joint one controller for
    all (``hidden`` units, ``dropout``), which reads the input of the first layer after the share ``after`` of the
    layers; the tensors before that one have the setting's bits.  ``norms`` gives each candidate its own batch
    normalisation.  ``standard``: see `DeviationSelector`.
    """

    inputs: tuple[int, ...]
    weights: tuple[int, ...] = ()
    selector: Literal["own", "joint"] = "own"
    after: float = 0.0
    hidden: int = 64
    dropout: float = 0.2
    norms: bool = False
    standard: bool = False


def input_shapes(body: nn.Module, order: Sequence[str], example: Tensor) -> dict[str, tuple[int, int, int] | None]:
    """{layer: (axis of the channels, channels, rows of an image) of its input}; None where its rows do not belong
    to single images, each image's side by side, or its calls differ."""
    images = probe_images(example, 3)
    other = images.clone()
    other[1] = images[1].flip(-1) * 1.5 + 0.25
    runs = []
    for batch in (images, other):
        seen: list[tuple[str, Tensor]] = []
        layers = {name: body.get_submodule(name) for name in order}
        hooks = [layer.register_forward_pre_hook(_noter(name, seen)) for name, layer in layers.items()]
        try:
            with evaluating(body):
                body(batch)
        finally:
            for hook in hooks:
                hook.remove()
        runs.append(seen)
    found: dict[str, tuple[int, int, int] | None] = {}
    for (name, x), (_, y) in zip(*runs, strict=True):
        shape = _shape_of(x, y, isinstance(body.get_submodule(name), nn.Linear))
        found[name] = shape if found.get(name, shape) == shape else None
    return found


def _noter(name: str, seen: list[tuple[str, Tensor]]) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def note(part: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append((name, inputs[0].detach().clone()))

    return note


def _shape_of(x: Tensor, changed: Tensor, linear: bool) -> tuple[int, int, int] | None:
    """(axis of the channels, channels, rows of an image) of a layer's input ``x``; ``changed`` is the same with another
    image at place 1 of three."""
    if x.shape != changed.shape or x.shape[0] % 3 or x.dim() < 2 or (not linear and x.dim() != 4):
        return None
    rows = x.shape[0] // 3
    moved = (x != changed).flatten(1).any(1).nonzero().flatten().tolist()
    if moved and not set(moved) <= set(range(rows, 2 * rows)):
        return None
    axis = x.dim() - 1 if linear else 1
    return axis, x.shape[axis], rows
