"""What becomes of a quantised network's tensors: signal-to-noise ratios, ranges, and channels that say nothing
(docs/methods/measures.md#diagnosis).

A ratio is 10 log10(sum s² / sum (s - q)²) in decibels, over all values of all images, summed in float64: s in floating
point, q as it is used.  It is infinite where nothing is lost, and minus infinite where there is noise but no signal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from bench.interfaces.inspection import Inspection
from bench.interfaces.inventory import evaluating

SAME = 1e-6
"""A channel is constant when its values differ by no more than this share of the greatest of them."""

Step = Callable[[int], None]
"""Called with how many images are done."""


@dataclass
class Ratio:
    """Sums of a signal-to-noise ratio."""

    signal: float = 0.0
    noise: float = 0.0

    def add(self, plain: Tensor, used: Tensor) -> None:
        """Count ``plain`` [...] against ``used``, of the same shape."""
        self.signal += float(plain.double().square().sum())
        self.noise += float((plain.double() - used.double()).square().sum())

    @property
    def decibels(self) -> float:
        """See the module's docstring; NaN where there is neither signal nor noise counted."""
        if self.noise == 0:
            return math.inf if self.signal > 0 else math.nan
        return 10 * math.log10(self.signal / self.noise) if self.signal > 0 else -math.inf


@dataclass
class Channels:
    """The least and the greatest value of each channel."""

    low: Tensor | None = None
    high: Tensor | None = None

    def add(self, values: Tensor, axis: int) -> None:
        """Count ``values``, whose channels lie along ``axis``."""
        flat = values.detach().movedim(axis, 0).flatten(1)
        low, high = flat.aminmax(dim=1)
        self.low = low if self.low is None else torch.minimum(self.low, low)
        self.high = high if self.high is None else torch.maximum(self.high, high)

    def __len__(self) -> int:
        return 0 if self.low is None else len(self.low)

    def dead(self) -> Tensor:
        """Which channels are always zero, bool [C]."""
        if self.low is None or self.high is None:
            return torch.zeros(0, dtype=torch.bool)
        return (self.low == 0) & (self.high == 0)

    def constant(self) -> Tensor:
        """Which have always the same value, another than zero, bool [C]."""
        if self.low is None or self.high is None:
            return torch.zeros(0, dtype=torch.bool)
        largest = torch.maximum(self.low.abs(), self.high.abs())
        return (self.high - self.low <= SAME * largest) & ~self.dead()

    def ends(self) -> tuple[float, float] | None:
        """Over all channels; None where nothing was counted."""
        if self.low is None or self.high is None:
            return None
        return float(self.low.min()), float(self.high.max())


@dataclass
class TensorSignal:
    """A quantised tensor: its ratio behind its own quantiser, fed what the network in floating point gives it; the
    values there, and how many of them lie beyond the ends of the grid by more than half a step."""

    ratio: Ratio = field(default_factory=Ratio)
    values: Channels = field(default_factory=Channels)
    count: int = 0
    beyond: int = 0


@dataclass
class LayerSignal:
    """A layer: channels (along ``axis``) of its input and output in floating point and quantised; ``drift``, the ratio
    of its output in the quantised network; ``own`` and ``logits``, those of its output and of the logits where it alone
    is quantised."""

    axis: int = 1
    inputs: tuple[Channels, Channels] = field(default_factory=lambda: (Channels(), Channels()))
    outputs: tuple[Channels, Channels] = field(default_factory=lambda: (Channels(), Channels()))
    drift: Ratio = field(default_factory=Ratio)
    own: Ratio = field(default_factory=Ratio)
    logits: Ratio = field(default_factory=Ratio)


@dataclass
class Signals:
    """All of a network: by layer, by tensor, by block in the order of ``Inspection.blocks`` (empty where it gives no
    block's output), and of the logits."""

    layers: dict[str, LayerSignal]
    tensors: dict[str, TensorSignal]
    blocks: list[Ratio]
    logits: Ratio = field(default_factory=Ratio)


def weight_ratio(inspection: Inspection, layers: Sequence[str]) -> Ratio:
    """Of the weights of these layers together."""
    ratio = Ratio()
    for name in layers:
        ratio.add(*inspection.weight(name))
    return ratio


