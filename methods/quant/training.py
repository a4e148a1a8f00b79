"""A network ready for quantisation-aware training: batch normalisation live, quantisers at the layers' inputs.

As docs/methods/quantisation.md#input-placement has it: weights behind per-tensor quantisers, the input of every
weighted layer but the first behind one per-tensor quantiser shared by all layers that read the tensor, identity paths
in floating point, first and last layer at their own bits.  `TrainedModel.export` bakes the weights and folds each batch
normalisation behind them: the folded layer computes a per-channel multiple of the per-tensor weight plus a bias.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from bench.errors import NotApplicable
from bench.interfaces import FLOAT_BITS, BitPolicy, Setting
from bench.interfaces.grids import WeightGrid
from bench.interfaces.inspection import Inspection
from methods.quant.bits import INPUT, UNTRACED, BitPlan, Wiring, decide
from methods.quant.build import WrapError, replace_layer
from methods.quant.fold import fold_batch_norm
from methods.quant.graph import copied, used
from methods.quant.integer import folded_grid, weight_grid
from methods.quant.learned import ActivationMaker, LearnedActivation
from methods.quant.learned_weights import WeightMaker
from methods.quant.levels import count_levels, input_levels
from methods.quant.place import Point, find_inputs, input_wiring, layer_wiring
from methods.quant.same import Reference, departs, reference
from methods.quant.taps import WithTaps
from methods.quant.trace import TraceError, trace
from methods.quant.training_parts import HOLDER, Makers, QuantisedInput, insert, sources_of, times, weighted
from methods.quant.units import find_units


class TrainedModel:
    """Teacher and student made from one network, and the way from the student to what is measured.

    Attributes:
        student: what trains; returns logits and features.
        teacher: the untouched network in eval mode, with the same features.
        taps: names of the tensors that are the features: each unit's output after its activation and before the
            fake quantiser, logits left out; () where the network cannot be traced.
        order: weighted layers in order of their first call.
        units: the network's units, () where it cannot be traced.
        normalised: whether it has batch normalisation (a network that was pruned before has it folded).
        undone: {rewrite: how it differed from the network given}, for those that were undone.
        grids: {layer: grid of its weight} of the exported network; empty before.
        unrounded: {layer: its weight before the quantiser} of the exported network; empty before.
    """

    def __init__(self, module: nn.Module, example: Tensor, setting: Setting, makers: Makers) -> None:
        self.setting = setting
        self.undone: dict[str, str] = {}
        self._folded: frozenset[str] = frozenset()
        self.grids: dict[str, WeightGrid] = {}
        self.unrounded: dict[str, Tensor] = {}
        self._outputs: tuple[str, ...] = ()
        self._example = example[:2]
        expected = reference(module, self._example)
        try:
            self._wrap(self._traced(module, expected), self._traced(module, expected), makers)
            self._check(expected)
        except (TraceError, WrapError) as error:
            self.undone["tracing" if isinstance(error, TraceError) else "quantisers in the graph"] = str(error)
            body, frozen = (copied(module, expected, self.undone) for _ in range(2))
            self._wrap(body, frozen, makers)
            self._check(expected)
        self._put_weights(makers.weight)
        self.body.to(example.device)
        self.student = WithTaps(self.body, self.taps).eval()

    @property
    def reason(self) -> str:
        """Why there is no graph, "" where there is one."""
        return "; ".join(self.undone.values()) if self.path == "modules" else ""

    def _traced(self, module: nn.Module, expected: Reference) -> fx.GraphModule:
        return trace(copied(module, expected, self.undone), self._example, expected)

    def _wrap(self, body: nn.Module, frozen: nn.Module, makers: Makers) -> None:
        """Decide the bits of ``body`` and put quantisers on its inputs; ``frozen`` becomes the teacher."""
        self.body = body
        self.normalised = any(isinstance(part, _BatchNorm) for part in body.modules())
        self._used = used(body, self._example)
        self.order = self._used.order
        if not self.order:
            raise NotApplicable("the network has no convolution or linear layer to quantise")
        self.units = tuple(find_units(body)) if isinstance(body, fx.GraphModule) else ()
        self.taps = self._find_taps()
        self.teacher = WithTaps(frozen, self.taps).eval().requires_grad_(False)
        body.requires_grad_(True)
        graph = body if isinstance(body, fx.GraphModule) else None
        points = find_inputs(graph) if graph is not None else []
        wiring = input_wiring(graph, self.order, points) if graph is not None else layer_wiring(self.order)
        self._rule = INPUT if graph is not None else UNTRACED
        self._plan = self._decide(wiring)
        self._quantisers = self._put_inputs(makers.activation, points)
        body.to(self._example.device)

    def _decide(self, wiring: Wiring) -> BitPlan:
        """The bits of every layer and tensor."""
        return decide(wiring, self.setting, self._rule)

    def _check(self, expected: Reference) -> None:
        """Raise WrapError if the body with its activation quantisers off does not compute what is ``expected``."""
        with self._activations_off():
            difference = departs(self.body, expected)
        if difference:
            raise WrapError("the network behind quantisers that are off is not what it was", got=difference)

    @contextmanager
    def _activations_off(self) -> Iterator[None]:
        for quant in self.activations:
            quant.enabled = False
        try:
            yield
        finally:
            for quant in self.activations:
                quant.enabled = True

    @property
    def activations(self) -> list[LearnedActivation]:
        """All activation quantisers."""
        return list(self._quantisers.values())

    @property
    def path(self) -> str:
        """ "graph" (traced) or "modules" (layers replaced one by one)."""
        return "graph" if isinstance(self.body, fx.GraphModule) else "modules"

    def _find_taps(self) -> tuple[str, ...]:
        if not isinstance(self.body, fx.GraphModule):
            return ()
        result = next(n for n in self.body.graph.nodes if n.op == "output").args[0]
        outputs = (unit.output for unit in self.units)
        return tuple(name for name in dict.fromkeys(outputs) if name != result.name)

    def _put_weights(self, make: WeightMaker) -> None:
        for name, bits in self._plan.layers.items():
            if bits.weight < FLOAT_BITS:
                layer = weighted(self.body, name)
                quant = self._weight_quantiser(make, name, layer.weight.detach())
                parametrize.register_parametrization(layer, "weight", quant)

    def _weight_quantiser(self, make: WeightMaker, layer: str, weight: Tensor) -> nn.Module:
        """What goes on the weight of ``layer``."""
        return make(weight, self._plan.layers[layer].weight)

    def _input_quantiser(self, make: ActivationMaker, tensor: str, nonnegative: bool) -> LearnedActivation:
        """What goes on ``tensor``."""
        return make(self._plan.tensors[tensor], nonnegative)

    def _put_inputs(self, make: ActivationMaker, points: list[Point]) -> dict[str, LearnedActivation]:
        """Quantisers at ``points`` of the graph, then at the layers whose input no graph shows; by tensor."""
        found: dict[str, LearnedActivation] = {}
        if isinstance(self.body, fx.GraphModule):
            self.body.add_submodule(HOLDER, nn.Module())
            for point in points:
                quant = self._input_quantiser(make, point.node.name, point.nonnegative)
                insert(self.body, point.node, quant)
                found[point.node.name] = quant
            self.body.graph.lint()
            self.body.recompile()
        for name in (n for n in self.order if n in self._plan.tensors and n not in found):
            quant = self._input_quantiser(make, name, False)
            layer = self.body.get_submodule(name)
            replace_layer(self.body, layer, QuantisedInput(layer, quant))
            found[name] = quant
        return found

    @torch.no_grad()
    def begin(self, images: Tensor) -> None:
        """Choose all activation grids from one forward of ``images`` [N, C, H, W], activations in floating point."""
        for quant in self.activations:
            quant.observing = True
        self.student.eval()(images)
        for quant in self.activations:
            quant.observing = False

    @torch.no_grad()
    def keep_positive(self) -> None:
        """After an optimiser step: make all learned steps and clips positive again."""
        for module in self.body.modules():
            keep = getattr(module, "keep_positive", None)
            if keep is not None:
                keep()

    @torch.no_grad()
    def _before_rounding(self) -> dict[str, Tensor]:
        """{layer: its weight before the quantiser}, no normalisation folded behind it."""
        found = {}
        for name in self._quantised_layers():
            layer = weighted(self.body, name)
            if parametrize.is_parametrized(layer, "weight"):
                held: Any = layer.get_submodule("parametrizations.weight")
                before = getattr(held[0], "unrounded", None)
                if before is not None and len(held) == 1:
                    found[name] = before(held.original).detach().clone()
        return found

    def inspection(self, module: nn.Module) -> Inspection | None:
        """The exported ``module`` opened up; None where a weight before its quantiser is not known."""
        from methods.quant.inspected_trained import InspectedTrained, Trained

        if not set(self._quantised_layers()) <= self.unrounded.keys():
            return None
        units = tuple((unit.name, unit.rule, unit.layers) for unit in self.units)
        return InspectedTrained(
            Trained(module, self._plan, tuple(self.order), units, self._outputs, dict(self.unrounded))
        )

    def export(self) -> nn.Module:
        """The network to measure, in eval mode: weights baked, batch normalisation folded where there is a graph and
        where folding changes nothing.

        The student is used up.
        """
        body = self.body.eval()
        with self._activations_off():
            expected = reference(body, self._example, (2,))
        grids = self.grids or self._weight_grids()
        unrounded = self.unrounded or self._before_rounding()
        for module in list(body.modules()):
            if parametrize.is_parametrized(module, "weight"):
                parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
        before = {name: weighted(body, name).weight.detach().clone() for name in grids}
        if isinstance(body, fx.GraphModule):
            whole, sources = deepcopy(body), sources_of(body)
            stats = fold_batch_norm(body)
            with self._activations_off():
                difference = departs(body, expected)
            if difference:
                self.undone["folding"], stats = difference, {}
                body = whole
            self._folded = frozenset(stats)
            unrounded |= {name: times(unrounded[name], stats[name].factor) for name in stats.keys() & unrounded.keys()}
            there = {node.name for node in body.graph.nodes}
            self._outputs = tuple(u.output if u.output in there else sources[u.output] for u in self.units)
        self.unrounded = unrounded
        self.grids = {n: folded_grid(g, before[n], weighted(body, n).weight.detach()) for n, g in grids.items()}
        return body.requires_grad_(False)

    def _weight_grids(self) -> dict[str, WeightGrid]:
        """{layer: grid of its weight}, no normalisation folded behind it."""
        found = {}
        for name in self._quantised_layers():
            layer = weighted(self.body, name)
            if parametrize.is_parametrized(layer, "weight"):
                held: Any = layer.get_submodule("parametrizations.weight")
                with suppress(NotApplicable):  # of a kind without an integer form: who wants that is told
                    grid = weight_grid(held[0], held.original)
                    if grid is not None:
                        found[name] = grid
        return found

    def layer_bits(self) -> BitPolicy:
        """{layer: (bits of its weight, bits of its input)}; the image counts 8 bits where activations are quantised."""
        return self._plan.layers

    def weight_levels(self, module: nn.Module) -> dict[str, int]:
        """{layer: the most distinct values that share a scale} of the exported ``module``, for the layers not left in
        floating point.  A channel has a scale of its own where a normalisation was folded behind the weight."""
        return {
            name: count_levels(weighted(module, name).weight, name in self._folded) for name in self._quantised_layers()
        }

    def activation_levels(self) -> dict[str, int]:
        """{layer: levels of the quantiser behind its input}, for the layers that read quantised tensors."""
        return input_levels(self._plan, {n: q.levels for n, q in self._quantisers.items() if q.bits < FLOAT_BITS})

    def scale_count(self, module: nn.Module) -> int:
        """Scales of the exported ``module``: one multiplier per output channel of each quantised layer (step and
        folded normalisation in one), one step per quantised activation."""
        steps = sum(quant.bits < FLOAT_BITS for quant in self.activations)
        return steps + sum(len(weighted(module, name).weight) for name in self._quantised_layers())

    def zero_point_count(self) -> int:
        """Zero points of the activation quantisers that have one; weights have none."""
        return sum(quant.zero_points for quant in self.activations if quant.bits < FLOAT_BITS)

    def _quantised_layers(self) -> list[str]:
        return [name for name, bits in self._plan.layers.items() if bits.weight < FLOAT_BITS]

    def protocol(self, weight_grid: str, activation_grid: str, weight_range: str, act_range: str) -> dict[str, Any]:
        """What is measured, as JSON, under the keys of `methods.quant.model.QuantModel.protocol`."""
        graph = self.path == "graph" and "folding" not in self.undone
        beside = self._used.beside
        return {
            **self._rule.protocol(self.setting),
            "weight_granularity": "per tensor",
            "weight_grid": weight_grid,
            "activation_granularity": "per tensor",
            "activation_grid": activation_grid,
            "activation_placement": "input",
            "batch_norm": ("folded behind the quantised weights" if graph else "unfolded")
            if self.normalised
            else "none",
            "path": self.path,
            "weight_range": weight_range,
            "activation_range": act_range,
            "left_in_float": list(self._used.loose),
            **({"weights_used_beside_their_layers": list(beside)} if beside else {}),
            **({"float_operations": list(self._used.unquantised)} if self._used.unquantised else {}),
            **({"undone": sorted(self.undone)} if self.undone.keys() - {"tracing"} else {}),
        }
