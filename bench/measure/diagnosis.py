"""Which layer loses the accuracy of a quantised network (docs/methods/measures.md#diagnosis).

A layer's gain is what the network wins in top-1 when this one layer gets 8 bits and all others stay as they are.  It is
measured on the same images, so its interval follows from the images that turn right and those that turn wrong: the
adjusted Wald interval for paired shares (Agresti and Min, Statistics in Medicine 24 (2005) 729, their "Wald + 2").
First come the layers whose gain is shown to be one (its interval, widened so that all layers' hold at once, lies above
zero), by gain.  The others tie: among them the one is first whose output, it alone quantised, has the lower
signal-to-noise ratio.  Last are those whose lift is shown to cost accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor, nn

from bench.interfaces import LayerBits
from bench.interfaces.inspection import Inspection
from bench.interfaces.inventory import evaluating
from bench.measure.accuracy import batches, predictions, to_input
from bench.measure.signals import Channels, LayerSignal, Ratio, Signals, alone, signals, weight_ratio

BITS = 8
"""Bits that a layer is lifted to."""

ALONE = 128
"""At most so many images show what a layer loses by itself."""

LEVEL = 0.95
_PIXELS = 64 * 32 * 32  # of the images that go through two networks side by side, all layers' outputs held
_NONE = -1

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


@dataclass(frozen=True)
class Gain:
    """Of ``images``, how many a change turned right and how many wrong."""

    won: int
    lost: int
    images: int

    @property
    def points(self) -> float:
        """Gain in top-1, percentage points."""
        return 100 * (self.won - self.lost) / self.images

    def interval(self, comparisons: int = 1) -> tuple[float, float]:
        """Its 95 % interval in points, or the one that, for so many gains, holds for all at once (Bonferroni); see the
        module's docstring."""
        size, difference = self.images + 2, self.won - self.lost
        spread = (self.won + self.lost + 1) - difference**2 / size
        quantile = NormalDist().inv_cdf(1 - (1 - LEVEL) / 2 / comparisons)
        centre, half = difference / size, quantile * math.sqrt(max(spread, 0.0)) / size
        return 100 * max(-1.0, centre - half), 100 * min(1.0, centre + half)


@dataclass(frozen=True)
class LayerFinding:
    """What is known of a layer; ratios in decibels.

    Attributes:
        block: the block it lies in.
        bits: in use.
        gain: None where it has 8 bits or more already, or no images are at hand to choose grids for.
        weight, input: ratios of its weight, and of the tensors it reads behind their quantisers.
        own, logits: of its output and of the logits where it alone is quantised.
        drift: of its output in the quantised network.
        beyond: share of the tensors' values that their grids clip (by more than half a step), in [0, 1].
        grid, values: ends of the grids it reads by, and of the values there in floating point; None without a grid.
        weights: ends of its weight in floating point.
        signal: channels of its input and output.
    """

    name: str
    block: str
    bits: LayerBits
    gain: Gain | None
    weight: float
    input: float
    own: float
    logits: float
    drift: float
    beyond: float
    grid: tuple[float, float] | None
    values: tuple[float, float] | None
    weights: tuple[float, float]
    signal: LayerSignal = field(repr=False)


@dataclass(frozen=True)
class BlockFinding:
    """A block: its layers, the ratio of their weights together and of its output in the quantised network (NaN where
    the graph is not known)."""

    name: str
    layers: tuple[str, ...]
    weight: float
    drift: float


@dataclass(frozen=True)
class Histogram:
    """How often each class is the label, what the floating-point network predicts and what the compressed one does;
    ``agreement`` is the share of images with the same prediction, ``distance`` half the sum of absolute differences
    between the two shares of predictions (total variation, in [0, 1]); ``broken`` counts images without finite logits.
    """

    labels: tuple[int, ...]
    plain: tuple[int, ...]
    compressed: tuple[int, ...]
    agreement: float
    distance: float
    broken: int