def signals(inspection: Inspection, module: nn.Module, batches: Iterable[Tensor], done: Step) -> Signals:
    """Run ``batches`` of images [B, C, H, W] through the network in floating point and quantised, layer by layer side
    by side; ``module`` is the network that ``inspection`` opens up, and both are left as they were."""
    names = inspection.layers
    tensors = {grid.tensor: TensorSignal() for name in names for grid in inspection.grids(name)}
    axes = {name: 1 if inspection.weight(name)[0].dim() > 2 else -1 for name in names}
    found = Signals({name: LayerSignal(axes[name]) for name in names}, tensors, [])
    count = 0
    with evaluating(module):
        for images in batches:
            _compare(inspection, images, found)
            count += len(images)
            done(count)
    return found


def _compare(inspection: Inspection, images: Tensor, found: Signals) -> None:
    """Count one batch."""
    plain: dict[str, list[Tensor]] = {}

    def note(name: str, x: Tensor, y: Tensor) -> None:
        _count_channels(found.layers[name], x, y, 0)
        plain.setdefault(name, []).append(y.detach().clone())

    def compare(name: str, x: Tensor, y: Tensor) -> None:
        _count_channels(found.layers[name], x, y, 1)
        found.layers[name].drift.add(plain[name].pop(0), y)

    with inspection.floating(), _layers_seen(inspection, note), _tensors_seen(inspection, found):
        logits, blocks = inspection.forward(images)
    with _layers_seen(inspection, compare):
        used, used_blocks = inspection.forward(images)
    found.logits.add(logits, used)
    found.blocks = found.blocks or [Ratio() for _ in blocks]
    for ratio, first, second in zip(found.blocks, blocks, used_blocks, strict=True):
        ratio.add(first, second)


def alone(inspection: Inspection, module: nn.Module, batches: Iterable[Tensor], found: Signals, done: Step) -> None:
    """Add to ``found`` what each layer loses by itself: the others work in floating point."""
    names, count = inspection.layers, 0
    seen: list[Tensor] = []
    wanted = ""

    def see(name: str, x: Tensor, y: Tensor) -> None:
        if not wanted:
            plain.setdefault(name, []).append(y.clone())
        elif name == wanted:
            seen.append(y.clone())

    with evaluating(module), _layers_seen(inspection, see):
        for images in batches:
            plain: dict[str, list[Tensor]] = {}
            wanted = ""
            passes = inspection.each_alone(images, names)
            logits = next(passes)
            for wanted in names:
                seen.clear()
                found.layers[wanted].logits.add(logits, next(passes))
                for first, second in zip(plain.get(wanted, ()), seen, strict=True):
                    found.layers[wanted].own.add(first, second)
                count += len(images)
                done(count)
            passes.close()


def _count_channels(layer: LayerSignal, x: Tensor, y: Tensor, which: int) -> None:
    layer.inputs[which].add(x, layer.axis)
    layer.outputs[which].add(y, layer.axis)


@contextmanager
def _layers_seen(inspection: Inspection, see: Callable[[str, Tensor, Tensor], None]) -> Iterator[None]:
    """Within: ``see(layer, input, output)`` at every call of a layer."""

    def seer(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda part, args, y: see(name, args[0], y)

    hooks = [inspection.module(name).register_forward_hook(seer(name)) for name in inspection.layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _tensors_seen(inspection: Inspection, found: Signals) -> Iterator[None]:
    """Within: every quantised tensor is counted against what its quantiser would make of it."""
    grids = {grid.tensor: grid for name in inspection.layers for grid in inspection.grids(name)}

    def seer(tensor: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def see(part: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> None:
            values, signal = args[0], found.tensors[tensor]
            signal.ratio.add(values, inspection.quantised(tensor, values))
            signal.values.add(values.reshape(1, -1), 0)
            grid = grids[tensor]
            low, high = grid.low - grid.step / 2, grid.high + grid.step / 2
            signal.count += values.numel()
            signal.beyond += int(((values < low) | (values > high)).sum())

        return see

    hooks = [inspection.watched(tensor).register_forward_hook(seer(tensor)) for tensor in found.tensors]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
