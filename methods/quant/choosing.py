"""Modules of a network whose bits each image decides: quantisers, layers and normalisations that follow
(docs/methods/quantisation.md#dynamic).

A choice is hard forward and soft backward: one candidate computes, and the gradient is that of the softmax mixture of
all, so that out = hard + soft - stopgrad(soft), to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from methods.quant.layers import LayerFace
from methods.quant.learned import LearnedActivation
from methods.quant.selectors import DeviationSelector, Selector, Told


@dataclass(frozen=True)
class Choice:
    """What was chosen for a tensor: the place of each image's candidate [N], in training the candidates' probabilities
    [N, M], and how many rows of the tensor an image has."""

    hard: Tensor
    soft: Tensor | None
    rows: int = 1

    @property
    def hard_rows(self) -> Tensor:
        """As ``hard``, of each row of the tensor."""
        return self.hard.repeat_interleave(self.rows) if self.rows > 1 else self.hard

    def bits(self, widths: Tensor) -> Tensor:
        """Bits of each image [N], of candidates of ``widths`` [M]; their gradient is the expected bits'."""
        chosen = widths[self.hard]
        if self.soft is None:
            return chosen
        expected = self.soft @ widths
        return chosen + (expected - expected.detach())


class HardForward(torch.autograd.Function):
    """Of the candidates' results [R, ...] those that ``hard`` [R] picks; the gradient is that of their mixture by
    ``soft`` [R, M]."""

    @staticmethod
    def forward(ctx: Any, soft: Tensor, hard: Tensor, *results: Tensor) -> Tensor:
        ctx.save_for_backward(soft, *results)
        out = results[0]
        for place, result in enumerate(results[1:], 1):
            out = torch.where(_rows(hard == place, result), result, out)
        return out.clone() if len(results) == 1 else out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        soft, *results = ctx.saved_tensors
        shares = torch.stack([(grad * result).flatten(1).sum(1) for result in results], 1)
        return shares, None, *(grad * _rows(soft[:, place], grad) for place in range(len(results)))


def _rows(values: Tensor, like: Tensor) -> Tensor:
    """``values`` [R] as a factor of ``like`` [R, ...]."""
    return values.view(-1, *[1] * (like.dim() - 1))


def grouped(x: Tensor, hard: Tensor, parts: Sequence[Callable[[Tensor], Tensor]]) -> Tensor:
    """Each row of ``x`` [R, ...] through the part that ``hard`` [R] names."""
    used = hard.unique().tolist()
    if len(used) == 1:
        alone: Tensor = parts[used[0]](x)
        return alone
    out: Tensor | None = None
    for place in used:
        index = (hard == place).nonzero().squeeze(1)
        made = parts[place](x[index])
        if out is None:
            out = made.new_empty(len(x), *made.shape[1:])
            if out.dim() == 4:
                out = out.contiguous(memory_format=torch.channels_last)
        out[index] = made
    assert out is not None
    return out


class DynamicActivation(LearnedActivation):
    """A quantiser for each candidate, with a range of its own, of which a selector picks one for each image.

    ``bits`` are the setting's, the mean to be; ``tilt`` [] times a candidate's bits is added to its logit, 0 in
    training; with a ``generator`` (CPU) training adds Gumbel noise to the logits.

    Attributes:
        tensor: name of the tensor.
        choice: of the last pass, None where it was off.
    """

    tilt: Tensor
    widths: Tensor

    def __init__(
        self, tensor: str, bits: int, parts: Sequence[LearnedActivation], selector: Selector, *, axis: int, rows: int
    ) -> None:
        super().__init__(bits, parts[0].nonnegative)
        self.tensor, self.axis, self.rows = tensor, axis, rows
        self.parts, self.selector = nn.ModuleList(parts), selector
        self.register_buffer("tilt", torch.tensor(0.0))
        self.register_buffer("widths", torch.tensor([float(part.bits) for part in parts]))
        self.choice: Choice | None = None
        self.generator: torch.Generator | None = None

    @property
    def levels(self) -> int:
        """The most that a candidate has."""
        return max(part.levels for part in self._quantisers)

    @property
    def zero_points(self) -> int:
        return sum(part.zero_points for part in self._quantisers)

    @property
    def _quantisers(self) -> list[LearnedActivation]:
        return [part for part in self.parts if isinstance(part, LearnedActivation)]

    def begin(self, x: Tensor) -> None:
        for part in self._quantisers:
            part.begin(x)
        if isinstance(self.selector, DeviationSelector):
            self.selector.begin(x, self.axis, self.rows)

    def forward(self, x: Tensor) -> Tensor:
        self.choice = None
        return super().forward(x)

    def quantise(self, x: Tensor) -> Tensor:
        choice = self.choice = self._choose(x)
        quantisers = [part.quantise for part in self._quantisers]
        if choice.soft is None:
            return grouped(x, choice.hard_rows, quantisers)
        soft = choice.soft.repeat_interleave(self.rows, 0)
        out: Tensor = HardForward.apply(soft, choice.hard_rows, *(quantise(x) for quantise in quantisers))
        return out

    def _choose(self, x: Tensor) -> Choice:
        logits = self.selector(x, self.axis, self.rows)
        if not self.training:
            return Choice((logits + self.tilt * self.widths).argmax(1), None, self.rows)
        if self.generator is not None:
            uniform = torch.rand(logits.shape, generator=self.generator).clamp_(1e-10, 1 - 1e-7)
            logits = logits - uniform.log().neg().log().to(logits)
        return Choice(logits.argmax(1), logits.softmax(1), self.rows)

    def bits_of_images(self) -> Tensor:
        """Bits of each image of the last pass [N]; in training with the gradient of `Choice.bits`."""
        assert self.choice is not None, "no pass came before"
        return self.choice.bits(self.widths)

    def clear(self) -> None:
        """Forget the last pass."""
        self.choice = None
        if isinstance(self.selector, Told):
            self.selector.clear()


