"""Biases that ONNX Runtime would round too coarsely, taken out of their layers (docs/export.md#bias)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from bench.export.nodes import LAYER, WEIGHTED, constant, floats
from bench.interfaces.grids import WeightGrid

COARSE = 1 / 64
"""Of an output's step: what the rounding of a bias may take at most is half of it."""


def free_biases(graph: ir.Graph, grids: Mapping[str, WeightGrid]) -> None:
    """Give a bias an Add of its own behind its layer where ONNX Runtime would round it too coarsely.

    It rounds the bias of a layer whose input and weight are dequantised to the product of both steps, as integer
    kernels need it: no loss where that is far below a step of the output (docs/export.md#bias).
    """
    for node in list(graph):
        weight = node.inputs[1] if node.op_type in ("Conv", "Gemm") and len(node.inputs) > 2 else None
        layer = _layer_of(weight) if weight is not None else None
        bias = node.inputs[2] if layer is not None else None
        if layer is None or weight is None or bias is None or bias.const_value is None:
            continue
        if grids[layer].bits >= 8 and not _rounds_coarsely(node, grids[layer]):
            continue
        values = bias.const_value.numpy()
        if node.op_type == "Conv":
            assert weight.shape is not None
            values = values.reshape(-1, *[1] * (len(weight.shape) - 2))
        out = node.outputs[0]
        shift = constant(graph, floats(values, f"{node.name}.bias"))
        node.resize_inputs(2)
        users = list(out.uses())
        add = ir.Node("", "Add", [out, shift], name=f"{node.name}.add")
        add.outputs[0].type, add.outputs[0].shape, add.outputs[0].name = out.type, out.shape, f"{node.name}.shifted"
        graph.insert_after(node, add)
        for user, place in users:
            user.replace_input_with(place, add.outputs[0])
        for place, output in enumerate(graph.outputs):
            if output is out:
                graph.outputs[place] = add.outputs[0]
        if not bias.uses():
            del graph.initializers[str(bias.name)]


def _layer_of(weight: ir.Value) -> str | None:
    """The layer whose codes a weight is made of, perhaps through the offset of a grid without a zero."""
    made = weight.producer()
    if made is not None and made.op_type == "Add" and made.inputs[0] is not None:
        made = made.inputs[0].producer()
    return made.metadata_props.get(LAYER) if made is not None else None


def _rounds_coarsely(node: ir.Node, grid: WeightGrid) -> bool:
    """Whether a step of the layer's sums is more than `COARSE` of a step of the tensor it ends in."""
    before, behind = _steps(node.inputs[0], forwards=False), _steps(node.outputs[0], forwards=True)
    if not before or not behind:
        return False
    return max(before) * float(grid.scale.abs().max()) > COARSE * min(behind)


def _steps(value: ir.Value | None, *, forwards: bool) -> set[float]:
    """Steps of the quantisers next to a tensor, before or behind it, no weighted layer between."""
    found: set[float] = set()
    todo, seen = [value], set[ir.Value]()
    while todo:
        one = todo.pop()
        if one is None or one in seen:
            continue
        seen.add(one)
        if forwards:
            nodes = [user for user, _ in one.uses()]
        else:
            made = one.producer()
            nodes = [made] if made is not None else []
        for node in nodes:
            if node.op_type == ("QuantizeLinear" if forwards else "DequantizeLinear"):
                step = node.inputs[1]
                assert step is not None
                assert step.const_value is not None
                found.add(float(np.max(step.const_value.numpy())))
            elif node.op_type not in WEIGHTED:
                todo.extend(node.outputs if forwards else node.inputs)
    return found
