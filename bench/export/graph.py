"""Writing: a network in plain layers and its grids → an ONNX model with QuantizeLinear and DequantizeLinear.

The layers are translated by torch's exporter.  It sees no fake quantiser: where one stood it finds a marker, in whose
place the grid's own nodes are put, and each weight on a grid becomes whole numbers behind a DequantizeLinear.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import onnx_ir as ir
import onnxscript.optimizer
import torch
from torch import Tensor, nn

from bench.errors import NotApplicable
from bench.export.biases import free_biases
from bench.export.nodes import LAYER, TENSOR, constant, floats, node_like
from bench.export.packing import PACKED_OPSET, TWO_BIT_OPSET, container
from bench.interfaces.grids import GridPoint, Integers, WeightGrid

_MARK = "datafree_bench"
INPUT, OUTPUT = "images", "logits"


class _Marker(nn.Module):
    """Stands where a grid's nodes are to be put."""

    def __init__(self, tensor: str) -> None:
        super().__init__()
        self.tensor = tensor

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.onnx.ops.symbolic(
            f"{_MARK}::Grid", (x,), {TENSOR: self.tensor}, dtype=x.dtype, shape=x.shape, version=1
        )
        return out


def float_model(module: nn.Module, example: Tensor) -> ir.Model:
    """``module`` (eval mode, left as it is) as it stands, any number of images; ``example`` [N, C, H, W] with N > 1.

    Raises:
        NotApplicable: torch cannot trace it, or ONNX lacks one of its operations.
    """
    model = _translated(copy.deepcopy(module).eval(), example)
    onnxscript.optimizer.optimize(model)
    return _finished(model, PACKED_OPSET)


def integer_model(integers: Integers, example: Tensor, *, two_bits: bool) -> ir.Model:
    """The network with its weights as codes and its activations behind QuantizeLinear and DequantizeLinear.

    ``integers`` is used up.  With ``two_bits`` weights of 2 bits lie four to a byte (opset 25), else two.

    Raises:
        NotApplicable: as :func:`float_model`, or a weight that does not lie on its grid.
    """
    net = integers.module.eval()
    points: dict[str, GridPoint] = {}
    for tensor, path in integers.points.items():
        point = net.get_submodule(path)
        assert isinstance(point, GridPoint)
        points[tensor] = point
        net.set_submodule(path, _Marker(tensor))
    parameters = _parameters(net, integers.weights)
    model = _translated(net, example)
    for layer, grid in integers.weights.items():
        weight = net.get_submodule(layer).weight
        assert isinstance(weight, Tensor)
        _put_weight(model.graph, layer, parameters[layer], grid, weight.detach(), 2 if two_bits else 4)
    for node in [node for node in model.graph if node.domain == _MARK]:
        tensor = node.attributes[TENSOR].as_string()
        _put_point(model.graph, node, tensor, points[tensor])
    model.opset_imports.pop(_MARK, None)
    onnxscript.optimizer.optimize(model)
    free_biases(model.graph, integers.weights)
    small = any(value.dtype in (ir.DataType.UINT2, ir.DataType.INT2) for value in model.graph.initializers.values())
    return _finished(model, TWO_BIT_OPSET if small else PACKED_OPSET)


def _finished(model: ir.Model, opset: int) -> ir.Model:
    if opset > PACKED_OPSET:
        # of what stands in these graphs nothing but types was added between the two.
        model.opset_imports[""] = opset
        model.ir_version = 13
    model.graph.inputs[0].name, model.graph.outputs[0].name = INPUT, OUTPUT
    model.producer_name = "datafree-bench"
    return model


def _parameters(net: nn.Module, layers: Mapping[str, WeightGrid]) -> dict[str, str]:
    """{layer: the name of its weight among the network's parameters}."""
    names: dict[int, str] = {}
    for name, parameter in net.named_parameters():
        names.setdefault(id(parameter), name)
    return {layer: names[id(net.get_submodule(layer).weight)] for layer in layers}


def _translated(net: nn.Module, example: Tensor) -> ir.Model:
    batch = ({0: torch.export.Dim.DYNAMIC},)
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                net,
                (example,),
                dynamo=True,
                optimize=False,
                opset_version=PACKED_OPSET,
                dynamic_shapes=batch,
                verbose=False,
                external_data=False,
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise NotApplicable("the network cannot be written as ONNX", got=first) from error
    assert program is not None
    model: ir.Model = program.model
    _bare(model)
    return model


def _bare(model: ir.Model) -> None:
    """Drop what the exporter notes of its own work (traces, paths of source files): it is a third of a small file."""
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for node in model.graph:
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()


