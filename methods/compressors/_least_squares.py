"""Closed-form start for pruned layers: the weights that best make up for the channels that are gone.

He, Zhang and Sun, "Channel Pruning for Accelerating Very Deep Neural Networks", ICCV 2017, equation 1 with the channels
given: minimise ||Y - X W^T||^2 over W, from sampled positions.  The ridge pulls towards the weights as they were, not
towards zero, so that the fit is never worse than theirs.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RIDGE = 1e-4
"""Weight of the pull, in units of the mean square of an input."""


def solve(inputs: Tensor, targets: Tensor, start: Tensor, ridge: float = RIDGE) -> Tensor:
    """W [..., O, D] that minimises ||targets - inputs W^T||^2 + rho ||W - start||^2.

    Args:
        inputs: [..., P, D], one row per position.
        targets: [..., P, O].
        start: [..., O, D].
        ridge: rho over the mean of the diagonal of inputs^T inputs.
    """
    x, y, old = inputs.double(), targets.double(), start.double()
    gram = x.mT @ x
    diagonal = gram.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    wanted = x.mT @ (y - x @ old.mT)
    # the floor keeps a layer whose inputs are all zero as it is
    step = torch.linalg.solve(gram + (ridge * diagonal).clamp_min(1e-12) * eye, wanted)
    found: Tensor = (old + step.mT).to(start.dtype)
    return found


def fits(layer: nn.Conv2d | nn.Linear) -> bool:
    """Whether ``refit`` can take this layer: zero padding of given width, or a plain linear layer."""
    if isinstance(layer, nn.Linear):
        return type(layer) is nn.Linear
    return type(layer) is nn.Conv2d and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)


def samples(
    layer: nn.Conv2d | nn.Linear, inputs: Tensor, targets: Tensor, positions: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """([g, P, D], [g, P, O / g]): what ``layer`` reads and what it should give at P random places of its output.

    ``inputs`` are its inputs [N, ...], ``targets`` its outputs in the full-precision network [N, ...]; P is at most
    ``positions`` per image.
    """
    groups, kernel = 1, layer.weight.flatten(1)
    if isinstance(layer, nn.Conv2d):
        groups = layer.groups
        shape: tuple[Any, ...] = (layer.kernel_size, layer.dilation, layer.padding, layer.stride)
        # [N, g * D, L] -> [N * L, g, D]
        x = F.unfold(inputs, *shape).mT.reshape(-1, groups, kernel.shape[1])
        y = targets.flatten(2).mT.reshape(-1, groups, len(kernel) // groups)
    else:
        x, y = inputs.reshape(-1, 1, inputs.shape[-1]), targets.reshape(-1, 1, targets.shape[-1])
    chosen = torch.randperm(len(x), generator=generator)[: positions * len(inputs)].to(x.device)
    return x[chosen].transpose(0, 1), y[chosen].transpose(0, 1)


def refit(layer: nn.Conv2d | nn.Linear, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor | None]:
    """Weight and bias for ``layer`` that fit `samples` best."""
    groups, kernel = len(x), layer.weight.detach().flatten(1)
    start = kernel.reshape(groups, -1, kernel.shape[1])
    if layer.bias is None:
        return solve(x, y, start).reshape(layer.weight.shape), None
    x = torch.cat([x, torch.ones_like(x[..., :1])], -1)
    full = solve(x, y, torch.cat([start, layer.bias.detach().reshape(groups, -1, 1)], -1))
    return full[..., :-1].reshape(layer.weight.shape), full[..., -1].reshape(-1)
