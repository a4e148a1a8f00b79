"""The loss of a stochastic supernet: shares drawn anew each step, weights and choices trained in turn."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from bench.interfaces import RunContext
from methods.policies._mixed import SoftmaxChoice
from methods.policies._proxy import Batch, Proxy
from methods.policies._supernet import Supernet
from methods.policies._supernet_loop import Objective


def gumbel(count: int, generator: torch.Generator) -> Tensor:
    """Standard Gumbel draws [count], -log(-log u)."""
    draws = torch.rand(count, generator=generator, dtype=torch.float64).clamp(1e-12, 1 - 1e-12)
    return -(-draws.log()).log()


def temperature(first: float, last: float, step: int, total: int) -> float:
    """From ``first`` to ``last`` in equal factors."""
    return float(first * (last / first) ** (step / max(total - 1, 1)))


class GumbelObjective(Objective):
    """CE (log Cost / log Cost_0)^k with shares softmax((alpha + Gumbel) / tau)."""

    def __init__(self, net: Supernet, proxy: Proxy, params: Any) -> None:
        super().__init__(net, proxy, params)
        self.first = float(net.bitops().detach())

    def batches(self, ctx: RunContext) -> Iterator[Batch]:
        """In turn of the weights' images and of the choices'."""
        count = len(self.proxy.images)
        order = torch.randperm(count, generator=ctx.generator)
        # One image cannot be divided.
        cut = min(max(round(count * self.params.arch_share), 1), count - 1) if count > 1 else 0
        parts = (order[cut:], order[:cut] if cut else order)
        streams = [self.proxy.batches(self.params.batch, ctx.generator, part) for part in parts]
        while True:
            for stream in streams:
                yield next(stream)

    def before(self, step: int, total: int, ctx: RunContext) -> None:
        tau = temperature(self.params.tau_first, self.params.tau_last, step, total)
        for choice in self.net.choices:
            assert isinstance(choice, SoftmaxChoice)
            choice.tau = tau
            choice.noise.copy_(gumbel(len(choice.bits), ctx.generator))

    def held(self, step: int) -> frozenset[str]:
        return frozenset({"weights" if step % 2 else "choices"})

    def total(self, task: Tensor) -> Tensor:
        factor: Tensor = (self.net.bitops().log() / math.log(self.first)) ** self.params.exponent
        return task * factor

    def finish(self) -> None:
        for choice in self.net.choices:
            assert isinstance(choice, SoftmaxChoice)
            choice.tau = 1.0
            choice.noise.zero_()
