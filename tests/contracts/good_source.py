"""A source that keeps its contract, with a stream and a hook."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from bench.errors import NotApplicable
from bench.interfaces import Batch, ImageBatch, LabelKind, MethodParams, ModelHandle, RunContext, SynthRequest


class Params(MethodParams):
    iterations: int = Field(50, ge=1)
    batch: int = Field(32, ge=1)


class Stream:
    """Noise, batch after batch."""

    label_kind: LabelKind = "assigned"
    warmup = 0

    def __init__(self, request: SynthRequest, ctx: RunContext) -> None:
        self.batch_size, self.request, self.ctx, self.made = request.batch_size, request, ctx, 0

    @property
    def forward_equivalents(self) -> float:
        return 2.0 * self.batch_size * self.made

    def next_batch(self) -> ImageBatch:
        self.made += 1
        images = torch.randn(self.batch_size, *self.request.dataset.shape, generator=self.ctx.generator)
        labels = torch.arange(self.batch_size) % self.request.dataset.classes
        return ImageBatch(images, labels, None, 2.0 * self.batch_size)

    def info(self) -> Mapping[str, Any]:
        return {"iterations": self.made}


class Hook:
    """A little noise on top."""

    def __call__(
        self, batch: Batch, step: int, total: int, loss: Callable[[Tensor], Tensor], generator: torch.Generator
    ) -> Batch:
        noise = torch.randn(batch.images.shape, generator=generator)
        return Batch(batch.images + 0.1 * noise, batch.labels, batch.soft)


class Good:
    """A few steps towards given classes."""

    version = 1
    summary = "a source that keeps its contract"
    paper = "none"
    needs: frozenset[str] = frozenset()
    Params = Params
    presets: Mapping[str, Mapping[str, Any]] = {"mini": {}, "thorough": {}, "paper": {"iterations": 500}}
    access: Any = "T2a"
    control = "none"
    models = "one"
    label_kind = "assigned"
    offers: frozenset[str] = frozenset({"stream", "hook"})

    def batch_size(self, params: Any) -> int:
        return int(params.batch)

    def check(self, params: Any, models: tuple[ModelHandle, ...]) -> None:
        if not models:
            raise NotApplicable("no network to look at")

    def synthesize_batch(self, request: SynthRequest, ctx: RunContext) -> ImageBatch:
        net = copy.deepcopy(request.models[0].module)
        x = torch.randn(request.batch_size, *request.dataset.shape, generator=ctx.generator)
        labels = torch.arange(len(x)) % request.dataset.classes
        for _ in range(request.params.iterations):
            x.requires_grad_()
            (slope,) = torch.autograd.grad(F.cross_entropy(net(x), labels), x)
            x = (x - slope).detach()
        cost = 2.0 * len(x) * request.params.iterations
        return ImageBatch(x, labels, None, cost, {"models": [request.models[0].name]})

    def stream(self, request: SynthRequest, ctx: RunContext) -> Any:
        return Stream(request, ctx)

    def hook(self, params: Any) -> Any:
        return Hook()
