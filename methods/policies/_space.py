"""What a search decides on: the layers whose bits the setting leaves open, which of them read one tensor, what any
choice takes (docs/methods/policies.md#space).

First and last layer, tensors inside squeeze-excite and the image have bits of their own by the rule of bits
(docs/methods/quantisation.md#bits) and are counted, not searched.  Layers that read one tensor under either placement
of quantisers get the same input bits, so that a policy means the same to post-training methods and to training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from torch import Tensor, nn

from bench.errors import NotApplicable
from bench.interfaces import FLOAT_BITS, BitPolicy, LayerBits, Setting
from bench.interfaces.inventory import probe_images, take_inventory
from bench.interfaces.program import Choice
from methods.policies._ties import Pairs, alike, groups
from methods.quant.bits import FLOAT, IMAGE, INPUT, UNTRACED, BitRule, Wiring, decide
from methods.quant.graph import prepare, used
from methods.quant.place import find_inputs, find_points, input_wiring, layer_wiring, output_wiring
from methods.quant.plain import prepared_copy
from methods.quant.trace import TraceError, trace

_PROBES = ((3, 3), (5, 5))
"""Two settings: what differs between them follows the setting."""


@dataclass(frozen=True)
class Place:
    """A weighted layer.

    Attributes:
        macs: for one image; weights: scalars of its weight.
        fixed: its bits where the setting leaves nothing open.
        weight, input: whether its weight bits, and its input's, are searched.
        reads: the tensor it reads, one name for all that share a quantiser.
    """

    name: str
    macs: int
    weights: int
    fixed: LayerBits
    weight: bool
    input: bool
    reads: str

    @property
    def searched(self) -> bool:
        """Whether a policy has to name it."""
        return self.weight or self.input

    def bits(self, weight: int, act: int) -> LayerBits:
        """The bits it gets where the open ones are these."""
        return LayerBits(weight if self.weight else self.fixed.weight, act if self.input else self.fixed.input)


class Used(NamedTuple):
    """BitOPs of one image, and bits of the weights."""

    bitops: int
    weight_bits: int


@dataclass(frozen=True)
class Space:
    """All weighted layers, in the order of their first call; ``loose_macs`` run outside of them, in floating point;
    ``alike`` as `methods.policies._ties.alike` gives it."""

    places: tuple[Place, ...]
    loose_macs: int = 0
    alike: Mapping[str, Pairs] = field(default_factory=dict)

    @cached_property
    def searched(self) -> tuple[Place, ...]:
        """The layers a policy names."""
        return tuple(place for place in self.places if place.searched)

    @property
    def macs(self) -> int:
        """Of the searched layers, for one image."""
        return sum(place.macs for place in self.searched)

    def uniform(self, weight: int, act: int) -> BitPolicy:
        """These bits wherever they are open."""
        return BitPolicy.of({place.name: place.bits(weight, act) for place in self.searched})

    @cached_property
    def fixed(self) -> Used:
        """What the layers that are not searched take, and what runs outside of layers."""
        ends = [place for place in self.places if not place.searched]
        bitops = sum(place.macs * math.prod(place.fixed) for place in ends) + self.loose_macs * FLOAT_BITS**2
        return Used(bitops, sum(place.weights * place.fixed.weight for place in ends))

    def used(self, policy: Mapping[str, LayerBits]) -> Used:
        """What the searched layers take with ``policy``, which names all of them."""
        return Used(
            sum(place.macs * math.prod(policy[place.name]) for place in self.searched),
            sum(place.weights * policy[place.name].weight for place in self.searched),
        )

    def bitops(self, policy: Mapping[str, LayerBits]) -> int:
        """BitOPs of the whole network for one image: sum of MACs times weight bits times input bits."""
        return self.fixed.bitops + self.used(policy).bitops

    def weight_bits(self, policy: Mapping[str, LayerBits]) -> int:
        """Bits of all weights together."""
        return self.fixed.weight_bits + self.used(policy).weight_bits

    def effective_bits(self, policy: Mapping[str, LayerBits]) -> float:
        """sqrt(sum M w a / sum M) over the searched layers: how EdMIPS reports its "2.0 bits"."""
        return float((self.used(policy).bitops / max(self.macs, 1)) ** 0.5)

    def tied(self, kinds: Iterable[str]) -> dict[str, str]:
        """Layer → the first of the layers that get the same pair; layers that read one tensor are ``sibling``."""
        names = [place.name for place in self.searched]
        siblings = tuple((place.reads, place.name) for place in self.searched)
        given = {**self.alike, "sibling": siblings}
        return groups(names, (pair for kind in kinds for pair in given[kind]))

    def pairs(self, place: Place, weight: Iterable[int], act: Iterable[int]) -> tuple[LayerBits, ...]:
        """The pairs ``place`` may get, each once, ascending."""
        acts = tuple(act)
        return tuple(sorted({place.bits(w, a) for w in weight for a in acts}))

    def choices(
        self,
        weight: Iterable[int],
        act: Iterable[int],
        cost: Callable[[Place, LayerBits], float],
        *,
        tie: Callable[[Place], str] = lambda _: "",
        equal: bool = False,
    ) -> list[Choice]:
        """The integer program's layers.

        Args:
            cost: of a pair at a layer.
            tie: layers of one word get the same pair.
            equal: only pairs of equal weight and input bits where both are open.
        """
        weights, acts = tuple(weight), tuple(act)
        found = []
        for place in self.searched:
            pairs = self.pairs(place, weights, acts)
            if equal and place.weight and place.input:
                pairs = tuple(pair for pair in pairs if pair.weight == pair.input)
            costs = {pair: cost(place, pair) for pair in pairs}
            # Input bits that are the same whatever is chosen bind nobody.
            reads = place.reads if place.input else ""
            found.append(Choice(place.name, place.macs, place.weights, costs, tie(place), reads))
        return found


def space_of(module: nn.Module, example: Tensor, setting: Setting) -> Space:
    """The space of ``module``, which stays as it was, for ``setting``; ``example`` holds images [N, C, H, W] of its
    size.

    Raises:
        NotApplicable: nothing of it is quantised at such a setting.
    """
    example = example[:2].detach()
    training, rule = _training_wiring(module, example)
    plain = setting.with_policy(None)
    fixed = decide(training, plain, rule).layers
    low, high = (decide(training, with_bits(plain, *bits), rule).layers for bits in _PROBES)
    tensors = _shared(training, _output_wiring(module, example))
    found = take_inventory(module, probe_images(example, 1))
    # A tensor that one reader holds to bits of its own is open to none of the others.
    held = {tensors[name] for name in training.order if low[name].input == high[name].input}
    places = tuple(
        Place(
            name,
            found.layers[name].macs,
            _scalars(found.layers[name].module),
            fixed[name],
            low[name].weight != high[name].weight,
            tensors[name] not in held,
            tensors[name],
        )
        for name in training.order
    )
    space = Space(places, found.loose_macs, alike(module, example))
    if not space.searched:
        raise NotApplicable("the network has no layer whose bits could be searched", got=f"{len(places)} layers")
    return space


def with_bits(setting: Setting, weight: int, act: int) -> Setting:
    """``setting`` with other bits of weights and activations."""
    return Setting.of(dict(setting.values) | {"weight_bits": weight, "act_bits": act}, setting.policy)


def _training_wiring(module: nn.Module, example: Tensor) -> tuple[Wiring, BitRule]:
    """Who reads what under input placement, and the rule of bits there."""
    copy = prepared_copy(module)
    try:
        graph = trace(copy, example)
    except TraceError:
        return layer_wiring(used(copy, example).order), UNTRACED
    order = used(graph, example).order
    return input_wiring(graph, order, find_inputs(graph)), INPUT


def _output_wiring(module: nn.Module, example: Tensor) -> Wiring:
    """Who reads what under output placement."""
    prepared = prepare(module, example)
    if prepared.graph is None:
        return layer_wiring(prepared.order)
    return output_wiring(prepared.graph, prepared.order, find_points(prepared.graph))


def _shared(*wirings: Wiring) -> dict[str, str]:
    """Layer → the first layer of those that read a tensor with it, directly or by way of others."""
    first: dict[str, str] = {}

    def leader(name: str) -> str:
        while first[name] != name:
            name = first[name]
        return name

    for wiring in wirings:
        reader: dict[str, str] = {}
        for layer in wiring.order:
            first.setdefault(layer, layer)
            for tensor in sorted(wiring.reads[layer] - {IMAGE, FLOAT}):
                first[leader(layer)] = leader(reader.setdefault(tensor, layer))
    return {name: leader(name) for name in first}


def _scalars(layer: nn.Module) -> int:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight.numel()
