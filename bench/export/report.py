"""`bench export`: write a cell's network, read the file back, run it beside the simulation, and say what was found."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import torch
from torch import Tensor

from bench.atomic import replace_file
from bench.data.datasets import batch_size
from bench.errors import BenchError, NotApplicable
from bench.export.comparing import Drift, Parity, drift, logit_step, parity
from bench.export.graph import float_model, integer_model
from bench.export.needs import versions
from bench.export.reading import Content, differences, parse, read
from bench.export.running import Latency, Session, latencies, opened, takes_two_bits
from bench.interfaces import FLOAT_BITS, LayerBits, Variant
from bench.interfaces.grids import Integers
from bench.measure.accuracy import eval_mode, to_input
from bench.measure.complexity import layer_table

if TYPE_CHECKING:
    from bench.run.again import Again
    from bench.run.worker import Report

DRIFT_IMAGES = 256
"""Images whose quantised tensors are compared, at most: they are all held at once, batch by batch."""

TIMED = 1
"""Images in a timed run: what a device does that answers as images come."""


@dataclass(frozen=True)
class Asked:
    """Where the file is, on how many test images it is compared (None: on all of the cell's), how many rounds are timed
    (0: none), and whether the file is there already and is to be compared alone."""

    file: Path
    images: int | None = None
    runs: int = 100
    check: bool = False


@dataclass(frozen=True)
class Exported:
    """What was found; :meth:`to_json` is the report.

    ``layers``: as `bench.measure.complexity.layer_table`, with what the file holds of each (:func:`layer_rows`).
    ``drift``: of the quantised tensors.  ``latency``: exported and fp32, of one image.
    """

    cell: str
    title: str
    file: str
    digest: str
    opset: int
    bytes: int
    graph_bytes: int
    claimed_bytes: float | None
    float_bytes: int
    recorded_top1: float | None
    parity: Parity
    drift: tuple[Drift, ...]
    layers: tuple[dict[str, Any], ...]
    latency: dict[str, Latency] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    software: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON."""
        return asdict(self)


def export(again: Again, title: str, asked: Asked, report: Report) -> Exported:
    """Write the network of a cell that was made again, and compare it; with ``asked.check`` compare the file alone.

    The file is written, whole or not at all, once its content is known to hold the cell's network and to load.

    Raises:
        NotApplicable: the network has no exportable form.
        BenchError: the file cannot be written or read, holds another network, or ONNX Runtime does not take it.
    """
    variant, target = again.variant, again.target
    example = _input(again, next(again.dataset.test_batches(again.cell.test_subset))[0][:2])
    notes: list[str] = []
    report("write", 0, 1)
    raw = None if asked.check else _serialised(variant, example, notes)
    content = read(asked.file) if raw is None else parse(raw, str(asked.file))
    integers = integers_of(variant)
    wrong = differences(content, integers)
    if wrong:
        shown = "; ".join(wrong[:5]) + (f"; and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        raise BenchError("holds another network than the cell's", where=str(asked.file), got=shown)
    session = Session(asked.file if raw is None else raw)
    if raw is not None:
        _write(asked.file, raw)
    found, some = _compared(again, session, logit_step(content), asked.images, report)
    report("drift", 0, 1)
    open_network, names = opened(asked.file)
    moved = drift(integers, Session(open_network), names, some) if names else []
    report("float network", 0, 1)
    plain = ir.to_proto(float_model(target.module, example)).SerializeToString()
    timed = {}
    if asked.runs:
        report("latency", 0, 1)
        timed = latencies({"exported": session, "fp32": Session(plain)}, example[:TIMED], asked.runs)
    return Exported(
        cell=again.record.cell_id,
        title=title,
        file=str(asked.file),
        digest=content.digest,
        opset=content.opset,
        bytes=content.size,
        graph_bytes=content.other,
        claimed_bytes=again.record.metrics.get("size_bytes"),
        float_bytes=len(plain),
        recorded_top1=again.record.metrics.get("top1"),
        parity=found,
        drift=tuple(moved),
        layers=tuple(layer_rows(variant, target.module, again.dataset.spec.shape, content)),
        latency=timed,
        notes=tuple(notes),
        software={**versions(), "torch": torch.__version__},
    )


def integers_of(variant: Variant) -> Integers:
    """A network's integer form, a copy; of one without quantisers itself, without grids.

    Raises:
        NotApplicable: it has quantisers and no such form.
    """
    if variant.integers is not None:
        return variant.integers()
    if variant.image_bitops is not None or any(
        bits != (FLOAT_BITS, FLOAT_BITS) for bits in variant.layer_bits.values()
    ):
        raise NotApplicable("the compressor's network says of no quantiser what its grid is")
    return Integers(variant.module)


def _serialised(variant: Variant, example: Tensor, notes: list[str]) -> bytes:
    integers = integers_of(variant)
    if not integers.weights and not integers.points:
        model = float_model(integers.module, example)
    else:
        narrow = any(grid.bits <= 2 for grid in integers.weights.values())
        two = narrow and takes_two_bits()
        if narrow and not two:
            notes.append("weights of 2 bits lie in containers of 4: this ONNX Runtime does not run packed 2-bit ones")
        odd = sorted({grid.bits for grid in integers.weights.values()} - {2, 4, 8})
        if odd:
            notes.append(f"weights of {', '.join(map(str, odd))} bits lie in the next larger container")
        model = integer_model(integers, example, two_bits=two)
    proto = ir.to_proto(model)
    try:
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError as error:
        raise NotApplicable("the network cannot be written as ONNX", got=str(error).splitlines()[0]) from error
    content: bytes = proto.SerializeToString()
    return content


def _write(file: Path, content: bytes) -> None:
    try:
        replace_file(file, content)
    except OSError as error:
        hint = "Choose another file with --onnx."
        raise BenchError("cannot be written", where=str(file), got=error.strerror, hint=hint) from error


def _input(again: Again, images: Tensor) -> Tensor:
    return to_input(images, torch.device("cpu"), again.target.mean, again.target.std)


def _batches(again: Again, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The first ``count`` test images of the cell in normalised space, with labels."""
    left = count
    for images, labels in again.dataset.test_batches(again.cell.test_subset):
        if left <= 0:
            return
        yield _input(again, images[:left]), labels[:left]
        left -= len(images)


def _compared(
    again: Again, session: Session, step: float | None, images: int | None, report: Report
) -> tuple[Parity, list[Tensor]]:
    """Both networks on the test images, and the first of these."""
    whole = again.cell.test_subset or len(again.dataset.test().labels)
    count = whole if images is None else min(images, whole)
    module = again.variant.module
    simulated: list[npt.NDArray[np.float32]] = []
    exported: list[npt.NDArray[np.float32]] = []
    truth: list[npt.NDArray[np.int64]] = []
    some: list[Tensor] = []
    most = min(DRIFT_IMAGES, 4 * batch_size(again.dataset.spec.shape))
    done = 0
    for batch, labels in _batches(again, count):
        report("compare", done, count)
        with eval_mode(module):
            simulated.append(module(batch).cpu().numpy())
        exported.append(session(batch)[0])
        truth.append(labels.numpy())
        if done < most:
            some.append(batch[: most - done])
        done += len(batch)
    report("compare", done, count)
    found = parity(np.concatenate(simulated), np.concatenate(exported), np.concatenate(truth), step)
    return found, some


def layer_rows(
    variant: Variant, original: torch.nn.Module, shape: tuple[int, int, int], content: Content
) -> Sequence[dict[str, Any]]:
    """The layer table of the record, and what the file holds of each layer: file_container, file_weight_levels and
    file_weight_bits (their logarithm to base 2), file_input_levels and file_input_bits (of the tensors it reads),
    file_bytes, and agrees: whether these are at most the bits in use.  A layer in floating point has none of these but
    file_nonzero, where its weight is found by its name."""
    rows = []
    for row in layer_table(variant.network or original, shape, variant):
        name = row["name"]
        used = LayerBits(row["weight_bits"], row["activation_bits"])
        stored = content.weights.get(name)
        more: dict[str, Any] = {"agrees": (stored is not None) == (used.weight < FLOAT_BITS)}
        if stored is not None:
            more |= {
                "file_container": stored.container,
                "file_weight_levels": stored.levels,
                "file_weight_bits": math.log2(stored.levels),
                "file_nonzero": int(np.count_nonzero(stored.values)),
                "file_bytes": stored.size,
            }
            more["agrees"] = stored.levels <= 1 << used.weight
        elif f"{name}.weight" in content.floats:
            more["file_nonzero"] = int(np.count_nonzero(content.floats[f"{name}.weight"]))
        levels = content.input_levels(name)
        if levels is not None:
            more |= {"file_input_levels": levels, "file_input_bits": math.log2(levels)}
            more["agrees"] = more["agrees"] and levels <= 1 << used.input
        rows.append(row | more)
    return rows
