"""Which unit learns the quantiser that no unit made: the one that reads it (docs/methods/quantisation.md#units).

Behind a normalisation or a sum of several branches a quantised tensor belongs to no layer's tail.  The first unit off
the chain that reads it, perhaps through operations of one tensor, then begins before the quantiser.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import fx

from methods.quant.layers import is_weighted_node, module_of, tensor_inputs
from methods.quant.quantizers import ActQuantizer
from methods.quant.units import Unit


def adopt(graph: fx.GraphModule, units: Sequence[Unit]) -> tuple[Unit, ...]:
    """The units, with the quantisers of ``graph`` that were in none in the first that reads them alone.

    What is read only together with other tensors (a concatenation) stays in none: a unit has one input.
    """
    nodes = {node.name: node for node in graph.graph.nodes}
    keys = {n: _key(n) for n in graph.graph.nodes if isinstance(module_of(graph, n), ActQuantizer)}
    owned = {key for unit in units for key in unit.activations}
    found = list(units)
    for node, key in keys.items():
        if key in owned:
            continue
        for index, unit in enumerate(found):
            path = None if unit.chain or not unit.input else _way(graph, node, nodes[unit.input])
            if path is not None:
                new = [keys[n] for n in path if n in keys and keys[n] not in owned]
                owned.update(new)
                found[index] = replace(
                    unit,
                    activations=(*new, *unit.activations),
                    input=tensor_inputs(node)[0].name,
                    nodes=(*(n.name for n in path), *unit.nodes),
                )
                break
    return tuple(found)


def _key(node: fx.Node) -> str:
    return str(node.target).rpartition(".")[2]


def _way(graph: fx.GraphModule, quantiser: fx.Node, node: fx.Node) -> tuple[fx.Node, ...] | None:
    """The nodes from ``quantiser`` to ``node``, both included, if each reads the one before it and no other
    tensor, and none is a weighted layer; else None."""
    path = [node]
    while node is not quantiser:
        inputs = tensor_inputs(node)
        if len(inputs) != 1 or is_weighted_node(graph, node):
            return None
        (node,) = inputs
        path.append(node)
    return tuple(reversed(path))
