"""What is switched in a network of several bit-widths: a list of modules, one for each width, of which one is in use
(docs/methods/quantisation.md#adaptive)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from methods.quant.learned import LearnedActivation, PactActivation
from methods.quant.learned_weights import SquashedWeight


class Switched(nn.Module):
    """Several modules of which ``choice`` is in use."""

    def __init__(self, parts: Iterable[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.choice = 0

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.parts[self.choice](x)
        return out


class SwitchedWeight(Switched):
    """A weight quantiser for each width, as a parametrisation of the one weight."""

    def right_inverse(self, weight: Tensor) -> Tensor:
        """What trains starts as the weight itself (`torch.nn.utils.parametrize` asks)."""
        return weight

    def part(self, width: int) -> SquashedWeight:
        """The quantiser at place ``width``."""
        found = self.parts[width]
        assert isinstance(found, SquashedWeight)
        return found


class SwitchedNorm(Switched):
    """A batch normalisation for each width.  With ``counts`` off it normalises by the batch in training mode and leaves
    its running statistics as they are."""

    counts = True

    def part(self, width: int) -> _BatchNorm:
        """The normalisation at place ``width``."""
        found = self.parts[width]
        assert isinstance(found, _BatchNorm)
        return found

    def forward(self, x: Tensor) -> Tensor:
        part = self.part(self.choice)
        if self.counts or not part.track_running_stats:
            return super().forward(x)
        part.track_running_stats = False
        try:
            return super().forward(x)
        finally:
            part.track_running_stats = True


class SwitchedActivation(LearnedActivation):
    """An activation quantiser for each width; ``tied`` ones of PACT have one clip, which starts as the widest's."""

    def __init__(self, parts: Sequence[LearnedActivation], *, tied: bool) -> None:
        super().__init__(parts[0].bits, parts[0].nonnegative)
        self.parts, self.choice = nn.ModuleList(parts), 0
        first = parts[0]
        for part in parts[1:]:
            if tied and isinstance(first, PactActivation) and isinstance(part, PactActivation):
                part.alpha, part.beta = first.alpha, first.beta
                part.register_buffer("units", first.units)

    def part(self, width: int) -> LearnedActivation:
        """The quantiser at place ``width``."""
        found = self.parts[width]
        assert isinstance(found, LearnedActivation)
        return found

    def begin(self, x: Tensor) -> None:
        for width in reversed(range(len(self.parts))):
            self.part(width).begin(x)

    def quantise(self, x: Tensor) -> Tensor:
        return self.part(self.choice).quantise(x)


@contextmanager
def without_gradient(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """What is computed inside gives these no gradient."""
    asked = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in asked:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in asked:
            parameter.requires_grad_(True)
