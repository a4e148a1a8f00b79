"""LIMPQ's joint training of step sizes, and what becomes of them: indicators, their repair, costs of bits."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bench.errors import BenchError
from bench.interfaces import RunContext
from methods.policies._sensitivity import Data
from methods.policies._space import Space
from methods.policies._switched import Switched
from methods.quant.build import replace_layer
from methods.quant.learned import StepActivation
from methods.quant.learned_weights import LsqWeight

if TYPE_CHECKING:
    from methods.policies.limpq import LimpqParams


class NormPerBit(nn.Module):
    """Copies of one batch normalisation, of which the ``chosen`` one works."""

    def __init__(self, norm: nn.Module, count: int) -> None:
        super().__init__()
        self.copies = nn.ModuleList(copy.deepcopy(norm) for _ in range(count))
        self.chosen = 0

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.copies[self.chosen](x)
        return out


def three_sigma_weight(weight: Tensor, bits: int) -> LsqWeight:
    """LSQ's weight quantiser, its step started at max(|mean - 3 sd|, |mean + 3 sd|) / 2^(b-1)."""
    made = LsqWeight(weight, bits, "lsq")
    mean, spread = float(weight.mean()), float(weight.std())
    with torch.no_grad():
        made.factor.fill_(max(abs(mean - 3 * spread), abs(mean + 3 * spread), 1e-8) / 2 ** (bits - 1))
    return made


class JointModel:
    """A switched network with a copy of every batch normalisation for each of ``bits``.

    Attributes:
        norms: each with the searched layer before it, None where that one's weight bits are fixed.
    """

    def __init__(self, switched: Switched, space: Space, example: Tensor, candidates: Candidates) -> None:
        self.switched, self.candidates = switched, candidates
        self.bits = tuple(sorted({*candidates.weight, *candidates.act}))
        self.norms: list[tuple[NormPerBit, str | None]] = []
        for norm, layer in _layers_before(switched, example).items():
            made = NormPerBit(norm, len(self.bits))
            replace_layer(switched.net, norm, made)
            self.norms.append((made, layer))
        switched.net.requires_grad_(True)

    def uniform(self, index: int) -> None:
        """All layers at the ``index``-th bits, or at the candidate next to them."""
        bits = self.bits[index]
        for weight in self.switched.weights.values():
            weight.chosen = min(self.candidates.weight, key=lambda b: abs(b - bits))
        for switches in self.switched.inputs.values():
            for switch in switches:
                switch.chosen = min(self.candidates.act, key=lambda b: abs(b - bits))
        for norm, _ in self.norms:
            norm.chosen = index

    def mixed(self, generator: torch.Generator) -> None:
        """Bits drawn for each weight and each tensor; a normalisation follows the weight before it."""

        def drawn(bits: Sequence[int]) -> int:
            return bits[int(torch.randint(len(bits), (), generator=generator))]

        for weight in self.switched.weights.values():
            weight.chosen = drawn(self.candidates.weight)
        for switches in self.switched.inputs.values():
            bits = drawn(self.candidates.act)
            for switch in switches:
                switch.chosen = bits
        for norm, layer in self.norms:
            own = self.bits[-1] if layer is None else self.switched.weights[layer].chosen
            norm.chosen = self.bits.index(own)

    def steps(self) -> list[nn.Parameter]:
        """Every learned step."""
        kinds = (LsqWeight, StepActivation)
        return [part.factor for part in self.switched.net.modules() if isinstance(part, kinds)]


@dataclass(frozen=True)
class Candidates:
    """Bits of weights and of inputs, ascending."""

    weight: tuple[int, ...]
    act: tuple[int, ...]


@dataclass(frozen=True)
class Trained:
    """What training did: mean loss of the passes by step, learned steps that ended at a bound, passes."""

    losses: tuple[float, ...]
    bounded: int
    passes: float


def train(joint: JointModel, data: Data, params: LimpqParams, ctx: RunContext) -> Trained:
    """Train weights, normalisations and all steps together; the network ends in eval mode.

    Raises:
        BenchError: the loss is not finite.
    """
    net = joint.switched.net
    rule = torch.optim.SGD(_groups(joint, params), momentum=params.momentum)
    rates = [group["lr"] for group in rule.param_groups]
    order = _batches(len(data.images), params.batch, ctx.generator)
    losses, passes = [], 0.0
    for step in range(params.steps):
        for group, rate in zip(rule.param_groups, rates, strict=True):
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / params.steps))
        picked = next(order).to(data.images.device)
        # A batch of one has no variance to normalise by.
        net.train(len(picked) > 1)
        rule.zero_grad(set_to_none=True)
        losses.append(accumulate(joint, data.images[picked], data.labels[picked], params.smoothing, ctx.generator))
        if not math.isfinite(losses[-1]):
            raise BenchError(f"the loss is not finite in step {step}", got=losses[-1], hint="a lower lr may help")
        advance(rule, joint, params)
        passes += 2.0 * len(picked) * (len(joint.bits) + 1)
        ctx.report("train", step + 1, params.steps)
        ctx.log_scalar("loss", step, losses[-1])
    net.eval()
    ends = torch.tensor([params.step_least, params.step_most])
    bounded = sum(bool((p.detach().cpu() == ends).any()) for p in joint.steps())
    return Trained(tuple(losses), bounded, passes)


