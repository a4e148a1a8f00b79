"""A network with folded batch normalisation, and its units with weights that are mask times weight."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from methods.compressors._masks import Masks
from methods.compressors._reconstruct import CosineLearner, Learner
from methods.quant.graph import copied, folded_graph, used
from methods.quant.same import departs, reference
from methods.quant.trace import TraceError
from methods.quant.units import Unit, find_units


@dataclass(frozen=True)
class Schedule:
    """``mask_iterations`` of stage 1 and ``weight_iterations`` of stage 2 (0: none), Adam's rates for weights (biases
    with them, if ``biases``) and masks, both falling along a half cosine; ``guard`` gives a unit its original weights
    back, pruned in one shot, where learning did not help on all images; ``positions`` per image start each layer from
    a least-squares fit (0: from magnitude pruning as it is)."""

    mask_iterations: int
    weight_iterations: int
    batch: int
    lr: float
    lr_mask: float
    biases: bool = True
    guard: bool = True
    positions: int = 0


@dataclass
class Folded:
    """A copy of a network with folded batch normalisation: ``net`` has the original's modules and names, ``graph`` is
    its trace and shares its layers."""

    net: nn.Module
    graph: fx.GraphModule
    order: tuple[str, ...]
    units: tuple[Unit, ...]


def folded_copy(module: nn.Module, example: Tensor, max_layers: int) -> Folded:
    """Copy, trace and fold ``module``, which stays as it was; ``example`` are images [N, C, H, W].

    Raises:
        TraceError: the network cannot be traced, or what is left of the copy computes something else.
    """
    expected = reference(module, example)
    net = copied(module, expected, {})
    graph, _, gone = folded_graph(net, expected, {})
    for name in gone:
        net.set_submodule(name, nn.Identity())
    if difference := departs(net, expected):
        raise TraceError(f"the folded copy {difference}")
    return Folded(net, graph, used(graph, example).order, find_units(graph, max_layers=max_layers))


def layer_of(net: nn.Module, name: str) -> nn.Conv2d | nn.Linear:
    """The weighted layer of this name."""
    layer = net.get_submodule(name)
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    return layer


Values = dict[str, tuple[Tensor, Tensor | None]]
"""{layer: (weight, bias)}."""


class MaskedUnit:
    """A unit whose layers' weights are mask times weight; callable as the loop wants it.

    ``real`` masks are variables, else they are frozen.  A filter's mask multiplies its bias as well.
    """

    def __init__(self, module: nn.Module, values: Values, masks: Masks, filters: bool, real: bool) -> None:
        self._module, self._filters = module, filters
        self._weights = {name: _parameter(weight) for name, (weight, _) in values.items()}
        self._biases = {name: _parameter(bias) for name, (_, bias) in values.items() if bias is not None}
        self._masks = {name: _parameter(masks[name]) for name in values if name in masks}
        self._real = real

    def learners(self, schedule: Schedule) -> list[Learner]:
        """Weights, biases where these are learned, and real masks."""
        biases = self._biases.values() if schedule.biases else ()
        learners: list[Learner] = [CosineLearner([*self._weights.values(), *biases], schedule.lr)]
        if self._real and self._masks:
            learners.append(CosineLearner(list(self._masks.values()), schedule.lr_mask))
        return learners

    def values(self) -> Values:
        """What the layers compute with; carries gradient while learning."""
        found: Values = {}
        for name, weight in self._weights.items():
            found[name] = masked(weight, self._biases.get(name), self._masks.get(name), self._filters)
        return found

    def __call__(self, x: Tensor) -> Tensor:
        flat: dict[str, Tensor] = {}
        for name, (weight, bias) in self.values().items():
            flat[f"{name}.weight"] = weight
            if bias is not None:
                flat[f"{name}.bias"] = bias
        out: Tensor = torch.func.functional_call(self._module, flat, (x,))
        return out


def masked(weight: Tensor, bias: Tensor | None, mask: Tensor | None, filters: bool) -> tuple[Tensor, Tensor | None]:
    """Weight times mask, and bias times mask where whole filters go."""
    if mask is None:
        return weight, bias
    return weight * mask, bias * mask.reshape(-1) if filters and bias is not None else bias


def _parameter(value: Tensor) -> nn.Parameter:
    layout = torch.channels_last if value.dim() == 4 else torch.contiguous_format
    return nn.Parameter(value.detach().clone(memory_format=layout), requires_grad=False)
