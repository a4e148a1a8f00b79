"""Which layer loses the accuracy of a quantised network (docs/methods/measures.md#diagnosis): its layers lifted to 8
bits one by one.  What the numbers are, and which layer comes first: :mod:`bench.measure.findings`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.interfaces.inspection import Inspection
from bench.interfaces.inventory import evaluating
from bench.measure.accuracy import batches, classes_of, predictions, to_input
from bench.measure.findings import BITS, BlockFinding, Diagnosis, Gain, Histogram, LayerFinding
from bench.measure.signals import Ratio, Signals, alone, signals, weight_ratio

ALONE = 128
"""At most so many images show what a layer loses by itself."""

CLOSED = "its compressor does not open it up, so nothing is said of its layers"

_PIXELS = 64 * 32 * 32  # of the images that go through two networks side by side, all layers' outputs held

Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Data:
    """The ``count`` test images that ``batches`` gives anew at each call (uint8 [B, C, H, W] or normalised, labels
    [B]), the constants of the network, the device, and ``images`` [M, C, H, W] in normalised space that grids of more
    bits are chosen for (those of the compression)."""

    batches: Callable[[], Iterable[tuple[Tensor, Tensor]]]
    count: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: int
    device: torch.device
    images: Tensor

    def inputs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised images on the device and their labels, in the batches they come in."""
        for images, labels in self.batches():
            yield to_input(images, self.device, self.mean, self.std), labels

    def small(self, count: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """As :meth:`inputs`, the first ``count``, in batches whose tensors fit into memory all together."""
        left = self.count if count is None else count
        for images, labels in self.inputs():
            size = max(4, _PIXELS // (images.shape[-1] * images.shape[-2]))
            for part, own in batches(images, labels, size):
                if left > 0:
                    yield part[:left], own[:left]
                left -= len(part)
            if left <= 0:
                return


def diagnose(
    plain: nn.Module,
    module: nn.Module,
    inspection: Inspection | None,
    data: Data,
    report: Report,
    closed: str = CLOSED,
) -> Diagnosis:
    """Find out which layer of ``module`` loses what.

    Args:
        plain: the network that was compressed.
        inspection: opens ``module`` up; without it only predictions are compared, and ``closed`` says why.

    All networks lie on ``data.device`` and are left as they were.

    Raises:
        ValueError: no image.
        WeightsError: a network returns something else than logits [B, classes].
    """
    report("predictions", 0, 2)
    labels = torch.cat([labels for _, labels in data.batches()])
    first = predict(plain, data)
    report("predictions", 1, 2)
    second = predict(module, data)
    report("predictions", 2, 2)
    right = second == labels
    count = data.count
    histogram = _histogram(labels, first, second, data.classes)
    accuracies = (_percent(right), _percent(first == labels))
    if inspection is None:
        return Diagnosis(count, *accuracies, histogram, closed=closed)
    baseline = math.nan
    if inspection.baseline:
        with inspection.floating():
            baseline = _percent(predict(module, data) == labels)
    found = signals(inspection, module, _images(data.small()), lambda done: report("signals", done, count))
    few = min(ALONE, count)
    total = few * len(inspection.layers)
    alone(inspection, module, _images(data.small(few)), found, lambda done: report("one layer quantised", done, total))
    gains = _gains(module, inspection, data, report)
    blocks = _blocks(inspection, found)
    layers = tuple(_layer(inspection, found, name, gains.get(name)) for name in inspection.layers)
    logits = found.logits.decibels
    return Diagnosis(
        count,
        *accuracies,
        histogram,
        layers,
        blocks,
        logits,
        baseline=inspection.baseline,
        baseline_top1=baseline,
    )


def predict(module: nn.Module, data: Data) -> Tensor:
    """As :func:`bench.measure.accuracy.predictions`, of all images.

    Raises:
        ValueError: no image.
        WeightsError: the module returns something else than logits [B, classes].
    """
    found = predictions(module, data.batches(), device=data.device, mean=data.mean, std=data.std)
    if not len(found):
        raise ValueError("no images to diagnose on")
    return found


def _images(data: Iterable[tuple[Tensor, Tensor]]) -> Iterator[Tensor]:
    return (images for images, _ in data)


def liftable(inspection: Inspection, layer: str) -> bool:
    """Whether a quantiser of the layer has fewer than 8 bits."""
    return inspection.bits(layer).weight < BITS or any(grid.bits < BITS for grid in inspection.grids(layer))


def _gains(module: nn.Module, inspection: Inspection, data: Data, report: Report) -> dict[str, Gain]:
    """Of each layer that can be lifted; none without images to choose grids for."""
    names = [name for name in inspection.layers if liftable(inspection, name)]
    if not names or not len(data.images):
        return {}
    stage, done = f"{BITS} bits for one layer", 0
    inspection.calibrate(data.images.to(data.device), BITS)
    won, lost, count = dict.fromkeys(names, 0), dict.fromkeys(names, 0), 0
    total = len(names) * data.count
    with evaluating(module):
        for images, labels in data.small():
            passes = inspection.each_lifted(images, names, BITS)
            right = classes_of(next(passes)).cpu() == labels
            for name in names:
                now = classes_of(next(passes)).cpu() == labels
                won[name] += int((now & ~right).sum())
                lost[name] += int((right & ~now).sum())
                done += len(images)
                report(stage, done, total)
            passes.close()
            count += len(images)
    return {name: Gain(won[name], lost[name], count) for name in names}


def _layer(inspection: Inspection, found: Signals, name: str, gain: Gain | None) -> LayerFinding:
    signal, grids = found.layers[name], inspection.grids(name)
    tensors = [found.tensors[grid.tensor] for grid in grids]
    inputs = Ratio(sum(t.ratio.signal for t in tensors), sum(t.ratio.noise for t in tensors))
    ends = [one.values.ends() for one in tensors]
    weight = inspection.weight(name)[0]
    block = next((block for block, _, layers in inspection.blocks if name in layers), "")
    return LayerFinding(
        name=name,
        block=block,
        bits=inspection.bits(name),
        gain=gain,
        weight=weight_ratio(inspection, (name,)).decibels,
        input=inputs.decibels if grids else math.inf,
        own=signal.own.decibels,
        logits=signal.logits.decibels,
        drift=signal.drift.decibels,
        beyond=sum(one.beyond for one in tensors) / max(1, sum(one.count for one in tensors)),
        grid=_hull((grid.low, grid.high) for grid in grids),
        values=_hull(pair for pair in ends if pair is not None),
        weights=(float(weight.min()), float(weight.max())),
        signal=signal,
    )


def _blocks(inspection: Inspection, found: Signals) -> tuple[BlockFinding, ...]:
    drifts = [ratio.decibels for ratio in found.blocks] or [math.nan] * len(inspection.blocks)
    return tuple(
        BlockFinding(name, layers, weight_ratio(inspection, layers).decibels, drift)
        for (name, _, layers), drift in zip(inspection.blocks, drifts, strict=True)
    )


def _hull(pairs: Iterable[tuple[float, float]]) -> tuple[float, float] | None:
    every = list(pairs)
    return (min(low for low, _ in every), max(high for _, high in every)) if every else None


def _histogram(labels: Tensor, plain: Tensor, compressed: Tensor, classes: int) -> Histogram:
    def counts(found: Tensor) -> tuple[int, ...]:
        return tuple(int(n) for n in torch.bincount(found[found >= 0], minlength=classes))

    first, second = counts(plain), counts(compressed)
    size = max(1, len(labels))
    differences = sum(abs(a - b) for a, b in zip(first, second, strict=True))
    agreement = float(((plain == compressed) & (plain >= 0)).sum()) / size
    broken = int((compressed < 0).sum())
    return Histogram(counts(labels), first, second, agreement, (differences + broken) / (2 * size), broken)


def _percent(right: Tensor) -> float:
    return 100 * float(right.double().mean())
