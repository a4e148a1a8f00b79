"""Layers that a device must treat alike, read off the graph (docs/methods/policies.md#ties)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, fx, nn

from methods.quant.layers import is_add, is_weighted_node, node_layers, tensor_inputs
from methods.quant.place import chain_end, sources
from methods.quant.plain import prepared_copy
from methods.quant.trace import TraceError, trace

Pairs = tuple[tuple[str, str], ...]


def alike(module: nn.Module, example: Tensor) -> dict[str, Pairs]:
    """Kind of tie → pairs of layers: "add", whose outputs meet in a sum; "depthwise", a depthwise convolution and what
    reads it.  Nothing where the network cannot be traced."""
    try:
        graph = trace(prepared_copy(module), example)
    except TraceError:
        return {"add": (), "depthwise": ()}
    return {"add": tuple(_added(graph)), "depthwise": tuple(_depthwise(graph))}


def groups(names: Sequence[str], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Layer → the first of its group, for the ``names`` that some pair joins with another of them."""
    first = {name: name for name in names}

    def leader(name: str) -> str:
        while first[name] != name:
            name = first[name]
        return name

    for left, right in pairs:
        if left in first and right in first:
            one, other = sorted((leader(left), leader(right)), key=names.index)
            first[other] = one
    members = [leader(name) for name in names]
    return {name: own for name, own in zip(names, members, strict=True) if members.count(own) > 1}


def _ends(graph: fx.GraphModule) -> dict[fx.Node, str]:
    """The tensor that ends a layer with its normalisation and activation → the layer."""
    weighted = (node for node in graph.graph.nodes if is_weighted_node(graph, node))
    return {chain_end(graph, node): node_layers(graph, node)[-1] for node in weighted}


def _behind(graph: fx.GraphModule, node: fx.Node, ends: Mapping[fx.Node, str]) -> list[str]:
    """The layers whose outputs ``node`` reads, by the names of their nodes."""
    return [ends[source] for source in sorted(sources(graph, tensor_inputs(node)), key=str) if source in ends]


def _added(graph: fx.GraphModule) -> list[tuple[str, str]]:
    """The layer behind each operand of a sum, with that of the first."""
    ends = _ends(graph)
    operands = [_behind(graph, node, ends) for node in graph.graph.nodes if is_add(node)]
    return [(layers[0], other) for layers in operands for other in layers[1:]]


def _depthwise(graph: fx.GraphModule) -> list[tuple[str, str]]:
    """A depthwise convolution with each layer that reads it."""
    ends = _ends(graph)
    return [
        (before, node_layers(graph, node)[0])
        for node in graph.graph.nodes
        if is_weighted_node(graph, node)
        for before in _behind(graph, node, ends)
        if _is_depthwise(graph.get_submodule(before))
    ]


def _is_depthwise(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1
