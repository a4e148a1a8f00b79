"""Tracing any network in eval mode with torch.fx (docs/methods/quantisation.md#tracing): small preparations, then
leaves where needed."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from timm.layers import BatchNormAct2d, Conv2dSame
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from methods.quant.layers import NORMS, WEIGHTED, function_name, is_drop

_RETRIES = 32
_STANDARDISED = frozenset({"StdConv2d", "StdConv2dSame", "ScaledStdConv2d", "ScaledStdConv2dSame"})


def prepared_copy(module: nn.Module) -> nn.Module:
    """Deep copy in eval mode: no in-place activations, dropout and stochastic depth gone, BatchNormAct2d split into
    its BN and its activation (plain tracing inlines it and then no BN is found), standardised weights made plain."""
    net = copy.deepcopy(module).eval().requires_grad_(False)
    _rewrite(net)
    return net


def _rewrite(net: nn.Module) -> None:
    for name, child in list(net.named_children()):
        if is_drop(child):
            setattr(net, name, nn.Identity())
        elif isinstance(child, BatchNormAct2d):
            setattr(net, name, _split(child))
        elif type(child).__name__ in _STANDARDISED:
            setattr(net, name, _plain(child))
        else:
            _rewrite(child)
    if getattr(net, "inplace", False) is True:
        net.inplace = False  # type: ignore[assignment]


class _WeightOfConv(TorchFunctionMode):
    """Notes the weight of the convolutions called inside it."""

    weight: Tensor | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.nn.functional.conv2d:
            self.weight = args[1].detach().clone()
        return func(*args, **(kwargs or {}))


def _plain(conv: nn.Module) -> nn.Module:
    """The convolution a weight-standardising one amounts to: its weight is a constant in eval mode."""
    assert isinstance(conv, nn.Conv2d)
    size = [d * (k - 1) + 1 for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
    with torch.no_grad(), _WeightOfConv() as seen:
        conv(torch.zeros(1, conv.in_channels, *size, device=conv.weight.device, dtype=conv.weight.dtype))
    kind: Any = Conv2dSame if getattr(conv, "same_pad", False) or type(conv).__name__ == "StdConv2dSame" else nn.Conv2d
    padding: Any = 0 if kind is Conv2dSame else conv.padding
    plain: nn.Conv2d = kind(
        conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, padding, conv.dilation, conv.groups,
        conv.bias is not None,
    )  # fmt: skip
    assert seen.weight is not None
    plain.weight, plain.bias = nn.Parameter(seen.weight, requires_grad=False), conv.bias
    return plain.eval()


def _split(both: BatchNormAct2d) -> nn.Module:
    norm = nn.BatchNorm2d(both.num_features, both.eps, both.momentum, both.affine, both.track_running_stats)
    norm.weight, norm.bias = both.weight, both.bias
    for buffer in ("running_mean", "running_var", "num_batches_tracked"):
        setattr(norm, buffer, getattr(both, buffer))
    _rewrite(both)
    if isinstance(both.act, nn.Identity):
        return norm.eval()
    return nn.Sequential(norm, both.act).eval()


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


def trace(net: nn.Module, example: Tensor) -> fx.GraphModule:
    """Trace ``net`` (from `prepared_copy`) and check the graph against it on ``example`` [N, C, H, W] and on a
    different number of images.

    Raises:
        TraceError: no set of leaves makes it traceable, or the graph computes something else.
    """
    leaves: frozenset[str] = frozenset()
    # A submodule that fails under tracing (whatever its forward raises on a proxy) becomes a leaf, and we try again.
    for _ in range(_RETRIES):
        tracer = _Tracer(leaves)
        try:
            graph = tracer.trace(net, concrete_args=_defaults(net))
            break
        except (
            fx.proxy.TraceError, TypeError, ValueError, RuntimeError, AttributeError, AssertionError,
            KeyError, IndexError, NotImplementedError, NameError,
        ) as error:  # fmt: skip
            if tracer.failed in (None, "") or tracer.failed in leaves:
                raise TraceError(str(error)) from error
            leaves |= {str(tracer.failed)}
    else:
        raise TraceError(f"more than {_RETRIES} submodules cannot be traced")
    gm = fx.GraphModule(net, graph)
    _tidy(gm)
    _check(gm, net, example)
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
        if node.op == "call_module" and type(gm.get_submodule(node.target)) is nn.Identity:
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


@torch.no_grad()
def _check(gm: fx.GraphModule, net: nn.Module, example: Tensor) -> None:
    images = [example, torch.cat([example, example.flip(0)])]
    for batch in images:
        try:
            ours = gm(batch)
        except (RuntimeError, TypeError, AttributeError, ValueError) as error:
            raise TraceError(f"the traced graph fails: {error}") from error
        theirs = net(batch)
        if not isinstance(theirs, Tensor) or not isinstance(ours, Tensor) or ours.shape != theirs.shape:
            raise TraceError("the network does not return one tensor")
        if not torch.allclose(ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max() + 1e-12)):
            raise TraceError("the traced graph computes something else")


class _Kinds(fx.Interpreter):
    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        n.meta["tensor"] = isinstance(value, Tensor) or _holds_tensor(value)
        n.meta["single"] = isinstance(value, Tensor)
        n.meta["shape"] = tuple(value.shape) if isinstance(value, Tensor) else None
        return value


def _holds_tensor(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and any(isinstance(v, Tensor) or _holds_tensor(v) for v in value)


def record_kinds(gm: fx.GraphModule, example: Tensor) -> None:
    """Note in each node's ``meta`` whether it gives tensors ("tensor"), exactly one ("single"), of what "shape"."""
    with torch.no_grad():
        _Kinds(gm).run(example)