class FollowingLayer(LayerFace):
    """A layer whose weight has the candidate of its input: a weight quantiser for each (`SwitchedWeight`), baked by
    `bake`.  ``quant`` is its input's quantiser where there is no graph to put that into, else None."""

    layer: nn.Conv2d | nn.Linear

    def __init__(self, layer: nn.Module, source: DynamicActivation, quant: LearnedActivation | None) -> None:
        super().__init__()
        self.layer, self.quant = layer, quant  # type: ignore[assignment]
        self._source = (source,)  # a tuple: it is registered where it stands
        self.weights = nn.ParameterList()

    def forward(self, x: Tensor) -> Tensor:
        if self.quant is not None:
            x = self.quant(x)
        choice = self._source[0].choice
        if choice is None:
            out: Tensor = self.layer(x)
            return out
        parts = [self._at(place) for place in range(len(self._source[0].parts))]
        if choice.soft is None:
            return grouped(x, choice.hard_rows, parts)
        soft = choice.soft.repeat_interleave(choice.rows, 0)
        mixed: Tensor = HardForward.apply(soft, choice.hard_rows, *(part(x) for part in parts))
        return mixed

    def _at(self, place: int) -> Callable[[Tensor], Tensor]:
        """The layer with its weight at the candidate of this place."""

        def run(x: Tensor) -> Tensor:
            if len(self.weights):
                return functional_call(self.layer, {"weight": self.weights[place]}, (x,))  # type: ignore[no-any-return]
            switch: Any = self.layer.parametrizations.weight[0]  # type: ignore[union-attr,index]
            usual = switch.choice
            switch.choice = place
            try:
                out: Tensor = self.layer(x)
            finally:
                switch.choice = usual
            return out

        return run

    @torch.no_grad()
    def bake(self) -> None:
        """Keep the weight of each candidate; after this the parametrisation may go."""
        switch: Any = self.layer.parametrizations.weight[0]  # type: ignore[union-attr,index]
        master: Any = self.layer.parametrizations.weight.original  # type: ignore[union-attr]
        kept = [nn.Parameter(part(master).detach().clone(), requires_grad=False) for part in switch.parts]
        self.weights = nn.ParameterList(kept)


class ChosenNorm(nn.Module):
    """A batch normalisation for each candidate of the layer before it; each normalises the images that chose it, and in
    training follows their statistics.  A group without variance (one value per channel) has the running ones."""

    def __init__(self, parts: Iterable[_BatchNorm], source: DynamicActivation) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self._source = (source,)

    def forward(self, x: Tensor) -> Tensor:
        choice = self._source[0].choice
        if choice is None:
            out: Tensor = self.parts[len(self.parts) // 2](x)
            return out
        return grouped(x, choice.hard_rows, [self._with(part) for part in self.parts])

    @staticmethod
    def _with(part: nn.Module) -> Callable[[Tensor], Tensor]:
        def run(x: Tensor) -> Tensor:
            lone = part.training and x.numel() == x.shape[1]
            if lone:
                part.eval()
            out: Tensor = part(x)
            if lone:
                part.train()
            return out

        return run


class PerImage(nn.Module):
    """The finished network; nothing of a pass is kept."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        try:
            out: Tensor = self.body(x)
        finally:
            forget(self.body)
        return out

    @torch.no_grad()
    def bits(self, x: Tensor) -> dict[str, Tensor]:
        """{tensor: its bits for each image [N] float64} of images ``x`` [N, C, H, W]."""
        try:
            self.body(x)
            return {quant.tensor: quant.bits_of_images().double() for quant in choosers(self.body)}
        finally:
            forget(self.body)


@dataclass(frozen=True)
class ImageBitops:
    """Images [N, C, H, W] -> bit operations of each [N] float64, by the count of `bench.measure.complexity.bitops`.

    A layer's input has the most bits among the tensors that it reads.

    Attributes:
        module: the network.
        fixed: of what no image decides.
        layers: (MACs; least bits of its input, of the tensors that no image decides; tensors that images decide; bits
            of its weight, 0 where they follow) of each other layer.
        follow: {bits of an input: bits of a weight that follows}.
    """

    module: PerImage = field(compare=False)
    fixed: int
    layers: tuple[tuple[int, int, tuple[str, ...], int], ...]
    follow: tuple[tuple[int, int], ...] = ()

    def __call__(self, images: Tensor) -> Tensor:
        bits = self.module.bits(images)
        total = torch.full((len(images),), float(self.fixed), dtype=torch.float64, device=images.device)
        for macs, least, tensors, weight in self.layers:
            chosen = torch.stack([bits[name] for name in tensors]).amax(0).clamp_min(least)
            total += macs * chosen * (self._following(chosen) if weight == 0 else weight)
        return total

    def _following(self, chosen: Tensor) -> Tensor:
        out = torch.zeros_like(chosen)
        for bits, weight in self.follow:
            out[chosen == bits] = weight
        return out


def choosers(net: nn.Module) -> list[DynamicActivation]:
    """The quantisers of ``net`` that images choose for."""
    return [part for part in net.modules() if isinstance(part, DynamicActivation)]


def forget(net: nn.Module) -> None:
    """Keep nothing of the last pass."""
    for quant in choosers(net):
        quant.clear()
