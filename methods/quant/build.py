"""Putting the quantisers into a prepared network: what `QuantModel` is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, fx, nn

from bench.errors import NotApplicable
from bench.interfaces import Setting
from methods.quant.bits import OUTPUT, UNTRACED, BitPlan, decide
from methods.quant.fold import BatchStats
from methods.quant.graph import Prepared
from methods.quant.heads import adopt
from methods.quant.layers import QuantLayer
from methods.quant.place import Point, find_points, layer_wiring, leaf_layers, output_wiring
from methods.quant.quantizers import ActQuantizer, WeightQuantizer
from methods.quant.ranges import Grid, RangeMethod
from methods.quant.same import Reference, departs, reference
from methods.quant.units import Unit, find_units

_HOLDER = "activation_quantizers"


@dataclass(frozen=True)
class Options:
    """How to quantise.

    Attributes:
        weight_range, act_range: see `methods.quant.ranges.search_range`.
        weight_grid, per_channel: affine and one grid per output channel by default.
        max_layers: most weighted layers in one unit.
    """

    weight_range: RangeMethod = "mse"
    act_range: RangeMethod = "mse-2d"
    weight_grid: Grid = "affine"
    per_channel: bool = True
    max_layers: int = 8


@dataclass
class Built:
    """Parts of a quantised network; ``activations`` maps tensor names to paths of quantisers in ``body``, ``loose`` are
    those of them that no unit learns, ``undone`` and ``stats`` as in `Prepared`."""

    body: nn.Module
    path: Literal["graph", "modules"]
    units: tuple[Unit, ...]
    activations: dict[str, str]
    plan: BitPlan
    protocol: dict[str, Any]
    loose: tuple[str, ...] = ()
    undone: Mapping[str, str] = field(default_factory=dict)
    stats: Mapping[str, BatchStats] = field(default_factory=dict)


class WrapError(NotApplicable):
    """Quantisers cannot be put into this graph, or layer by layer into this network."""


def build(prepared: Prepared, setting: Setting, options: Options) -> Built:
    """Put quantisers into ``prepared`` (in place).

    Raises:
        NotApplicable: the network has no convolution and no linear layer.
        WrapError: behind quantisers that are switched off it is not what it was.
        BenchError: the setting's policy does not fit the network.
    """
    order, body = prepared.order, prepared.body
    if not order:
        raise NotApplicable("the network has no convolution or linear layer to quantise")
    expected = reference(body, prepared.example, (2,))
    graph = prepared.graph
    points = find_points(graph) if graph is not None else []
    wiring = output_wiring(graph, order, points) if graph is not None else layer_wiring(order)
    rule = OUTPUT if graph is not None else UNTRACED
    plan = decide(wiring, setting, rule)
    _wrap_layers(body, plan, options)
    if graph is not None:
        inside = tuple(name for node in graph.graph.nodes for name in leaf_layers(graph, node, order))
        activations = _insert_points(graph, points, plan, options, prepared.example)
        activations |= _attach(body, inside, plan, options, prepared.example)
        units = adopt(graph, find_units(graph, max_layers=options.max_layers))
    else:
        activations = _attach(body, order[1:], plan, options, prepared.example)
        units = tuple(Unit(n, "layer", (n,), (n,) if n in activations else (), False, "", "") for n in order)
    _check(body, expected)
    learned = {key for unit in units for key in unit.activations}
    loose = tuple(name for name in activations if name not in learned)
    protocol = rule.protocol(setting) | _protocol(prepared, options)
    path: Literal["graph", "modules"] = "graph" if graph is not None else "modules"
    ordered = _execution_order(prepared, activations)
    return Built(body, path, units, ordered, plan, protocol, loose, prepared.undone, prepared.stats)


def _check(body: nn.Module, expected: Reference) -> None:
    """Raise WrapError if ``body`` with its quantisers off is not what it was without them."""
    quantisers = [part for part in body.modules() if isinstance(part, (WeightQuantizer, ActQuantizer))]
    states = [quantiser.enabled for quantiser in quantisers]
    for quantiser in quantisers:
        quantiser.enabled = False
    difference = departs(body, expected)
    for quantiser, enabled in zip(quantisers, states, strict=True):
        quantiser.enabled = enabled
    if difference:
        raise WrapError("the network behind quantisers that are off is not what it was", got=difference)


def _wrap_layers(body: nn.Module, plan: BitPlan, options: Options) -> None:
    for name, bits in plan.layers.items():
        layer = body.get_submodule(name)
        assert isinstance(layer, (nn.Conv2d, nn.Linear))
        quant = WeightQuantizer(
            layer.weight,
            bits.weight,
            method=options.weight_range,
            grid=options.weight_grid,
            per_channel=options.per_channel,
        )
        replace_layer(body, layer, QuantLayer(layer, quant).eval())


def replace_layer(body: nn.Module, layer: nn.Module, new: nn.Module) -> None:
    """Put ``new`` in the place of ``layer`` under every name it is registered by."""
    inside = set(new.modules())
    for parent in body.modules():
        if parent not in inside:
            for key, child in parent._modules.items():
                if child is layer:
                    parent._modules[key] = new


def _insert_points(
    graph: fx.GraphModule, points: Sequence[Point], plan: BitPlan, options: Options, example: Tensor
) -> dict[str, str]:
    paths: dict[str, str] = {}
    graph.add_submodule(_HOLDER, nn.Module())
    for point in points:
        node = point.node
        path = f"{_HOLDER}.{node.name}"
        quantizer = ActQuantizer(plan.tensors[node.name], method=options.act_range, nonnegative=point.nonnegative)
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


def _attach(
    body: nn.Module, names: tuple[str, ...], plan: BitPlan, options: Options, example: Tensor
) -> dict[str, str]:
    """Give each of these layers a quantiser on its input."""
    for name in names:
        layer = body.get_submodule(name)
        assert isinstance(layer, QuantLayer)
        layer.input_quant = ActQuantizer(plan.tensors[name], method=options.act_range).to(example.device)
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


def _protocol(prepared: Prepared, options: Options) -> dict[str, Any]:
    """What the protocol says besides the bits."""
    graph = prepared.graph is not None
    return {
        "weight_granularity": "per channel" if options.per_channel else "per tensor",
        "weight_grid": options.weight_grid,
        "activation_granularity": "per tensor",
        "activation_grid": "unsigned after ReLU or the like, else affine",
        "activation_placement": "output" if graph else "input",
        "batch_norm": "folded" if graph and "folding" not in prepared.undone else "unfolded",
        "path": "graph" if graph else "modules",
        "weight_range": options.weight_range,
        "activation_range": options.act_range,
        "left_in_float": list(prepared.loose),
        **({"weights_used_beside_their_layers": list(prepared.beside)} if prepared.beside else {}),
        **({"float_operations": list(prepared.unquantised)} if prepared.unquantised else {}),
        **({"undone": sorted(prepared.undone)} if prepared.undone.keys() - {"tracing"} else {}),
    }
