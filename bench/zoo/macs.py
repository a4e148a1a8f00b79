"""Multiply-accumulates of a network: convolutions and linear layers, bias and everything elementwise left out."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def count_macs(module: nn.Module, shape: tuple[int, int, int]) -> int:
    """Multiply-accumulates of one forward pass of one image of ``shape`` (C, H, W); the module is left as it was."""
    total = 0

    def add(layer: nn.Module, _: tuple[Tensor, ...], out: Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Conv2d):
            total += out[0].numel() * (layer.in_channels // layer.groups) * math.prod(layer.kernel_size)
        elif isinstance(layer, nn.Linear):
            total += out[0].numel() * layer.in_features

    hooks = [m.register_forward_hook(add) for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    was_training = {m: m.training for m in module.modules()}
    first = next(module.parameters())
    try:
        module.eval()
        with torch.no_grad():
            module(torch.zeros(1, *shape, device=first.device, dtype=first.dtype))
    finally:
        for hook in hooks:
            hook.remove()
        for part, training in was_training.items():
            part.training = training
    return total


def count_parameters(module: nn.Module) -> int:
    """Number of trainable scalars, buffers left out."""
    return sum(p.numel() for p in module.parameters())
