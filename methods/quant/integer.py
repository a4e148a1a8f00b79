"""The integer form of quantised networks: where every quantiser of this package says what its grid is
(docs/export.md#mapping).

A weight comes as grid and plain values, an activation quantiser as `bench.interfaces.grids.GridPoint`.  DoReFa's grid
and the centred one hold no zero: their values lie half a step beside those of an affine grid, which is the grid's
``offset``.  Where a batch normalisation is folded behind a weight, its factor goes into each channel's step, which is
negative where the factor is.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from bench.errors import NotApplicable
from bench.interfaces import FLOAT_BITS
from bench.interfaces.grids import GridPoint, Integers, WeightGrid
from methods.quant.build import replace_layer
from methods.quant.choosing import DynamicActivation, PerImage
from methods.quant.layers import LayerFace, QuantLayer
from methods.quant.learned import AffineStepActivation, LearnedActivation, PactActivation, StepActivation
from methods.quant.learned_weights import LsqWeight, SquashedWeight, squashed_weight
from methods.quant.quantizers import ActQuantizer, WeightQuantizer
from methods.quant.ranges import MIN_STEP
from methods.quant.switched import SwitchedActivation, SwitchedWeight


class RoundedInput(LayerFace):
    """A layer behind a `GridPoint`, where no graph shows its input."""

    def __init__(self, layer: nn.Module, point: nn.Module) -> None:
        super().__init__()
        self.layer, self.point = layer, point  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(self.point(x))
        return out


@torch.no_grad()
def weight_grid(quantizer: nn.Module, weight: Tensor) -> WeightGrid | None:
    """The grid on which ``quantizer`` puts ``weight`` [O, ...]; None where it leaves it in floating point.

    Raises:
        NotApplicable: a quantiser of a kind that is not known here.
    """
    if isinstance(quantizer, SwitchedWeight):
        return weight_grid(quantizer.parts[quantizer.choice], weight)
    if isinstance(quantizer, WeightQuantizer):
        if quantizer.is_identity or not quantizer.enabled:
            return None
        shape = (-1,) if quantizer.per_channel else ()
        scale, zero = (part.detach().float().reshape(shape) for part in (quantizer.scale, quantizer.zero_point))
        return WeightGrid(quantizer.bits, quantizer.n, quantizer.p, scale.clone(), zero.clone())
    if isinstance(quantizer, LsqWeight):
        scale = quantizer.scale.detach().float().reshape(())
        return WeightGrid(quantizer.p.bit_length() + 1, quantizer.n, quantizer.p, scale, torch.zeros_like(scale))
    if isinstance(quantizer, SquashedWeight):
        return _squashed_grid(quantizer, weight)
    raise NotApplicable("no integer form of this weight quantiser is known", got=type(quantizer).__name__)


def _squashed_grid(quantizer: SquashedWeight, weight: Tensor) -> WeightGrid:
    """Values factor (2 c / L - 1), L = 2^bits - 1 (DoReFa) or 2^bits, c or c + 1/2 (centred): with the zero point
    2^(bits - 1) half a step is left over in the first and the last."""
    factor = quantizer.factor
    if quantizer.scale == "sat":
        out = squashed_weight(weight, quantizer.bits, quantizer.grid)
        factor = quantizer.spread / out.std(unbiased=False).clamp_min(MIN_STEP)
    top = (1 << quantizer.bits) - 1
    scale = (2 * factor / (top if quantizer.grid == "dorefa" else top + 1)).detach().float().reshape(())
    zero = torch.full_like(scale, float(1 << (quantizer.bits - 1)))
    offset = None if quantizer.grid == "modified" else scale / 2
    return WeightGrid(quantizer.bits, 0, top, scale, zero, offset)


@torch.no_grad()
def folded_grid(grid: WeightGrid, before: Tensor, after: Tensor) -> WeightGrid:
    """``grid`` of a weight ``before`` [O, ...] a normalisation was folded behind it, as that of the weight ``after``: a
    per-channel multiple, read off each channel's greatest value."""
    if torch.equal(before, after):
        return grid
    flat, folded = before.reshape(len(before), -1).double(), after.reshape(len(after), -1).double()
    place = flat.abs().argmax(1, keepdim=True)
    top = flat.gather(1, place)[:, 0]
    factor = torch.where(top == 0, torch.ones_like(top), folded.gather(1, place)[:, 0] / top)
    # A channel of which nothing is left keeps a step that can be divided by; its codes are the zero point.
    factor = torch.where(factor == 0, torch.ones_like(factor), factor)
    scale = (grid.scale.double() * factor).float()
    zero = grid.zero_point.expand(len(scale)).clone()
    offset = None if grid.offset is None else (grid.offset.double() * factor).float()
    return WeightGrid(grid.bits, grid.low, grid.high, scale, zero, offset)


