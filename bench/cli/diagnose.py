"""`bench diagnose`: which layer of a cell's network loses the accuracy.  The command stands in ``dashboard``, which can
draw it; all it says comes from here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from bench.cli.info import cell_of
from bench.cli.progress import Report, reported
from bench.errors import BenchError
from bench.interfaces import FLOAT_BITS
from bench.spec.jobs import title_of

if TYPE_CHECKING:
    from bench.interfaces import Variant
    from bench.measure.findings import Diagnosis, LayerFinding
    from bench.run.again import Again

SHOWN = 20
"""Layers in the printed table; all are in the JSON."""


@dataclass(frozen=True)
class Request:
    """The command's arguments: at most ``images`` test images; ``suite`` is the file where the suite is the user's."""

    cell: str
    store: Path
    images: int
    suite: str | None = None
    data_root: Path | None = None
    device: str = "cpu"


def diagnosed(request: Request, console: Console) -> tuple[Diagnosis, dict[str, Any]]:
    """Make the cell's network again and look into it; progress goes to ``console``.

    Returns:
        what was found, and the same as JSON with what cell it is of.

    Raises:
        BenchError: no such cell, or whatever its methods and data complain of.
    """
    record = cell_of(request.cell, request.store)
    title = title_of(record)
    console.print(f"{record.cell_id} {title}: its network is made again, then looked into", highlight=False)
    from bench.run.again import Place, make_again

    with reported(console, title) as report:
        place = Place(request.store, request.suite, request.data_root, request.device)
        again = make_again(record, place, report)
        found = _look(again, request.images, report)
    facts = {
        "cell": record.cell_id,
        "title": title,
        "target": record.target,
        "compressor": record.compressor,
        "setting": record.setting_label,
        "recorded_top1": record.metrics.get("top1"),
        "recorded_images": record.test_count,
    }
    return found, {**facts, **found.to_json()}


def _look(again: Again, images: int, report: Report) -> Diagnosis:
    from bench.measure.diagnosis import Data, diagnose

    dataset, target, whole = again.dataset, again.target, again.cell.test_subset
    classes = dataset.spec.classes
    every = whole or len(dataset.test().labels)
    if images < classes:
        raise BenchError("too few images", where="--images", got=images, expected=f"{classes} or more, one of a class")
    few = images - images % classes
    subset, count = (few, few) if few < every else (whole, every)
    data = Data(
        lambda: dataset.test_batches(subset),
        count,
        target.mean,
        target.std,
        classes,
        again.bench.device,
        again.images.images,
    )
    variant = again.variant
    return diagnose(target.module, variant.module, variant.inspection, data, report, _closed(variant))


def _closed(variant: Variant) -> str:
    """Why a network without inspection is closed, and what to do."""
    from bench.measure.diagnosis import CLOSED

    if variant.bits_between or variant.image_bitops is not None:
        what = "each image decides on its bits, so that no layer has bits of its own to raise"
        return f"{what}; diagnose the cell of the same target at fixed bits, and see the board's table of bits by image"
    if all(bits.weight >= FLOAT_BITS and bits.input >= FLOAT_BITS for bits in variant.layer_bits.values()):
        what = "no layer of it is quantised, so that none has bits to raise"
        return f"{what}; what each layer keeps stands in the record, under report.layers"
    return CLOSED


def show(found: Diagnosis, facts: dict[str, Any], console: Console) -> None:
    """Print the answer in a sentence, the layers worst first, the blocks, and the predictions by class."""
    for line in sentences(found, facts):
        console.print(line, highlight=False)
    if found.layers:
        console.print(_layer_table(found.ranked()))
        if len(found.layers) > SHOWN:
            console.print(f"{len(found.layers) - SHOWN} more layers: --json", highlight=False)
        console.print(_block_table(found))
    console.print(_class_table(found))


def sentences(found: Diagnosis, facts: dict[str, Any]) -> list[str]:
    """What is to be said before any table."""
    from bench.measure.findings import BITS

    lost = found.plain_top1 - found.top1
    said = [
        f"top-1 {found.top1:.2f} % on {found.images} test images, {found.plain_top1:.2f} % in floating point: "
        f"{lost:.2f} points lost; {100 * found.histogram.agreement:.1f} % of the predictions agree"
    ]
    if found.histogram.broken:
        said.append(f"{found.histogram.broken} images have logits that are not finite")
    if found.baseline:
        said.append(
            f"it was trained quantised: floating point below is {found.baseline}, top-1 {found.baseline_top1:.2f} %; "
            "a layer's neighbours learned around its rounding, so that more bits for it alone may win nothing"
        )
    if found.closed:
        return [*said, f"{facts['cell']}: {found.closed}"]
    worst = found.ranked()[0]
    low, high = worst.gain.interval(found.lifted) if worst.gain else (0.0, 0.0)
    if worst.gain is not None and low > 0:
        gives = f"{BITS} bits for it alone give {worst.gain.points:+.2f} points "
        gives += f"[{low:.2f}, {high:.2f}] (95 % for all layers at once)"
        return [*said, f"first: {worst.name}: {gives}"]
    none = f"no layer's gain at {BITS} bits is shown to differ from zero on {found.images} images"
    said.append(f"{none}; they rank by the signal that each, quantised alone, leaves of its output")
    alone = f"{decibels(worst.own)} dB of its output, {decibels(worst.logits)} dB of the logits"
    return [*said, f"first: {worst.name}: it alone leaves {alone}"]


def decibels(value: float) -> str:
    """A ratio: ∞ where nothing is lost, blank where it is not known."""
    return "–" if math.isnan(value) else "∞" if value == math.inf else "-∞" if value == -math.inf else f"{value:.1f}"


HEADERS = (
    *("#", "layer", "block", "bits W/A", "gain at 8 bits", "95 %", "weight", "input", "alone", "logits", "drift"),
    *("clipped", "dead in, out", "constant"),
)
NOTE = (
    "gain: top-1 points when this one layer gets 8 bits (its weight and what it reads; ranges from the images, nothing "
    "learned anew). Ratios in dB: of the weight, of the tensors it reads behind their quantisers, of its output and of "
    "the logits where it alone is quantised, and of its output in the network (drift). Clipped: values beyond the "
    "grid. Dead: channels of its input and output that are always zero; constant: of its output that are always the "
    "same; in brackets those of the network without quantisers."
)


def line(rank: int, layer: LayerFinding) -> tuple[str, ...]:
    """A layer as the table's line."""
    gain, (plain, used) = layer.gain, layer.signal.outputs
    pairs = zip(layer.signal.inputs, layer.signal.outputs, strict=True)  # in floating point, then quantised
    dead = [f"{int(into.dead().sum())}, {int(out.dead().sum())}" for into, out in pairs]
    shown = ("–", "") if gain is None else (f"{gain.points:+.2f}", "[{:.2f}, {:.2f}]".format(*gain.interval()))
    return (
        str(rank),
        layer.name,
        layer.block if layer.block != layer.name else "",
        f"{_bits(layer.bits.weight)}/{_bits(layer.bits.input)}",
        *shown,
        *(decibels(value) for value in (layer.weight, layer.input, layer.own, layer.logits, layer.drift)),
        f"{100 * layer.beyond:.2f} %",
        f"{dead[1]} ({dead[0]})",
        f"{int(used.constant().sum())} ({int(plain.constant().sum())})",
    )


def _bits(bits: int) -> str:
    return "float" if bits >= 32 else str(bits)


def _layer_table(layers: Sequence[LayerFinding]) -> Table:
    table = Table(title="Layers, worst first", caption=NOTE)
    for index, header in enumerate(HEADERS):
        table.add_column(header, justify="left" if index in (1, 2) else "right", overflow="fold")
    for rank, layer in enumerate(layers[:SHOWN], 1):
        table.add_row(*line(rank, layer))
    return table


def _block_table(found: Diagnosis) -> Table:
    table = Table("block", "layers", "weights dB", "output dB", title="Blocks in order: drift with depth")
    for block in found.blocks:
        table.add_row(block.name, str(len(block.layers)), decibels(block.weight), decibels(block.drift))
    table.add_row("logits", "", "", decibels(found.logits))
    return table


def _class_table(found: Diagnosis) -> Table:
    counts = found.histogram
    title = f"Predictions by class (total variation distance {counts.distance:.3f})"
    table = Table("class", "labels", "float", "compressed", title=title)
    for number, row in enumerate(zip(counts.labels, counts.plain, counts.compressed, strict=True)):
        table.add_row(str(number), *map(str, row))
    return table
