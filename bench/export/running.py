"""Running a file in ONNX Runtime, on the CPU with the optimisations a user gets by default."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime
import torch
from onnxruntime.capi import onnxruntime_pybind11_state as state

from bench.errors import BenchError
from bench.export.graph import INPUT
from bench.export.nodes import TENSOR
from bench.export.packing import TWO_BIT_OPSET, container

Floats = npt.NDArray[np.float32]

PROVIDER = "CPUExecutionProvider"

ERRORS = tuple(one for one in vars(state).values() if isinstance(one, type) and issubclass(one, Exception))
"""What ONNX Runtime raises: a dozen classes without a common base."""


class Session:
    """A loaded file."""

    def __init__(self, content: Path | bytes, threads: int = 1) -> None:
        """``content``: the file, or what is in it.

        Raises:
            BenchError: ONNX Runtime does not take it.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 4
        given = str(content) if isinstance(content, Path) else content
        try:
            self._session = onnxruntime.InferenceSession(given, options, providers=[PROVIDER])
        except ERRORS as error:
            where = str(content) if isinstance(content, Path) else "the exported network"
            first = str(error).splitlines()[0]
            raise BenchError("ONNX Runtime does not load this file", where=where, got=first) from error
        self.outputs = [output.name for output in self._session.get_outputs()]

    def __call__(self, images: torch.Tensor) -> list[Floats]:
        """All outputs for images [N, C, H, W] in normalised space."""
        given = {INPUT: np.ascontiguousarray(images.detach().cpu().numpy(), dtype=np.float32)}
        found: list[Floats] = self._session.run(None, given)
        return found


def opened(path: Path) -> tuple[bytes, list[str]]:
    """The file's network with each quantised tensor as an output besides the logits, and their names in order."""
    model = ir.load(path)
    names = []
    for node in model.graph:
        tensor = node.metadata_props.get(TENSOR)
        if tensor is None:
            continue
        out = node.outputs[0]
        users = [user for user, _ in out.uses()]
        if len(users) == 1 and users[0].op_type == "Clip":
            out = users[0].outputs[0]
        if out in model.graph.outputs:
            continue
        model.graph.outputs.append(out)
        names.append(tensor)
    return ir.to_proto(model).SerializeToString(), names


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one run: median and 95th percentile."""

    p50: float
    p95: float


def latencies(sessions: Mapping[str, Session], images: torch.Tensor, runs: int) -> dict[str, Latency]:
    """Each session on ``images``, one after the other in every round, so that what else the machine does meets all.

    A tenth of the rounds (one at least) warm up and are not counted.
    """
    spent: dict[str, list[float]] = {name: [] for name in sessions}
    for turn in range(-max(1, runs // 10), runs):
        for name, session in sessions.items():
            began = time.perf_counter()
            session(images)
            if turn >= 0:
                spent[name].append(1000 * (time.perf_counter() - began))
    return {n: Latency(*(float(v) for v in np.percentile(values, (50, 95)))) for n, values in spent.items()}


@cache
def takes_two_bits() -> bool:
    """Whether ONNX Runtime runs a convolution whose weight lies in 2 bits, behind a quantised input."""
    try:
        found = Session(_two_bit_network())(torch.ones(1, 1, 2, 2))[0]
    except BenchError:
        return False
    return bool(np.array_equal(found, np.full((1, 1, 2, 2), 2, np.float32)))


def _two_bit_network() -> bytes:
    """The image, rounded to whole numbers, times a 1×1 kernel of 2, rounded again."""
    byte, two = container(0, 255, least=8), container(0, 3, least=2)

    def constant(tensor: ir.Tensor[Any]) -> ir.Value:
        value = ir.Value(name=tensor.name, const_value=tensor, shape=tensor.shape, type=ir.TensorType(tensor.dtype))
        values.append(value)
        return value

    values: list[ir.Value] = []
    images = ir.Value(name=INPUT, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1, 1, 2, 2]))
    one, zero = constant(ir.Tensor(np.float32(1), name="one")), constant(byte.tensor(0, "zero"))
    nodes: list[ir.Node] = []

    def node(kind: str, inputs: list[ir.Value], **attributes: Any) -> ir.Value:
        made = ir.node(kind, inputs, attributes)
        nodes.append(made)
        made.outputs[0].name = f"{kind}{len(nodes)}"
        return made.outputs[0]

    read = node("DequantizeLinear", [node("QuantizeLinear", [images, one, zero]), one, zero])
    scale = constant(ir.Tensor(np.ones(1, np.float32), name="scale"))
    codes = constant(two.tensor(np.full((1, 1, 1, 1), 3), "codes"))
    weight = node("DequantizeLinear", [codes, scale, constant(two.tensor(np.ones(1), "shift"))], axis=0)
    out = node("Conv", [read, weight, constant(ir.Tensor(np.zeros(1, np.float32), name="bias"))])
    out = node("DequantizeLinear", [node("QuantizeLinear", [out, one, zero]), one, zero])
    out.type, out.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([1, 1, 2, 2])
    graph = ir.Graph([images], [out], nodes=nodes, initializers=values, opset_imports={"": TWO_BIT_OPSET}, name="probe")
    content: bytes = ir.to_proto(ir.Model(graph, ir_version=13)).SerializeToString()
    return content
