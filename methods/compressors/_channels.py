"""Which channels depend on each other, and their removal; both by torch-pruning (Fang et al., DepGraph, CVPR 2023)."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch_pruning
from torch import Tensor, nn
from torch_pruning.dependency import graph as library

from bench.errors import NotApplicable
from methods.compressors._masks import PER_CHANNEL, ChannelGroup, Member
from methods.compressors._surgery import guarded

_LOST = "torch-pruning cannot follow the network's channels"

MOST, MOST_STEPS = 1 << 22, 1 << 15
"""Indices of one group at most, and its dependencies.  Where reshapes fold channels into positions and back, the
library's lists grow without end; a group of 1,280 channels on 196 positions in ten layers has half as many."""


def find_groups(net: nn.Module, example: Tensor, order: Sequence[str], keep: Collection[str]) -> list[ChannelGroup]:
    """Groups of output channels of ``net``'s layers, in order of execution.

    Args:
        net: floating-point network in eval mode; left as it was.
        example: one image [1, C, H, W] on its device.
        order: weighted layers in order of execution.
        keep: layers whose outputs stay, and with them all that depends on these.

    Raises:
        NotApplicable: the library cannot follow this network.
    """
    copied = copy.deepcopy(net).requires_grad_(True)
    names = {part: name for name, part in (*copied.named_modules(), *copied.named_parameters())}
    with guarded(copied, _LOST):
        graph = _dependencies(copied, example)
        kept = [copied.get_submodule(name) for name in keep]
        kinds = [nn.Conv2d, nn.Linear]
        with _bounded():
            found = [_group(graph, items, names) for items in graph.get_all_groups(kept, kinds)]
    position = {name: index for index, name in enumerate(order)}
    groups = [group for group in found if set(group.producers) <= set(position)]
    groups = [group.sorted_by(position) for group in groups]
    return sorted(groups, key=lambda group: position[next(iter(group.producers))])


@contextmanager
def _bounded() -> Iterator[None]:
    """Groups beyond `MOST` and `MOST_STEPS` end in NotApplicable within, instead of filling memory or hours."""

    class Bounded(library.Group):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.held = 0
            self.known: dict[tuple[int, Any], list[Any]] = {}

        def add_dep(self, dep: Any, idxs: Any) -> None:
            super().add_dep(dep, idxs)
            self.known.setdefault((id(dep.target), dep.handler), []).append(idxs)
            self.held += len(idxs)
            if self.held > MOST or len(self) > MOST_STEPS:
                raise NotApplicable("the network's reshapes tie channels to positions", got=f"over {len(self):,} steps")

        def has_pruning_op(self, dep: Any, idxs: Any) -> bool:
            # The library looks at every dependency of the group, which is quadratic in them.
            return any(own == idxs for own in self.known.get((id(dep.target), dep.handler), ()))

    before = library.Group
    library.Group = Bounded
    try:
        yield
    finally:
        library.Group = before


def _dependencies(net: nn.Module, example: Tensor) -> Any:
    with torch.enable_grad():
        return torch_pruning.DependencyGraph().build_dependency(net, example, verbose=False)


def _group(graph: Any, items: Any, names: Mapping[Any, str]) -> ChannelGroup:
    producers: dict[str, Member] = {}
    norms: dict[str, Member] = {}
    consumers: list[str] = []
    splits, block, blocked = 1, 1, ""
    size, device = len(items[0].idxs), next(graph.model.parameters()).device
    for item in items:
        module = item.dep.target.module
        if module not in names or (isinstance(module, nn.PReLU) and module.num_parameters == 1):
            continue  # the library's own nodes (additions, poolings, reshapes), and one slope for all channels
        name, parts = names[module], int(getattr(module, "groups", 1))
        depthwise = parts > 1 and parts == module.out_channels == module.in_channels
        outputs = depthwise or graph.is_out_channel_pruning_fn(item.dep.handler)
        member = Member(*(torch.tensor(index, device=device) for index in (item.idxs, item.root_idxs)))
        whole = item.idxs == item.root_idxs == list(range(size)) and size == _width(module, outputs)
        shown = f"{name} ({type(module).__name__})"
        blocked = blocked or _obstacle(shown, module, outputs, whole or depthwise)
        if isinstance(module, nn.Conv2d | nn.Linear) and outputs and max(item.idxs, default=0) >= len(module.weight):
            blocked = blocked or f"{shown} has fewer channels than the library counts behind its parts"
        splits = splits if depthwise else math.lcm(splits, parts)
        if isinstance(module, nn.GroupNorm):
            block = math.lcm(block, module.num_channels // module.num_groups)
        if isinstance(module, PER_CHANNEL):
            norms[name] = member
        elif isinstance(module, nn.Conv2d | nn.Linear) and outputs:
            producers[name] = member
        elif isinstance(module, nn.Conv2d | nn.Linear):
            consumers.append(name)
    if not blocked and size % (splits * block):
        blocked = f"{size} channels do not fall into {splits} equal parts of whole normalisation groups of {block}"
    root = names[items[0].dep.target.module]
    return ChannelGroup(root, size, splits, producers, norms, tuple(consumers), block, blocked)


def _width(module: Any, outputs: bool) -> int | None:
    """How many channels it has; None where that does not matter."""
    if isinstance(module, nn.GroupNorm):
        return module.num_channels
    if isinstance(module, nn.Conv2d):
        return module.out_channels if outputs else module.in_channels
    return None


def _obstacle(shown: str, module: Any, outputs: bool, whole: bool) -> str:
    """Why channels that reach ``module`` cannot be taken out; empty when they can.

    Args:
        outputs: the channels are (also) its outputs.
        whole: it holds all of them in their order and no others, or each by itself.
    """
    if isinstance(module, nn.GroupNorm):
        return "" if whole and module.num_groups > 1 else f"{shown} normalises over channels that do not go together"
    if isinstance(module, nn.Conv2d | nn.Linear):
        return "" if whole or getattr(module, "groups", 1) == 1 else f"{shown} is grouped and reads others beside them"
    if getattr(module, "transposed", False) and module.groups > 1:
        return f"{shown} is transposed and grouped"
    if outputs and not isinstance(module, PER_CHANNEL):
        return f"{shown} is tied to them and is neither Conv2d nor Linear nor a normalisation of each by itself"
    return ""


def remove(net: nn.Module, example: Tensor, cuts: Sequence[tuple[str, list[int]]]) -> nn.Module:
    """A copy of ``net`` without the channels ``cuts`` names by their groups' roots.

    Raises:
        NotApplicable: the library cannot follow this network or would leave a layer without channels.
    """
    small = copy.deepcopy(net).requires_grad_(True)
    width = {part: part.num_channels // part.num_groups for part in small.modules() if isinstance(part, nn.GroupNorm)}
    with guarded(small, _LOST) as place:
        graph = _dependencies(small, example)
        for root, channels in cuts:
            place.enter(root)
            layer = small.get_submodule(root)
            group = graph.get_pruning_group(layer, graph.get_pruner_of_module(layer).prune_out_channels, channels)
            if not graph.check_pruning_group(group):
                raise ValueError(f"{root} would keep no channel")
            group.prune()
            place.leave(root)
    for norm, wide in width.items():
        norm.num_groups = norm.num_channels // wide  # whole groups went, those that stay are as wide as before
    return small.eval().requires_grad_(False)
