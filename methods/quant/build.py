"""Putting the quantisers into a prepared network: what `QuantModel` is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, fx, nn

from bench.errors import NotApplicable
from bench.interfaces import Setting
from methods.quant.graph import Prepared
from methods.quant.layers import QuantLayer, is_constant, is_transparent, module_of, node_layers
from methods.quant.place import Role, find_points
from methods.quant.quantizers import ActQuantizer, WeightQuantizer
from methods.quant.ranges import FLOAT_BITS, Grid, RangeMethod
from methods.quant.units import Unit, find_units

_HOLDER = "activation_quantizers"
_IMAGE_BITS = 8


@dataclass(frozen=True)
class Options:
    """How to quantise.

    Attributes:
        weight_range, act_range: see `methods.quant.ranges.search_range`.
        weight_grid, per_channel: affine and one grid per output channel by default.
        se_bits: bits of the tensors inside a squeeze-excite block (pooled, reduced, gate).
        qdrop_stem: leave the stem's output at the inner bits, as QDrop does, instead of the first layer's.
        max_layers: most weighted layers in one unit.
    """

    weight_range: RangeMethod = "mse"
    act_range: RangeMethod = "mse"
    weight_grid: Grid = "affine"
    per_channel: bool = True
    se_bits: int = 8
    qdrop_stem: bool = False
    max_layers: int = 8


@dataclass
class Built:
    """Parts of a quantised network; ``activations`` maps tensor names to paths of quantisers in ``body``."""

    body: nn.Module
    path: Literal["graph", "modules"]
    units: tuple[Unit, ...]
    layers: tuple[str, ...]
    activations: dict[str, str]
    input_bits: dict[str, int]
    protocol: dict[str, Any]


def build(prepared: Prepared, setting: Setting, options: Options) -> Built:
    """Put quantisers into ``prepared`` (in place).

    Raises:
        NotApplicable: the network has no convolution and no linear layer.
    """
    if not prepared.order:
        raise NotApplicable("the network has no convolution or linear layer to quantise")
    body, example = prepared.body, prepared.example
    _wrap_layers(body, prepared.order, setting, options)
    if prepared.graph is not None:
        activations = _insert_points(prepared.graph, setting, options, example)
        activations |= _inside_leaves(prepared.graph, prepared.order, setting, options, example)
        units = find_units(prepared.graph, max_layers=options.max_layers)
        bits = _graph_input_bits(prepared.graph, setting)
    else:
        activations = _input_quantizers(body, prepared.order, setting, options, example)
        units = tuple(Unit(n, "layer", (n,), (n,) if n in activations else (), False, "", "") for n in prepared.order)
        bits = {n: _input_bits_of(body, n, setting) for n in prepared.order}
    protocol = _protocol(prepared, setting, options)
    path: Literal["graph", "modules"] = "graph" if prepared.graph is not None else "modules"
    ordered = _execution_order(prepared, activations)
    return Built(body, path, units, prepared.order, ordered, bits, protocol)


def _wrap_layers(body: nn.Module, order: tuple[str, ...], setting: Setting, options: Options) -> None:
    for name in order:
        layer = body.get_submodule(name)
        assert isinstance(layer, (nn.Conv2d, nn.Linear))
        edge = name in (order[0], order[-1]) and setting.weight_bits < FLOAT_BITS
        quant = WeightQuantizer(
            layer.weight,
            setting.first_last_bits if edge else setting.weight_bits,
            method=options.weight_range,
            grid=options.weight_grid,
            per_channel=options.per_channel,
        )
        _replace(body, name, QuantLayer(layer, quant).eval())


def _replace(body: nn.Module, name: str, new: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(body.get_submodule(parent), leaf, new)


def _act_bits(role: Role, setting: Setting, options: Options) -> int:
    if setting.act_bits >= FLOAT_BITS:
        return FLOAT_BITS
    if role == "se":
        return options.se_bits
    if role == "last" or (role == "stem" and not options.qdrop_stem):
        return setting.first_last_bits
    return setting.act_bits


def _insert_points(graph: fx.GraphModule, setting: Setting, options: Options, example: Tensor) -> dict[str, str]:
    paths: dict[str, str] = {}
    graph.add_submodule(_HOLDER, nn.Module())
    for point in find_points(graph):
        node = point.node
        path = f"{_HOLDER}.{node.name}"
        bits = _act_bits(point.role, setting, options)
        quantizer = ActQuantizer(bits, method=options.act_range, nonnegative=point.nonnegative)
        graph.add_submodule(path, quantizer.to(example.device))
        with graph.graph.inserting_after(node):
            after = graph.graph.call_module(path, (node,))
        after.meta = {key: node.meta.get(key) for key in ("stack", "tensor", "single", "shape")}
        node.replace_all_uses_with(after)
        after.args = (node,)
        paths[node.name] = path
    graph.graph.lint()
    graph.recompile()
    return paths


def _inside_leaves(
    graph: fx.GraphModule, order: tuple[str, ...], setting: Setting, options: Options, example: Tensor
) -> dict[str, str]:
    """Layers inside a leaf of the trace: the first to run reads what the graph quantised, the others get a quantiser
    on their input."""
    paths: dict[str, str] = {}
    for node in graph.graph.nodes:
        names = node_layers(graph, node)
        if names and not isinstance(module_of(graph, node), QuantLayer):
            inner = tuple(n for n in order if n in names)
            last = {order[-1]} & set(inner[1:])
            paths |= _attach(graph, inner[1:], last, setting, options, example)
    return paths


def _input_quantizers(
    body: nn.Module, order: tuple[str, ...], setting: Setting, options: Options, example: Tensor
) -> dict[str, str]:
    """Input placement: every layer but the first, which reads the image."""
    return _attach(body, order[1:], {order[-1]}, setting, options, example)


def _attach(
    body: nn.Module,
    names: tuple[str, ...],
    last: set[str],
    setting: Setting,
    options: Options,
    example: Tensor,
) -> dict[str, str]:
    for name in names:
        layer = body.get_submodule(name)
        assert isinstance(layer, QuantLayer)
        bits = _act_bits("last" if name in last else "inner", setting, options)
        layer.input_quant = ActQuantizer(bits, method=options.act_range).to(example.device)
    return {name: f"{name}.input_quant" for name in names}


def _execution_order(prepared: Prepared, activations: dict[str, str]) -> dict[str, str]:
    if prepared.graph is None:
        return activations
    ordered: dict[str, str] = {}
    for node in prepared.graph.graph.nodes:
        target = str(node.target)
        if target.startswith(_HOLDER + "."):
            key = target.rpartition(".")[2]
            ordered[key] = target
        ordered |= {n: activations[n] for n in prepared.order if n in activations and n.startswith(target + ".")}
    return ordered


def _image_bits(setting: Setting) -> int:
    return _IMAGE_BITS if setting.act_bits < FLOAT_BITS else FLOAT_BITS


def _input_bits_of(body: nn.Module, name: str, setting: Setting) -> int:
    layer = body.get_submodule(name)
    assert isinstance(layer, QuantLayer)
    return _image_bits(setting) if layer.input_quant is None else min(layer.input_quant.bits, FLOAT_BITS)


def _graph_input_bits(graph: fx.GraphModule, setting: Setting) -> dict[str, int]:
    """Bits of each layer's input: the most among the quantised tensors it comes from, 32 if one is not quantised."""
    found: dict[str, int] = {}
    for node in graph.graph.nodes:
        for name in node_layers(graph, node):
            own = getattr(graph.get_submodule(name), "input_quant", None)
            bits = own.bits if isinstance(own, ActQuantizer) else _tensor_bits(graph, node.args[0], setting, {})
            found[name] = min(max(bits, found.get(name, 0)), FLOAT_BITS)
    return found


