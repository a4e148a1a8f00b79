"""Running a traced network again from where it changed."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import torch
from torch import Tensor, fx

from methods.quant.layers import node_layers


class Replay:
    """One forward of ``graph`` on images [N, C, H, W], with every value kept, so that a change of some modules costs
    no more than what lies behind them.

    The graph must not write into its tensors (`methods.quant.graph.prepare` takes such operations out).
    """

    @torch.no_grad()
    def __init__(self, graph: fx.GraphModule, images: Tensor) -> None:
        self._graph, self._images = graph, images
        interpreter = fx.Interpreter(graph, garbage_collect_values=False)
        self.result: Any = interpreter.run(images)
        self._values: dict[fx.Node, Any] = dict(interpreter.env)

    @torch.no_grad()
    def again(self, layers: Collection[str], paths: Iterable[str]) -> Any:
        """The result now that these weighted layers, and the modules at these paths, are others than they were."""
        changed = self._behind(frozenset(layers), frozenset(paths))
        kept = {node: value for node, value in self._values.items() if node not in changed}
        return fx.Interpreter(self._graph, garbage_collect_values=False).run(self._images, initial_env=kept)

    def _behind(self, layers: frozenset[str], paths: frozenset[str]) -> set[fx.Node]:
        """The nodes that call one of them, and all that depend on those."""
        found: set[fx.Node] = set()
        for node in self._graph.graph.nodes:
            calls = node.op == "call_module" and (
                str(node.target) in paths or layers & {*node_layers(self._graph, node)}
            )
            if calls or node.op == "output" or not found.isdisjoint(node.all_input_nodes):
                found.add(node)
        return found
