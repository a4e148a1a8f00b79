"""From any network to a folded graph, or to its bare copy where tracing fails (docs/methods/quantisation.md#folding,
#tracing)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor, fx, nn

from bench.errors import NotApplicable
from bench.interfaces.inventory import probe_images, take_inventory
from methods.quant.fold import BatchStats, fold_batch_norm
from methods.quant.layers import NORMS, canonical_layers, node_layers
from methods.quant.plain import bare_copy, prepared_copy
from methods.quant.same import Reference, departs, reference
from methods.quant.trace import TraceError, trace


@dataclass
class Prepared:
    """A floating-point copy ready for quantisers.

    Attributes:
        graph: the folded graph, None where tracing failed (then ``reason`` says why and ``module`` is used).
        module: the copy itself, batch normalisation unfolded, when there is no graph.
        stats: {layer: what its folded BN knew}.
        order: weighted layers in the order of their first call.
        example: the images [N, C, H, W] the network was traced with.
        undone: {rewrite: how it differed from the network}, for those that were undone because of it.
        loose: parameters of two or more axes that a forward reads and no layer holds (attention projections,
            embeddings).
        beside: layers whose weight the network also multiplies by itself, beside calling them.
        unquantised: what it computes outside the layers, see `bench.interfaces.inventory.Inventory`.
    """

    graph: fx.GraphModule | None
    module: nn.Module
    order: tuple[str, ...]
    example: Tensor
    stats: dict[str, BatchStats] = field(default_factory=dict)
    reason: str = ""
    undone: dict[str, str] = field(default_factory=dict)
    loose: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    unquantised: tuple[str, ...] = ()

    @property
    def body(self) -> nn.Module:
        """What computes the network's output."""
        return self.graph if self.graph is not None else self.module


def prepare(module: nn.Module, example: Tensor, *, trace_graph: bool = True) -> Prepared:
    """Copy, trace and fold ``module``, which stays as it was; each step is compared with it and undone if it differs.

    Args:
        module: a classification network, images in, logits out.
        example: float images [N, C, H, W] on the network's device; their values do not matter.
        trace_graph: off takes the fallback path, module replacement.

    Raises:
        NotApplicable: the network does not return one tensor, or not even a copy of it computes the same.
    """
    example = example.detach()
    expected = reference(module, example)
    undone: dict[str, str] = {}
    reason = "asked for"
    if trace_graph:
        try:
            graph, stats, _ = folded_graph(copied(module, expected, undone), expected, undone)
            found = used(graph, example)
            return Prepared(graph, graph, found.order, example, stats, "", undone, *found[1:])
        except TraceError as error:
            reason = undone["tracing"] = str(error)
    net = copied(module, expected, undone)
    found = used(net, example)
    return Prepared(None, net, found.order, example, {}, reason, undone, *found[1:])


class Used(NamedTuple):
    """``order``, ``loose``, ``beside`` and ``unquantised`` of `Prepared`."""

    order: tuple[str, ...]
    loose: tuple[str, ...]
    beside: tuple[str, ...]
    unquantised: tuple[str, ...]


def used(net: nn.Module, example: Tensor) -> Used:
    """What a forward of a copy, or of its graph, uses."""
    if isinstance(net, fx.GraphModule):
        names = [name for node in net.graph.nodes for name in node_layers(net, node)]
        layers = {name: net.get_submodule(name) for name in names}
    else:
        layers = {name: layer for layer, name in canonical_layers(net).items()}
    found = take_inventory(net, probe_images(example, 1), layers)
    held = {id(p): name for name in found.layers for p in layers[name].parameters()}
    wide = [(name, p) for name, p in net.named_parameters() if p.dim() > 1 and name in found.read]
    loose = sorted(name for name, p in wide if id(p) not in held)
    beside = sorted({held[id(p)] for name, p in wide if id(p) in held and name in found.loose})
    return Used(tuple(found.layers), tuple(loose), tuple(beside), tuple(sorted(found.unquantised)))


def copied(module: nn.Module, expected: Reference, undone: dict[str, str]) -> nn.Module:
    """A copy of ``module`` to be rewritten, which computes what is ``expected``.

    Raises:
        NotApplicable: no copy does.
    """
    net = prepared_copy(module)
    if difference := departs(net, expected):
        undone["preparation"] = difference
        net = bare_copy(module)
        if difference := departs(net, expected):
            raise NotApplicable("a copy of the network does not compute what the network does", got=difference)
    return net


def folded_graph(
    net: nn.Module, expected: Reference, undone: dict[str, str]
) -> tuple[fx.GraphModule, dict[str, BatchStats], frozenset[str]]:
    """The graph of ``net``, whose layers it shares, with batch normalisation folded where that changes nothing; what
    `fold_batch_norm` returned; and the names of the norms that are gone.

    Raises:
        TraceError: there is no graph that computes what is ``expected``.
    """
    example = expected.images[0]
    graph = trace(net, example, expected)
    before, norms = _layer_values(graph), _norms(graph)
    stats = fold_batch_norm(graph)
    if difference := departs(graph, expected):
        undone["folding"] = difference
        for layer, weight, bias in before:
            layer.weight, layer.bias = weight, bias
        graph, stats = trace(net, example, expected), {}
    return graph, stats, norms - _norms(graph)


def _norms(graph: fx.GraphModule) -> frozenset[str]:
    return frozenset(name for name, part in graph.named_modules() if isinstance(part, NORMS))


Layer = nn.Conv2d | nn.Linear | nn.ConvTranspose2d


def _layer_values(graph: fx.GraphModule) -> list[tuple[Layer, Tensor, Tensor | None]]:
    """Layers with their weights and biases, which folding replaces and does not write into."""
    return [(part, part.weight, part.bias) for part in graph.modules() if isinstance(part, Layer)]
