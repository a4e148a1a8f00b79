"""A quantised network: weights and activations of any classification network behind fake quantisers.

``quantize_model`` copies a network, folds its batch normalisation and puts quantisers where they belong
(docs/methods/quantisation.md#placement); `QuantModel` switches them, calibrates them and hands out the units that
reconstruction works on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn

from bench.interfaces import BitPolicy, Setting
from bench.interfaces.grids import Integers
from methods.quant.build import Built, Options, WrapError, build
from methods.quant.calibrate import Sampling, observe
from methods.quant.graph import Prepared, prepare
from methods.quant.layers import QuantLayer
from methods.quant.levels import count_levels, input_levels
from methods.quant.quantizers import ActQuantizer, WeightQuantizer
from methods.quant.ranges import RangeMethod
from methods.quant.subgraph import rest_graph, unit_graph, unit_inputs
from methods.quant.units import Unit

__all__ = ["Options", "QuantModel", "Sampling", "Unit", "quantize_model", "quantize_prepared", "quantize_with"]


def quantize_model(
    module: nn.Module,
    example: Tensor,
    setting: Setting,
    *,
    weight_range: RangeMethod = "mse",
    act_range: RangeMethod = "mse-2d",
    max_layers: int = 8,
) -> QuantModel:
    """A quantised copy of ``module``, which is left untouched.

    Weight ranges are chosen here; activation quantisers need `QuantModel.calibrate`.  Both are switched on.

    Args:
        module: a classification network; eval mode, batch normalisation folded and no in-place operation in the copy.
        example: images [N, C, H, W] on the network's device, to trace with.
        setting: bits of weights, activations, first and last layer, and of single layers where it has a policy.
        weight_range, act_range: how ranges are chosen, see `methods.quant.ranges.search_range`.
        max_layers: most weighted layers in one unit.

    Raises:
        NotApplicable: the network has no convolution and no linear layer, or cannot be wrapped in any way.
        BenchError: the setting's policy does not fit the network.
    """
    return quantize_with(module, example, setting, Options(weight_range, act_range, max_layers=max_layers))


def quantize_with(module: nn.Module, example: Tensor, setting: Setting, options: Options) -> QuantModel:
    """`quantize_model` with all options."""
    try:
        return quantize_prepared(prepare(module, example), setting, options)
    except WrapError as error:
        prepared = prepare(module, example, trace_graph=False)
        prepared.undone["quantisers in the graph"] = str(error)
        return quantize_prepared(prepared, setting, options)


def quantize_prepared(prepared: Prepared, setting: Setting, options: Options | None = None) -> QuantModel:
    """Like `quantize_model`, from a network already traced and folded; ``prepared`` is used up.

    Raises:
        WrapError: the network behind quantisers that are off is not what it was.
    """
    return QuantModel(build(prepared, setting, options or Options()))


class QuantModel(nn.Module):
    """A network with fake quantisers.

    Attributes:
        path: "graph" (traced, output placement) or "modules" (layers replaced one by one, input placement).
        units: reconstruction units in order of execution.
        body: what computes the logits: an fx graph module, or the copied network on the "modules" path.
        loose: activation quantisers that belong to no unit, so that no reconstruction learns them.
        undone: {rewrite: how it differed from the network given}, for those that were undone.
        stats: {layer: what the batch norm folded into it knew}.
    """

    path: Literal["graph", "modules"]

    def __init__(self, built: Built) -> None:
        super().__init__()
        self.body = built.body
        self.path = built.path
        self.units: tuple[Unit, ...] = built.units
        self._activations = built.activations
        self.loose, self.undone, self.stats = built.loose, dict(built.undone), dict(built.stats)
        self._plan = built.plan
        self._protocol = built.protocol

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, K] of images [N, C, H, W]."""
        out: Tensor = self.body(x)
        return out

    def quant_layer(self, name: str) -> QuantLayer:
        """The quantised layer of this name (in the original network)."""
        found = self.body.get_submodule(name)
        assert isinstance(found, QuantLayer)
        return found

    def layer(self, name: str) -> nn.Conv2d | nn.Linear:
        """The folded floating-point layer of this name; its ``weight`` and ``bias`` are what the quantiser reads."""
        return self.quant_layer(name).layer

    @property
    def weights(self) -> Mapping[str, WeightQuantizer]:
        """Weight quantisers by layer name, in order of execution."""
        return {name: self.quant_layer(name).quant for name in self._plan.layers}

    @property
    def activations(self) -> Mapping[str, ActQuantizer]:
        """Activation quantisers by tensor name, in order of execution."""
        found = {}
        for name, path in self._activations.items():
            quantizer = self.body.get_submodule(path)
            assert isinstance(quantizer, ActQuantizer)
            found[name] = quantizer
        return found

    def reads(self, layer: str) -> frozenset[str]:
        """Names of the tensors that a layer reads, those without a quantiser among them."""
        return self._plan.reads[layer]

    def activation_paths(self, tensors: Sequence[str]) -> tuple[str, ...]:
        """Where the quantisers of these tensors stand in ``body``."""
        return tuple(self._activations[name] for name in tensors)

    def put_activation(self, tensor: str, quantizer: ActQuantizer) -> None:
        """Put another quantiser on a tensor."""
        self.body.set_submodule(self._activations[tensor], quantizer)

    def set_state(self, weights: bool, activations: bool) -> None:
        """Switch all weight and all activation quantisers on or off; both off is the folded FP network, bit by bit."""
        for weight in self.weights.values():
            weight.enabled = weights
        for activation in self.activations.values():
            activation.enabled = activations

    @torch.no_grad()
    def calibrate(self, images: Tensor, sampling: Sampling | None = None) -> None:
        """Choose all activation ranges from one full-precision pass over images [N, C, H, W]."""
        sampling = sampling or Sampling()
        states = [(q, q.enabled) for q in (*self.weights.values(), *self.activations.values())]
        self.set_state(False, False)
        watched = dict(enumerate(q for q in self.activations.values() if not q.is_identity))
        observe(self, torch.split(images[: sampling.images], sampling.batch), watched, sampling)
        for other, enabled in states:
            other.enabled = enabled

    def unit_module(self, unit: Unit) -> nn.Module:
        """x -> y of one unit, sharing layers and quantisers with this model.

        y is taken after the unit's activation and output quantiser (which obeys ``enabled``) and after the pooling
        that follows.  Evaluation mode, any batch size.
        """
        if not isinstance(self.body, fx.GraphModule):
            return self.body.get_submodule(unit.layers[0])
        return unit_graph(self.body, unit)

    def rest_module(self, unit: Unit) -> nn.Module | None:
        """The unit's output -> logits, sharing everything with this model; None where the logits need more than that
        or there is no graph."""
        return rest_graph(self.body, unit) if isinstance(self.body, fx.GraphModule) else None

    @torch.no_grad()
    def capture_inputs(self, unit: Unit, images: Tensor, batch_size: int = 64) -> Tensor:
        """The unit's input for ``images`` [N, C, H, W] under the current state, computing no further than that."""
        if isinstance(self.body, fx.GraphModule):
            return unit_inputs(self.body, unit, images, batch_size)
        layer = self.body.get_submodule(unit.layers[0])
        return torch.cat([_input_of(self.body, layer, batch) for batch in torch.split(images, batch_size)])

    def freeze(self) -> None:
        """Keep every fake-quantised weight as it is now, so that forwards do not quantise it anew."""
        for name, quantizer in self.weights.items():
            quantizer.freeze(self.layer(name).weight)

    def unfreeze(self) -> None:
        """Undo `freeze`."""
        for quantizer in self.weights.values():
            quantizer.unfreeze()

    def refresh_weight_ranges(self) -> None:
        """Choose all weight ranges again, after the layers' weights changed."""
        for name, quantizer in self.weights.items():
            quantizer.set_range(self.layer(name).weight)

    def protocol(self) -> dict[str, Any]:
        """What is measured, as JSON: bits per tensor class, granularity, symmetry, placement, folding, path, ranges."""
        return dict(self._protocol)

    def layer_bits(self) -> BitPolicy:
        """{layer: (bits of its weight, bits of its input)}; the image counts 8 bits where activations are quantised."""
        return self._plan.layers

    def weight_levels(self) -> dict[str, int]:
        """{layer: the most distinct values on one grid of its weight}, for the layers not left in floating point."""
        return {
            name: count_levels(quantizer(self.layer(name).weight), quantizer.per_channel)
            for name, quantizer in self.weights.items()
            if not quantizer.is_identity
        }

    def activation_levels(self) -> dict[str, int]:
        """{layer: levels of the quantiser behind its input}, for the layers that read quantised tensors."""
        return input_levels(self._plan, {n: q.levels for n, q in self.activations.items() if not q.is_identity})

    @torch.no_grad()
    def nonzero(self) -> dict[str, int]:
        """{layer: quantised weights that are not zero}, for the layers that were given with zeroed weights."""
        found = {}
        for name, quantizer in self.weights.items():
            weight = self.layer(name).weight
            if not bool(weight.all()):
                found[name] = int(quantizer(weight).count_nonzero())
        return found

    def integers(self) -> Integers:
        """The integer form, to be exported; the network stays as it is."""
        from methods.quant.integer import post_training_integers

        return post_training_integers(self.body, {name: name for name in self._plan.layers}, self._activations)

    def parameter_count(self) -> tuple[int, int]:
        """(scales, zero points) of all quantisers that are not of 32 bits; symmetric grids have no zero point."""
        scales = zeros = 0
        for weight in self.weights.values():
            if not weight.is_identity:
                scales += weight.scale.numel()
                zeros += weight.scale.numel() if weight.grid == "affine" else 0
        active = sum(not a.is_identity for a in self.activations.values())
        return scales + active, zeros + active


class _Stop(Exception):
    """Ends a forward once the wanted tensor was seen."""


def _input_of(net: nn.Module, layer: nn.Module, batch: Tensor) -> Tensor:
    seen: list[Tensor] = []

    def note(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen.append(args[0].clone())
        raise _Stop

    hook = layer.register_forward_pre_hook(note)
    try:
        net(batch)
    except _Stop:
        pass
    finally:
        hook.remove()
    return seen[0]