def _groups(joint: JointModel, params: LimpqParams) -> list[dict[str, Any]]:
    """Weights with decay, biases and normalisations without, learned steps without and with a rate of their own."""
    steps = joint.steps()
    own = {id(step) for step in steps}
    others = [p for p in joint.switched.net.parameters() if p.requires_grad and id(p) not in own]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in others if p.dim() > 1], "weight_decay": params.decay, "lr": params.lr},
        {"params": [p for p in others if p.dim() <= 1], "weight_decay": 0.0, "lr": params.lr},
        {"params": steps, "weight_decay": 0.0, "lr": params.step_lr},
    ]
    return [group for group in groups if group["params"]]


def accumulate(
    joint: JointModel, images: Tensor, labels: Tensor, smoothing: float, generator: torch.Generator
) -> float:
    """Add up the gradients of a pass at each of the bits and of one at drawn bits; the mean loss of the passes."""
    total = 0.0
    for index in range(len(joint.bits) + 1):
        if index < len(joint.bits):
            joint.uniform(index)
        else:
            joint.mixed(generator)
        with torch.enable_grad():
            loss = F.cross_entropy(joint.switched.net(images), labels, label_smoothing=smoothing)
            loss.backward()
        total += float(loss.detach())
    return total / (len(joint.bits) + 1)


def advance(rule: torch.optim.Optimizer, joint: JointModel, params: LimpqParams) -> None:
    """One step of ``rule`` on gradients cut to [-clip, clip]; learned steps stay within their bounds."""
    trained = [p for group in rule.param_groups for p in group["params"]]
    nn.utils.clip_grad_value_(trained, params.clip)
    for parameter in trained:
        if parameter.grad is not None and not bool(parameter.grad.any()):
            # A parameter that no pass used must not drift by its decay or its momentum.
            parameter.grad = None
    rule.step()
    with torch.no_grad():
        for parameter in joint.steps():
            parameter.abs_().clamp_(params.step_least, params.step_most)


@dataclass(frozen=True)
class Indicators:
    """Layer → bits → learned step of the weight, and of the input (mean over its quantisers)."""

    weights: Mapping[str, Mapping[int, float]]
    inputs: Mapping[str, Mapping[int, float]]


def indicators(switched: Switched, space: Space) -> Indicators:
    """The learned steps."""
    weights = {
        name: {int(bits): _step(option) for bits, option in switch.options.items()}
        for name, switch in switched.weights.items()
    }
    tensors = {
        name: {
            int(bits): sum(_step(switch.options[bits]) for switch in switches) / len(switches)
            for bits in switches[0].options
        }
        for name, switches in switched.inputs.items()
    }
    return Indicators(weights, {p.name: tensors[p.reads] for p in space.searched if p.input})


def moved(before: Indicators, after: Indicators) -> dict[str, float]:
    """How far training took the steps from where they started, as a share of that: means over weights, over inputs."""

    def mean(old: Mapping[str, Mapping[int, float]], new: Mapping[str, Mapping[int, float]]) -> float:
        shares = [abs(new[name][bits] / step - 1) for name, own in old.items() for bits, step in own.items()]
        return sum(shares) / max(len(shares), 1)

    return {"weights": mean(before.weights, after.weights), "inputs": mean(before.inputs, after.inputs)}


def repaired(steps: Mapping[int, float]) -> tuple[dict[int, float], tuple[int, ...]]:
    """Steps that do not grow with the bits, and the bits left out because theirs does not fit.

    From the most bits down, a step below the last one kept is an outlier.  Where nothing but the most bits is left, all
    are kept and made monotone by isotonic regression.
    """
    kept: dict[int, float] = {}
    for bits in sorted(steps, reverse=True):
        if not kept or steps[bits] >= kept[min(kept)]:
            kept[bits] = steps[bits]
    if len(kept) > 1 or len(steps) == 1:
        ascending = dict(sorted(kept.items()))
        return ascending, tuple(sorted(set(steps) - set(kept)))
    from sklearn.isotonic import IsotonicRegression

    order = sorted(steps)
    values = IsotonicRegression(increasing=False).fit_transform(order, [steps[bits] for bits in order])
    return {bits: float(value) for bits, value in zip(order, values, strict=True)}, ()


def _step(option: Any) -> float:
    return float(option.scale.detach().abs())


def _batches(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Endless batches of places, each epoch in a new order, its incomplete batch left out."""
    size = min(size, count)
    while True:
        order = torch.randperm(count, generator=generator)
        yield from (part for part in order.split(size) if len(part) == size)


@torch.no_grad()
def _layers_before(switched: Switched, example: Tensor) -> dict[nn.Module, str | None]:
    """Each batch normalisation with the searched layer that was called last before it."""
    held = {id(switch): name for name, switch in switched.weights.items()}
    found: dict[nn.Module, str | None] = {}
    last: list[str | None] = [None]

    def called(layer: Any, _: Any) -> None:
        own = layer.parametrizations.weight[0] if hasattr(layer, "parametrizations") else None
        last[0] = held.get(id(own))

    def normalised(norm: nn.Module, _: Any) -> None:
        found.setdefault(norm, last[0])

    hooks = []
    for part in switched.net.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            hooks.append(part.register_forward_pre_hook(called))
        elif isinstance(part, _BatchNorm):
            hooks.append(part.register_forward_pre_hook(normalised))
    switched.net(example)
    for hook in hooks:
        hook.remove()
    return found
