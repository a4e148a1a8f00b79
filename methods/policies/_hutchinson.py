"""Traces of a Hessian's diagonal blocks by Hutchinson's estimate: Tr(H) = E[v^T H v] for v of random signs.

One probe serves all blocks: signs of different blocks are independent, so in the mean v_l^T (H v)_l is the trace of the
block l alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

Part = Callable[[], tuple[Tensor, Sequence[Tensor]]]
"""Computes one summand of the function [] and the tensors its Hessian is taken in, one per block."""


@dataclass(frozen=True)
class Traces:
    """Means over ``probes`` probes, one per block, and their standard errors (of one probe: 0)."""

    means: tuple[float, ...]
    errors: tuple[float, ...]
    probes: int


def hutchinson(
    parts: Sequence[Part],
    probes: int,
    tolerance: float,
    generator: torch.Generator,
    progress: Callable[[int], None] = lambda done: None,
    *,
    shared: bool = True,
) -> Traces:
    """Estimate the traces of the sum of all ``parts``.

    Args:
        probes: most of them.
        tolerance: fewer serve once another changes no block's mean by more than this share of it.
        generator: on the CPU.
        progress: called with the number of probes done.
        shared: all parts are functions of the same tensors, so that one draw of signs is of all; else each part has
            tensors of its own.
    """
    samples: list[Tensor] = []
    means = torch.zeros(0)
    for probe in range(probes):
        signs: list[Tensor] | None = None
        total = torch.zeros(())
        for part in parts:
            products, signs = _products(part, signs if shared else None, generator)
            total = total + products
        samples.append(total)
        before, means = means, torch.stack(samples).mean(0)
        progress(probe + 1)
        if probe and bool(((means - before).abs() <= tolerance * before.abs()).all()):
            break
    count = len(samples)
    spread = torch.stack(samples).std(0) if count > 1 else torch.zeros_like(means)
    return Traces(tuple(means.tolist()), tuple((spread / count**0.5).tolist()), count)


def _products(part: Part, signs: list[Tensor] | None, generator: torch.Generator) -> tuple[Tensor, list[Tensor]]:
    """v^T H v of each block, float64 [blocks], and the signs v: those given, or drawn now."""
    # Fused attention has no second derivative; the one of plain products does.
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        value, tensors = part()
        slopes = torch.autograd.grad(value, tensors, create_graph=True)
        signs = [_signs(tensor, generator) for tensor in tensors] if signs is None else signs
        products = torch.autograd.grad(slopes, tensors, signs, materialize_grads=True)
    every = [(v * hv).sum(dtype=torch.float64).cpu() for v, hv in zip(signs, products, strict=True)]
    return torch.stack(every), signs


def _signs(like: Tensor, generator: torch.Generator) -> Tensor:
    drawn = torch.randint(0, 2, like.shape, generator=generator)
    return (2 * drawn - 1).to(like)
