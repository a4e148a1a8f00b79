"""What a diagnosis finds of a network, its layers and blocks, and in which order (docs/methods/measures.md#diagnosis).

A layer's gain is what the network wins in top-1 when this one layer gets 8 bits and all others stay as they are.  It is
measured on the same images, so its interval follows from the images that turn right and those that turn wrong: the
adjusted Wald interval for paired shares (Agresti and Min, Statistics in Medicine 24 (2005) 729, their "Wald + 2").
First come the layers whose gain is shown to be one (its interval, widened so that all layers' hold at once, lies above
zero), by gain.  The others tie: among them the one is first whose output, it alone quantised, has the lower
signal-to-noise ratio.  Last are those whose lift is shown to cost accuracy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

from bench.interfaces import LayerBits
from bench.measure.signals import Channels, LayerSignal

BITS = 8
"""Bits that a layer is lifted to."""

LEVEL = 0.95


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
    network could not be opened up; there are then no layers.  ``baseline`` says what the floating-point side of the
    layers is where that is not the network that was compressed, with its top-1."""

    images: int
    top1: float
    plain_top1: float
    histogram: Histogram
    layers: tuple[LayerFinding, ...] = ()
    blocks: tuple[BlockFinding, ...] = ()
    logits: float = math.nan
    closed: str = ""
    baseline: str = ""
    baseline_top1: float = math.nan

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
            **({"baseline": self.baseline, "baseline_top1": self.baseline_top1} if self.baseline else {}),
        }


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
