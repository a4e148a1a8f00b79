"""One network at several bit-widths: weights shared, quantisers and batch normalisation switched
(docs/methods/quantisation.md#adaptive).

Sources: AdaBits (Jin et al., CVPR 2020, arXiv 1912.09666) for switchable batch normalisation and clips of each width,
CoQuant for blocks at another width than the rest.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from bench.interfaces import Setting
from bench.interfaces.grids import WeightGrid
from methods.quant.bits import BitPlan, Wiring, decide
from methods.quant.integer import weight_grid
from methods.quant.learned import ActivationMaker, LearnedActivation
from methods.quant.learned_weights import WeightMaker, squashed_weight
from methods.quant.plain import bare_copy
from methods.quant.switched import SwitchedActivation, SwitchedNorm, SwitchedWeight
from methods.quant.training import TrainedModel
from methods.quant.training_parts import Makers
from methods.quant.widths import Widths, capped


class AdaptiveModel(TrainedModel):
    """A `TrainedModel` at several settings that share its weights.

    Each weighted layer has one weight behind a `SwitchedWeight`, each quantised tensor a `SwitchedActivation`, each
    batch normalisation becomes a `SwitchedNorm`.

    Attributes:
        widths: its settings; ``settings`` are the same, each with the policy it comes to.
        blocks: names of the units that can be at another width than the rest: all but those that hold the first or the
            last layer; none where there is no graph.
    """

    def __init__(
        self,
        module: nn.Module,
        example: Tensor,
        widths: Widths,
        makers: Makers,
        *,
        tied: bool = False,
        last: WeightMaker | None = None,
    ) -> None:
        """``makers`` make the quantisers of single widths, ``last`` those of the last layer's weight where they are
        others; ``tied`` clips are one for all widths."""
        self.widths, self.tied, self._last = widths, tied, last or makers.weight
        self.settings: tuple[Setting, ...] = ()
        self._plans: tuple[BitPlan, ...] = ()
        super().__init__(module, example, widths.trained[0], makers)
        self._inputs = {
            path: (name, part)
            for path, part in self.body.named_modules()
            if isinstance(part, SwitchedActivation)
            for name, quant in self._quantisers.items()
            if quant is part
        }
        self._held = {
            name: part
            for name in self.order
            for part in self.body.get_submodule(name).modules()
            if isinstance(part, parametrize.ParametrizationList)
        }
        self._norms = [part for part in self.body.modules() if isinstance(part, SwitchedNorm)]
        self.blocks, self._home = self._find_blocks()

    def _decide(self, wiring: Wiring) -> BitPlan:
        ends = (wiring.order[0], wiring.order[-1])
        self.settings = tuple(capped(setting, self.widths.asked, ends) for setting in self.widths.all)
        self._plans = tuple(decide(wiring, setting, self._rule) for setting in self.settings)
        return self._plans[0]

    def _weight_quantiser(self, make: WeightMaker, layer: str, weight: Tensor) -> nn.Module:
        own = self._last if layer == self.order[-1] else make
        return SwitchedWeight(own(weight, plan.layers[layer].weight) for plan in self._plans)

    def _input_quantiser(self, make: ActivationMaker, tensor: str, nonnegative: bool) -> LearnedActivation:
        trained = self._plans[: len(self.widths.trained)]
        return SwitchedActivation([make(plan.tensors[tensor], nonnegative) for plan in trained], tied=self.tied)

    def _put_weights(self, make: WeightMaker) -> None:
        super()._put_weights(make)
        made: dict[nn.Module, SwitchedNorm] = {}
        for parent in list(self.body.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, _BatchNorm):
                    if child not in made:
                        made[child] = SwitchedNorm([child, *(copy.deepcopy(child) for _ in self.widths.trained[1:])])
                    setattr(parent, name, made[child])

    def _find_blocks(self) -> tuple[tuple[str, ...], dict[nn.Module, int]]:
        """Names of the blocks, and the place of the block that each switch lies in; a quantiser lies where all layers
        that read its tensor do."""
        if not isinstance(self.body, fx.GraphModule):
            return (), {}
        ends = {self.order[0], self.order[-1]}
        units = [unit for unit in self.units if unit.layers and ends.isdisjoint(unit.layers)]
        owner = {layer: place for place, unit in enumerate(units) for layer in unit.layers}
        home: dict[nn.Module, int] = {self._switch(name): owner[name] for name in self._held if name in owner}
        nodes = {node.name: node for node in self.body.graph.nodes if node.op == "call_module"}
        for place, unit in enumerate(units):
            called = [self.body.get_submodule(str(nodes[name].target)) for name in unit.nodes if name in nodes]
            home |= {part: place for part in called if isinstance(part, SwitchedNorm)}
        for tensor, quant in self._inputs.values():
            readers = {owner.get(layer) for layer, read in self._plan.reads.items() if tensor in read}
            only = readers.pop() if len(readers) == 1 else None
            if only is not None:
                home[quant] = only
        return tuple(unit.name for unit in units), home

    def _switch(self, layer: str) -> SwitchedWeight:
        found = self._held[layer][0]
        assert isinstance(found, SwitchedWeight)
        return found

    def _grid(self, layer: str) -> WeightGrid | None:
        """The grid of its weight at the width in use, no normalisation folded behind it."""
        return weight_grid(self._switch(layer), self.weight(layer))

    def weight(self, layer: str) -> nn.Parameter:
        """The weight of ``layer`` that all widths share."""
        found = self._held[layer].original
        assert isinstance(found, nn.Parameter)
        return found

    @property
    def weight_count(self) -> int:
        """Weights behind quantisers."""
        return sum(self.weight(layer).numel() for layer in self._held)

    @property
    def switches(self) -> Iterator[SwitchedWeight | SwitchedNorm | SwitchedActivation]:
        """All that is switched."""
        yield from map(self._switch, self._held)
        yield from self._norms
        yield from (quant for _, quant in self._inputs.values())

    def switch(self, width: int, swaps: Mapping[int, int] | None = None, *, counts: bool = True) -> None:
        """Use the setting at place ``width``, and in each block that ``swaps`` names that at its own.

        Running statistics follow the batches in blocks at ``width``; nowhere with ``counts`` off.
        """
        for part in self.switches:
            part.choice = (swaps or {}).get(self._home.get(part, -1), width)
            if isinstance(part, SwitchedNorm):
                part.counts = counts and part.choice == width

    def inside(self, blocks: Iterable[int]) -> list[nn.Parameter]:
        """Parameters that a pass through ``blocks`` uses, as they are switched now."""
        wanted, found = set(blocks), []
        for layer in self._held:
            if self._home.get(self._switch(layer)) in wanted:
                bias = getattr(self.body.get_submodule(layer), "bias", None)
                found += [self.weight(layer), *([bias] if bias is not None else [])]
        for part in self.switches:
            if not isinstance(part, SwitchedWeight) and self._home.get(part) in wanted:
                found += list(part.part(part.choice).parameters())
        return found

    @torch.no_grad()
    def distance(self, one: int, other: int) -> float:
        """sqrt(sum over layers of the squared difference of the weights at two widths), each within [-1, 1] as its grid
        gives it, whatever it is multiplied by then."""
        total = 0.0
        for layer in self._held:
            a, b = (self._switch(layer).part(width) for width in (one, other))
            if a.bits != b.bits:
                one_weight, other_weight = (squashed_weight(self.weight(layer), q.bits, q.grid) for q in (a, b))
                total += float((one_weight - other_weight).double().square().sum())
        return float(total**0.5)

    @torch.no_grad()
    def add_zero_shot(self) -> None:
        """After training: clips and batch normalisation of the settings that were not trained, as copies of those of
        the nearest trained one."""
        for plan, near in zip(self._plans[len(self.widths.trained) :], self.widths.nearest, strict=True):
            for norm in self._norms:
                norm.parts.append(copy.deepcopy(norm.part(near)))
            for tensor, quant in self._inputs.values():
                part = copy.deepcopy(quant.part(near))
                part.bits = plan.tensors[tensor]
                quant.parts.append(part)

    @torch.no_grad()
    def calibrate(self, width: int, batches: Iterable[Tensor]) -> int:
        """Replace the running statistics at place ``width`` by the plain mean over ``batches`` of images [N, C, H, W]
        of what each of them shows; nothing else changes.  Returns how many images were looked at."""
        norms = [norm for norm in (switched.part(width) for switched in self._norms) if norm.track_running_stats]
        self.student.eval()
        self.switch(width)
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.train()
            norm.momentum = None
        seen = 0
        for images in batches:
            self.student(images)
            seen += len(images)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.eval()
            norm.momentum = momentum
        return seen

    def single(self, width: int) -> TrainedModel:
        """The network at place ``width`` alone: a copy without switches, to be exported."""
        self.switch(width)
        one = copy.copy(self)
        one.grids = {name: grid for name in self._held if (grid := self._grid(name)) is not None}
        one.unrounded = {
            name: self._switch(name).part(width).unrounded(self.weight(name)).detach().clone() for name in self._held
        }
        one.body, one.undone = bare_copy(self.body), dict(self.undone)
        one.setting, one._plan, one._quantisers = self.settings[width], self._plans[width], {}
        for parent in list(one.body.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, SwitchedNorm | SwitchedActivation):
                    setattr(parent, name, child.part(width))
        for path, (tensor, _) in self._inputs.items():
            quant = one.body.get_submodule(path)
            assert isinstance(quant, LearnedActivation)
            one._quantisers[tensor] = quant
        return one