@contextmanager
def _quiet() -> Iterator[None]:
    """Torch's exporter speaks of its own deprecations, which is not for who runs the command."""
    levels = {name: logging.getLogger(name).level for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _put_weight(graph: ir.Graph, layer: str, name: str, grid: WeightGrid, weight: Tensor, least: int) -> None:
    """In the place of the parameter ``name`` its codes, and what makes the weight of them."""
    codes = _checked(layer, grid, weight)
    box = container(grid.low, grid.high, least=least)
    old = graph.initializers.get(name)
    if old is None:
        raise NotApplicable("a weight is not to be found in the translated network", where=layer, got=name)
    inputs = [
        constant(graph, box.tensor(codes.cpu().numpy(), f"{name}.codes")),
        constant(graph, floats(grid.scale.cpu(), f"{name}.scale")),
    ]
    zeros = grid.zero_point.cpu().numpy()
    if zeros.any():
        inputs.append(constant(graph, box.tensor(zeros.astype(np.int64), f"{name}.zero_point")))
    attributes = [ir.AttrInt64("axis", 0)] if grid.scale.dim() else []
    node = ir.Node("", "DequantizeLinear", inputs, attributes, name=f"{name}.dequantize", metadata_props={LAYER: layer})
    added = [node]
    if grid.offset is not None:
        shape = (-1, *[1] * (weight.dim() - 1)) if grid.offset.dim() else ()
        offset = constant(graph, floats(grid.offset.cpu().numpy().reshape(shape), f"{name}.offset"))
        added.append(ir.Node("", "Add", [node.outputs[0], offset], name=f"{name}.shift"))
    for made in added:
        made.outputs[0].dtype, made.outputs[0].shape = ir.DataType.FLOAT, ir.Shape(weight.shape)
        made.outputs[0].name = made.name
    graph.insert_before(graph[0], added)
    ir.convenience.replace_all_uses_with(old, added[-1].outputs[0])
    del graph.initializers[name]


def _checked(layer: str, grid: WeightGrid, weight: Tensor) -> Tensor:
    """The weight's codes.

    Raises:
        NotApplicable: they lie outside the grid, or stand for other values than the weight's.
    """
    codes = grid.codes(weight)
    if int(codes.min()) < grid.low or int(codes.max()) > grid.high:
        got, allowed = f"{int(codes.min())} to {int(codes.max())}", f"{grid.low} to {grid.high}"
        raise NotApplicable("a weight lies outside its grid", where=layer, got=got, expected=allowed)
    rows = grid.scale.abs().reshape(-1, *[1] * (weight.dim() - 1)) if grid.scale.dim() else grid.scale.abs()
    off = float(((grid.values(codes) - weight) / rows).abs().max())
    if off > 1e-3:
        raise NotApplicable("a weight does not lie on its grid", where=layer, got=f"{off:.3g} steps beside it")
    return codes


def _put_point(graph: ir.Graph, marker: ir.Node, tensor: str, point: GridPoint) -> None:
    """In the marker's place: QuantizeLinear, DequantizeLinear and, where the container holds more than the grid, a Clip
    at the grid's ends.

    Activations have containers of 8 bits at least: they are not stored, and ONNX Runtime has integer kernels for these
    alone.  The Clip comes last (docs/export.md#clip): between QuantizeLinear and DequantizeLinear it would let ONNX
    Runtime round the next layer's bias to the product of two coarse steps.
    """
    box = container(point.low, point.high, least=8)
    name = f"{tensor}.quantizer"
    scale = constant(graph, floats(float(point.scale), f"{name}.scale"))
    zero = constant(graph, box.tensor(np.int64(point.zero_point), f"{name}.zero_point"))
    (source,) = marker.inputs
    like = marker.outputs[0]
    assert source is not None
    nodes = [node_like("QuantizeLinear", [source, scale, zero], f"{name}.quantize", box.type, like)]
    nodes.append(
        node_like("DequantizeLinear", [nodes[0].outputs[0], scale, zero], f"{name}.dequantize", ir.DataType.FLOAT, like)
    )
    nodes[1].metadata_props[TENSOR] = tensor
    if (point.low, point.high) != (box.low, box.high):
        step = np.float32(point.scale)
        ends = [
            constant(graph, floats(np.float32(end - point.zero_point) * step, f"{name}.{what}"))
            for what, end in (("low", point.low), ("high", point.high))
        ]
        nodes.append(node_like("Clip", [nodes[1].outputs[0], *ends], f"{name}.clip", ir.DataType.FLOAT, like))
    graph.insert_before(marker, nodes)
    ir.convenience.replace_all_uses_with(like, nodes[-1].outputs[0])
    graph.remove(marker, safe=True)
