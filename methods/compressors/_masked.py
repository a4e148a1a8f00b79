"""A network with folded batch normalisation, and its units with weights that are mask times weight."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from methods.compressors._masks import Masks
from methods.compressors._reconstruct import CosineLearner, Learner
from methods.quant.fold import fold_batch_norm
from methods.quant.graph import call_order
from methods.quant.layers import NORMS, node_layers
from methods.quant.trace import prepared_copy, record_kinds, trace
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
        TraceError: the network cannot be traced.
    """
    net = prepared_copy(module)
    graph = trace(net, example[:2])
    before = {name for name, part in graph.named_modules() if isinstance(part, NORMS)}
    fold_batch_norm(graph)
    for name in before - {name for name, part in graph.named_modules() if isinstance(part, NORMS)}:
        net.set_submodule(name, nn.Identity())
    record_kinds(graph, example[:2])
    names = [name for node in graph.graph.nodes for name in node_layers(graph, node)]
    order = call_order(graph, {name: graph.get_submodule(name) for name in names}, example[:1])
    return Folded(net, graph, order, find_units(graph, max_layers=max_layers))


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
