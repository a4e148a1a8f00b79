"""From any network to a folded graph, or to its bare copy where tracing fails (docs/methods/quantisation.md#folding,
#tracing)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx, nn

from methods.quant.fold import BatchStats, fold_batch_norm
from methods.quant.layers import inner_layers, node_layers
from methods.quant.trace import TraceError, prepared_copy, record_kinds, trace


@dataclass
class Prepared:
    """A floating-point copy ready for quantisers.

    Attributes:
        graph: the folded graph, None where tracing failed (then ``reason`` says why and ``module`` is used).
        module: the copy itself, batch normalisation unfolded, when there is no graph.
        stats: {layer: what its folded BN knew}.
        order: weighted layers in the order of their first call.
        example: the images [N, C, H, W] the network was traced with.
    """

    graph: fx.GraphModule | None
    module: nn.Module
    order: tuple[str, ...]
    example: Tensor
    stats: dict[str, BatchStats] = field(default_factory=dict)
    reason: str = ""

    @property
    def body(self) -> nn.Module:
        """What computes the network's output."""
        return self.graph if self.graph is not None else self.module


def prepare(module: nn.Module, example: Tensor, *, trace_graph: bool = True) -> Prepared:
    """Copy, trace and fold ``module``, which stays as it was.

    Args:
        module: a classification network, images in, logits out.
        example: float images [N, C, H, W] on the network's device; their values do not matter.
        trace_graph: off takes the fallback path, module replacement.
    """
    example = example.detach()
    net = prepared_copy(module)
    reason = "asked for"
    if trace_graph:
        try:
            graph = trace(net, example[:2])
            stats = fold_batch_norm(graph)
            record_kinds(graph, example[:2])
            return Prepared(graph, graph, _graph_order(graph, example[:1]), example, stats)
        except TraceError as error:
            reason = str(error)
            net = prepared_copy(module)
    order = call_order(net, inner_layers(net), example[:1])
    return Prepared(None, net, order, example, reason=reason)


def call_order(net: nn.Module, layers: Mapping[str, nn.Module], example: Tensor) -> tuple[str, ...]:
    """Names of ``layers`` in the order ``net`` first calls them; layers it never calls are left out."""
    seen: list[str] = []

    def note(name: str) -> None:
        if name not in seen:
            seen.append(name)

    hooks = [layer.register_forward_pre_hook(lambda *_, name=name: note(name)) for name, layer in layers.items()]
    try:
        with torch.no_grad():
            net(example)
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(seen)


def _graph_order(graph: fx.GraphModule, example: Tensor) -> tuple[str, ...]:
    names = [name for node in graph.graph.nodes for name in node_layers(graph, node)]
    return call_order(graph, {name: graph.get_submodule(name) for name in names}, example)
