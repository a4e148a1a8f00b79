"""Where activation quantisers go in a graph: the "output placement" (docs/methods/quantisation.md#placement).

A tensor is quantised when (1) a weighted layer reads it, perhaps through poolings, reshapes and concatenations, or (2)
it ends a weighted layer with its normalisation and activation and something else than an addition, a normalisation, an
activation, a matrix product or the network's output reads it.  So a convolution that feeds a residual addition is not
quantised and the sum, after its ReLU, is; the same holds for pre-activation networks and transformers, whose stream of
sums is read by normalisations only, and whose queries, keys and values only by attention's products.  Logits and the
image never are.  Each tensor has one quantiser, shared by all that read it.

`find_inputs` is the "input placement" of quantisation-aware training (docs/methods/quantisation.md#input-placement).
The ``..._wiring`` functions say which layer reads which of these tensors: what `methods.quant.bits.decide` works on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from torch import fx

from methods.quant.bits import FLOAT, IMAGE, Role, Wiring
from methods.quant.layers import (
    function_name,
    is_activation,
    is_add,
    is_affine,
    is_constant,
    is_global_pool,
    is_mul,
    is_nonnegative,
    is_norm,
    is_product,
    is_transparent,
    is_weighted_node,
    node_layers,
    tensor_inputs,
)


@dataclass(frozen=True)
class Point:
    """A tensor to quantise: its node, its role in the bit convention, and whether a ReLU or the like made it."""

    node: fx.Node
    role: Role
    nonnegative: bool


def find_points(graph: fx.GraphModule) -> list[Point]:
    """All tensors to quantise, in graph order."""
    weighted = _weighted(graph)
    if not weighted:
        return []
    squeezed = _squeeze_excite(graph)
    marked: set[fx.Node] = set()
    for node in weighted:
        marked |= sources(graph, tensor_inputs(node), squeezed)
        end = chain_end(graph, node)
        if not all(_defers(graph, user) for user in _readers(graph, end, squeezed)):
            marked.add(end)
    last = sources(graph, tensor_inputs(weighted[-1]), squeezed)
    stem = chain_end(graph, weighted[0])
    points = []
    for node in graph.graph.nodes:
        if node in marked and node.meta.get("single", True):
            role: Role = "inner"
            if node in squeezed:
                role = "se"
            elif node in last:
                role = "last"
            elif node is stem:
                role = "stem"
            points.append(Point(node, role, is_nonnegative(graph, node)))
    return points


def find_inputs(graph: fx.GraphModule) -> list[Point]:
    """Input placement: the tensors that weighted layers read, in graph order, the image (however reshaped) left out.

    One point serves all weighted layers that read the same tensor; what else reads it (an identity path) is not meant.
    """
    weighted = _weighted(graph)
    squeezed = _squeeze_excite(graph)
    points: dict[fx.Node, Point] = {}
    for node in weighted:
        read = next((s for s in tensor_inputs(node) if s.meta.get("single", True)), None)
        if read is None or read in points or not sources(graph, [read]):
            continue
        role: Role = "last" if node is weighted[-1] else "inner"
        points[read] = Point(read, "se" if read in squeezed else role, is_nonnegative(graph, read))
    return list(points.values())


def output_wiring(graph: fx.GraphModule, order: tuple[str, ...], points: Iterable[Point]) -> Wiring:
    """Wiring under output placement: a layer reads the quantised tensors behind the transparent operations before it.

    ``order`` holds the weighted layers in the order of their first call, ``points`` come from `find_points`.
    """
    roles = {point.node: point.role for point in points}

    @cache
    def read(node: fx.Node) -> frozenset[str]:
        if node in roles:
            return frozenset({node.name})
        if node.op == "placeholder":
            return frozenset({IMAGE})
        inputs = tensor_inputs(node)
        if not is_transparent(graph, node) or not inputs:
            return frozenset({FLOAT})
        return frozenset(name for source in inputs for name in read(source))

    def first(node: fx.Node) -> frozenset[str]:
        inputs = tensor_inputs(node)
        return read(inputs[0]) if inputs else frozenset({FLOAT})

    return _wiring(graph, order, roles, first)


def input_wiring(graph: fx.GraphModule, order: tuple[str, ...], points: Iterable[Point]) -> Wiring:
    """Wiring under input placement: a layer reads the very tensor before it; ``points`` come from `find_inputs`."""
    roles = {point.node: point.role for point in points}

    def read(node: fx.Node) -> frozenset[str]:
        inputs = tensor_inputs(node)
        found = frozenset(source.name for source in inputs if source in roles)
        return found or frozenset({IMAGE if inputs else FLOAT})

    return _wiring(graph, order, roles, read)


def layer_wiring(order: tuple[str, ...]) -> Wiring:
    """Wiring without a graph: the first layer reads the image, each other one a tensor of its own."""
    roles: dict[str, Role] = {name: "last" if name == order[-1] else "inner" for name in order[1:]}
    return Wiring(order, roles, {name: frozenset({name if name in roles else IMAGE}) for name in order})


def _weighted(graph: fx.GraphModule) -> list[fx.Node]:
    """Nodes with weighted layers that work on the images, in order."""
    return [node for node in graph.graph.nodes if is_weighted_node(graph, node) and not is_constant(node)]


def leaf_layers(graph: fx.GraphModule, node: fx.Node, order: tuple[str, ...]) -> tuple[str, ...]:
    """Layers inside a leaf of the trace that read what the graph does not show, in the order they run; () for other
    nodes."""
    ran = _ran(graph, node, order)
    direct = node.meta.get("direct", frozenset(ran[:1]))
    return tuple(name for name in ran if name not in direct)


def _wiring(
    graph: fx.GraphModule,
    order: tuple[str, ...],
    roles: Mapping[fx.Node, Role],
    read: Callable[[fx.Node], frozenset[str]],
) -> Wiring:
    found: dict[str, Role] = {node.name: role for node, role in roles.items()}
    reads: dict[str, frozenset[str]] = {}
    for node in graph.graph.nodes:
        inside = leaf_layers(graph, node, order)
        for name in _ran(graph, node, order):
            if name in inside:
                found[name] = "last" if name == order[-1] else "inner"
            reads[name] = reads.get(name, frozenset()) | ({name} if name in inside else read(node))
    return Wiring(order, found, reads)


def _ran(graph: fx.GraphModule, node: fx.Node, order: tuple[str, ...]) -> tuple[str, ...]:
    """The weighted layers a node calls, in the order they run."""
    names = node_layers(graph, node)
    return tuple(name for name in order if name in names)


def chain_end(graph: fx.GraphModule, node: fx.Node) -> fx.Node:
    """The last of the normalisations and activations that follow ``node`` one after the other."""
    while True:
        users = _tensor_users(node)
        if len(users) != 1 or not (_pointwise(graph, users[0])):
            return node
        node = users[0]


def sources(graph: fx.GraphModule, nodes: Iterable[fx.Node], stops: Iterable[fx.Node] = ()) -> set[fx.Node]:
    """The computed tensors from which ``nodes`` come through transparent operations; images and constants left out.

    ``stops`` count as computed although they are transparent (the pooled tensor of a squeeze-excite block).
    """
    held, seen, todo = set(stops), set(), list(nodes)
    found: set[fx.Node] = set()
    while todo:
        node = todo.pop()
        if node in seen or node.op == "placeholder" or is_constant(node):
            continue
        seen.add(node)
        if is_transparent(graph, node) and node not in held:
            todo.extend(tensor_inputs(node))
        else:
            found.add(node)
    return found


def _tensor_users(node: fx.Node) -> list[fx.Node]:
    return [user for user in node.users if user.op == "output" or not is_constant(user)]


def _readers(graph: fx.GraphModule, node: fx.Node, stops: set[fx.Node]) -> set[fx.Node]:
    """What reads ``node``, seen through transparent operations."""
    found, todo, seen = set(), _tensor_users(node), set()
    while todo:
        user = todo.pop()
        if user in seen:
            continue
        seen.add(user)
        if is_transparent(graph, user) and user not in stops:
            todo.extend(_tensor_users(user))
        else:
            found.add(user)
    return found


def _pointwise(graph: fx.GraphModule, node: fx.Node) -> bool:
    return is_norm(graph, node) or is_activation(graph, node) or is_affine(graph, node)


def _defers(graph: fx.GraphModule, node: fx.Node) -> bool:
    return node.op == "output" or is_add(node) or is_product(node) or _pointwise(graph, node)


def _squeeze_excite(graph: fx.GraphModule) -> set[fx.Node]:
    """Nodes from the pooling to the gate of every squeeze-excite block: a product of two tensors, one of which comes
    from a global pooling through weighted layers and nothing else that mixes tensors."""
    found: set[fx.Node] = set()
    for node in graph.graph.nodes:
        if is_mul(node):
            for operand in tensor_inputs(node):
                found |= _gate_path(graph, operand)
    return found


def _gate_path(graph: fx.GraphModule, node: fx.Node) -> set[fx.Node]:
    path: set[fx.Node] = set()
    weighted = 0
    while True:
        path.add(node)
        if is_global_pool(graph, node):
            return path if weighted else set()
        varying = tensor_inputs(node)
        weighted += is_weighted_node(graph, node)
        step = is_weighted_node(graph, node) or _pointwise(graph, node) or is_transparent(graph, node)
        if len(varying) != 1 or not step or function_name(node) == "softmax":
            return set()
        node = varying[0]
