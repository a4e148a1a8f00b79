"""Statistics of the tensors that enter a network's batch norms, by hooks or by one fused autograd function.

The hooks are the reference (docs/methods/sources.md#bn-taps).  The fused way replaces each batch norm of a *copy* by
one function that returns normalised output, mean and biased variance, and whose backward folds the three gradients in
two elementwise passes.  Either way the network runs in eval mode: in train mode it would normalise by the batch and
hide the mismatch.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from methods.sources._tap_function import Scope, TapFunction, values_behind


def bn_layers(module: nn.Module) -> list[tuple[str, _BatchNorm]]:
    """Batch norms with stored statistics as (name, layer), in registration order; those without have no target."""
    return [(name, m) for name, m in module.named_modules() if _is_target(m)]


def skipped_layers(module: nn.Module) -> int:
    """Number of batch norms that keep no running statistics and therefore cannot be matched."""
    return sum(isinstance(m, _BatchNorm) and not _is_target(m) for m in module.modules())


def _is_target(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and module.running_mean is not None and module.running_var is not None


@dataclass(frozen=True)
class Layout:
    """Where each tap lies in the concatenated statistics, and its stored values.

    ``target_mean``/``target_var`` [K] with K the sum of channels over taps, ``segment`` int64 [K] the tap of each
    channel, ``sizes`` [E] channels per tap, ``weight`` [E] one over the calls of its layer in this forward,
    ``first`` [E] one where the tap belongs to layer 0.
    """

    target_mean: Tensor
    target_var: Tensor
    segment: Tensor
    sizes: Tensor
    weight: Tensor
    first: Tensor

    @property
    def taps(self) -> int:
        return len(self.sizes)


@dataclass(frozen=True)
class Stats:
    """Float32 mean and *biased* variance of every tap, concatenated: [K], or [B, K] in scope ``image``.

    ``counts`` [E] are the values behind each statistic (for the unbiased variance).
    """

    mean: Tensor
    var: Tensor
    counts: Tensor
    layout: Layout


def pooled(stats: Stats) -> Stats:
    """Statistics over the batch from those per image (equal counts per image); batch statistics as they are."""
    if stats.mean.dim() == 1:
        return stats
    mean = stats.mean.mean(0)
    var = stats.var.mean(0) + stats.mean.var(0, correction=0)
    return Stats(mean, var, stats.counts * len(stats.mean), stats.layout)


def together(parts: Sequence[Stats]) -> Stats:
    """Statistics over all images of ``parts``, which are batch statistics [K] of equally many images each."""
    rows = (torch.stack([part.mean for part in parts]), torch.stack([part.var for part in parts]))
    return pooled(Stats(*rows, parts[0].counts, parts[0].layout))


class _TappedNorm(nn.Module):
    """Stands in for one frozen batch norm; what followed the normalisation inside it (timm's ``BatchNormAct2d``) stays.

    ``calls`` receives (y's statistics) of each call and is cleared by the owner before each forward.
    """

    def __init__(self, norm: _BatchNorm, scope: Scope) -> None:
        super().__init__()
        assert norm.running_mean is not None
        assert norm.running_var is not None
        mean, var = norm.running_mean.float(), norm.running_var.float()
        weight = torch.ones_like(mean) if norm.weight is None else norm.weight.detach().float()
        bias = torch.zeros_like(mean) if norm.bias is None else norm.bias.detach().float()
        scale = weight * torch.rsqrt(var + norm.eps)
        self.register_buffer("scale", scale)
        self.register_buffer("shift", bias - mean * scale)
        # what timm's norm+activation layers do after normalising; modules that others look up there stay reachable
        self.drop: nn.Module = getattr(norm, "drop", nn.Identity())
        self.act: nn.Module = getattr(norm, "act", nn.Identity())
        self._after = [m for m in (self.drop, self.act) if not isinstance(m, nn.Identity)]
        self.scope: Scope = scope
        self.calls: list[tuple[Tensor, Tensor, int]] = []

    def forward(self, x: Tensor) -> Tensor:
        y, mean, var = TapFunction.apply(x, self.scale, self.shift, self.scope)
        self.calls.append((mean, var, values_behind(x, self.scope)))
        for module in self._after:
            y = module(y)
        return y  # type: ignore[no-any-return]


class _HookTap:
    """Reference tap: a forward hook on the layer computes the statistics of its input with plain autograd."""

    def __init__(self, norm: nn.Module, scope: Scope) -> None:
        self.scope: Scope = scope
        self.calls: list[tuple[Tensor, Tensor, int]] = []
        self.handle = norm.register_forward_hook(self._tap)

    def _tap(self, _: nn.Module, inputs: tuple[Tensor, ...], __: Tensor) -> None:
        x = inputs[0].float()
        dims = [0, *range(2, x.dim())] if self.scope == "batch" else list(range(2, x.dim()))
        if dims:
            mean, var = x.mean(dims), x.var(dims, correction=0)
        else:
            mean, var = x, torch.zeros_like(x)
        self.calls.append((mean, var, values_behind(x, self.scope)))


def _known_forward(norm: nn.Module) -> bool:
    """Whether the layer's forward is normalisation, then its ``drop`` and ``act`` and nothing else."""
    plain = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    if type(norm) in plain:
        return True
    return type(norm).__name__ in ("BatchNormAct2d", "SyncBatchNormAct") and type(norm).__module__.startswith("timm.")


def _replace(root: nn.Module, taps: dict[int, _TappedNorm]) -> None:
    """Put each tap wherever its layer is registered (a layer may have several parents)."""
    for parent in list(root.modules()):
        for name, child in list(parent._modules.items()):
            if child is not None and id(child) in taps:
                parent._modules[name] = taps[id(child)]


@dataclass
class _Layer:
    mean: Tensor
    var: Tensor
    tap: _TappedNorm | _HookTap


@dataclass
class TappedModel:
    """A frozen network that returns its logits together with the statistics of every batch norm's input.

    Made by ``tapped`` (fused, on a copy) or ``hooked`` (reference, on the network itself).
    """

    module: nn.Module
    layers: list[_Layer]
    skipped: int = 0
    _layouts: dict[tuple[int, ...], Layout] = field(default_factory=dict)

    def __call__(self, x: Tensor) -> tuple[Tensor, Stats | None]:
        """Logits [B,K] and statistics of this forward of ``x`` [B,C,H,W]; None when there is no batch norm."""
        for layer in self.layers:
            layer.tap.calls.clear()
        logits = self.module(x)
        calls = [call for layer in self.layers for call in layer.tap.calls]
        if not calls:
            return logits, None
        stats = Stats(
            mean=torch.cat([c[0] for c in calls], -1),
            var=torch.cat([c[1] for c in calls], -1),
            counts=torch.tensor([c[2] for c in calls], dtype=torch.float32, device=x.device),
            layout=self._layout(tuple(len(layer.tap.calls) for layer in self.layers)),
        )
        for layer in self.layers:
            layer.tap.calls.clear()  # else the graph outlives the iteration
        return logits, stats

    def _layout(self, pattern: tuple[int, ...]) -> Layout:
        """Layout for a forward that called layer i ``pattern[i]`` times; nearly always one pattern per network."""
        if pattern not in self._layouts:
            rows = [(i, n) for i, n in enumerate(pattern) for _ in range(n)]
            sizes = torch.tensor([len(self.layers[i].mean) for i, _ in rows])
            device = self.layers[0].mean.device
            self._layouts[pattern] = Layout(
                target_mean=torch.cat([self.layers[i].mean for i, _ in rows]),
                target_var=torch.cat([self.layers[i].var for i, _ in rows]),
                segment=torch.repeat_interleave(torch.arange(len(rows)), sizes).to(device),
                sizes=sizes.to(device, torch.float32),
                weight=torch.tensor([1.0 / n for _, n in rows], device=device),
                first=torch.tensor([float(i == 0) for i, _ in rows], device=device),
            )
        return self._layouts[pattern]


def _stored(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean.detach().float().clone(), norm.running_var.detach().float().clone()


def tapped(module: nn.Module, *, device: torch.device | str = "cpu", scope: Scope = "batch") -> TappedModel:
    """Fused taps on a frozen channels-last copy of ``module``; the given network is only read.

    Channels last because the statistics then cost one pass over contiguous rows, and the convolutions lose nothing.
    A batch norm of an unknown subclass keeps its own forward and gets a hook.
    """
    net = copy.deepcopy(module).to(device).eval().requires_grad_(False)
    skipped, layers, taps = skipped_layers(net), [], {}
    for _, norm in bn_layers(net):
        if _known_forward(norm):
            taps[id(norm)] = _TappedNorm(norm, scope)
        layers.append(_Layer(*_stored(norm), taps.get(id(norm)) or _HookTap(norm, scope)))
    if id(net) in taps:
        net = taps[id(net)]
    _replace(net, taps)
    net = net.eval().to(memory_format=torch.channels_last)
    return TappedModel(net, layers, skipped)


@contextmanager
def frozen(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Eval mode and ``requires_grad`` off inside the block; every flag as it was afterwards, also after an error."""
    parts = [(m, m.training) for module in modules for m in module.modules()]
    params = [(p, p.requires_grad) for module in modules for p in module.parameters()]
    try:
        for module in modules:
            module.eval().requires_grad_(False)
        yield
    finally:
        for part, training in parts:
            part.training = training
        for param, flag in params:
            param.requires_grad_(flag)


@contextmanager
def hooked(module: nn.Module, *, scope: Scope = "batch") -> Iterator[TappedModel]:
    """Reference taps: forward hooks on ``module`` itself, frozen meanwhile; all removed at the end."""
    layers: list[_Layer] = []
    handles = []
    with frozen([module]):
        try:
            for _, norm in bn_layers(module):
                tap = _HookTap(norm, scope)
                handles.append(tap.handle)
                layers.append(_Layer(*_stored(norm), tap))
            yield TappedModel(module, layers, skipped_layers(module))
        finally:
            for handle in handles:
                handle.remove()