def _tensor_bits(graph: fx.GraphModule, node: fx.Node, setting: Setting, known: dict[fx.Node, int]) -> int:
    if node in known:
        return known[node]
    module = module_of(graph, node)
    if isinstance(module, ActQuantizer):
        bits = module.bits
    elif node.op == "placeholder":
        bits = _image_bits(setting)
    elif is_transparent(graph, node):
        inputs = [s for s in node.all_input_nodes if not is_constant(s) and s.meta.get("tensor", True)]
        bits = max((_tensor_bits(graph, s, setting, known) for s in inputs), default=0)
    else:
        bits = FLOAT_BITS
    known[node] = bits
    return bits


def _protocol(prepared: Prepared, setting: Setting, options: Options) -> dict[str, Any]:
    graph = prepared.graph is not None
    edge = setting.first_last_bits if setting.weight_bits < FLOAT_BITS else FLOAT_BITS
    return {
        "weight_bits": setting.weight_bits,
        "activation_bits": setting.act_bits,
        "first_last_weight_bits": edge,
        "stem_output_bits": _act_bits("stem", setting, options) if graph else _act_bits("inner", setting, options),
        "last_input_bits": _act_bits("last", setting, options),
        "squeeze_excite_bits": _act_bits("se" if graph else "inner", setting, options),
        "logit_bits": FLOAT_BITS,
        "image_bits": _image_bits(setting),
        "weight_granularity": "per channel" if options.per_channel else "per tensor",
        "weight_grid": options.weight_grid,
        "activation_granularity": "per tensor",
        "activation_grid": "unsigned after ReLU or the like, else affine",
        "activation_placement": "output" if graph else "input",
        "batch_norm": "folded" if graph else "unfolded",
        "path": "graph" if graph else "modules",
        "weight_range": options.weight_range,
        "activation_range": options.act_range,
        "left_in_float": _unquantised(prepared.body),
    }


def _unquantised(body: nn.Module) -> list[str]:
    """Parameters of two or more axes that belong to no quantised layer (attention projections, embeddings)."""
    inside = {id(p) for m in body.modules() if isinstance(m, QuantLayer) for p in m.layer.parameters()}
    return sorted(n for n, p in body.named_parameters() if p.dim() > 1 and id(p) not in inside)
