"""Reading back: what an ONNX file really holds of each layer, without a look at what was asked for.

Codes are counted as they lie in the file: the most distinct ones that share a scale say how many bits are effective,
whatever container they lie in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import torch
from google.protobuf.message import DecodeError
from torch.nn.modules.batchnorm import _BatchNorm

from bench.errors import BenchError
from bench.export.nodes import LAYER, TENSOR, WEIGHTED
from bench.interfaces.grids import GridPoint, Integers

_SEEN_THROUGH = frozenset(
    [
        *("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Identity", "Concat", "Slice", "Split"),
        *("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax"),
        *("Pad", "Gather", "Resize", "Clip"),
    ]
)
"""Operations behind which a tensor is still the quantised one, as in the bit convention of the records."""

IMAGE, FLOAT = "image", "float"


@dataclass(frozen=True)
class StoredWeight:
    """A layer's weight in the file: codes and zero point as whole numbers, scale [O] or [], offset as it is added;
    ``levels``: the most distinct codes that share a scale; ``size``: bytes of codes, scales, zero points, offsets."""

    container: str
    codes: npt.NDArray[np.int32]
    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int32]
    offset: npt.NDArray[np.float32] | None
    levels: int
    size: int

    @property
    def values(self) -> npt.NDArray[np.float32]:
        """The weight that DequantizeLinear and what is added make of it."""
        whole = self.codes.astype(np.float32)
        shape = (-1, *[1] * (whole.ndim - 1)) if self.scale.ndim else ()
        made = (whole - self.zero_point.reshape(shape).astype(np.float32)) * self.scale.reshape(shape)
        return made if self.offset is None else made + self.offset


@dataclass(frozen=True)
class StoredPoint:
    """An activation's quantiser in the file: whole numbers low..high that reach what reads it."""

    container: str
    scale: float
    zero_point: int
    low: int
    high: int

    @property
    def levels(self) -> int:
        """How many values it has."""
        return self.high - self.low + 1


@dataclass(frozen=True)
class Content:
    """What a file holds.

    ``weights`` are in the order of execution.  ``reads`` maps each layer to the tensors that it reads, `IMAGE` and
    `FLOAT` among them; ``floats`` are the tensors of floating point that a weighted operation reads as its weight, by
    name; ``size`` is the file's, ``other`` what of it is no tensor.
    """

    digest: str
    opset: int
    size: int
    other: int
    weights: Mapping[str, StoredWeight]
    points: Mapping[str, StoredPoint]
    reads: Mapping[str, frozenset[str]]
    floats: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)

    def input_levels(self, layer: str) -> int | None:
        """The most levels among the tensors that a layer reads; None where one is the image or has no quantiser."""
        found = self.reads.get(layer, frozenset())
        if not found or not found <= self.points.keys():
            return None
        return max(self.points[name].levels for name in found)


