"""A network whose searched layers can take any candidate bits at a moment's notice: one set of weights, a quantiser per
candidate and a switch at each weight and each input.

It is `methods.quant.training.TrainedModel`: quantisers at the layers' inputs, batch normalisation live, so that it can
be trained, or its statistics estimated anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bench.interfaces import LayerBits, Setting
from methods.policies._space import Space
from methods.quant.choices import StepInit
from methods.quant.learned import LearnedActivation, StepActivation
from methods.quant.learned_weights import LsqWeight
from methods.quant.training import TrainedModel
from methods.quant.training_parts import Makers

MakeWeight = Callable[[Tensor, int], nn.Module]


class WeightSwitch(nn.Module):
    """A parametrisation that holds one weight quantiser per candidate and uses the ``chosen`` one."""

    def __init__(self, weight: Tensor, bits: int, make: MakeWeight) -> None:
        super().__init__()
        self.make, self.chosen = make, bits
        self.options = nn.ModuleDict({str(bits): make(weight, bits)})

    def open(self, weight: Tensor, candidates: Sequence[int]) -> None:
        """Make a quantiser for each candidate, none of them from another."""
        self.options = nn.ModuleDict({str(bits): self.make(weight, bits) for bits in candidates})
        self.chosen = candidates[-1]

    def forward(self, weight: Tensor) -> Tensor:
        """The fake-quantised weight."""
        out: Tensor = self.options[str(self.chosen)](weight)
        return out

    def right_inverse(self, weight: Tensor) -> Tensor:
        """What trains starts as the weight itself."""
        return weight


class InputSwitch(LearnedActivation):
    """An activation quantiser that holds one per candidate and uses the ``chosen`` one."""

    def __init__(self, bits: int, nonnegative: bool, init: StepInit) -> None:
        super().__init__(bits, nonnegative)
        self.init, self.chosen = init, bits
        self.options = nn.ModuleDict({str(bits): StepActivation(bits, nonnegative, init)})

    def open(self, candidates: Sequence[int]) -> None:
        """Make a quantiser for each candidate."""
        options = {str(bits): StepActivation(bits, self.nonnegative, self.init) for bits in candidates}
        self.options, self.chosen = nn.ModuleDict(options), candidates[-1]

    def begin(self, x: Tensor) -> None:
        for option in self.options.values():
            assert isinstance(option, StepActivation)
            option.begin(x)

    def quantise(self, x: Tensor) -> Tensor:
        out: Tensor = self.options[str(self.chosen)](x)
        return out


class Switched:
    """A copy of a network with switches.

    Attributes:
        net: images in, logits out; eval mode.
        weights: layer → switch, where weight bits are searched.
        inputs: name of the tensor read (`methods.policies._space.Place.reads`) → its switches, where they are searched.
    """

    def __init__(
        self,
        module: nn.Module,
        data: Tensor,
        space: Space,
        setting: Setting,
        candidates: tuple[Sequence[int], Sequence[int]],
        make: MakeWeight,
        init: StepInit,
    ) -> None:
        makers = Makers(partial(WeightSwitch, make=make), partial(InputSwitch, init=init))
        model = TrainedModel(module, data[:2], setting.with_policy(None), makers)
        self.net: nn.Module = model.body.eval()
        self.weights: dict[str, WeightSwitch] = {}
        self.inputs: dict[str, tuple[InputSwitch, ...]] = {}
        self._open(space, data[:2], candidates)
        model.begin(data)
        self.net.to(data.device)

    def _open(self, space: Space, example: Tensor, candidates: tuple[Sequence[int], Sequence[int]]) -> None:
        before = _switches_before(self.net, example)
        for place in space.searched:
            layer: Any = self.net.get_submodule(place.name)
            held = getattr(layer, "layer", layer)
            if place.weight:
                switch = held.parametrizations.weight[0]
                switch.open(held.parametrizations.weight.original.detach(), tuple(candidates[0]))
                self.weights[place.name] = switch
            if place.input:
                found = before[held]
                known = self.inputs.get(place.reads, ())
                if found not in known:
                    found.open(tuple(candidates[1]))
                    self.inputs[place.reads] = (*known, found)

    def choose(self, space: Space, policy: Mapping[str, LayerBits]) -> None:
        """Switch to the bits of ``policy``, which names all searched layers."""
        for place in space.searched:
            bits = policy[place.name]
            if place.weight:
                self.weights[place.name].chosen = bits.weight
            if place.input:
                for switch in self.inputs[place.reads]:
                    switch.chosen = bits.input

    @torch.no_grad()
    def settle_norms(self, data: Tensor, batch: int) -> None:
        """Estimate the statistics of all batch normalisations anew, as means over batches of ``data`` [N, C, H, W]."""
        norms = [part for part in self.net.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
        before = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # type: ignore[assignment]
            norm.train()
        # The last batch may hold one image, which has no variance to normalise by.
        for part in data.split(batch) if norms else ():
            if len(part) > 1 or len(data) == 1:
                self.net(part)
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.eval()


def lsq_weight(init: StepInit) -> MakeWeight:
    """LSQ's per-tensor symmetric grid, its step started by ``init``."""
    return lambda weight, bits: LsqWeight(weight, bits, init)


@torch.no_grad()
def _switches_before(net: nn.Module, example: Tensor) -> dict[nn.Module, InputSwitch]:
    """Layer → the switch whose output it reads."""
    made: dict[int, tuple[InputSwitch, Tensor]] = {}  # holds the tensor, so that its id is not given away again
    found: dict[nn.Module, InputSwitch] = {}

    def note(switch: nn.Module, _: Any, out: Tensor) -> None:
        assert isinstance(switch, InputSwitch)
        made[id(out)] = switch, out

    def ask(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        if args and id(args[0]) in made:
            found[layer] = made[id(args[0])][0]

    hooks = []
    for part in net.modules():
        if isinstance(part, InputSwitch):
            hooks.append(part.register_forward_hook(note))
        elif isinstance(part, nn.Conv2d | nn.Linear):
            hooks.append(part.register_forward_pre_hook(ask))
    net(example)
    for hook in hooks:
        hook.remove()
    return found
