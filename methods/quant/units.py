"""Reconstruction units of any network: whole blocks where there are blocks, spans between cuts elsewhere.

Rules 1 to 4 of docs/methods/quantisation.md#units.  A cut is a place in the order of execution where one tensor is
alive.  It is pushed past activations and poolings to just before the next weighted layer, but not past a global
pooling (one value per map, however it is spelled): a block is reconstructed on its own output, as BRECQ does, for one
number per channel and image would determine far less.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, fx, nn

from methods.quant.graph import prepare
from methods.quant.layers import (
    is_activation,
    is_affine,
    is_constant,
    is_global_pool,
    is_norm,
    module_of,
    names,
    node_layers,
    tensor_inputs,
)
from methods.quant.quantizers import ActQuantizer

Rule = Literal["class", "repeated", "cut", "layer"]

BLOCK_CLASSES = names(
    "BasicBlock Bottleneck ResBottleneckBlock InvertedResidual _InvertedResidual MBConv FusedMBConv "
    "DepthwiseSeparableConv EdgeResidual DwsConvBlock ConvBlock CNBlock RepVGGBlock ConvNeXtBlock Block "
    "EncoderBlock RepVggBlock MobileOneBlock UniversalInvertedResidual Bottle2neck DlaBasic DlaBottleneck "
    "SwinTransformerBlock"
)
"""Classes whose instances are units (rule 1): torchvision's, then timm's names for the same things."""

_CONTAINERS = frozenset({"Sequential", "ModuleList", "ModuleDict"})


@dataclass(frozen=True)
class Unit:
    """A piece of the network that is reconstructed at once.

    Attributes:
        name: module path, or its layers' names joined by "+".
        rule: "class" (registry), "repeated" (class occurring twice), "cut" or "layer".
        layers: weighted layers, by their names in the original network.
        activations: the activation quantisers inside, its output's included.
        chain: one tensor in, which is the one tensor out of the previous unit.  When all of a network's units are,
            running their modules in order is the whole forward.
        input, output: names of the nodes whose tensors the unit takes and gives ("" on the "modules" path).
        nodes: names of its nodes, in order.
    """

    name: str
    rule: Rule
    layers: tuple[str, ...]
    activations: tuple[str, ...]
    chain: bool
    input: str
    output: str
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Block:
    """An instance of a block class: nodes ``first`` to ``last`` of the order; ``aligned`` when cuts surround it."""

    path: str
    rule: Rule
    first: int
    last: int
    input: fx.Node
    output: fx.Node
    aligned: bool


def find_units(
    graph: fx.GraphModule, *, max_layers: int = 8, classes: Iterable[str] = BLOCK_CLASSES
) -> tuple[Unit, ...]:
    """Units of a folded graph in order of execution; each weighted layer is in exactly one.

    Args:
        graph: nodes carry ``meta["stack"]`` from `methods.quant.trace`.
        max_layers: a span with more weighted layers falls apart into blocks and single layers off the chain.
        classes: class names of rule 1.
    """
    return _Finder(graph, max_layers, frozenset(classes)).units()


class _Finder:
    def __init__(self, graph: fx.GraphModule, max_layers: int, classes: frozenset[str]) -> None:
        self.graph, self.max_layers, self.classes = graph, max_layers, classes
        self.order = [n for n in graph.graph.nodes if n.op != "output" and not is_constant(n)]
        self.index = {node: i for i, node in enumerate(self.order)}
        self.result: fx.Node = next(n for n in graph.graph.nodes if n.op == "output").args[0]
        self.layers = self._layers()
        self.cuts = self._cuts()
        self.owned: set[str] = set()
        self.learned: set[str] = set()

    def units(self) -> tuple[Unit, ...]:
        blocks = self._blocks()
        starts = self._starts(blocks)
        found: list[Unit] = []
        after_chain = True
        for position, (start, block) in enumerate(starts):
            end = starts[position + 1][0] if position + 1 < len(starts) else len(self.order)
            names = self._names(range(start, end))
            if len(names) <= self.max_layers:
                rule: Rule = block.rule if block else ("cut" if len(names) > 1 else "layer")
                label = block.path if block else "+".join(names)
                source = self.order[0] if start == 0 else self.cuts[start - 1]
                target = self.result if end == len(self.order) else self.cuts[end - 1]
                assert source is not None
                assert target is not None
                found.append(self._unit(label, rule, range(start, end), source, target, after_chain))
                after_chain = True
            else:
                inner = [b for b in blocks if start <= b.first and b.last < end]
                found.extend(self._pieces(range(start, end), inner))
                after_chain = False
        return tuple(found)

    def _layers(self) -> list[tuple[str, ...]]:
        """The weighted layers of each position of the order; those that work on constants (a network that makes its
        position bias) go with the first node that reads what they give."""
        found = {node: node_layers(self.graph, node) for node in self.order}
        for node in self.graph.graph.nodes:
            if is_constant(node) and (layers := node_layers(self.graph, node)):
                readers = [reader for reader in _varying_readers(node) if reader in found]
                if readers:
                    first = min(readers, key=self.index.__getitem__)
                    found[first] = (*layers, *found[first])
        return [found[node] for node in self.order]

    def _cuts(self) -> list[fx.Node | None]:
        """For each position of the order, the one tensor alive after it, else None."""
        last_use = [max((self._position(u) for u in node.users), default=-1) for node in self.order]
        alive: set[int] = set()
        cuts: list[fx.Node | None] = []
        for i in range(len(self.order)):
            alive = {j for j in alive if last_use[j] > i}
            if last_use[i] > i:
                alive.add(i)
            only = self.order[next(iter(alive))] if len(alive) == 1 else None
            cuts.append(only if only is not None and _by_image(only) else None)
        return cuts

    def _position(self, node: fx.Node) -> int:
        return len(self.order) if node.op == "output" else self.index.get(node, -1)

    def _names(self, span: range) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for i in span for name in self.layers[i]))

    def _blocks(self) -> list[_Block]:
        """Rules 1 and 2: outermost fitting instances, those of rule 1 first."""
        paths: dict[str, tuple[str, list[int]]] = {}
        for i, node in enumerate(self.order):
            for path, kind in node.meta.get("stack", ()):
                paths.setdefault(path, (kind, []))[1].append(i)
        kinds = [kind for kind, _ in paths.values()]
        chosen: list[_Block] = []
        taken: list[str] = []
        for rule in ("class", "repeated"):
            for path, (kind, members) in paths.items():
                fits = kind in self.classes if rule == "class" else kinds.count(kind) > 1 and kind not in _CONTAINERS
                if not fits or any(_related(path, other) for other in taken):
                    continue
                block = self._block(path, "class" if rule == "class" else "repeated", members)
                if block is not None:
                    chosen.append(block)
                    taken.append(path)
        return sorted(chosen, key=lambda block: block.first)

    def _block(self, path: str, rule: Rule, members: list[int]) -> _Block | None:
        """The instance as a block, if it is contiguous, not too large, and has one tensor in and one out."""
        first, last = members[0], members[-1]
        count = len(self._names(range(first, last + 1)))
        if len(members) != last + 1 - first or not (1 if rule == "class" else 2) <= count <= self.max_layers:
            return None
        inside = set(self.order[first : last + 1])
        inputs = {s for n in inside for s in tensor_inputs(n) if s not in inside}
        outputs = {n for n in inside if any(u not in inside and not is_constant(u) for u in n.users)}
        if len(inputs) != 1 or len(outputs) != 1 or first == 0:
            return None
        (source,), (target,) = inputs, outputs
        aligned = self.cuts[first - 1] is source and self.cuts[last] is target
        return _Block(path, rule, first, last, source, target, aligned)

    def _starts(self, blocks: list[_Block]) -> list[tuple[int, _Block | None]]:
        """First position of each span, with the block it is made of (rule 3 between blocks)."""
        begins = {block.first: block for block in blocks if block.aligned}
        starts: list[tuple[int, _Block | None]] = []
        done = 0
        i = 0
        while i < len(self.order):
            block = begins.get(i)
            if block is not None or self.layers[i]:
                at = 0 if not starts else i if block else self._cut_before(i, done)
                if at is not None:
                    starts.append((at, block))
                i = block.last if block else i
                done = i
            i += 1
        return starts or [(0, None)]

    def _cut_before(self, node: int, done: int) -> int | None:
        """Start of the span of weighted node ``node``: after the last cut behind ``done``, before a global pooling."""
        cuts = [i for i in range(done, node) if self.cuts[i] is not None]
        pools = [i for i in range(done + 1, node) if is_global_pool(self.graph, self.order[i])]
        early = [i for i in cuts if pools and i < pools[0]]
        best = early or cuts
        return best[-1] + 1 if best else None

    def _pieces(self, span: range, blocks: list[_Block]) -> list[Unit]:
        """Rule 4: units off the chain, blocks where a block fits and single layers elsewhere."""
        found: list[Unit] = []
        covered = {i: block for block in blocks for i in range(block.first, block.last + 1)}
        for i in span:
            block = covered.get(i)
            if block is not None:
                if i == block.first:
                    members = range(block.first, block.last + 1)
                    found.append(self._unit(block.path, block.rule, members, block.input, block.output, False))
            elif self.layers[i]:
                nodes = self._tail(self.order[i])
                sources = tensor_inputs(self.order[i])
                if len(sources) != 1:  # a unit has one input: back to where one tensor is alive
                    start = next((j for j in range(i - 1, 0, -1) if self.cuts[j] is not None), 0)
                    sources = [self.cuts[start] or self.order[0]]
                    nodes = [*self.order[start + 1 : i], *nodes]
                found.append(self._unit("+".join(self.layers[i]), "layer", nodes, sources[0], nodes[-1], False))
        return found

    def _tail(self, node: fx.Node) -> list[fx.Node]:
        """A weighted node with what follows it alone: normalisation, activation, quantiser."""
        nodes = [node]
        while len(nodes[-1].users) == 1:
            user = next(iter(nodes[-1].users))
            small = is_norm(self.graph, user) or is_activation(self.graph, user) or is_affine(self.graph, user)
            if not small and not isinstance(module_of(self.graph, user), ActQuantizer):
                break
            nodes.append(user)
        return nodes

    def _unit(
        self, name: str, rule: Rule, span: Iterable[int | fx.Node], source: fx.Node, target: fx.Node, chain: bool
    ) -> Unit:
        nodes = [self.order[i] if isinstance(i, int) else i for i in span]
        nodes = [n for n in nodes if n.op != "placeholder"]
        layers = [name for n in nodes for name in self.layers[self.index[n]] if name not in self.owned]
        activations = tuple(key for n in nodes for key in _quantisers_of(self.graph, n) if key not in self.learned)
        self.owned.update(layers)
        self.learned.update(activations)
        return Unit(
            name, rule, tuple(dict.fromkeys(layers)), activations, chain, source.name, target.name,
            tuple(n.name for n in nodes),
        )  # fmt: skip


def _by_image(node: fx.Node) -> bool:
    """Whether a node gives one tensor with an entry for each image."""
    shape = node.meta.get("shape")
    return bool(node.meta.get("single", True)) and (not shape or shape[0] == 2)  # shapes are those of two images


def _varying_readers(node: fx.Node) -> Iterator[fx.Node]:
    """What reads a constant, perhaps through other constants, and the images as well."""
    for user in node.users:
        if is_constant(user):
            yield from _varying_readers(user)
        else:
            yield user


def _related(path: str, other: str) -> bool:
    return path == other or path.startswith(other + ".") or other.startswith(path + ".")


def _quantisers_of(graph: fx.GraphModule, node: fx.Node) -> list[str]:
    """Keys of the activation quantisers a node calls: its own, or those on the inputs of an opaque leaf's layers."""
    module = module_of(graph, node)
    if isinstance(module, ActQuantizer):
        return [str(node.target).rpartition(".")[2]]
    if module is None:
        return []
    return [name for name in node_layers(graph, node) if getattr(graph.get_submodule(name), "input_quant", None)]


def describe_units(
    module: nn.Module, example: Tensor, *, max_layers: int = 8
) -> list[tuple[str, str, tuple[str, ...]]]:
    """(unit, rule, its weighted layers) of a network; ``module`` is left untouched.

    ``example`` holds images [N, C, H, W] of the network's size.
    """
    prepared = prepare(module, example)
    if prepared.graph is None:
        return [(name, "layer", (name,)) for name in prepared.order]
    return [(unit.name, unit.rule, unit.layers) for unit in find_units(prepared.graph, max_layers=max_layers)]
