"""What DAFL and its mixed form share: an unconditional generator and the three terms of its loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from methods.sources._features import Head
from methods.sources._generator_source import DaflParams
from methods.sources._generators import Codes
from methods.sources._objectives import Network


class DaflObjective:
    """L_G = w_oh CE(T(x), argmax T(x)) - w_a mean |f_T(x)| + w_ie sum_c pbar_c log10 pbar_c
    (docs/methods/sources.md#dafl)."""

    def __init__(
        self, teacher: Network, shape: tuple[int, int, int], classes: int, params: DaflParams, generator: Generator
    ) -> None:
        self.teacher, self.params, self.generator = teacher, params, generator
        self.head = Head(teacher, shape, classes)

    @property
    def macs(self) -> float:
        """One forward and backward of the teacher."""
        return 2.0 * self.teacher.macs

    def draw(self, classes: Tensor | None = None) -> Codes:
        """Latents; there are no classes to ask for, but as many images."""
        count = self.params.batch if classes is None else len(classes)
        return Codes(torch.randn(count, 1, self.params.latent, generator=self.generator))

    def backward(self, images: Tensor, codes: Codes, log: bool) -> tuple[dict[str, Tensor], Tensor]:
        """One forward and backward of the teacher."""
        logits, _ = self.teacher(images)
        parts = self.terms(logits, self.head.features())
        loss = sum(parts.values(), start=logits.new_zeros(()))
        loss.backward()
        return {"loss": loss.detach(), **{name: part.detach() for name, part in parts.items()}}, logits.detach()

    def terms(self, logits: Tensor, features: Tensor) -> dict[str, Tensor]:
        """The weighted terms of logits [B,K] and features [B,F]; the entropy term is minus the entropy in bans."""
        p = self.params
        share = logits.softmax(1).mean(0)
        return {
            "one_hot": p.one_hot * F.cross_entropy(logits, logits.argmax(1)),
            "activation": -p.activation * features.abs().mean(),
            "entropy": p.entropy * (share * share.clamp(min=1e-20).log10()).sum(),
        }

    def stepped(self) -> None:
        """Nothing else is learned."""

    def info(self) -> Mapping[str, Any]:
        """Nothing more."""
        return {}
