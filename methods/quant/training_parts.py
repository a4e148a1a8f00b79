"""Small parts of a network that trains quantised."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, fx, nn

from methods.quant.layers import LayerFace, node_layers
from methods.quant.learned import ActivationMaker, LearnedActivation
from methods.quant.learned_weights import WeightMaker

HOLDER = "input_quantizers"


@dataclass(frozen=True)
class Makers:
    """What puts a quantiser on a weight and on an activation."""

    weight: WeightMaker
    activation: ActivationMaker


class QuantisedInput(LayerFace):
    """A layer behind an activation quantiser, where there is no graph to put one into."""

    def __init__(self, layer: nn.Module, quant: LearnedActivation) -> None:
        super().__init__()
        self.layer, self.quant = layer, quant

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(self.quant(x))
        return out


def insert(graph: fx.GraphModule, node: fx.Node, quant: LearnedActivation) -> None:
    """Put ``quant`` between ``node`` and the weighted layers that read it."""
    readers = [user for user in node.users if node_layers(graph, user)]
    path = f"{HOLDER}.{node.name}"
    graph.add_submodule(path, quant)
    with graph.graph.inserting_after(node):
        after = graph.graph.call_module(path, (node,))
    for user in readers:
        user.replace_input_with(node, after)


def sources_of(graph: fx.GraphModule) -> dict[str, str]:
    """{node that calls a module: the node it reads first}: a normalisation that is folded leaves its layer's behind."""
    called = [node for node in graph.graph.nodes if node.op == "call_module" and node.args]
    return {node.name: node.args[0].name for node in called if isinstance(node.args[0], fx.Node)}


def times(weight: Tensor, factor: Tensor | None) -> Tensor:
    """``weight`` [O, ...] times a number of each output channel [O]."""
    assert factor is not None
    return (weight.double() * factor.reshape(-1, *[1] * (weight.dim() - 1))).to(weight.dtype)


def weighted(module: nn.Module, name: str) -> nn.Conv2d | nn.Linear:
    """The exported layer of this name."""
    layer = module.get_submodule(name)
    layer = layer.layer if isinstance(layer, LayerFace) else layer
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    return layer
