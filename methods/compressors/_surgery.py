"""One guard around building and running a network whose channels are taken out, and its comparison with the masked one.

What the surgery cannot do is the network's property and no failure of the method: it becomes NotApplicable with the
layer it happened in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from bench.errors import NotApplicable
from bench.interfaces.inventory import probe_images
from methods.quant.same import FAILURES, TOLERANCE, difference

HINT = "mode mask zeroes filters layer by layer and takes none out"
IMAGES = 4


class Place:
    """The layer a network is in: set by hand, or by the network's own calls."""

    def __init__(self) -> None:
        self._running: list[str] = []
        self.last = ""
        self._behind = False

    def enter(self, name: str) -> None:
        """``name`` is being worked on."""
        self._running.append(name)

    def leave(self, name: str) -> None:
        """``name`` is done."""
        self._running.pop()
        self.last, self._behind = name or self.last, True

    def __str__(self) -> str:
        inside = self._running[-1] if self._running else ""
        return inside or (f"behind {self.last}" if self._behind and self.last else "")


@contextmanager
def guarded(net: nn.Module, what: str) -> Iterator[Place]:
    """Turn what fails within into NotApplicable(``what``), naming the module of ``net`` that was in progress.

    Running out of the device's memory is no property of the network and stays what it is.
    """
    place = Place()
    hooks = []
    for name, part in net.named_modules():
        hooks.append(part.register_forward_pre_hook(_noting(place.enter, _shown(name, part))))
        hooks.append(part.register_forward_hook(_noting(place.leave, _shown(name, part))))
    try:
        yield place
    except torch.OutOfMemoryError:
        raise
    except FAILURES as error:
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise NotApplicable(what, where=str(place) or None, got=text, hint=HINT) from error
    finally:
        for hook in hooks:
            hook.remove()


def _noting(note: Callable[[str], None], name: str) -> Callable[..., None]:
    return lambda *_: note(name)


def _shown(name: str, part: nn.Module) -> str:
    return f"{name} ({type(part).__name__})" if name else ""


def check_equal(masked: nn.Module, small: nn.Module, example: Tensor, masks: Mapping[str, Tensor]) -> None:
    """Compare both networks on ``example`` [N, C, H, W] and on normally distributed images of its shape.

    Args:
        masked: the network with masked channels.
        small: the one without them.
        masks: {layer: 0 or 1 [O, 1, ...]} of the layers in order of execution that lost channels.

    Raises:
        NotApplicable: the smaller network cannot run, or its outputs differ by more than all rewrites may
            (`methods.quant.same`); the first layer that differs is named.
    """
    images = torch.cat([example, probe_images(example, IMAGES)])
    with torch.no_grad(), guarded(small, "the network without the channels cannot run"):
        expected, found = masked(images), small(images)
        if found.shape != expected.shape:
            raise ValueError(f"outputs {list(found.shape)} in place of {list(expected.shape)}")
    change = difference(found, expected)
    if change > TOLERANCE:
        where = _first_difference(masked, small, images, masks)
        got = f"outputs differ by {change:.1e}"
        raise NotApplicable("masked channels still act on the output", where=where, got=got, hint=HINT)


def _first_difference(masked: nn.Module, small: nn.Module, images: Tensor, masks: Mapping[str, Tensor]) -> str | None:
    """The first weighted layer, in order of execution, whose remaining outputs are others than the masked network's."""
    layers = [name for name, part in masked.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    before, after = _outputs(masked, layers, images), _outputs(small, layers, images)
    for name, expected in before.items():
        channels = 1 if isinstance(masked.get_submodule(name), nn.Conv2d) else expected.dim() - 1
        if name in masks:
            kept = masks[name].reshape(-1).nonzero().reshape(-1)
            expected = expected.index_select(channels, kept)
        found = after.get(name)
        if found is None or found.shape != expected.shape or difference(found, expected) > TOLERANCE:
            return f"input of {name}"
    return None


@torch.no_grad()
def _outputs(net: nn.Module, layers: Sequence[str], images: Tensor) -> dict[str, Tensor]:
    """Outputs of the first call of each of ``layers``, in order of execution."""
    seen: dict[str, Tensor] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: object, out: Tensor) -> None:
            seen.setdefault(name, out)

        return hook

    hooks = [net.get_submodule(name).register_forward_hook(note(name)) for name in layers]
    try:
        net(images)
    finally:
        for hook in hooks:
            hook.remove()
    return seen
