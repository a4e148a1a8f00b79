"""Where the logits lie in what a network returns: a tensor, or a tuple, a dict or an object that holds one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bench.errors import WeightsError

KEYS = ("logits", "out")
"""Names under which dicts and objects hold logits."""
_ALLOWED = f"a tensor [N, classes], a tuple whose first such tensor it is, or one under {' or '.join(KEYS)}"


@dataclass(frozen=True)
class Place:
    """Where in the output: the position or key ``item``, or the attribute ``name``."""

    item: str | int | None = None
    name: str = ""

    def of(self, output: Any) -> Any:
        """What lies there."""
        return getattr(output, self.name) if self.name else output[self.item]


class Logits(nn.Module):
    """``net``, of whose output only the logits at ``place`` are returned [N, classes]."""

    def __init__(self, net: nn.Module, place: Place) -> None:
        super().__init__()
        self.net, self.place = net, place

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.place.of(self.net(x))
        return found


def returning_logits(module: nn.Module, shape: tuple[int, int, int], where: str) -> nn.Module:
    """``module`` itself where it returns logits, else wrapped so that it does; tried on one image of ``shape``.

    Args:
        where: the network's name.

    Raises:
        WeightsError: it returns none, or several tensors that could be the logits.
    """
    first, training = next(module.parameters()), module.training
    try:
        with torch.no_grad():
            output = module.eval()(torch.zeros(1, *shape, device=first.device, dtype=first.dtype))
    finally:
        module.train(training)
    if is_logits(output):
        return module
    return Logits(module, _place(output, getattr(module, "num_classes", None), where)).train(training)


def is_logits(output: Any) -> bool:
    """Whether this is one tensor [N, classes]."""
    return isinstance(output, Tensor) and output.dim() == 2


def no_logits(output: Any, where: str | None = None) -> WeightsError:
    """The error that says what came instead."""
    return WeightsError("the network returns no logits", where=where, got=_shown(output), expected=_ALLOWED)


def _place(output: Any, classes: Any, where: str) -> Place:
    """The place of the logits in an output that is not one tensor; of ``classes``, where the network says how many."""
    for key in KEYS:
        if isinstance(output, Mapping) and is_logits(output.get(key)):
            return Place(key)
        if not isinstance(output, Mapping) and is_logits(getattr(output, key, None)):
            return Place(name=key)
    if not isinstance(output, tuple | list):
        raise no_logits(output, where)
    fitting = [i for i, part in enumerate(output) if is_logits(part) and classes in (None, part.shape[1])]
    widths = {output[i].shape[1] for i in fitting}
    if len(widths) != 1:  # of several equally wide ones the first is the network's own, the others are auxiliary
        raise no_logits(output, where)
    return Place(fitting[0])


def _shown(output: Any) -> str:
    if isinstance(output, Tensor):
        return f"a tensor {list(output.shape)}"
    if isinstance(output, Mapping):
        return f"{type(output).__name__} of " + ", ".join(f"{key}: {_shown(part)}" for key, part in output.items())
    if isinstance(output, tuple | list):
        return f"{type(output).__name__} of " + (", ".join(_shown(part) for part in output) or "nothing")
    return type(output).__name__
