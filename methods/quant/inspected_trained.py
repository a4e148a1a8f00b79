"""A network that was trained quantised, opened up for diagnosis: see `bench.interfaces.inspection.Inspection`.

Its floating-point side is no network that anybody measured: the weights that the training moved, as they are before
their quantisers round them, and the batch normalisation that learned to stand behind the rounded ones.  Grids of more
bits are chosen for what the tensors are in the quantised network, which is the one that was trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from bench.interfaces import FLOAT_BITS, LayerBits, Units
from bench.interfaces.inspection import InputGrid
from methods.quant.bits import BitPlan
from methods.quant.calibrate import Sampling, observe
from methods.quant.integer import grid_point, tensor_of
from methods.quant.layers import LayerFace
from methods.quant.learned import LearnedActivation
from methods.quant.one_by_one import OneByOne
from methods.quant.quantizers import ActQuantizer, WeightQuantizer
from methods.quant.taps import WithTaps

BASELINE = "the trained network's weights before they are rounded, and nothing else quantised"


@dataclass(frozen=True)
class Trained:
    """An exported network's parts.

    Attributes:
        body: what computes the logits; each `LearnedActivation` in it quantises one tensor.
        plan: bits in use, and what each layer reads.
        order: weighted layers in order of execution.
        units: the network's blocks, and ``outputs`` the nodes of ``body`` that are theirs; () without a graph.
        unrounded: {layer: its weight before the quantiser, of the exported one's shape}, for the quantised layers.
    """

    body: nn.Module
    plan: BitPlan
    order: tuple[str, ...]
    units: Units
    outputs: tuple[str, ...]
    unrounded: Mapping[str, Tensor]


class InspectedTrained(OneByOne):
    """The inspection of an exported `methods.quant.training.TrainedModel`, which is left as it was."""

    baseline = BASELINE

    def __init__(self, net: Trained) -> None:
        self._net, self._body = net, net.body
        self._used = {name: self._layer(name).weight.detach() for name in net.order}
        self._paths = {
            tensor_of(path): path
            for path, part in net.body.named_modules()
            if isinstance(part, LearnedActivation) and part.bits < FLOAT_BITS
        }
        points = {name: grid_point(self._quantiser(name)) for name in self._paths}
        self._points = {name: point for name, point in points.items() if point is not None}
        self._finer: dict[tuple[str, int], ActQuantizer] = {}
        self._rounded: dict[tuple[str, int], Tensor] = {}

    @property
    def body(self) -> nn.Module:
        """The exported network's own."""
        return self._body

    @property
    def layers(self) -> tuple[str, ...]:
        """Weighted layers in order of execution."""
        return self._net.order

    @property
    def blocks(self) -> Units:
        """The network's units."""
        return self._net.units

    def bits(self, layer: str) -> LayerBits:
        """Bits in use."""
        return self._net.plan.layers[layer]

    def module(self, layer: str) -> nn.Module:
        """The layer itself, behind the quantiser of what it reads."""
        return self._layer(layer)

    def weight(self, layer: str) -> tuple[Tensor, Tensor]:
        """The weight before its quantiser and behind it, a batch normalisation folded into both."""
        used = self._used[layer]
        return self._net.unrounded.get(layer, used), used

    def grids(self, layer: str) -> tuple[InputGrid, ...]:
        """Those of the tensors it reads that are not of 32 bits, by name."""
        found = []
        for name in self._read(layer):
            point = self._points[name]
            step = float(point.scale)
            low, high = ((end - point.zero_point) * step for end in (point.low, point.high))
            found.append(InputGrid(name, point.bits, low, high, step))
        return tuple(found)

    def watched(self, tensor: str) -> nn.Module:
        """The learned quantiser."""
        return self._quantiser(tensor)

    @torch.no_grad()
    def quantised(self, tensor: str, values: Tensor) -> Tensor:
        """The quantiser's own arithmetic; no hook sees it."""
        return self._quantiser(tensor).quantise(values)

    @torch.no_grad()
    def forward(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Logits, and each unit's output before a quantiser."""
        if not isinstance(self._body, fx.GraphModule):
            logits: Tensor = self._body(images)
            return logits, ()
        # made anew: it would hold the quantisers of the time it was made
        return WithTaps(self._body, self._net.outputs).eval()(images)  # type: ignore[no-any-return]

    def floating(self) -> AbstractContextManager[None]:
        """See the module's docstring."""
        return self._only((), ())

    def alone(self, layer: str) -> AbstractContextManager[None]:
        """A tensor's quantiser stands before all weighted layers that read it."""
        return self._only((layer,), self._read(layer))

    @torch.no_grad()
    def calibrate(self, images: Tensor, bits: int) -> None:
        """For what the tensors are in the quantised network, from at most 256 images."""
        coarse = {name: part for name in self._paths if (part := self._quantiser(name)).bits < bits}
        finer = {name: ActQuantizer(bits, nonnegative=part.nonnegative) for name, part in coarse.items()}
        for quantiser in finer.values():
            quantiser.to(images.device).requires_grad_(False).eval()
            quantiser.enabled = False
        hooks = [part.register_forward_pre_hook(_shown_to(finer[name])) for name, part in coarse.items()]
        try:
            if finer:
                sampling = Sampling()
                shown = torch.split(images[: sampling.images], sampling.batch)
                observe(self._body, shown, dict(enumerate(finer.values())), sampling)
        finally:
            for hook in hooks:
                hook.remove()
        for name, quantiser in finer.items():
            quantiser.enabled = True
            self._finer[name, bits] = quantiser

    @contextmanager
    def lifted(self, layer: str, bits: int) -> Iterator[None]:
        """The weight's new grids are symmetric, one for each output channel, which has a factor of its own where a
        normalisation is folded behind the weight."""
        coarse = self._coarse(layer, bits)
        if any((name, bits) not in self._finer for name in coarse):
            raise LookupError(f"calibrate the grids of {bits} bits first")
        learned = {name: self._quantiser(name) for name in coarse}
        try:
            if self.bits(layer).weight < bits:
                self._layer(layer).weight.data = self._finer_weight(layer, bits)
            for name in coarse:
                self._body.set_submodule(self._paths[name], self._finer[name, bits])
            yield
        finally:
            self._layer(layer).weight.data = self._used[layer]
            for name, quantiser in learned.items():
                self._body.set_submodule(self._paths[name], quantiser)

    def _layer(self, name: str) -> nn.Conv2d | nn.Linear:
        part = self._body.get_submodule(name)
        part = part.layer if isinstance(part, LayerFace) else part
        assert isinstance(part, nn.Conv2d | nn.Linear)
        return part

    def _quantiser(self, tensor: str) -> LearnedActivation:
        part = self._body.get_submodule(self._paths[tensor])
        assert isinstance(part, LearnedActivation)
        return part

    def _read(self, layer: str) -> tuple[str, ...]:
        """The tensors with a quantiser that the layer reads."""
        return tuple(sorted(name for name in self._net.plan.reads[layer] if name in self._paths))

    def _coarse(self, layer: str, bits: int) -> tuple[str, ...]:
        """Those of fewer bits."""
        return tuple(name for name in self._read(layer) if self._net.plan.tensors[name] < bits)

    def _finer_weight(self, layer: str, bits: int) -> Tensor:
        if (layer, bits) not in self._rounded:
            plain = self.weight(layer)[0]
            self._rounded[layer, bits] = WeightQuantizer(plain, bits, grid="symmetric")(plain).detach()
        return self._rounded[layer, bits]

    def _places(self, tensors: Sequence[str]) -> Sequence[str]:
        return [self._paths[name] for name in tensors]

    @contextmanager
    def _only(self, layers: tuple[str, ...], tensors: tuple[str, ...]) -> Iterator[None]:
        """Within: the quantisers of these weights and tensors work and no others."""
        parts = {name: self._quantiser(name) for name in self._paths}
        states = {name: part.enabled for name, part in parts.items()}
        try:
            for name in self.layers:
                plain, used = self.weight(name)
                self._layer(name).weight.data = used if name in layers else plain
            for name, part in parts.items():
                part.enabled = name in tensors
            yield
        finally:
            for name in self.layers:
                self._layer(name).weight.data = self._used[name]
            for name, part in parts.items():
                part.enabled = states[name]


def _shown_to(quantiser: ActQuantizer) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def show(part: nn.Module, args: tuple[Tensor, ...]) -> None:
        quantiser(args[0])

    return show
