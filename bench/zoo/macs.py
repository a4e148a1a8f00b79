"""What is counted of a network: multiply-accumulates (convolutions and linear layers, bias and everything elementwise
left out), parameters, layers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bench.interfaces.inventory import layer_macs


def count_macs(module: nn.Module, shape: tuple[int, int, int]) -> int:
    """Multiply-accumulates of one forward pass of one image of ``shape`` (C, H, W); the module is left as it was."""
    return _one_forward(module, shape)[0]


def count_parameters(module: nn.Module) -> int:
    """Number of trainable scalars, buffers left out."""
    return sum(p.numel() for p in module.parameters())


def network_facts(module: nn.Module, shape: tuple[int, int, int]) -> dict[str, Any]:
    """What a manifest says of a network for images of ``shape`` (C, H, W), JSON; words as in ``NetworkInfo``."""
    macs, logits = _one_forward(module, shape)
    parts = list(module.modules())
    return {
        "shape": list(shape),
        "classes": logits.shape[1],
        "layers": sum(isinstance(m, nn.Conv2d | nn.Linear) for m in parts),
        "batch_norms": sum(isinstance(m, _BatchNorm) and m.running_mean is not None for m in parts),
        "parameters": count_parameters(module),
        "macs": macs,
    }


def _one_forward(module: nn.Module, shape: tuple[int, int, int]) -> tuple[int, Tensor]:
    """Multiply-accumulates and output of one black image in eval mode; the module is left as it was.  A clip's frames
    are rows inside, so all rows count."""
    total = 0

    def add(layer: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        nonlocal total
        total += layer_macs(layer, inputs, out)

    hooks = [m.register_forward_hook(add) for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    was_training = {m: m.training for m in module.modules()}
    first = next(module.parameters())
    try:
        module.eval()
        with torch.no_grad():
            out: Tensor = module(torch.zeros(1, *shape, device=first.device, dtype=first.dtype))
    finally:
        for hook in hooks:
            hook.remove()
        for part, training in was_training.items():
            part.training = training
    return total, out
