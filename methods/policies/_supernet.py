"""A network whose searched weights and tensors follow choices among bits: what searches by gradients train
(EdMIPS, arXiv 2004.05795; docs/methods/policies.md).

Layers that read one tensor share its choice; what the setting fixes has LSQ's plain quantisers at its bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bench.interfaces import BitPolicy, LayerBits, Setting
from methods.policies._mixed import Choice, MixedActivation, MixedWeight
from methods.policies._space import Place, Space
from methods.quant.bits import FLOAT, IMAGE
from methods.quant.build import replace_layer
from methods.quant.choices import StepInit
from methods.quant.learned import ActivationMaker, LearnedActivation, StepActivation
from methods.quant.learned_weights import LsqWeight, WeightMaker
from methods.quant.place import Point
from methods.quant.training import TrainedModel
from methods.quant.training_parts import Makers

LEAST = 1e-30
"""Probability that one of zero counts as in a cost."""


@dataclass(frozen=True)
class Deciders:
    """What makes the choice of a weight's bits and of a tensor's; ``init`` None stands for EdMIPS' fixed steps."""

    weight: Callable[[], Choice]
    act: Callable[[], Choice]
    init: StepInit | None


class Supernet(TrainedModel):
    """See the module's docstring.

    Attributes:
        weights: {layer: its weight's choice}; inputs: {`Place.reads`: the tensors' choice}; of searched ones.
    """

    def __init__(self, module: nn.Module, example: Tensor, setting: Setting, space: Space, deciders: Deciders) -> None:
        self.space, self._deciders = space, deciders
        self._places = {place.name: place for place in space.places}
        self.weights: dict[str, Choice] = {}
        self.inputs: dict[str, Choice] = {}
        plain: StepInit = deciders.init or "mse"
        makers = Makers(
            weight=lambda weight, bits: LsqWeight(weight, bits, plain),
            activation=lambda bits, nonnegative: StepActivation(bits, nonnegative, plain),
        )
        super().__init__(module, example, setting.with_policy(None), makers)

    def _put_inputs(self, make: ActivationMaker, points: list[Point]) -> dict[str, LearnedActivation]:
        found = super()._put_inputs(make, points)
        self.inputs = {}
        for tensor, group in self._open_tensors().items():
            if tensor in found:
                choice = self.inputs.setdefault(group, self._deciders.act())
                mixed = MixedActivation(found[tensor].nonnegative, choice, self._deciders.init)
                replace_layer(self.body, found[tensor], mixed)
                found[tensor] = mixed
        return found

    def _open_tensors(self) -> dict[str, str]:
        """Tensor to quantise → `Place.reads` of those that read it, where its bits are searched."""
        return {
            tensor: self._places[layer].reads
            for layer, tensors in self._plan.reads.items()
            if self._places[layer].input
            for tensor in sorted(tensors - {IMAGE, FLOAT})
        }

    def _put_weights(self, make: WeightMaker) -> None:
        super()._put_weights(make)
        for place in self.space.searched:
            if not place.weight:
                continue
            layer = next(p for p in self._layer(place.name).modules() if parametrize.is_parametrized(p, "weight"))
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
            choice = self.weights[place.name] = self._deciders.weight()
            weight = layer.weight
            assert isinstance(weight, Tensor)
            mixed = MixedWeight(weight.detach(), choice, self._deciders.init)
            parametrize.register_parametrization(layer, "weight", mixed)

    def _layer(self, name: str) -> nn.Module:
        return self.body.get_submodule(name)

    @property
    def last(self) -> nn.Module:
        """The layer that runs last; without a graph with its input's quantiser before it."""
        return self._layer(self.order[-1])

    @cached_property
    def choices(self) -> list[Choice]:
        """All of them, each once."""
        return [*self.weights.values(), *self.inputs.values()]

    @cached_property
    def architecture(self) -> list[nn.Parameter]:
        """What the choices learn."""
        return [parameter for choice in self.choices for parameter in choice.parameters()]

    def settle(self) -> None:
        """After an optimiser step: learned steps positive, choices within their bounds."""
        self.keep_positive()
        for choice in self.choices:
            choice.settle()

    def expected(self, place: Place) -> tuple[Tensor | int, Tensor | int]:
        """Expected bits of a layer's weight and input."""
        weight = self.weights[place.name].expected() if place.weight else place.fixed.weight
        act = self.inputs[place.reads].expected() if place.input else place.fixed.input
        return weight, act

    def bitops(self) -> Tensor:
        """Expected BitOPs of the searched layers, sum_l M_l E[w_l] E[a_l], []."""
        total = torch.zeros((), device=self._example.device)
        for place in self.space.searched:
            weight, act = self.expected(place)
            total = total + place.macs * (weight * act)
        return total

    def complexity(self) -> Tensor:
        """L_comp: `bitops` over the MACs of the first searched layer, []."""
        return self.bitops() / self.space.searched[0].macs

    def picked(self) -> BitPolicy:
        """Each choice's likeliest bits, the budget aside."""
        return BitPolicy.of(
            {
                place.name: (
                    self.weights[place.name].picked() if place.weight else place.fixed.weight,
                    self.inputs[place.reads].picked() if place.input else place.fixed.input,
                )
                for place in self.space.searched
            }
        )

    def costs(self) -> Callable[[Place, LayerBits], float]:
        """-log p_w - log p_a of a pair at a layer; a tensor's part is spread over the layers that read it, so that the
        sum over layers is the policy's negative log probability."""
        readers = [place.reads for place in self.space.searched if place.input]
        weights = {name: _surprises(choice) for name, choice in self.weights.items()}
        inputs = {name: _surprises(choice) for name, choice in self.inputs.items()}

        def cost(place: Place, bits: LayerBits) -> float:
            weight = weights[place.name][bits.weight] if place.weight else 0.0
            act = inputs[place.reads][bits.input] / readers.count(place.reads) if place.input else 0.0
            return weight + act

        return cost

    def probabilities(self) -> dict[str, dict[str, dict[str, float]]]:
        """{layer: {"weight" and "input": {bits: probability}}}, JSON."""
        found: dict[str, dict[str, dict[str, float]]] = {}
        for place in self.space.searched:
            own = found[place.name] = {}
            if place.weight:
                own["weight"] = _table(self.weights[place.name])
            if place.input:
                own["input"] = _table(self.inputs[place.reads])
        return found


def _table(choice: Choice) -> dict[str, float]:
    return {str(bits): share for bits, share in zip(choice.bits, choice.probabilities(), strict=True)}


def _surprises(choice: Choice) -> dict[int, float]:
    """Candidate → -log of its probability."""
    return {bits: -math.log(max(share, LEAST)) for bits, share in zip(choice.bits, choice.probabilities(), strict=True)}
