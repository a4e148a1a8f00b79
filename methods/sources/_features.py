"""The classifier of any network and the features that enter it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bench.errors import NotApplicable
from methods.sources._objectives import Network


def classifier(network: Network, shape: tuple[int, int, int], classes: int) -> nn.Linear | nn.Conv2d:
    """The layer that makes a network's logits: the last linear layer or convolution to run, with ``classes`` outputs.

    Raises:
        NotApplicable: the network ends in something else.
    """
    layer = _last_layer(network, shape)
    if layer is None or layer.weight.shape[0] != classes:
        raise NotApplicable(
            f"{network.name} has no last layer with an output for each of {classes} classes",
            where="classifier",
            expected="a network that ends in a linear layer or a 1x1 convolution",
        )
    return layer


def rows(layer: nn.Linear | nn.Conv2d) -> Tensor:
    """A classifier's weight, one row per class [K,F]; a convolution's kernel is flattened."""
    return layer.weight.detach().flatten(1)


class Head:
    """A network's `classifier`, which holds on to what entered it in the latest forward of ``network`` (a private copy,
    so the hook stays).

    Raises:
        NotApplicable: the network ends in something else.
    """

    def __init__(self, network: Network, shape: tuple[int, int, int], classes: int) -> None:
        self._input: Tensor | None = None
        self.layer = classifier(network, shape, classes)
        self.layer.register_forward_pre_hook(self._keep)

    def _keep(self, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._input = inputs[0]

    def features(self) -> Tensor:
        """Features [B,F] of the latest forward (part of its graph, which is forgotten by this call)."""
        found, self._input = self._input, None
        assert found is not None, "the network has not run since"
        return found.flatten(1)

    @property
    def weight(self) -> Tensor:
        """As `rows`."""
        return rows(self.layer)


@torch.no_grad()
def _last_layer(network: Network, shape: tuple[int, int, int]) -> nn.Linear | nn.Conv2d | None:
    """Found by running two black images: the order of registration is not that of execution."""
    ran: list[nn.Linear | nn.Conv2d] = []

    def note(layer: nn.Module, _: Any) -> None:
        assert isinstance(layer, nn.Linear | nn.Conv2d)
        ran.append(layer)

    layers = [m for m in network.taps.module.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    handles = [layer.register_forward_pre_hook(note) for layer in layers]
    try:
        network(torch.zeros(2, *shape, device=network.device))
    finally:
        for handle in handles:
            handle.remove()
    return ran[-1] if ran else None