def read(path: Path) -> Content:
    """Read back a file.

    Raises:
        BenchError: it is missing, no ONNX, or holds something else than codes where codes belong.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BenchError("cannot be read", where=str(path), got=error.strerror) from error
    return parse(raw, str(path))


def parse(raw: bytes, where: str) -> Content:
    """What the content of a file says; ``where`` names it in errors.

    Raises:
        BenchError: it is no ONNX, or holds something else than codes where codes belong.
    """
    try:
        return _content(ir.from_proto(onnx.load_from_string(raw)), raw)
    except (DecodeError, ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError) as error:
        # what a parser says of bytes that are something else
        raise BenchError("is no ONNX file of an exported network", where=where, got=error) from error


def _content(model: ir.Model, raw: bytes) -> Content:
    graph = model.graph
    weights: dict[str, StoredWeight] = {}
    points: dict[str, StoredPoint] = {}
    reads: dict[str, frozenset[str]] = {}
    made: dict[str, ir.Value] = {}
    floats: dict[str, npt.NDArray[np.float32]] = {}
    for node in graph:
        layer, tensor = node.metadata_props.get(LAYER), node.metadata_props.get(TENSOR)
        if node.op_type == "DequantizeLinear" and layer is not None:
            weights[layer], made[layer] = _weight(node), node.outputs[0]
            reads[layer] = _read_beside(node.outputs[0])
        elif node.op_type == "DequantizeLinear" and tensor is not None:
            points[tensor] = _point(node)
        elif node.op_type in WEIGHTED:
            value = node.inputs[1]
            if value is not None and value.const_value is not None and value.dtype == ir.DataType.FLOAT:
                floats[str(value.name)] = value.const_value.numpy()
    place = {node: place for place, node in enumerate(graph)}
    first = {name: min((place[node] for node, _ in _takers(out)), default=len(place)) for name, out in made.items()}
    weights = {name: weights[name] for name in sorted(weights, key=lambda name: first[name])}
    tensors = sum(v.const_value.nbytes for v in graph.initializers.values() if v.const_value is not None)
    digest, opset = hashlib.sha256(raw).hexdigest(), model.opset_imports[""]
    return Content(digest, opset, len(raw), len(raw) - tensors, weights, points, reads, floats)


def _numbers(value: ir.Value | None) -> npt.NDArray[np.generic]:
    if value is None or value.const_value is None:
        raise ValueError("a quantiser's number is no constant")
    return value.const_value.numpy()


def _whole(value: ir.Value | None) -> npt.NDArray[np.int32]:
    return np.asarray(_numbers(value)).astype(np.int32)


def _weight(node: ir.Node) -> StoredWeight:
    held = node.inputs[0]
    codes, scale = _whole(held), np.asarray(_numbers(node.inputs[1]), dtype=np.float32)
    zero = _whole(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(scale.shape, np.int32)
    offset, constants = None, list(node.inputs)
    users = [user for user, _ in node.outputs[0].uses()]
    if len(users) == 1 and users[0].op_type == "Add":
        other = users[0].inputs[1]
        if other is not None and other.const_value is not None:
            offset, constants = np.asarray(other.const_value.numpy(), dtype=np.float32), [*constants, other]
    assert held is not None
    size = sum(v.const_value.nbytes for v in constants if v is not None and v.const_value is not None)
    rows = np.sort(codes.reshape(codes.shape[0] if scale.ndim else 1, -1), axis=1)
    levels = 1 + int((rows[:, 1:] != rows[:, :-1]).sum(axis=1).max(initial=0))
    return StoredWeight(str(held.dtype), codes, scale, zero, offset, levels, size)


def _point(node: ir.Node) -> StoredPoint:
    scale, zero = float(np.asarray(_numbers(node.inputs[1])).item()), int(_whole(node.inputs[2]).item())
    kind = node.inputs[2].dtype if node.inputs[2] is not None else None
    if kind is None or not kind.is_integer():
        raise ValueError("an activation's zero point is no whole number")
    half = 1 << (kind.bitwidth - 1)
    low, high = (-half, half - 1) if kind.name.startswith("INT") else (0, 2 * half - 1)
    users = [user for user, _ in node.outputs[0].uses()]
    if len(users) == 1 and users[0].op_type == "Clip":
        ends = [float(np.asarray(_numbers(end)).item()) for end in users[0].inputs[1:3]]
        low, high = max(low, round(ends[0] / scale) + zero), min(high, round(ends[1] / scale) + zero)
    return StoredPoint(kind.name, scale, zero, low, high)


def _read_beside(weight: ir.Value) -> frozenset[str]:
    """What the operation that takes this weight reads besides."""
    found: set[str] = set()
    for node, place in _takers(weight):
        found |= set(_sources(node.inputs[1 - place])) if place < 2 else {FLOAT}
    return frozenset(found)


def _takers(value: ir.Value) -> Iterator[tuple[ir.Node, int]]:
    """The weighted operations that a weight reaches, through its offset and reshapes, with the place it is read at."""
    for user, place in value.uses():
        if user.op_type in WEIGHTED:
            yield user, place
        elif user.op_type in ("Add", "Transpose", "Reshape"):
            yield from _takers(user.outputs[0])


def _sources(value: ir.Value | None) -> Iterator[str]:
    if value is None:
        return
    node = value.producer()
    if node is None:
        yield IMAGE if value.const_value is None else FLOAT
    elif node.op_type == "DequantizeLinear" and TENSOR in node.metadata_props:
        yield node.metadata_props[TENSOR]
    elif node.op_type in _SEEN_THROUGH:
        for source in node.inputs if node.op_type == "Concat" else node.inputs[:1]:
            yield from _sources(source)
    else:
        yield FLOAT


def differences(content: Content, integers: Integers) -> list[str]:
    """In what a file departs from the network it is to hold, a sentence each; none where it holds that network.

    Weights in floating point are compared where the file keeps them as they are: not in a network with normalisations,
    which may be merged into their layers.
    """
    found = [f"{name}: no weight of this layer" for name in integers.weights if name not in content.weights]
    found += [
        f"{name}: the network has no such layer on a grid" for name in content.weights if name not in integers.weights
    ]
    for name, grid in integers.weights.items():
        stored = content.weights.get(name)
        if stored is None:
            continue
        weight = integers.module.get_submodule(name).weight
        assert isinstance(weight, torch.Tensor)
        codes = grid.codes(weight.detach()).cpu().numpy()
        if stored.codes.shape != codes.shape or stored.scale.shape != tuple(grid.scale.shape):
            found.append(f"{name}: a weight of another shape")
            continue
        changed = int((stored.codes != codes).sum())
        if changed:
            found.append(f"{name}: {changed} of {codes.size} codes differ")
        expected = grid.values(torch.from_numpy(codes)).numpy()
        off = np.abs(stored.values - expected).max() / np.abs(stored.scale).max()
        if not changed and not off < 1e-3:
            found.append(f"{name}: scale, zero point or offset differ")
    merged = any(isinstance(part, _BatchNorm) for part in integers.module.modules())
    for name, parameter in integers.module.named_parameters() if not merged else ():
        kept = content.floats.get(name)
        if kept is not None and not np.array_equal(kept, parameter.detach().cpu().numpy()):
            found.append(f"{name}: the weight differs")
    for tensor, path in integers.points.items():
        point, held = integers.module.get_submodule(path), content.points.get(tensor)
        assert isinstance(point, GridPoint)
        if held is None:
            found.append(f"{tensor}: no quantiser of this tensor")
        elif (held.low, held.high, held.zero_point) != (point.low, point.high, point.zero_point) or not np.isclose(
            held.scale, float(point.scale), rtol=1e-6, atol=0
        ):
            found.append(f"{tensor}: its quantiser's scale, zero point or range differ")
    return found
