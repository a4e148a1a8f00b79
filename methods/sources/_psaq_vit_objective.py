"""PSAQ-ViT's own terms: how far the patches of an image differ from each other in self-attention, and a total variation
to be met."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.errors import NotApplicable
from methods.sources._losses import tv_l2
from methods.sources._objectives import Network, Prepared, SingleObjective

if TYPE_CHECKING:
    from methods.sources._bn_taps import Stats
    from methods.sources.psaq_vit import PsaqVitParams

_SPREAD = 3.0
"""Bandwidths by which the points of a density reach beyond the similarities."""
_LEAST = 1e-6
"""Added to a density before its logarithm."""


def attentions(module: nn.Module) -> list[nn.Module]:
    """Self-attention modules with heads, outermost ones, in registration order."""
    found: dict[str, nn.Module] = {}
    for name, part in module.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found if outer)
        if not inside and _is_attention(part):
            found[name] = part
    return list(found.values())


def _is_attention(part: nn.Module) -> bool:
    heads, name = getattr(part, "num_heads", None), type(part).__name__
    return isinstance(heads, int) and heads > 0 and ("Attention" in name or "Attn" in name)


def need_attention(module: nn.Module, name: str) -> None:
    """Check that the network ``name`` has self-attention.

    Raises:
        NotApplicable: it has none.
    """
    if not attentions(module):
        raise NotApplicable(
            f"{name} has no self-attention, whose patches psaq_vit compares",
            where="psaq_vit",
            hint="use a source that matches statistics or outputs, or a vision transformer",
        )


class Patches:
    """What each self-attention of a network's private copy gave for the patches in its latest forward.

    Where an attention calls a linear layer ``proj`` on the heads' outputs, these are averaged over heads; where it runs
    its projection by a function (`nn.MultiheadAttention`, torchvision's shifted windows), it is the module's output.
    """

    def __init__(self, network: Network) -> None:
        net = network.taps.module
        self._prefix: int | None = getattr(net, "num_prefix_tokens", None)
        self._seen: list[Tensor] = []
        self._headed = False
        net.register_forward_pre_hook(lambda *_: self._seen.clear())
        for part in attentions(net):
            part.register_forward_pre_hook(self._enter)
            part.register_forward_hook(self._leave)
            proj = getattr(part, "proj", None)
            if isinstance(proj, nn.Linear):
                proj.register_forward_pre_hook(lambda _, inputs, part=part: self._heads(part, inputs[0]))

    def _enter(self, *_: Any) -> None:
        self._headed = False

    def _heads(self, part: Any, x: Tensor) -> None:
        if x.dim() == 3 and x.shape[2] % part.num_heads == 0:
            self._seen.append(x.unflatten(2, (part.num_heads, -1)).mean(2).float())
            self._headed = True

    def _leave(self, part: Any, _: Any, out: Any) -> None:
        if self._headed:
            return
        x: Tensor = out[0] if isinstance(out, tuple) else out
        if isinstance(part, nn.MultiheadAttention) and not part.batch_first:
            x = x.transpose(0, 1)
        if x.dim() == 4 and isinstance(getattr(part, "proj", None), nn.Linear):  # [N, H, W, C]
            x = x.flatten(1, 2)
        if x.dim() == 3:
            self._seen.append(x.float())

    def take(self) -> list[Tensor]:
        """Features [R, P, D] of the patches in each attention, R windows or images; they are forgotten.

        Raises:
            NotApplicable: no attention shows patches.
        """
        seen, self._seen = self._seen, []
        found = [x[:, self._first(x.shape[1]) :] for x in seen]
        found = [x for x in found if x.shape[1] > 1]
        if not found:
            raise NotApplicable("no self-attention of this network shows its patches", where="psaq_vit")
        return found

    def _first(self, tokens: int) -> int:
        """Tokens before the patches: as the network says, else what is left over of a square."""
        side = math.isqrt(tokens)
        return tokens - side * side if self._prefix is None else self._prefix


def similarities(patches: Tensor) -> Tensor:
    """Cosine similarities of all pairs of different patches: [R, P, D] to [R, P (P - 1) / 2]."""
    unit = F.normalize(patches, dim=2)
    first, second = torch.triu_indices(patches.shape[1], patches.shape[1], 1, device=patches.device).unbind()
    return (unit @ unit.transpose(1, 2))[:, first, second]


def differential_entropy(values: Tensor, bandwidth: float, points: int) -> Tensor:
    """-∫ f log f of each row's Gaussian kernel density, in nats: [R, M] to [R].

    Trapezoids over ``points`` equidistant places, from three bandwidths below the least value to three above the
    largest.  Their distance should stay below two bandwidths.
    """
    with torch.no_grad():
        low, high = values.min() - _SPREAD * bandwidth, values.max() + _SPREAD * bandwidth
        places = low + (high - low) * torch.linspace(0.0, 1.0, points, device=values.device)
    off = (places[:, None] - values[:, None, :]) / bandwidth
    density = torch.exp(-0.5 * off.square()).mean(2) / (bandwidth * math.sqrt(2.0 * math.pi))
    return -torch.trapezoid(density * (density + _LEAST).log(), places, dim=1)


def patch_entropy(layers: Sequence[Tensor], bandwidth: float, points: int) -> Tensor:
    """Sum over attentions of the mean differential entropy of the patches' similarities; scalar."""
    found = [differential_entropy(similarities(x), bandwidth, points).mean() for x in layers]
    return torch.stack(found).sum()


class PatchObjective(SingleObjective):
    """CE - entropy + w |TV - target|, the target drawn once per batch; docs/methods/sources.md#psaq_vit.

    Raises:
        NotApplicable: no self-attention shows its patches.
    """

    def __init__(self, whole: Prepared, params: PsaqVitParams, generator: torch.Generator) -> None:
        assert isinstance(whole.objective, SingleObjective)
        network = whole.networks[0]
        super().__init__(network, whole.labels, whole.objective.terms, whole.augment, generator)
        self.params, self.patches = params, Patches(network)
        with torch.no_grad():
            network(torch.zeros_like(whole.init[:2]))
        self.attentions = len(self.patches.take())
        low, high = params.tv_range
        self.target = low + (high - low) * float(torch.rand((), generator=generator))

    def _parts(self, x: Tensor, logits: Tensor, stats: Stats | None, scale: int) -> dict[str, Tensor]:
        p, parts = self.params, self._class_terms(logits)
        if p.entropy:
            parts["entropy"] = -p.entropy * patch_entropy(self.patches.take(), p.bandwidth, p.points)
        if p.tv:
            # four root mean squares make up tv_l2 in the unit of one value
            size = math.sqrt(x.numel()) if p.tv_norm == "batch" else 1.0
            parts["tv"] = p.tv * (tv_l2(x, p.tv_norm) - size * self.target).abs()
        return parts

    @torch.no_grad()
    def seen(self) -> float:
        """Entropy of the images that the network looked at last."""
        return float(patch_entropy(self.patches.take(), self.params.bandwidth, self.params.points))
