"""Which channels depend on each other, and their removal; both by torch-pruning (Fang et al., DepGraph, CVPR 2023)."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from typing import Any

import torch
import torch_pruning
from torch import Tensor, nn

from bench.errors import NotApplicable
from methods.compressors._masks import ChannelGroup, Member

HINT = "mode mask zeroes filters layer by layer and needs no such graph"

# What the library raises on a network it does not understand; shufflenet's channel split divides by zero.
_FAILURES = (
    ArithmeticError, AssertionError, AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip


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
    names = {module: name for name, module in copied.named_modules()}
    try:
        graph = _dependencies(copied, example)
        kept = [copied.get_submodule(name) for name in keep]
        kinds = [nn.Conv2d, nn.Linear]
        found = [_group(graph, items, names) for items in graph.get_all_groups(kept, kinds)]
    except _FAILURES as error:
        raise _lost(error) from error
    position = {name: index for index, name in enumerate(order)}
    groups = []
    for group in found:
        ordered = {name: group.producers[name] for name in sorted(group.producers, key=lambda n: position.get(n, -1))}
        members = (group.norms, group.consumers)
        groups.append(ChannelGroup(group.root, group.size, group.splits, ordered, *members))
    groups = [group for group in groups if set(group.producers) <= set(position)]
    return sorted(groups, key=lambda group: position[next(iter(group.producers))])


def _dependencies(net: nn.Module, example: Tensor) -> Any:
    with torch.enable_grad():
        return torch_pruning.DependencyGraph().build_dependency(net, example, verbose=False)


def _group(graph: Any, items: Any, names: dict[nn.Module, str]) -> ChannelGroup:
    producers: dict[str, Member] = {}
    norms: dict[str, Member] = {}
    consumers: list[str] = []
    splits: int = 1
    device = next(graph.model.parameters()).device
    for item in items:
        module = item.dep.target.module
        if isinstance(module, nn.Parameter):
            raise ValueError("a bare parameter depends on the channels")
        if module not in names:
            continue  # the library's own nodes: additions, poolings, reshapes
        name, outputs = names[module], graph.is_out_channel_pruning_fn(item.dep.handler)
        parts = int(module.groups) if isinstance(module, nn.Conv2d) else 1
        depthwise = parts > 1 and parts == module.out_channels == module.in_channels
        splits = splits if depthwise else max(splits, parts)
        own, numbers = (torch.tensor(index, device=device) for index in (item.idxs, item.root_idxs))
        member = Member(own, numbers)
        if isinstance(module, nn.Conv2d | nn.Linear):
            if outputs or depthwise:
                producers[name] = member
            else:
                consumers.append(name)
        elif outputs:
            norms[name] = member
    return ChannelGroup(
        names[items[0].dep.target.module], len(items[0].idxs), splits, producers, norms, tuple(consumers)
    )


def remove(net: nn.Module, example: Tensor, cuts: Sequence[tuple[str, list[int]]]) -> nn.Module:
    """A copy of ``net`` without the channels ``cuts`` names by their groups' roots.

    Raises:
        NotApplicable: the library cannot follow this network or would leave a layer without channels.
    """
    small = copy.deepcopy(net).requires_grad_(True)
    try:
        graph = _dependencies(small, example)
        for root, channels in cuts:
            layer = small.get_submodule(root)
            group = graph.get_pruning_group(layer, graph.get_pruner_of_module(layer).prune_out_channels, channels)
            if not graph.check_pruning_group(group):
                raise ValueError(f"{root} would keep no channel")
            group.prune()
    except _FAILURES as error:
        raise _lost(error) from error
    return small.eval().requires_grad_(False)


def _lost(error: BaseException) -> NotApplicable:
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return NotApplicable("torch-pruning cannot follow the network's channels", got=text, hint=HINT)
