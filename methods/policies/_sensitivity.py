"""What searches by sensitivity share: images and labels, divergences, what rounding loses, networks with one quantiser
switched on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.interfaces import ImageSet, LayerBits, RunContext, Setting
from methods.policies._space import Place, Space, with_bits
from methods.quant.build import Options, WrapError
from methods.quant.graph import Prepared, prepare
from methods.quant.model import QuantModel, Sampling, quantize_prepared
from methods.quant.place import find_points, layer_wiring, output_wiring
from methods.quant.quantizers import fake_quant
from methods.quant.ranges import Grid, grid_limits, search_range


@dataclass(frozen=True)
class Data:
    """Images [N, C, H, W] on the device and a label [N] for each; ``passes`` were spent on the labels."""

    images: Tensor
    labels: Tensor
    passes: float

    def parts(self, batch: int) -> list[tuple[Tensor, Tensor]]:
        """In order, ``batch`` at a time."""
        return list(zip(self.images.split(batch), self.labels.split(batch), strict=True))


def first_images(images: ImageSet, count: int, ctx: RunContext) -> Tensor:
    """The first ``count`` images, on the device."""
    return images.images[:count].to(ctx.device, ctx.dtype)


def labelled(module: nn.Module, images: ImageSet, count: int, batch: int, ctx: RunContext) -> Data:
    """The first ``count`` images with their labels; the network's own answers stand for labels that are not there or of
    other classes."""
    data = first_images(images, count, ctx)
    if images.labels is not None and images.label_kind != "foreign":
        return Data(data, images.labels[:count].to(ctx.device), 0.0)
    return Data(data, logits_of(module, data, batch).argmax(1), float(len(data)))


@torch.no_grad()
def logits_of(module: nn.Module, data: Tensor, batch: int) -> Tensor:
    """Logits [N, K], ``batch`` images at a time."""
    return torch.cat([module(part) for part in data.split(batch)])


def divergence(full: Tensor, other: Tensor) -> float:
    """KL(full || other) of the softmax of logits [N, K], mean over images; rounding errors below 0 are 0."""
    logs = F.log_softmax(full.double(), 1)
    terms = logs.exp() * (logs - F.log_softmax(other.double(), 1))
    return max(float(terms.sum(1).mean()), 0.0)


def weight_loss(weight: Tensor, bits: int) -> float:
    """Sum of squared errors of ``weight`` on the symmetric per-tensor grid that loses least."""
    return _loss(weight.detach(), bits, "symmetric")


def input_loss(x: Tensor, bits: int) -> float:
    """Sum of squared errors of activations ``x`` on the per-tensor grid that loses least: unsigned where no value is
    negative, else affine."""
    return _loss(x.detach(), bits, "unsigned" if float(x.min()) >= 0 else "affine")


def _loss(x: Tensor, bits: int, grid: Grid) -> float:
    step, zero = search_range(x, bits, method="mse-2d", grid=grid, exponent=2.0)
    low, high = grid_limits(bits, grid)
    rounded = fake_quant(x, step, low - zero, high - zero)
    return float((rounded - x).square().sum(dtype=torch.float64))


@dataclass(frozen=True)
class Table:
    """Sensitivities: (layer, bits) of weights and (tensor, bits) of inputs."""

    weights: Mapping[tuple[str, int], float]
    inputs: Mapping[tuple[str, int], float]

    def cost(self, space: Space) -> Callable[[Place, LayerBits], float]:
        """What a pair costs at a layer; a tensor counts once, at the first layer that reads it."""
        first: dict[str, str] = {}
        for place in space.searched:
            if place.input:
                first.setdefault(place.reads, place.name)

        def cost(place: Place, bits: LayerBits) -> float:
            weight = self.weights[place.name, bits.weight] if place.weight else 0.0
            counts = self.inputs and place.input and first[place.reads] == place.name
            return weight + (self.inputs[place.reads, bits.input] if counts else 0.0)

        return cost

    def report(self) -> dict[str, dict[str, dict[str, float]]]:
        """JSON: layer or tensor → bits → sensitivity."""
        found: dict[str, dict[str, dict[str, float]]] = {"weights": {}, "inputs": {}}
        for kind, entries in (("weights", self.weights), ("inputs", self.inputs)):
            for (name, bits), value in entries.items():
                found[kind].setdefault(name, {})[str(bits)] = value
        return found


@dataclass(frozen=True)
class Wired:
    """A network whose searched quantisers have ``bits``, all of them off, and the tensors each layer reads."""

    net: QuantModel
    reads: Mapping[str, frozenset[str]]

    def weight(self, name: str) -> list[nn.Module]:
        """The quantiser of a layer's weight."""
        return [self.net.weights[name]]

    def inputs(self, names: Iterable[str]) -> list[nn.Module]:
        """The quantisers of all that these layers read."""
        wanted = {tensor for name in names for tensor in self.reads[name]}
        return [quantiser for name, quantiser in self.net.activations.items() if name in wanted]


def wired(module: nn.Module, data: Tensor, space: Space, setting: Setting, bits: int, sampling: Sampling) -> Wired:
    """Quantise a copy of ``module`` with ``bits`` wherever they are searched, choose all ranges, switch all off."""
    wish = with_bits(setting, bits, bits).with_policy(space.uniform(bits, bits))
    try:
        found = _wired(prepare(module, data[:2]), wish)
    except WrapError:
        found = _wired(prepare(module, data[:2], trace_graph=False), wish)
    found.net.to(data.device).calibrate(data, sampling)
    found.net.set_state(False, False)
    found.net.freeze()
    return found


def _wired(prepared: Prepared, wish: Setting) -> Wired:
    graph, order = prepared.graph, prepared.order
    wiring = layer_wiring(order) if graph is None else output_wiring(graph, order, find_points(graph))
    return Wired(quantize_prepared(prepared, wish, Options()), wiring.reads)


def divergence_with(on: list[nn.Module], net: nn.Module, data: Tensor, full: Tensor, batch: int) -> float:
    """The divergence from ``full`` with the quantisers ``on`` switched on, which are off again afterwards."""
    for quantiser in on:
        quantiser.enabled = True  # type: ignore[assignment]
    found = divergence(full, logits_of(net, data, batch))
    for quantiser in on:
        quantiser.enabled = False  # type: ignore[assignment]
    return found
