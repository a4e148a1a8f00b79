"""One network whose bits each image decides, tensor by tensor (docs/methods/quantisation.md#dynamic)."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bench.interfaces import FLOAT_BITS, BitPolicy, LayerBits, Setting
from bench.interfaces.inspection import Inspection
from bench.interfaces.inventory import LAYERS, probe_images, take_inventory
from methods.quant.bits import BitPlan, Wiring
from methods.quant.build import replace_layer
from methods.quant.choosing import (
    ChosenNorm,
    DynamicActivation,
    FollowingLayer,
    ImageBitops,
    PerImage,
    choosers,
    forget,
)
from methods.quant.dynamic_tensors import Choices, input_shapes
from methods.quant.layers import LayerFace, module_of, node_layers
from methods.quant.learned import ActivationMaker, LearnedActivation
from methods.quant.learned_weights import WeightMaker
from methods.quant.levels import count_levels
from methods.quant.selectors import Controller, DeviationSelector, Selector, Told
from methods.quant.switched import SwitchedWeight
from methods.quant.training import TrainedModel
from methods.quant.training_parts import Makers


class DynamicModel(TrainedModel):
    """A `TrainedModel` in which images choose the bits of inner tensors.

    An image chooses for tensors whose bits are the setting's alone (no policy names a layer that reads them, and the
    rule for first and last layer and squeeze-excite does not hold) and whose rows belong to single images; the others
    are as in a static network.  With one candidate it is that network.

    Attributes:
        dynamic: tensors that images choose for, in the order in which layers read them.
        macs: multiply-accumulates of each layer for one image.
    """

    def __init__(
        self,
        module: nn.Module,
        example: Tensor,
        setting: Setting,
        makers: Makers,
        choices: Choices,
        generator: torch.Generator,
    ) -> None:
        """``generator`` (CPU) draws the controller's weights."""
        self.choices, self._generator = choices, generator
        self.dynamic: tuple[str, ...] = ()
        self._controller: Controller | None = None
        found = take_inventory(module, probe_images(example, 1))
        self.macs = {name: use.macs for name, use in found.layers.items()}
        self.loose_macs = found.loose_macs
        super().__init__(module, example, setting, makers)

    def _decide(self, wiring: Wiring) -> BitPlan:
        plan = super()._decide(wiring)
        self._places: dict[str, tuple[int, int, int]] = {}
        self._controller = None
        named = self.setting.policy or BitPolicy()
        roles = [name for name, role in wiring.roles.items() if role in ("inner", "stem")]
        if len(self.choices.inputs) > 1 and self.setting.act_bits < FLOAT_BITS:
            shapes = input_shapes(self.body, self.order, self._example)
            first = round(self.choices.after * len(self.order))
            for name in sorted(roles, key=lambda name: self._first(name, wiring)):
                readers = [layer for layer in self.order if name in wiring.reads[layer]]
                seen = {shapes.get(layer) for layer in readers}
                shape = seen.pop() if len(seen) == 1 else None
                late = self._first(name, wiring) >= first
                if shape is not None and late and not any(layer in named for layer in readers):
                    self._places[name] = shape
        self.dynamic = tuple(self._places)
        ends = (self.order[0], self.order[-1])
        self._governed = {
            layer: next(iter(wiring.reads[layer]))
            for layer in self.order
            if len(wiring.reads[layer]) == 1 and wiring.reads[layer] <= self._places.keys() and layer not in ends
        }
        self._following = frozenset(self._governed) if self.choices.weights else frozenset()
        return plan

    def _first(self, tensor: str, wiring: Wiring) -> int:
        """Place of the first layer that reads it."""
        return min((i for i, layer in enumerate(self.order) if tensor in wiring.reads[layer]), default=len(self.order))

    def _input_quantiser(self, make: ActivationMaker, tensor: str, nonnegative: bool) -> LearnedActivation:
        if tensor not in self._places:
            return super()._input_quantiser(make, tensor, nonnegative)
        axis, channels, rows = self._places[tensor]
        parts = [make(bits, nonnegative) for bits in self.choices.inputs]
        bits = self._plan.tensors[tensor]
        return DynamicActivation(tensor, bits, parts, self._selector(tensor, channels), axis=axis, rows=rows)

    def _selector(self, tensor: str, channels: int) -> Selector:
        count = len(self.choices.inputs)
        if self.choices.selector == "own":
            return DeviationSelector(channels, count, standard=self.choices.standard)
        if self._controller is None:
            lead = self._places[self.dynamic[0]][1]
            more = self.choices.hidden, self.choices.dropout, self._generator
            self._controller = Controller(lead, len(self.dynamic), count, *more)
        return Told(self._controller, self.dynamic.index(tensor))

    def _weight_quantiser(self, make: WeightMaker, layer: str, weight: Tensor) -> nn.Module:
        if layer not in self._following:
            return super()._weight_quantiser(make, layer, weight)
        usual = self._plan.layers[layer].weight
        switch = SwitchedWeight(make(weight, bits) for bits in self.choices.weights)
        switch.choice = min(range(len(self.choices.weights)), key=lambda i: abs(self.choices.weights[i] - usual))
        return switch

    def _put_weights(self, make: WeightMaker) -> None:
        super()._put_weights(make)
        sources = {quant.tensor: quant for quant in choosers(self.body)}
        for name in self._following:
            stands = self.body.get_submodule(name)
            own, quant = (stands.layer, stands.quant) if isinstance(stands, LayerFace) else (stands, None)
            replace_layer(self.body, stands, FollowingLayer(own, sources[self._governed[name]], quant))
        if self.choices.norms:
            self._put_norms()

    def _put_norms(self) -> None:
        """Each batch normalisation right behind a layer whose input is chosen becomes one for each candidate."""
        if not isinstance(self.body, fx.GraphModule):
            return
        sources = {quant.tensor: quant for quant in choosers(self.body)}
        for node in self.body.graph.nodes:
            norm = module_of(self.body, node)
            before = node.args[0] if isinstance(norm, _BatchNorm) and node.args else None
            if not isinstance(norm, _BatchNorm) or not isinstance(before, fx.Node):
                continue
            layers = [name for name in _called(self.body, before) if name in self._governed]
            if layers:
                parts = [norm, *(copy.deepcopy(norm) for _ in self.choices.inputs[1:])]
                replace_layer(self.body, norm, ChosenNorm(parts, sources[self._governed[layers[0]]]))

    @property
    def selectors(self) -> list[nn.Parameter]:
        """Parameters of what chooses."""
        return [parameter for quant in choosers(self.body) for parameter in quant.selector.parameters()]

    @property
    def passes(self) -> float:
        """What a training pass of one image counts, in passes: layers whose weights follow compute each candidate."""
        doubled = sum(self.macs.get(layer, 0) for layer in self._following)
        return 1.0 + (len(self.choices.inputs) - 1) * doubled / max(sum(self.macs.values()) + self.loose_macs, 1)

    def draw(self, generator: torch.Generator | None) -> None:
        """Add Gumbel noise from ``generator`` (CPU) to the logits in training; None for none."""
        for quant in choosers(self.body):
            quant.generator = generator

    @torch.no_grad()
    def tilt(self, amount: float) -> None:
        """Add ``amount`` times a candidate's bits to its logit, in eval mode."""
        for quant in choosers(self.body):
            quant.tilt.fill_(amount)

    def mean_bits(self) -> Tensor:
        """Of each image of the last pass [N]: mean bits of the inputs of the layers whose bits an image decides,
        weighted by MACs x weight bits (by MACs alone where weights follow); with `Choice.bits`' gradient in training.
        """
        bits = {quant.tensor: quant.bits_of_images() for quant in choosers(self.body)}
        total: Tensor | None = None
        whole = 0
        for layer, (macs, least, tensors, weight) in self._moving().items():
            share = macs * (1 if layer in self._following else weight)
            chosen = torch.stack([bits[name] for name in tensors]).amax(0).clamp_min(least) * share
            total, whole = chosen if total is None else total + chosen, whole + share
        assert total is not None, "no image decides anything"
        return total / max(whole, 1)

    def chosen(self) -> dict[str, Tensor]:
        """{tensor: place of each image's candidate [N]} of the last pass."""
        return {quant.tensor: quant.choice.hard for quant in choosers(self.body) if quant.choice is not None}

    def forget(self) -> None:
        """Keep nothing of the last pass."""
        forget(self.body)

    def _moving(self) -> dict[str, tuple[int, int, tuple[str, ...], int]]:
        """{layer: MACs, least bits of its input, the tensors that images choose for, bits of its weight} of the layers
        that read such tensors."""
        found = {}
        for layer, (weight, _) in self._plan.layers.items():
            reads = self._plan.reads[layer]
            tensors = tuple(name for name in self.dynamic if name in reads)
            if tensors:
                least = max((self._plan.tensors.get(name, 8) for name in reads if name not in tensors), default=0)
                found[layer] = (self.macs.get(layer, 0), least, tensors, weight)
        return found

    def bits_between(self) -> dict[str, tuple[LayerBits, LayerBits]]:
        """{layer: the fewest and the most bits of its weight and input} of the layers whose bits an image decides."""
        ends = []
        for place in (0, -1):
            one = {}
            for layer, (_, least, _, weight) in self._moving().items():
                own = self.choices.weights[place] if layer in self._following else weight
                one[layer] = LayerBits(own, max(least, self.choices.inputs[place]))
            ends.append(one)
        return {layer: (ends[0][layer], ends[1][layer]) for layer in ends[0]}

    def image_bitops(self, module: PerImage) -> ImageBitops:
        """What each image takes in the exported ``module``."""
        moving = self._moving()
        plan: BitPolicy = self._plan.layers
        full = LayerBits(FLOAT_BITS, FLOAT_BITS)
        fixed = sum(
            macs * plan.get(name, full).weight * plan.get(name, full).input
            for name, macs in self.macs.items()
            if name not in moving
        )
        layers = tuple(
            (macs, least, tensors, 0 if layer in self._following else weight)
            for layer, (macs, least, tensors, weight) in moving.items()
        )
        follow = tuple(zip(self.choices.inputs, self.choices.weights, strict=True)) if self._following else ()
        return ImageBitops(module, fixed + self.loose_macs * FLOAT_BITS**2, layers, follow)

    def export(self) -> nn.Module:
        """As a static network's; `PerImage` where images choose.  Weights that follow are kept for each candidate, and
        no normalisation is folded behind them or where each candidate has its own."""
        self.forget()
        self.draw(None)
        for part in self.body.modules():
            if isinstance(part, FollowingLayer):
                part.bake()
        body = super().export()
        return PerImage(body).eval() if self.dynamic else body

    def inspection(self, module: nn.Module) -> Inspection | None:
        """As a static network's; None where images choose: no layer has bits of its own then."""
        return None if isinstance(module, PerImage) else super().inspection(module)

    def protocol(self, weight_grid: str, activation_grid: str, weight_range: str, act_range: str) -> dict[str, Any]:
        """As a static network's; normalisations stay behind weights that follow, and where each candidate has one."""
        found = super().protocol(weight_grid, activation_grid, weight_range, act_range)
        if self.dynamic and (self._following or self.choices.norms) and found["batch_norm"].startswith("folded"):
            found["batch_norm"] += ", but where images choose"
        return found

    def weight_levels(self, module: nn.Module) -> dict[str, int]:
        """As a static network's; of a weight that follows the most that a candidate has."""
        body = module.body if isinstance(module, PerImage) else module
        found = super().weight_levels(body)
        for name in self._following:
            layer = body.get_submodule(name)
            assert isinstance(layer, FollowingLayer)
            found[name] = max(count_levels(weight, False) for weight in layer.weights)
        return found

    def scale_count(self, module: nn.Module) -> int:
        """As a static network's, a step for each candidate, multipliers for each weight that follows, and the
        selectors' parameters."""
        body = module.body if isinstance(module, PerImage) else module
        more = len(self.choices.inputs) - 1
        following = sum(len(layer.layer.weight) for layer in body.modules() if isinstance(layer, FollowingLayer))
        chosen = sum(parameter.numel() for quant in choosers(body) for parameter in quant.selector.parameters())
        return super().scale_count(body) + more * (len(choosers(body)) + following) + chosen


def _called(graph: fx.GraphModule, node: fx.Node) -> tuple[str, ...]:
    """Names of the weighted layers that ``node`` calls, one that follows included."""
    part = module_of(graph, node)
    return (str(node.target),) if isinstance(part, (FollowingLayer, *LAYERS)) else node_layers(graph, node)
