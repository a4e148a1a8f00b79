"""A network ready for quantisation-aware training: batch normalisation live, quantisers at the layers' inputs.

Specification section 4: weights behind per-tensor quantisers, the input of every weighted layer but the first behind
one per-tensor quantiser shared by all layers that read the tensor, identity paths in floating point, first and last
layer at their own bits.  `TrainedModel.export` bakes the weights and folds each batch normalisation behind them: the
folded layer computes a per-channel multiple of the per-tensor weight plus a bias.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from bench.errors import NotApplicable
from bench.interfaces import BitPolicy, Setting
from methods.quant.fold import fold_batch_norm
from methods.quant.graph import call_order
from methods.quant.layers import inner_layers, is_opaque, module_of, node_layers
from methods.quant.learned import ActivationMaker, LearnedActivation, WeightMaker
from methods.quant.place import Role, find_inputs
from methods.quant.ranges import FLOAT_BITS
from methods.quant.trace import TraceError, prepared_copy, trace
from methods.quant.units import find_units

_HOLDER = "input_quantizers"
_IMAGE_BITS = 8
_SE_BITS = 8


@dataclass(frozen=True)
class Makers:
    """What puts a quantiser on a weight and on an activation."""

    weight: WeightMaker
    activation: ActivationMaker


class WithTaps(nn.Module):
    """A network that returns its logits [N, K] and intermediate features, a tuple of tensors; shares all modules."""

    def __init__(self, body: nn.Module, taps: tuple[str, ...]) -> None:
        super().__init__()
        self.body = _tapped(body, taps) if isinstance(body, fx.GraphModule) else body
        self.traced = isinstance(body, fx.GraphModule)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        out = self.body(x)
        return (out[0], tuple(out[1])) if self.traced else (out, ())


def _tapped(graph: fx.GraphModule, taps: tuple[str, ...]) -> fx.GraphModule:
    copy = fx.Graph()
    made: dict[fx.Node, fx.Node] = {}
    logits = copy.graph_copy(graph.graph, made)
    assert isinstance(logits, fx.Node)
    by_name = {node.name: new for node, new in made.items()}
    copy.output((logits, [by_name[name] for name in taps]))
    return fx.GraphModule(graph, copy)


class _QuantisedInput(nn.Module):
    """A layer behind an activation quantiser, where there is no graph to put one into."""

    def __init__(self, layer: nn.Module, quant: LearnedActivation) -> None:
        super().__init__()
        self.layer, self.quant = layer, quant

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(self.quant(x))
        return out


class TrainedModel:
    """Teacher and student made from one network, and the way from the student to what is measured.

    Attributes:
        student: what trains; returns logits and features.
        teacher: the untouched network in eval mode, with the same features.
        taps: names of the tensors that are the features: each unit's output after its activation and before the
            fake quantiser, logits left out; () where the network cannot be traced.
        order: weighted layers in order of their first call.
        normalised: whether it has batch normalisation (a network that was pruned before has it folded).
    """

    def __init__(self, module: nn.Module, example: Tensor, setting: Setting, makers: Makers) -> None:
        self.setting = setting
        self.reason = ""
        try:
            self.body: nn.Module = trace(prepared_copy(module), example[:2])
            frozen: nn.Module = trace(prepared_copy(module), example[:2])
        except TraceError as error:
            self.reason = str(error)
            self.body, frozen = prepared_copy(module), prepared_copy(module)
        self.normalised = any(isinstance(part, _BatchNorm) for part in self.body.modules())
        self.order = call_order(self.body, inner_layers(self.body), example[:1])
        if not self.order:
            raise NotApplicable("the network has no convolution or linear layer to quantise")
        self.taps = self._find_taps()
        self.teacher = WithTaps(frozen, self.taps).eval().requires_grad_(False)
        self.body.requires_grad_(True)
        self._weight_bits = self._put_weights(makers.weight)
        self._input_bits, self.activations = self._put_inputs(makers.activation)
        self.body.to(example.device)
        self.student = WithTaps(self.body, self.taps).eval()

    @property
    def path(self) -> str:
        """ "graph" (traced) or "modules" (layers replaced one by one)."""
        return "graph" if isinstance(self.body, fx.GraphModule) else "modules"

    def _find_taps(self) -> tuple[str, ...]:
        if not isinstance(self.body, fx.GraphModule):
            return ()
        result = next(n for n in self.body.graph.nodes if n.op == "output").args[0]
        outputs = (unit.output for unit in find_units(self.body))
        return tuple(name for name in dict.fromkeys(outputs) if name != result.name)

    def _put_weights(self, make: WeightMaker) -> dict[str, int]:
        bits = {}
        for name in self.order:
            layer = self.body.get_submodule(name)
            edge = name in (self.order[0], self.order[-1]) and self.setting.weight_bits < FLOAT_BITS
            bits[name] = self.setting.first_last_bits if edge else self.setting.weight_bits
            if bits[name] < FLOAT_BITS:
                assert isinstance(layer.weight, Tensor)
                parametrize.register_parametrization(layer, "weight", make(layer.weight.detach(), bits[name]))
        return bits

    def _act_bits(self, role: Role) -> int:
        if self.setting.act_bits >= FLOAT_BITS:
            return FLOAT_BITS
        if role == "se":
            return _SE_BITS
        return self.setting.first_last_bits if role == "last" else self.setting.act_bits

    def _put_inputs(self, make: ActivationMaker) -> tuple[dict[str, int], list[LearnedActivation]]:
        image = _IMAGE_BITS if self.setting.act_bits < FLOAT_BITS else FLOAT_BITS
        bits = dict.fromkeys(self.order, image)
        found: list[LearnedActivation] = []
        loose = set(self.order[1:])
        if isinstance(self.body, fx.GraphModule):
            self.body.add_submodule(_HOLDER, nn.Module())
            for point in find_inputs(self.body):
                quant = make(self._act_bits(point.role), point.nonnegative)
                names = _insert(self.body, point.node, quant)
                bits.update(dict.fromkeys(names, quant.bits))
                found.append(quant)
            self.body.graph.lint()
            self.body.recompile()
            # The graph shows the inputs of all layers but those inside a leaf of the trace.
            loose = {n for n in loose if n in _inside_leaves(self.body)}
        for name in (n for n in self.order if n in loose):
            quant = make(self._act_bits("last" if name == self.order[-1] else "inner"), False)
            parent, _, leaf = name.rpartition(".")
            setattr(self.body.get_submodule(parent), leaf, _QuantisedInput(self.body.get_submodule(name), quant))
            bits[name] = quant.bits
            found.append(quant)
        return bits, found

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

    def export(self) -> nn.Module:
        """The network to measure, in eval mode: weights baked, batch normalisation folded where there is a graph.

        The student is used up.
        """
        body = self.body.eval()
        for module in list(body.modules()):
            if parametrize.is_parametrized(module, "weight"):
                parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
        if isinstance(body, fx.GraphModule):
            fold_batch_norm(body)
        return body.requires_grad_(False)

    def layer_bits(self) -> BitPolicy:
        """{layer: (bits of its weight, bits of its input)}; the image counts 8 bits where activations are quantised."""
        return BitPolicy.of({n: (min(self._weight_bits[n], FLOAT_BITS), self._input_bits[n]) for n in self.order})

    def scale_count(self, module: nn.Module) -> int:
        """Scales of the exported ``module``: one multiplier per output channel of each quantised layer (step and
        folded normalisation in one), one step per quantised activation."""
        total = sum(quant.bits < FLOAT_BITS for quant in self.activations)
        for name, bits in self._weight_bits.items():
            if bits < FLOAT_BITS:
                layer = module.get_submodule(name)
                layer = layer.layer if isinstance(layer, _QuantisedInput) else layer
                assert isinstance(layer, nn.Conv2d | nn.Linear)
                total += layer.weight.shape[0]
        return total

    def protocol(self, weight_grid: str, activation_grid: str, weight_range: str, act_range: str) -> dict[str, Any]:
        """What is measured, as JSON, under the keys of `methods.quant.model.QuantModel.protocol`."""
        setting, graph = self.setting, self.path == "graph"
        edge = setting.first_last_bits if setting.weight_bits < FLOAT_BITS else FLOAT_BITS
        weighted = {id(p) for name in self.order for p in self.body.get_submodule(name).parameters()}
        loose = [n for n, p in self.body.named_parameters() if p.dim() > 1 and id(p) not in weighted]
        return {
            "weight_bits": setting.weight_bits,
            "activation_bits": setting.act_bits,
            "first_last_weight_bits": edge,
            "stem_output_bits": self._act_bits("inner"),
            "last_input_bits": self._act_bits("last"),
            "squeeze_excite_bits": self._act_bits("se" if graph else "inner"),
            "logit_bits": FLOAT_BITS,
            "image_bits": _IMAGE_BITS if setting.act_bits < FLOAT_BITS else FLOAT_BITS,
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
            "left_in_float": sorted(loose),
        }


def _insert(graph: fx.GraphModule, node: fx.Node, quant: LearnedActivation) -> list[str]:
    """Put ``quant`` between ``node`` and the weighted layers that read it; their names."""
    readers = [user for user in node.users if node_layers(graph, user)]
    path = f"{_HOLDER}.{node.name}"
    graph.add_submodule(path, quant)
    with graph.graph.inserting_after(node):
        after = graph.graph.call_module(path, (node,))
    for user in readers:
        user.replace_input_with(node, after)
    first = [node_layers(graph, user)[0] for user in readers]
    return first


def _inside_leaves(graph: fx.GraphModule) -> set[str]:
    """Layers inside leaves of the trace, but for the first of each leaf, whose input the graph shows."""
    found: set[str] = set()
    for node in graph.graph.nodes:
        module = module_of(graph, node)
        if module is not None and is_opaque(module):
            found.update(node_layers(graph, node)[1:])
    return found
