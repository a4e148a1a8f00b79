"""Small parts of an ONNX graph, and the words by which its nodes are known again."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

LAYER, TENSOR = "layer", "tensor"
"""Keys under which a DequantizeLinear says whose it is."""

WEIGHTED = frozenset(["Conv", "ConvTranspose", "Gemm", "MatMul"])
"""Operations of weighted layers."""


def constant(graph: ir.Graph, tensor: ir.Tensor[Any]) -> ir.Value:
    """A value of the graph that is always ``tensor``."""
    value = ir.Value(name=tensor.name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=tensor.shape)
    graph.register_initializer(value)
    return value


def floats(values: npt.ArrayLike, name: str) -> ir.Tensor[Any]:
    """``values`` in float32."""
    return ir.Tensor(np.asarray(values, dtype=np.float32), name=name)


def node_like(kind: str, inputs: list[ir.Value], name: str, dtype: ir.DataType, like: ir.Value) -> ir.Node:
    """A node whose output has ``like``'s shape and its own name."""
    node = ir.Node("", kind, inputs, name=name)
    node.outputs[0].dtype, node.outputs[0].shape, node.outputs[0].name = dtype, like.shape, name
    return node
