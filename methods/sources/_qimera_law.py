"""How Qimera draws what its generator is fed: single classes, or several superposed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from methods.sources._generators import Codes

if TYPE_CHECKING:
    from methods.sources.qimera import QimeraParams


class Law:
    """How codes are drawn: classes, coefficients and latents from one generator on the CPU."""

    def __init__(self, params: QimeraParams, classes: int, size: int, generator: Generator) -> None:
        self.params, self.classes, self.size, self.generator = params, classes, size, generator

    def training(self, classes: Tensor | None = None) -> Codes:
        """One training batch: superposed with probability p, or single."""
        if classes is not None:
            return self.single(classes)
        if float(torch.rand((), generator=self.generator)) < self.params.superpose:
            return self.superposed(self.params.batch)
        return self.single(torch.randint(self.classes, (self.params.batch,), generator=self.generator))

    def single(self, classes: Tensor) -> Codes:
        """One class per image [B], share 1."""
        z = torch.randn(len(classes), 1, self.size, generator=self.generator)
        return Codes(z, classes[:, None], torch.ones(len(classes), 1))

    def superposed(self, count: int) -> Codes:
        """``slots`` independent classes per image, shares softmax(N(0, I))."""
        shape = (count, self.params.slots)
        classes = torch.randint(self.classes, shape, generator=self.generator)
        shares = torch.randn(shape, generator=self.generator).softmax(1)
        return Codes(torch.randn(*shape, self.size, generator=self.generator), classes, shares)
