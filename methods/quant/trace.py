"""Tracing any network in eval mode with torch.fx (docs/methods/quantisation.md#tracing): leaves where its code cannot
be followed."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, fx, nn

from bench.interfaces.inventory import has_hooks, probe_images
from methods.quant.layers import NORMS, WEIGHTED, canonical_layers, function_name, inner_layers, is_constant, is_opaque
from methods.quant.plain import prepared_copy as prepared_copy
from methods.quant.same import FAILURES, Reference, departs, reference
from methods.quant.sizes import size_of

_RETRIES = 32


class _Tracer(fx.Tracer):
    """Leaves: weighted layers, normalisations, childless modules, torch.nn and the given offenders.  Each node's
    ``meta["stack"]`` lists the (path, class name) of the modules it was made in, outermost first."""

    def __init__(self, leaves: frozenset[str]) -> None:
        super().__init__()
        self.leaves = leaves
        self.stack: list[tuple[str, str]] = []
        self.failed: str | None = None

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, (nn.Sequential, nn.ModuleList)):
            return False
        if isinstance(m, (*WEIGHTED, *NORMS)) or module_qualified_name in self.leaves:
            return True
        return next(m.children(), None) is None or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        path = self.path_of_module(m)
        self.stack.append((path, type(m).__name__))
        try:
            out = super().call_module(m, forward, args, kwargs)
        except Exception:
            # Any failure is the network's code meeting a proxy; the deepest module in progress is the offender.
            if self.failed is None:
                self.failed = path
            raise
        self.stack.pop()
        return out

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(*args, **kwargs)
        node.meta["stack"] = tuple(self.stack)
        return node


class TraceError(Exception):
    """The network cannot be traced; its modules are replaced one by one instead."""


def trace(net: nn.Module, example: Tensor, expected: Reference | None = None) -> fx.GraphModule:
    """Trace ``net`` (from `prepared_copy`) for images of the size of ``example`` [N, C, H, W] and check the graph.

    Args:
        expected: what the graph must compute; by default what ``net`` does.

    Raises:
        TraceError: no set of leaves makes it traceable, or the graph computes something else.
    """
    expected = reference(net, example) if expected is None else expected
    leaves: frozenset[str] = frozenset()
    # A submodule that fails under tracing (whatever its forward raises on a proxy) becomes a leaf, and we try again.
    for _ in range(_RETRIES):
        tracer = _Tracer(leaves)
        try:
            graph = tracer.trace(net, concrete_args=_defaults(net))
            break
        except FAILURES as error:  # fx's own TraceError is a ValueError
            if tracer.failed in (None, "") or tracer.failed in leaves:
                raise TraceError(str(error)) from error
            leaves |= {str(tracer.failed)}
    else:
        raise TraceError(f"more than {_RETRIES} submodules cannot be traced")
    gm = fx.GraphModule(net, graph)
    _tidy(gm)
    if difference := departs(gm, expected, batches=2):
        raise TraceError(f"the traced graph {difference}")
    _record_layers(gm, net)
    record_kinds(gm, example)
    return gm


def _defaults(net: nn.Module) -> dict[str, Any] | None:
    """Values of the optional arguments behind the images (attention masks and the like)."""
    rest = list(inspect.signature(net.forward).parameters.values())[1:]
    return {p.name: p.default for p in rest if p.default is not p.empty} or None


def _tidy(gm: fx.GraphModule) -> None:
    """Drop identities, assertions and dead nodes, make functional activations and additions out of place."""
    for node in reversed(list(gm.graph.nodes)):
        if function_name(node).startswith("_assert"):
            gm.graph.erase_node(node)
    gm.graph.eliminate_dead_code()
    for node in list(gm.graph.nodes)[1:]:
        if node.op == "placeholder" and not node.users:
            gm.graph.erase_node(node)
    for node in list(gm.graph.nodes):
        module = gm.get_submodule(node.target) if node.op == "call_module" else None
        if type(module) is nn.Identity and not has_hooks(module):
            node.replace_all_uses_with(node.args[0])
            gm.graph.erase_node(node)
        elif node.kwargs.get("inplace") is True:
            node.kwargs = {**node.kwargs, "inplace": False}
        elif node.op == "call_method" and node.target in ("add_", "mul_", "relu_", "sub_", "div_"):
            node.target = str(node.target)[:-1]
        elif node.op == "call_function" and function_name(node) in ("iadd", "imul"):
            node.target = torch.add if function_name(node) == "iadd" else torch.mul
    gm.graph.eliminate_dead_code()
    gm.graph.lint()
    gm.recompile()


def _record_layers(gm: fx.GraphModule, net: nn.Module) -> None:
    """Note in ``meta["layers"]`` the weighted layers each node calls, by their names in ``net``'s inventory."""
    names = canonical_layers(net)
    for node in gm.graph.nodes:
        if node.op != "call_module":
            continue
        module = gm.get_submodule(str(node.target))
        if isinstance(module, WEIGHTED):
            node.meta["layers"] = (names[module],)
        else:
            inner = inner_layers(module).values() if is_opaque(module) else ()
            node.meta["layers"] = tuple(dict.fromkeys(names[layer] for layer in inner))


class _Kinds(fx.Interpreter):
    """Runs a graph and keeps what each node gives but for tensors; notes which inner layer reads a leaf's own input."""

    def __init__(self, gm: fx.GraphModule) -> None:
        super().__init__(gm)
        self.values: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        layers = n.meta.get("layers", ()) if n.op == "call_module" else ()
        if layers and layers != (str(n.target),):
            value, n.meta["direct"] = self._watched(n, layers)
        else:
            value = super().run_node(n)
        n.meta["single"] = isinstance(value, Tensor)
        n.meta["shape"] = tuple(value.shape) if isinstance(value, Tensor) else None
        if not _holds_tensor(value):
            self.values[n] = value
        return value

    def _watched(self, n: fx.Node, layers: tuple[str, ...]) -> tuple[Any, frozenset[str]]:
        given = {x.data_ptr() for x in map(self.env.get, n.all_input_nodes) if isinstance(x, Tensor)}
        direct: set[str] = set()

        def note(name: str, args: tuple[Any, ...]) -> None:
            if args and isinstance(args[0], Tensor) and args[0].data_ptr() in given:
                direct.add(name)

        assert isinstance(self.module, fx.GraphModule)
        hooks = [
            self.module.get_submodule(name).register_forward_pre_hook(lambda _, args, name=name: note(name, args))
            for name in layers
        ]
        try:
            return super().run_node(n), frozenset(direct)
        finally:
            for hook in hooks:
                hook.remove()


def _holds_tensor(value: Any) -> bool:
    return isinstance(value, Tensor) or (
        isinstance(value, (tuple, list)) and any(isinstance(v, Tensor) or _holds_tensor(v) for v in value)
    )


def record_kinds(gm: fx.GraphModule, example: Tensor) -> None:
    """Note in each node's ``meta`` whether it gives tensors ("tensor"), exactly one ("single"), of what "shape"; where
    it gives a size instead, its "size" (see `methods.quant.sizes`); and which layers inside a leaf read the leaf's very
    input ("direct")."""
    kinds = _Kinds(gm), _Kinds(gm)
    with torch.no_grad():
        for run, count in zip(kinds, (3, 2), strict=True):
            run.run(probe_images(example, count))
    for node in gm.graph.nodes:
        three, two = kinds
        node.meta["size"] = size_of(two.values[node], three.values[node]) if node in two.values else None
        # A number read off the images is as good as a tensor.
        node.meta["tensor"] = node.meta["size"] is None
        node.meta["constant"] = None
        node.meta["constant"] = is_constant(node)
