"""A network that returns features beside its logits, as distillation compares them."""

from __future__ import annotations

from torch import Tensor, fx, nn


class WithTaps(nn.Module):
    """A network that returns its logits [N, K] and intermediate features, a tuple of tensors; shares all modules."""

    def __init__(self, body: nn.Module, taps: tuple[str, ...]) -> None:
        super().__init__()
        self.body = _tapped(body, taps) if isinstance(body, fx.GraphModule) else body
        self.traced = isinstance(body, fx.GraphModule)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        out = self.body(x)
        return (out[0], tuple(out[1])) if self.traced else (out, ())


def _tapped(graph: fx.GraphModule, taps: tuple[str, ...]) -> fx.GraphModule:
    copy = fx.Graph()
    made: dict[fx.Node, fx.Node] = {}
    logits = copy.graph_copy(graph.graph, made)
    assert isinstance(logits, fx.Node)
    by_name = {node.name: new for node, new in made.items()}
    copy.output((logits, [by_name[name] for name in taps]))
    return fx.GraphModule(graph, copy)
