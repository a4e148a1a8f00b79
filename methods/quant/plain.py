"""The copy of a network that is rewritten: parametrised weights baked, in-place operations and dropout gone, joint
modules split (docs/methods/quantisation.md#tracing)."""

from __future__ import annotations

import copy
from typing import Any

import torch
from timm.layers import BatchNormAct2d, Conv2dSame
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.overrides import TorchFunctionMode

from bench.interfaces.inventory import has_hooks
from methods.quant.layers import is_drop

_STANDARDISED = frozenset({"StdConv2d", "StdConv2dSame", "ScaledStdConv2d", "ScaledStdConv2dSame"})
_INPLACE_HOOKS = (WeightNorm, SpectralNorm, prune.BasePruningMethod)


def bare_copy(module: nn.Module) -> nn.Module:
    """Deep copy in eval mode that asks for no gradient, with the weights of parametrisations (weight and spectral norm,
    `torch.nn.utils.prune` and the like, old style and new) baked into plain ones."""
    held = [value for part in module.modules() for value in vars(part).values() if isinstance(value, Tensor)]
    # A weight that a hook computes is no parameter and may hold autograd's history, which no deep copy takes.
    memo: dict[int, Any] = {id(value): value.detach().clone() for value in held if value.grad_fn is not None}
    net = copy.deepcopy(module, memo).eval()
    _bake(net)
    return net.requires_grad_(False)


def prepared_copy(module: nn.Module) -> nn.Module:
    """`bare_copy` without in-place activations, dropout and stochastic depth, BatchNormAct2d split into its BN and its
    activation (plain tracing inlines it and then no BN is found), standardised weights made plain."""
    net = bare_copy(module)
    _rewrite(net)
    return net


def _bake(net: nn.Module) -> None:
    for part in list(net.modules()):
        if parametrize.is_parametrized(part):
            _unparametrise(part)
        for key, hook in list(part._forward_pre_hooks.items()):
            if isinstance(hook, _INPLACE_HOOKS):
                hook.remove(part)
                part._forward_pre_hooks.pop(key, None)


def _unparametrise(part: nn.Module) -> None:
    """Give ``part`` its own class and plain weights back.  Torch's own removal takes the properties from the class,
    which a deep copy shares with its original."""
    held: Any = part.parametrizations
    values = {name: getattr(part, name).detach().clone() for name in held}
    part.__class__ = type(part).__bases__[0]
    del part.parametrizations
    for name, value in values.items():
        part.register_parameter(name, nn.Parameter(value, requires_grad=False))


def _rewrite(net: nn.Module) -> None:
    for name, child in list(net.named_children()):
        if is_drop(child) and not has_hooks(child):
            setattr(net, name, nn.Identity())
        elif type(child).forward is BatchNormAct2d.forward and not has_hooks(child):
            setattr(net, name, _split(child))
        elif type(child).__name__ in _STANDARDISED and not has_hooks(child):
            setattr(net, name, _plain(child))
        else:
            _rewrite(child)
    if getattr(net, "inplace", False) is True:
        net.inplace = False  # type: ignore[assignment]
    if isinstance(net, nn.TransformerEncoderLayer):
        # Else eval mode may take one fused operation in place of its layers, which reads their weights only.
        net.activation_relu_or_gelu = 0


class _WeightOfConv(TorchFunctionMode):
    """Notes the weight of the convolutions called inside it."""

    weight: Tensor | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.nn.functional.conv2d:
            self.weight = args[1].detach().clone()
        return func(*args, **(kwargs or {}))


def _plain(conv: nn.Module) -> nn.Module:
    """The convolution a weight-standardising one amounts to: its weight is a constant in eval mode."""
    assert isinstance(conv, nn.Conv2d)
    size = [d * (k - 1) + 1 for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
    with torch.no_grad(), _WeightOfConv() as seen:
        conv(torch.zeros(1, conv.in_channels, *size, device=conv.weight.device, dtype=conv.weight.dtype))
    kind: Any = Conv2dSame if getattr(conv, "same_pad", False) or type(conv).__name__ == "StdConv2dSame" else nn.Conv2d
    padding: Any = 0 if kind is Conv2dSame else conv.padding
    plain: nn.Conv2d = kind(
        conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, padding, conv.dilation, conv.groups,
        conv.bias is not None,
    )  # fmt: skip
    assert seen.weight is not None
    plain.weight, plain.bias = nn.Parameter(seen.weight, requires_grad=False), conv.bias
    return plain.eval()


def _split(both: Any) -> nn.Module:
    norm = nn.BatchNorm2d(both.num_features, both.eps, both.momentum, both.affine, both.track_running_stats)
    norm.weight, norm.bias = both.weight, both.bias
    for buffer in ("running_mean", "running_var", "num_batches_tracked"):
        setattr(norm, buffer, getattr(both, buffer))
    _rewrite(both)
    if isinstance(both.act, nn.Identity):
        return norm.eval()
    return nn.Sequential(norm, both.act).eval()
