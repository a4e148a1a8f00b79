"""Whether a rewritten network is still the network: the one comparison, and the one tolerance, of all rewrites
(docs/methods/quantisation.md#rewrites)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.errors import NotApplicable
from bench.interfaces.inventory import evaluating, probe_images

TOLERANCE = 1e-4
"""Largest distance of two networks' outputs, relative to the outputs' spread over the images (see `difference`)."""

_LEAST_SPREAD = 0.1

FAILURES = (
    ArithmeticError, AssertionError, AttributeError, LookupError, NameError, NotImplementedError, RuntimeError,
    TypeError, ValueError,
)  # fmt: skip
"""What torch, the libraries and a network's own code raise where a rewrite broke it, or where they do not understand
it; a channel split may divide by zero."""


@dataclass(frozen=True)
class Reference:
    """What a network computes in eval mode: ``outputs`` [N, ...] of ``images`` [N, C, H, W], for each number of
    images."""

    images: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def reference(net: nn.Module, example: Tensor, counts: tuple[int, ...] = (2, 3)) -> Reference:
    """What ``net`` makes of random images of the size of ``example`` [N, C, H, W], so many at a time; it is left as it
    was.

    Raises:
        NotApplicable: it does not return one tensor.
    """
    images = tuple(probe_images(example, count) for count in counts)
    outputs = []
    with evaluating(net), _full_precision():
        for batch in images:
            out = net(batch)
            if not isinstance(out, Tensor):
                raise NotApplicable(
                    "the network does not return one tensor of logits",
                    got=type(out).__name__,
                    expected="Tensor [images, classes]",
                )
            outputs.append(out.detach().clone())
    return Reference(images, tuple(outputs))


def departs(net: nn.Module, expected: Reference, *, batches: int = 1) -> str:
    """How ``net`` differs from the network that ``expected`` was taken of, in words; "" where it does not.  More than
    one of its ``batches`` show whether ``net`` takes any number of images."""
    worst = 0.0
    for batch, output in list(zip(expected.images, expected.outputs, strict=True))[:batches]:
        try:
            with evaluating(net), _full_precision():
                found = net(batch)
        except FAILURES as error:
            return f"fails: {error}"
        if not isinstance(found, Tensor) or found.shape != output.shape:
            return "returns something else"
        worst = max(worst, difference(found, output))
    return "" if worst <= TOLERANCE else f"outputs differ by {worst:.1e}"


@contextmanager
def _full_precision() -> Iterator[None]:
    """Convolutions on GPUs in float32 as on CPUs: the shorter format they use by default errs by more than the
    tolerance."""
    short = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = short


def difference(found: Tensor, expected: Tensor) -> float:
    """Distance of two outputs [N, ...] over the spread of ``expected``, in float64.

    The spread is the norm of what differs from image to image, for the logits of a random network may be all bias; but
    at least a tenth of the whole norm, as rounding goes with that.  Values that are not finite must be the same.
    """
    a, b = found.double(), expected.double()
    odd = ~b.isfinite()
    if bool(odd.any()):
        if not torch.equal(a.nan_to_num()[odd], b.nan_to_num()[odd]) or not torch.equal(a.isfinite(), ~odd):
            return float("inf")
        a, b = a.masked_fill(odd, 0.0), b.masked_fill(odd, 0.0)
    spread = max(float((b - b.mean(0, keepdim=True)).norm()), _LEAST_SPREAD * float(b.norm()))
    distance = float((a - b).norm())
    if distance != distance:
        return float("inf")
    return distance / max(spread, 1e-30)