def grid_point(quantizer: nn.Module) -> GridPoint | None:
    """What rounds as ``quantizer`` does; None where it leaves its tensor in floating point.

    Raises:
        NotApplicable: its bits depend on the image, or it is of a kind that is not known here.
    """
    if isinstance(quantizer, ActQuantizer):
        if quantizer.is_identity or not quantizer.enabled:
            return None
        return GridPoint(quantizer.bits, quantizer.n, quantizer.p, quantizer.scale, quantizer.zero_point)
    if isinstance(quantizer, DynamicActivation):
        raise _per_image()
    if isinstance(quantizer, SwitchedActivation):
        return grid_point(quantizer.part(quantizer.choice))
    if not isinstance(quantizer, LearnedActivation):
        raise NotApplicable("no integer form of this activation quantiser is known", got=type(quantizer).__name__)
    if quantizer.bits >= FLOAT_BITS or not quantizer.enabled:
        return None
    return _learned_point(quantizer)


@torch.no_grad()
def _learned_point(quantizer: LearnedActivation) -> GridPoint:
    top = (1 << quantizer.bits) - 1
    if isinstance(quantizer, AffineStepActivation) and quantizer.signed:
        return GridPoint(quantizer.bits, 0, top, quantizer.scale, quantizer.zero.round())
    if isinstance(quantizer, StepActivation):
        return GridPoint(quantizer.bits, *quantizer.limits, quantizer.scale, 0)
    if isinstance(quantizer, PactActivation):
        alpha = quantizer.units[0] * quantizer.alpha
        low = -(quantizer.units[1] * quantizer.beta) if quantizer.signed else torch.zeros_like(alpha)
        step = (alpha - low) / top
        return GridPoint(quantizer.bits, 0, top, step, torch.round(-low / step))
    raise NotApplicable("no integer form of this activation quantiser is known", got=type(quantizer).__name__)


def _per_image() -> NotApplicable:
    return NotApplicable(
        "images decide on the bits: each image would need a graph of its own",
        hint="Export the static network of the same bits.",
    )


@torch.no_grad()
def post_training_integers(body: nn.Module, layers: Mapping[str, str], points: Mapping[str, str]) -> Integers:
    """The integer form of a network behind `QuantLayer` and `ActQuantizer`, which stays as it was.

    Args:
        body: what computes the logits.
        layers: {layer: path of its `QuantLayer` in ``body``}.
        points: {tensor: path of its quantiser in ``body``}.

    Raises:
        NotApplicable: a quantiser's kind is not known.
    """
    net = copy.deepcopy(body).eval()
    found = _pointed(net, points)
    weights = {}
    for name, path in layers.items():
        face = net.get_submodule(path)
        assert isinstance(face, QuantLayer)
        grid = weight_grid(face.quant, face.layer.weight)
        used = face.weight.detach().clone()
        if grid is not None:
            weights[name] = grid
        layer = face.layer
        layer.weight = nn.Parameter(used, requires_grad=False)
        point = face.input_quant
        replace_layer(net, face, layer if point is None else RoundedInput(layer, point))
        if point is not None and found.get(name):
            found[name] = f"{path}.point"
    return Integers(net, weights, {name: path for name, path in found.items() if path})


@torch.no_grad()
def trained_integers(body: nn.Module, grids: Mapping[str, WeightGrid], layers: Collection[str]) -> Integers:
    """The integer form of an exported network of `methods.quant.training.TrainedModel`, which stays as it was;
    ``grids`` are those of its weights, by layer, ``layers`` those whose weight is quantised.

    Raises:
        NotApplicable: bits depend on the image, or a quantiser's kind is not known.
    """
    if isinstance(body, PerImage):
        raise _per_image()
    unknown = [layer for layer in layers if layer not in grids]
    if unknown:
        raise NotApplicable("no integer form of its weight's quantiser is known", where=unknown[0])
    net = copy.deepcopy(body).eval()
    paths = {tensor_of(path): path for path, part in net.named_modules() if isinstance(part, LearnedActivation)}
    return Integers(net, grids, {name: path for name, path in _pointed(net, paths).items() if path})


def tensor_of(path: str) -> str:
    """A tensor's name from its quantiser's path: behind a holder's name, or the layer whose input it is."""
    first, _, rest = path.partition(".")
    return rest if first.endswith("_quantizers") else path.removesuffix(".quant")


def _pointed(net: nn.Module, paths: Mapping[str, str]) -> dict[str, str]:
    """Put a `GridPoint` in each quantiser's place, and nothing where it leaves its tensor as it is; {tensor: path of
    its point, "" where there is none}."""
    found = {}
    for name, path in paths.items():
        point = grid_point(net.get_submodule(path))
        net.set_submodule(path, nn.Identity() if point is None else point.to(_device(net)).eval())
        found[name] = path if point is not None else ""
    return found


def _device(net: nn.Module) -> torch.device:
    return next(net.parameters()).device
