"""HAWQ's sensitivities of weights and of inputs: traces of the Hessian times what rounding loses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.interfaces import RunContext
from methods.policies._hutchinson import Part, Traces, hutchinson
from methods.policies._sensitivity import Data, Table, input_loss, weight_loss
from methods.policies._space import Place, Space
from methods.quant.plain import prepared_copy

if TYPE_CHECKING:
    from methods.policies.hawq_v2 import HawqV2Params


@dataclass(frozen=True)
class Trace:
    """Mean over the scalars of a block: trace over size, as estimated, and its standard error."""

    mean: float
    error: float

    @property
    def used(self) -> float:
        """The mean, 0 where it is negative."""
        return max(self.mean, 0.0)


@dataclass(frozen=True)
class Curvature:
    """Traces of weights (by layer) and of inputs (by tensor), and the sensitivities that follow."""

    weights: Mapping[str, Trace]
    inputs: Mapping[str, Trace]
    table: Table
    probes: int
    passes: float

    def report(self) -> dict[str, Any]:
        """JSON for the artifact."""
        every = [*self.weights.values(), *self.inputs.values()]
        return {
            "traces": {name: trace.mean for name, trace in self.weights.items()},
            "trace_errors": {name: trace.error for name, trace in self.weights.items()},
            "input_traces": {name: trace.mean for name, trace in self.inputs.items()},
            "negative_traces": sum(trace.mean < 0 for trace in every),
            "probes": self.probes,
            "sensitivities": self.table.report(),
        }


def curvature(module: nn.Module, data: Data, space: Space, params: HawqV2Params, ctx: RunContext) -> Curvature:
    """Sensitivities of all searched layers of ``module``, which stays as it was."""
    net = prepared_copy(module).to(ctx.device)
    weighted = [place for place in space.searched if place.weight]
    readers = list({place.reads: place for place in reversed(space.searched) if place.input}.values())[::-1]
    weights: dict[str, Trace] = {}
    inputs: dict[str, Trace] = {}
    probes, passes = 0, 0.0
    if weighted:
        found, passes = _traces(partial(_weight_part, net, weighted, len(data.images)), data, params, ctx, "weights")
        weights, probes = _named(found, [p.name for p in weighted], [p.weights for p in weighted]), found.probes
    rounded = {(p.name, b): _of(net, p, b) for p in weighted for b in params.weight_bits}
    sensitivities = {(name, bits): weights[name].used * lost for (name, bits), lost in rounded.items()}
    if not params.activations:
        return Curvature(weights, inputs, Table(sensitivities, {}), probes, passes)
    sizes, lost_inputs = _rounded_inputs(net, readers, data, params)
    found, more = _traces(partial(_input_part, net, readers, len(data.images)), data, params, ctx, "inputs")
    inputs = _named(found, [p.reads for p in readers], [sizes[p.reads] for p in readers])
    table = Table(sensitivities, {(name, b): inputs[name].used * lost for (name, b), lost in lost_inputs.items()})
    return Curvature(weights, inputs, table, max(probes, found.probes), passes + more + len(data.images))


def _traces(make: Any, data: Data, params: HawqV2Params, ctx: RunContext, stage: str) -> tuple[Traces, float]:
    """Traces of the loss over ``data`` and the passes they cost: a forward, a backward, and a backward of both."""
    parts: list[Part] = [partial(make, *part) for part in data.parts(params.batch)]
    found = hutchinson(
        parts,
        params.probes,
        params.tolerance,
        ctx.generator,
        lambda done: ctx.report(f"traces of {stage}", done, params.probes),
        shared=stage == "weights",
    )
    return found, 4.0 * len(data.images) * found.probes


def _weight_part(
    net: nn.Module, places: Sequence[Place], count: int, images: Tensor, labels: Tensor
) -> tuple[Tensor, Sequence[Tensor]]:
    """A part of the mean cross-entropy, and the weights."""
    weights = [_weight(net, place).requires_grad_(True) for place in places]
    return F.cross_entropy(net(images), labels, reduction="sum") / count, weights


def _input_part(
    net: nn.Module, places: Sequence[Place], count: int, images: Tensor, labels: Tensor
) -> tuple[Tensor, Sequence[Tensor]]:
    """A part of the mean cross-entropy, and the tensors that the layers read."""
    seen, loss = _seen(net, places, images, labels)
    return loss / count, [seen[place.name] for place in places]


def _seen(
    net: nn.Module, places: Sequence[Place], images: Tensor, labels: Tensor
) -> tuple[Mapping[str, Tensor], Tensor]:
    """What each layer reads, by its name, and the summed cross-entropy."""
    seen: dict[str, Tensor] = {}

    def note(name: str, _: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen[name] = args[0]

    hooks = [net.get_submodule(p.name).register_forward_pre_hook(partial(note, p.name)) for p in places]
    # Tensors inside the network are differentiated in, so something before them has to ask for a gradient.
    loss = F.cross_entropy(net(images.detach().requires_grad_(True)), labels, reduction="sum")
    for hook in hooks:
        hook.remove()
    return seen, loss


def _rounded_inputs(
    net: nn.Module, places: Sequence[Place], data: Data, params: HawqV2Params
) -> tuple[dict[str, int], dict[tuple[str, int], float]]:
    """Scalars of each tensor for one image, and its squared rounding error, mean over images."""
    sizes: dict[str, int] = {}
    lost: dict[tuple[str, int], float] = {}
    for images, labels in data.parts(params.batch):
        with torch.no_grad():
            seen, _ = _seen(net, places, images, labels)
        for place in places:
            x = seen[place.name]
            sizes[place.reads] = x[0].numel()
            for bits in params.act_bits:
                key = place.reads, bits
                lost[key] = lost.get(key, 0.0) + input_loss(x, bits) / len(data.images)
    return sizes, lost


def _named(found: Traces, names: Sequence[str], sizes: Sequence[int]) -> dict[str, Trace]:
    every = zip(names, sizes, found.means, found.errors, strict=True)
    return {name: Trace(mean / size, error / size) for name, size, mean, error in every}


def _of(net: nn.Module, place: Place, bits: int) -> float:
    return weight_loss(_weight(net, place), bits)


def _weight(net: nn.Module, place: Place) -> Tensor:
    weight = net.get_submodule(place.name).weight
    assert isinstance(weight, Tensor)
    return weight
