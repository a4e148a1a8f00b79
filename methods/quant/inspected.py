"""A `QuantModel` opened up for diagnosis: see `bench.interfaces.inspection.Inspection`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, fx, nn

from bench.interfaces import LayerBits, Units
from bench.interfaces.inspection import InputGrid
from methods.quant.calibrate import Sampling, observe
from methods.quant.model import QuantModel
from methods.quant.one_by_one import OneByOne
from methods.quant.quantizers import ActQuantizer, WeightQuantizer
from methods.quant.taps import WithTaps


class Inspected(OneByOne):
    """The inspection of a finished `QuantModel`, which is left as it was."""

    baseline = ""

    def __init__(self, net: QuantModel) -> None:
        self._net = net
        self._finer: dict[tuple[str, int], ActQuantizer] = {}
        self._rounded: dict[tuple[str, int], WeightQuantizer] = {}
        self._tapped: WithTaps | None = None

    @property
    def body(self) -> nn.Module:
        """The network's own."""
        return self._net.body

    @property
    def layers(self) -> tuple[str, ...]:
        """Weighted layers in order of execution."""
        return tuple(self._net.weights)

    @property
    def blocks(self) -> Units:
        """The units of reconstruction."""
        return tuple((unit.name, unit.rule, unit.layers) for unit in self._net.units)

    def bits(self, layer: str) -> LayerBits:
        """Bits in use."""
        return self._net.layer_bits()[layer]

    def module(self, layer: str) -> nn.Module:
        """The quantised layer.  Where no graph shows its input, that is the tensor before its quantiser."""
        return self._net.quant_layer(layer)

    @torch.no_grad()
    def weight(self, layer: str) -> tuple[Tensor, Tensor]:
        """The folded weight, and what its quantiser makes of it (learned rounding included)."""
        plain, quantizer = self._net.layer(layer).weight, self._net.weights[layer]
        enabled, quantizer.enabled = quantizer.enabled, True
        used = quantizer(plain)
        quantizer.enabled = enabled
        return plain.detach(), used.detach()

    def grids(self, layer: str) -> tuple[InputGrid, ...]:
        """Those of the tensors it reads that are not of 32 bits, by name."""
        found = []
        for name in self._read(layer):
            quantizer = self._net.activations[name]
            zero, step = float(quantizer.zero_point), float(quantizer.scale)
            low, high = ((end - zero) * step for end in (quantizer.n, quantizer.p))
            found.append(InputGrid(name, quantizer.bits, low, high, step))
        return tuple(found)

    def watched(self, tensor: str) -> nn.Module:
        """The activation quantiser."""
        return self._net.activations[tensor]

    @torch.no_grad()
    def quantised(self, tensor: str, values: Tensor) -> Tensor:
        """The quantiser's own arithmetic; no hook sees it."""
        quantizer = self._net.activations[tensor]
        enabled, quantizer.enabled = quantizer.enabled, True
        out = quantizer.forward(values)
        quantizer.enabled = enabled
        return out

    @torch.no_grad()
    def forward(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Logits, and each unit's output behind its quantiser."""
        if not isinstance(self._net.body, fx.GraphModule):
            logits: Tensor = self._net(images)
            return logits, ()
        if self._tapped is None:
            self._tapped = WithTaps(self._net.body, tuple(unit.output for unit in self._net.units)).eval()
        return self._tapped(images)  # type: ignore[no-any-return]

    def floating(self) -> AbstractContextManager[None]:
        """The folded network, bit by bit."""
        return self._only((), ())

    def alone(self, layer: str) -> AbstractContextManager[None]:
        """A tensor's quantiser stands at the tensor, so whatever else reads it (a shortcut) sees it quantised, too."""
        return self._only((layer,), self._read(layer))

    def calibrate(self, images: Tensor, bits: int) -> None:
        """By the range methods of the quantisers that are replaced, from at most 256 images."""
        coarse = {n: q for n, q in self._net.activations.items() if q.bits < bits}
        finer = {n: ActQuantizer(bits, method=q.method, nonnegative=q.nonnegative) for n, q in coarse.items()}
        for quantizer in finer.values():
            quantizer.to(images.device).requires_grad_(False).eval()
            quantizer.enabled = False
        if finer:
            sampling = Sampling()
            with self.floating(), self._in_place(finer):
                shown = torch.split(images[: sampling.images], sampling.batch)
                observe(self._net, shown, dict(enumerate(finer.values())), sampling)
        for name, quantizer in finer.items():
            quantizer.enabled = True
            self._finer[name, bits] = quantizer

    @contextmanager
    def lifted(self, layer: str, bits: int) -> Iterator[None]:
        """The weight's new quantiser has the old one's range method, grid and granularity."""
        coarse = self._coarse(layer, bits)
        if any((name, bits) not in self._finer for name in coarse):
            raise LookupError(f"calibrate the grids of {bits} bits first")
        place, old = self._net.quant_layer(layer), self._net.weights[layer]
        if old.bits < bits:
            place.quant = self._finer_weight(layer, bits)
        try:
            with self._in_place({name: self._finer[name, bits] for name in coarse}):
                yield
        finally:
            place.quant = old

    def _finer_weight(self, layer: str, bits: int) -> WeightQuantizer:
        if (layer, bits) not in self._rounded:
            weight, old = self._net.layer(layer).weight, self._net.weights[layer]
            new = WeightQuantizer(weight, bits, method=old.method, grid=old.grid, per_channel=old.per_channel)
            new.freeze(weight)
            self._rounded[layer, bits] = new.eval()
        return self._rounded[layer, bits]

    def _read(self, layer: str) -> tuple[str, ...]:
        """The tensors with a quantiser that the layer reads."""
        activations = self._net.activations
        return tuple(sorted(n for n in self._net.reads(layer) if n in activations and not activations[n].is_identity))

    def _coarse(self, layer: str, bits: int) -> tuple[str, ...]:
        """Those of fewer bits."""
        return tuple(name for name in self._read(layer) if self._net.activations[name].bits < bits)

    def _places(self, tensors: Sequence[str]) -> Sequence[str]:
        return self._net.activation_paths(tensors)

    @contextmanager
    def _only(self, layers: tuple[str, ...], tensors: tuple[str, ...]) -> Iterator[None]:
        """Within: the quantisers of these weights and tensors work and no others."""
        weights, activations = self._net.weights, self._net.activations
        parts: list[WeightQuantizer | ActQuantizer] = [*weights.values(), *activations.values()]
        states = [(part, part.enabled) for part in parts]
        self._net.set_state(False, False)
        working: list[WeightQuantizer | ActQuantizer] = [weights[name] for name in layers]
        for part in (*working, *(activations[name] for name in tensors)):
            part.enabled = True
        try:
            yield
        finally:
            for part, enabled in states:
                part.enabled = enabled

    @contextmanager
    def _in_place(self, quantizers: dict[str, ActQuantizer]) -> Iterator[None]:
        """Within: these stand where the activation quantisers of their names stood."""
        old = self._net.activations
        self._tapped = None  # it holds the quantisers of the time it was made
        try:
            for name, quantizer in quantizers.items():
                self._net.put_activation(name, quantizer)
            yield
        finally:
            for name in quantizers:
                self._net.put_activation(name, old[name])
            self._tapped = None
