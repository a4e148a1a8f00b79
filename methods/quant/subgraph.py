"""Pieces of a traced network as modules of their own, sharing the network's layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx

from methods.quant.layers import is_constant
from methods.quant.sizes import is_size, rebuild
from methods.quant.units import Unit


def unit_graph(graph: fx.GraphModule, unit: Unit) -> fx.GraphModule:
    """x -> y of one unit of ``graph``."""
    return _between(graph, unit.input, unit.output, set(unit.nodes))


def rest_graph(graph: fx.GraphModule, unit: Unit) -> fx.GraphModule | None:
    """From the output of one unit of ``graph`` to the network's; None where that takes more than the one tensor."""
    result = next(node for node in graph.graph.nodes if node.op == "output").args[0]
    assert isinstance(result, fx.Node)
    needed = _needed(graph, unit.output, result.name, None)
    if any(node.op == "placeholder" and node.name in needed for node in graph.graph.nodes):
        return None
    return _between(graph, unit.output, result.name, None)


@torch.no_grad()
def unit_inputs(graph: fx.GraphModule, unit: Unit, images: Tensor, batch_size: int) -> Tensor:
    """The unit's input for ``images`` [N, C, H, W], in memory of its own, computing no further than that."""
    first = next(iter(graph.graph.nodes))
    if unit.input == first.name:
        return images.clone()
    prefix = _between(graph, first.name, unit.input, None)
    return torch.cat([prefix(batch) for batch in torch.split(images, batch_size)])


def _between(graph: fx.GraphModule, source: str, target: str, names: set[str] | None) -> fx.GraphModule:
    """The part of ``graph`` from node ``source`` to node ``target`` as a module with the same submodules.

    ``names`` are the nodes it may hold; None allows all.
    """
    nodes = {node.name: node for node in graph.graph.nodes}
    needed = _needed(graph, source, target, names)
    part = fx.Graph()
    x = part.placeholder("x")
    made: dict[fx.Node, Any] = {nodes[source]: x}
    for node in _in_order(graph, needed):
        if is_size(node) and names is not None:
            made[node] = rebuild(part, node.meta["size"], x, _per_image(nodes[source]))
        else:
            made[node] = part.node_copy(node, lambda n: made[n])
    part.output(made[nodes[target]])
    return fx.GraphModule(graph, part)


def _needed(graph: fx.GraphModule, source: str, target: str, names: set[str] | None) -> set[str]:
    """The nodes from ``source``, itself not among them, to ``target``."""
    nodes = {node.name: node for node in graph.graph.nodes}
    needed: set[str] = set()
    todo = [nodes[target]]
    while todo:
        node = todo.pop()
        if node.name in needed or node.name == source:
            continue
        assert names is None or node.name in names or is_constant(node), f"{node.name} lies outside the unit"
        needed.add(node.name)
        # Sizes are told from the piece's own input: what they come from may lie far before it.
        todo.extend([] if is_size(node) and names is not None else node.all_input_nodes)
    return needed


def _per_image(node: fx.Node) -> int:
    """How many entries of its first axis a tensor has for each image; 0 where that is not to be told."""
    shape = node.meta.get("shape")
    if node.op == "placeholder":
        return 1
    return shape[0] // 2 if shape and shape[0] % 2 == 0 else 0  # shapes are those of two images


def _in_order(graph: fx.GraphModule, names: set[str]) -> Iterator[fx.Node]:
    return (node for node in graph.graph.nodes if node.name in names)
