"""What MixMix's losses are made of, wherever they are used: learned loss weights and cross-entropy of mixed pairs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.sources._augment import Mixed

ALPHA_FLOOR = 0.05


class LossWeights:
    """Equation 8 of the appendix for ``count`` terms: a_t of each, learned, and each term's first value."""

    def __init__(self, count: int, lr: float, device: torch.device) -> None:
        self._count, self._lr, self._device = count, lr, device
        self.reset()

    def reset(self) -> None:
        """Every a_t back to 1, first values forgotten."""
        self.alpha = torch.ones(self._count, device=self._device, requires_grad=True)
        self.first: dict[int, Tensor] = {}
        self._adam = torch.optim.Adam([self.alpha], lr=self._lr, foreach=False)

    def __call__(self, index: int, term: Tensor) -> Tensor:
        """Lh / a^2 + a^2 for term ``index``; its first call sets the normaliser (at least 1e-8)."""
        first = self.first.setdefault(index, term.detach().clamp(min=1e-8))
        square = self.alpha[index].square()
        return term / first / square + square

    def step(self) -> None:
        """Move every a_t, then keep it at 0.05 or above."""
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        with torch.no_grad():
            self.alpha.clamp_(min=ALPHA_FLOOR)


@dataclass(frozen=True)
class Targets:
    """Labels of hosts and guests [B] and the guests' share [B]; without data mixing ``guest`` is None."""

    host: Tensor
    guest: Tensor | None = None
    beta: Tensor | None = None

    @classmethod
    def of(cls, labels: Tensor, mixed: Mixed | None) -> Targets:
        return cls(labels) if mixed is None else cls(labels, labels[mixed.partner], mixed.beta)

    def loss(self, logits: Tensor) -> Tensor:
        """(1 - beta) CE(host) + beta CE(guest), averaged over the batch (eq. 9)."""
        if self.guest is None or self.beta is None:
            return F.cross_entropy(logits, self.host)
        host = F.cross_entropy(logits, self.host, reduction="none")
        guest = F.cross_entropy(logits, self.guest, reduction="none")
        return torch.lerp(host, guest, self.beta).mean()
