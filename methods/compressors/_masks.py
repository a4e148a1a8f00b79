"""Which weights or channels go: those of least L1 norm, exactly round(ratio * n) of them
(docs/methods/compressors.md#selection)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn

PER_CHANNEL = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.GroupNorm, nn.PReLU)
"""What treats each channel by itself (a group normalisation each of its groups), its parameters lying along them."""

Masks = dict[str, Tensor]
"""{layer: 0 or 1, float, of its weight's shape or [O, 1, ...] for whole filters}; an unlisted layer stays whole."""


class Selection(Protocol):
    """A rule that turns weights into masks.

    ``filters``: whole filters go, each with its bias.  ``local``: a layer's mask depends on that layer alone.
    """

    @property
    def filters(self) -> bool: ...

    @property
    def local(self) -> bool: ...

    def rank(self, weights: Mapping[str, Tensor]) -> Masks:
        """Masks by the L1 norms of ``weights`` {layer: [O, ...]}."""

    def norm_masks(self, masks: Masks) -> dict[str, Tensor]:
        """{normalisation that was not folded, or PReLU: 0 or 1 [C]} that goes with ``masks``."""

    def choices(self, weights: Mapping[str, Tensor]) -> int:
        """How many things the largest layer or group chooses among; 0 where none may lose any."""


def lowest(scores: Tensor, count: int) -> Tensor:
    """Indices int64 [count] of the smallest of ``scores`` [n]; of equal ones the first."""
    return torch.argsort(scores, stable=True)[:count]


@dataclass(frozen=True)
class Entries:
    """Single weights: round(ratio * numel) of each of ``layers``, by absolute value."""

    ratio: float
    layers: tuple[str, ...]
    filters: bool = False
    local: bool = True

    def rank(self, weights: Mapping[str, Tensor]) -> Masks:
        masks = {}
        for name in self.layers:
            weight = weights[name].detach()
            mask = torch.ones(weight.numel(), dtype=weight.dtype, device=weight.device)
            mask[lowest(weight.abs().reshape(-1), round(self.ratio * weight.numel()))] = 0
            masks[name] = mask.reshape(weight.shape)
        return masks

    def norm_masks(self, masks: Masks) -> dict[str, Tensor]:
        return {}

    def choices(self, weights: Mapping[str, Tensor]) -> int:
        return max((weights[name].numel() for name in self.layers), default=0)


@dataclass(frozen=True)
class Filters:
    """Whole filters, each layer by itself: round(ratio * O) of each of ``layers``, at least one kept."""

    ratio: float
    layers: tuple[str, ...]
    filters: bool = True
    local: bool = True

    def rank(self, weights: Mapping[str, Tensor]) -> Masks:
        masks = {}
        for name in self.layers:
            norms = filter_norms(weights[name])
            keep = torch.ones(len(norms), dtype=weights[name].dtype, device=norms.device)
            keep[lowest(norms, min(round(self.ratio * len(norms)), len(norms) - 1))] = 0
            masks[name] = broadcast(keep, weights[name])
        return masks

    def norm_masks(self, masks: Masks) -> dict[str, Tensor]:
        return {}

    def choices(self, weights: Mapping[str, Tensor]) -> int:
        return max((len(weights[name]) for name in self.layers if len(weights[name]) > 1), default=0)


@dataclass(frozen=True)
class Member:
    """A layer's part in a group: its channel ``own[i]`` goes with the group's channel ``group[i]``, both int64 [n]."""

    own: Tensor
    group: Tensor


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that can only go together.

    Attributes:
        root: a layer whose output channels number the group's.
        size: how many there are.
        splits: parts of equal size that must lose the same positions (grouped convolutions).
        producers: convolutions and linear layers whose output channels these are, in order of execution.
        norms: normalisations over them, and activations with a parameter for each.
        consumers: convolutions and linear layers that read them.
        block: so many neighbours go together (the groups of a group normalisation).
        blocked: why none can go; empty when they can.
    """

    root: str
    size: int
    splits: int
    producers: Mapping[str, Member]
    norms: Mapping[str, Member]
    consumers: tuple[str, ...]
    block: int = 1
    blocked: str = ""

    @property
    def choices(self) -> int:
        """How many things it chooses among: channels, or blocks of them, of one part."""
        return self.size // self.splits // self.block

    def sorted_by(self, position: Mapping[str, int]) -> ChannelGroup:
        """The same with its producers in the order of ``position``."""
        return replace(
            self, producers={name: self.producers[name] for name in sorted(self.producers, key=position.__getitem__)}
        )

    def removed(self, weights: Mapping[str, Tensor], ratio: float) -> Tensor:
        """Channels int64 [k] of least summed L1 norm over all producers' filters; ``ratio`` of them, one (or one block)
        kept."""
        first = weights[self.root]
        scores = torch.zeros(self.size, dtype=torch.float64, device=first.device)
        for name, member in self.producers.items():
            scores.index_add_(0, member.group, filter_norms(weights[name])[member.own])
        length = self.size // self.splits
        sums = scores.view(self.splits, length).sum(0).view(-1, self.block).sum(1)
        blocks = lowest(sums, min(round(ratio * len(sums)), len(sums) - 1))
        positions = (blocks[:, None] * self.block + torch.arange(self.block, device=first.device)).reshape(-1)
        starts = torch.arange(self.splits, device=first.device) * length
        return (starts[:, None] + positions.sort().values).reshape(-1)


@dataclass(frozen=True)
class Coupled:
    """Whole channels of every group: whatever an addition, a gate or a depthwise layer ties together goes together."""

    ratio: float
    groups: Sequence[ChannelGroup]
    filters: bool = True
    local: bool = False

    def rank(self, weights: Mapping[str, Tensor]) -> Masks:
        masks: Masks = {}
        for group in self.groups:
            keep = torch.ones(group.size, dtype=torch.float32, device=weights[group.root].device)
            keep[group.removed(weights, self.ratio)] = 0
            for name, member in group.producers.items():
                own = masks.get(name, torch.ones(len(weights[name]), device=keep.device)).reshape(-1)
                own[member.own] *= keep[member.group]
                masks[name] = broadcast(own, weights[name])
        return masks

    def norm_masks(self, masks: Masks) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for group in self.groups:
            keep = self._keep(group, masks)
            for name, member in group.norms.items():
                # behind a concatenation each group owns a part of the normalisation, so its length is the parts' end
                mask = torch.ones(max(int(member.own.max()) + 1, len(found.get(name, ()))), device=keep.device)
                if name in found:
                    mask[: len(found[name])] = found[name]
                mask[member.own] = keep[member.group]
                found[name] = mask
        return found

    def choices(self, weights: Mapping[str, Tensor]) -> int:
        return max((group.choices for group in self.groups if group.choices > 1), default=0)

    def cuts(self, masks: Masks) -> list[tuple[str, list[int]]]:
        """(root, its channels to remove) per group that loses any."""
        found = [(group.root, (self._keep(group, masks) == 0).nonzero().view(-1).tolist()) for group in self.groups]
        return [(root, channels) for root, channels in found if channels]

    def _keep(self, group: ChannelGroup, masks: Masks) -> Tensor:
        member = group.producers[group.root]
        keep = torch.ones(group.size, device=member.own.device)
        keep[member.group] = masks[group.root].reshape(-1)[member.own]
        return keep


def filter_norms(weight: Tensor) -> Tensor:
    """L1 norm of each filter of ``weight`` [O, ...], float64 [O]."""
    return weight.detach().double().abs().flatten(1).sum(1)


def broadcast(mask: Tensor, weight: Tensor) -> Tensor:
    """``mask`` [O] as [O, 1, ...], to multiply ``weight`` with."""
    return mask.reshape(-1, *[1] * (weight.dim() - 1)).to(weight.dtype)