@dataclass(frozen=True)
class Diagnosis:
    """The whole answer; ``layers`` in order of execution, ``logits`` the ratio of the logits.  ``closed`` says why the
    network could not be opened up; there are then no layers."""

    images: int
    top1: float
    plain_top1: float
    histogram: Histogram
    layers: tuple[LayerFinding, ...] = ()
    blocks: tuple[BlockFinding, ...] = ()
    logits: float = math.nan
    closed: str = ""

    def ranked(self) -> tuple[LayerFinding, ...]:
        """Worst layer first; see the module's docstring."""
        return tuple(sorted(self.layers, key=lambda layer: _place(layer, self.lifted)))

    @property
    def lifted(self) -> int:
        """How many layers have a gain."""
        return sum(layer.gain is not None for layer in self.layers)

    def to_json(self) -> dict[str, Any]:
        """JSON; infinite ratios (nothing lost) and unknown ones are null, ``rank`` 1 is the worst layer."""
        ranks = {layer.name: rank for rank, layer in enumerate(self.ranked(), 1)}
        return {
            "images": self.images,
            "top1": self.top1,
            "float_top1": self.plain_top1,
            "lifted_to_bits": BITS,
            "logits_db": _finite(self.logits),
            "worst": next((layer.name for layer in self.ranked()), None),
            "layers": [{"rank": ranks[layer.name], **_layer_json(layer)} for layer in self.layers],
            "blocks": [
                {
                    "name": block.name,
                    "layers": list(block.layers),
                    "weight_db": _finite(block.weight),
                    "drift_db": _finite(block.drift),
                }
                for block in self.blocks
            ],
            "predictions": {
                "labels": list(self.histogram.labels),
                "float": list(self.histogram.plain),
                "compressed": list(self.histogram.compressed),
                "agreement": self.histogram.agreement,
                "distance": self.histogram.distance,
                "without_finite_logits": self.histogram.broken,
            },
            **({"closed": self.closed} if self.closed else {}),
        }


def diagnose(
    plain: nn.Module, module: nn.Module, inspection: Inspection | None, data: Data, report: Report
) -> Diagnosis:
    """Find out which layer of ``module`` loses what.

    Args:
        plain: the network that was compressed.
        inspection: opens ``module`` up; without it only predictions are compared.

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
        why = "its compressor does not open it up, so nothing is said of its layers"
        return Diagnosis(count, *accuracies, histogram, closed=why)
    found = signals(inspection, module, _images(data.small()), lambda done: report("signals", done, count))
    few = min(ALONE, count)
    total = few * len(inspection.layers)
    alone(inspection, module, _images(data.small(few)), found, lambda done: report("one layer quantised", done, total))
    gains = _gains(module, inspection, data, report)
    blocks = _blocks(inspection, found)
    layers = tuple(_layer(inspection, found, name, gains.get(name)) for name in inspection.layers)
    return Diagnosis(count, *accuracies, histogram, layers, blocks, found.logits.decibels)


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


def classes_of(logits: Tensor) -> Tensor:
    """Class of the greatest of logits [N, K], int64 [N] on the CPU; -1 where one is not finite."""
    return torch.where(torch.isfinite(logits).all(dim=1), logits.argmax(dim=1), _NONE).cpu()


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
            right = classes_of(next(passes)) == labels
            for name in names:
                now = classes_of(next(passes)) == labels
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


def _place(layer: LayerFinding, comparisons: int) -> tuple[float, ...]:
    """For sorting; what is not known is not bad."""
    low, high = layer.gain.interval(comparisons) if layer.gain else (0.0, 0.0)
    points = layer.gain.points if layer.gain else 0.0
    ratios = [math.inf if math.isnan(ratio) else ratio for ratio in (layer.own, layer.logits, layer.weight)]
    if low > 0:
        return (0, -points, *ratios)
    return (2 if high < 0 else 1, *ratios)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _layer_json(layer: LayerFinding) -> dict[str, Any]:
    gain = layer.gain
    return {
        "name": layer.name,
        "block": layer.block,
        "weight_bits": layer.bits.weight,
        "input_bits": layer.bits.input,
        "gain": None
        if gain is None
        else {"points": gain.points, "interval": list(gain.interval()), "won": gain.won, "lost": gain.lost},
        "weight_db": _finite(layer.weight),
        "input_db": _finite(layer.input),
        "alone_output_db": _finite(layer.own),
        "alone_logits_db": _finite(layer.logits),
        "drift_db": _finite(layer.drift),
        "weight_range": list(layer.weights),
        "input_range": list(layer.values) if layer.values else None,
        "input_grid": list(layer.grid) if layer.grid else None,
        "beyond_grid": layer.beyond,
        "input_channels": _channels_json(*layer.signal.inputs),
        "output_channels": _channels_json(*layer.signal.outputs),
    }


def _channels_json(plain: Channels, compressed: Channels) -> dict[str, Any]:
    """How many there are, and which are dead or constant; ``float_…`` counts those in floating point."""
    dead, constant = compressed.dead(), compressed.constant()
    return {
        "count": len(compressed),
        "dead": dead.nonzero().flatten().tolist(),
        "constant": constant.nonzero().flatten().tolist(),
        "float_dead": int(plain.dead().sum()),
        "float_constant": int(plain.constant().sum()),
    }
