"""What chooses bits for an image: a selector for each tensor, or one controller for all
(docs/methods/quantisation.md#dynamic)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_LEAST = 1e-6


def per_channel(x: Tensor, axis: int, rows: int, *, deviation: bool) -> Tensor:
    """A number of each channel of each image [N, C]: the standard deviation over all else of what an image has in ``x``
    [N * rows, ...], or the mean.  Where an image has one value of a channel, its size stands for the deviation."""
    per_image = x.movedim(axis, 1).reshape(len(x) // rows, rows, x.shape[axis], -1)
    if not deviation:
        return per_image.mean((1, 3))
    if per_image.shape[1] * per_image.shape[3] == 1:
        return per_image[:, 0, :, 0].abs()
    return per_image.std((1, 3), unbiased=False)


class Affine(nn.Module):
    """Logits [N, O] of features [N, C].  Weights are drawn uniformly within 1 / sqrt(C), as `nn.Linear` does, from the
    ``generator`` given, or are 1 without one."""

    def __init__(self, channels: int, outputs: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        weight, bias = torch.ones(outputs, channels), torch.zeros(outputs)
        if generator is not None:
            reach = 1 / math.sqrt(channels)
            weight = (2 * torch.rand(outputs, channels, generator=generator) - 1) * reach
            bias = (2 * torch.rand(outputs, generator=generator) - 1) * reach
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x, self.weight.t())


class DeviationSelector(nn.Module):
    """A tensor's own selector: one linear layer on the standard deviation of each channel over space, which gets no
    gradient.  It starts at the candidate of most bits, the last: weights 1, bias 1 there and 0 elsewhere.

    ``standard`` deviations are first brought to mean 0 and variance 1 over the images that `begin` was shown.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, channels: int, count: int, *, standard: bool = False) -> None:
        super().__init__()
        self.standard, self.linear = standard, Affine(channels, count)
        self.register_buffer("shift", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(channels))
        with torch.no_grad():
            self.linear.bias[-1] = 1.0

    def forward(self, x: Tensor, axis: int, rows: int) -> Tensor:
        """Logits [N, M] for the tensor ``x`` whose channels are ``axis``."""
        seen = per_channel(x.detach(), axis, rows, deviation=True)
        out: Tensor = self.linear((seen - self.shift) * self.scale if self.standard else seen)
        return out

    @torch.no_grad()
    def begin(self, x: Tensor, axis: int, rows: int) -> None:
        """Take the tensor ``x`` of the first images for what deviations are like."""
        seen = per_channel(x, axis, rows, deviation=True)
        spread = seen.std(0, unbiased=False)
        self.shift.copy_(seen.mean(0))
        self.scale.copy_(torch.where(spread > 0, 1 / spread.clamp_min(_LEAST), torch.zeros_like(spread)))


class Controller(nn.Module):
    """One network for all tensors: average pool, linear, dropout, linear to tensors x candidates.

    ``answer`` holds the logits [N, T, M] of the pass in progress.
    """

    def __init__(
        self, channels: int, tensors: int, count: int, hidden: int, dropout: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.shape = (tensors, count)
        self.first, self.drop = Affine(channels, hidden, generator), nn.Dropout(dropout)
        self.last = Affine(hidden, tensors * count, generator)
        self.answer: Tensor | None = None

    def forward(self, x: Tensor, axis: int, rows: int) -> Tensor:
        pooled = per_channel(x, axis, rows, deviation=False)
        out: Tensor = self.last(self.drop(self.first(pooled))).view(-1, *self.shape)
        return out


class Told(nn.Module):
    """A tensor's selector where one controller decides for all: the one at place 0 asks it, the others read off."""

    def __init__(self, controller: Controller, place: int) -> None:
        super().__init__()
        self.place = place
        self._held = (controller,)  # a tuple: its parameters are counted once, at place 0
        if place == 0:
            self.controller = controller

    def forward(self, x: Tensor, axis: int, rows: int) -> Tensor:
        """Logits [N, M] for this place."""
        controller = self._held[0]
        if self.place == 0:
            controller.answer = controller(x, axis, rows)
        assert controller.answer is not None, "the first tensor comes before the others"
        return controller.answer[:, self.place]

    def clear(self) -> None:
        """Forget the answer."""
        self._held[0].answer = None


Selector = DeviationSelector | Told
