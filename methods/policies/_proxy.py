"""The images a supernet trains on: labels, batches, shifts, and the network to start from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from bench.errors import BenchError
from bench.interfaces import ImageSet, ModelHandle, RunContext

_CHUNK = 256


@dataclass(frozen=True)
class Proxy:
    """Images with labels.

    Attributes:
        images: [N, C, H, W]; labels: [N], of soft ones the likeliest class.
        soft: [N, K] or None.
        classes: how many the scores have; fresh: they are others than the network's, so its classifier is replaced.
        source: where the labels come from: "images", "soft labels" or "target".
        device: where batches go; the set itself stays where it was given.
    """

    images: Tensor
    labels: Tensor
    soft: Tensor | None
    classes: int
    fresh: bool
    source: str
    shift: int
    flip: bool
    device: torch.device

    def first(self, count: int) -> Tensor:
        """At most ``count`` images."""
        return self.images[:count].to(self.device)

    def batches(self, size: int, generator: Generator, indices: Tensor | None = None) -> Iterator[Batch]:
        """Endless batches of at most ``size``, each epoch in a new order, its incomplete batch left out; of the images
        at ``indices`` where given."""
        pool = torch.arange(len(self.images)) if indices is None else indices
        size = min(size, len(pool))
        while True:
            order = pool[torch.randperm(len(pool), generator=generator)]
            for picked in order.split(size):
                if len(picked) == size:
                    yield self._batch(picked, generator)

    def steps(self, size: int) -> int:
        """Batches in an epoch."""
        return len(self.images) // min(size, len(self.images))

    def _batch(self, index: Tensor, generator: Generator) -> Batch:
        images = moved(self.images[index].to(self.device), self.shift, self.flip, generator)
        soft = None if self.soft is None else self.soft[index].to(self.device)
        return Batch(images, self.labels[index].to(self.device), soft)


@dataclass(frozen=True)
class Batch:
    """Images [B, C, H, W], labels [B] and, where there are any, soft labels [B, K]."""

    images: Tensor
    labels: Tensor
    soft: Tensor | None

    @property
    def wanted(self) -> Tensor:
        """What cross-entropy takes."""
        return self.labels if self.soft is None else self.soft


def moved(images: Tensor, shift: int, flip: bool, generator: Generator) -> Tensor:
    """Each image moved by up to ``shift`` pixels either way, its edges repeated, and mirrored with probability 1/2."""
    count, _, height, width = images.shape
    if shift:
        padded = F.pad(images, (shift,) * 4, mode="replicate")
        down, right = torch.randint(2 * shift + 1, (2, count, 1), generator=generator)
        rows = (down + torch.arange(height)).to(images.device)
        columns = (right + torch.arange(width)).to(images.device)
        which = torch.arange(count, device=images.device)[:, None, None]
        images = padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    if flip:
        coins = torch.rand((count, 1, 1, 1), generator=generator) < 0.5
        images = torch.where(coins.to(images.device), images.flip(3), images)
    return images.contiguous()


def proxy_of(model: ModelHandle, images: ImageSet, params: Any, ctx: RunContext) -> tuple[Proxy, float]:
    """The images' labels, else their soft labels, else what ``model`` says of them; and the forward passes it took.

    Raises:
        BenchError: there is no image, or no label for a classifier of other classes.
    """
    count = min(params.samples, len(images.images))
    if not count:
        raise BenchError("the search needs images", got="none")
    pixels = images.images[:count].cpu().to(ctx.dtype)
    soft, passes = None, 0.0
    fresh = params.head == "new" or (params.head == "auto" and images.label_kind == "foreign")
    if images.labels is not None:
        labels, source = images.labels[:count].cpu().long(), "images"
    elif images.soft_labels is not None:
        soft = images.soft_labels[:count].cpu().to(ctx.dtype)
        labels, source = soft.argmax(1), "soft labels"
    else:
        if fresh:
            raise BenchError("a new classifier needs labels", where="head", got="images without labels")
        with torch.no_grad():
            labels = torch.cat([model.module(part.to(ctx.device)).argmax(1).cpu() for part in pixels.split(_CHUNK)])
        source, passes = "target", float(count)
    classes = soft.shape[1] if soft is not None else int(labels.max()) + 1
    return Proxy(pixels, labels, soft, classes, fresh, source, params.shift, params.flip, ctx.device), passes


def start_of(model: ModelHandle, last: str, proxy: Proxy, params: Any, ctx: RunContext) -> nn.Module:
    """A copy of ``model`` that trains, with a fresh classifier in place of the layer ``last`` where asked for.

    Raises:
        BenchError: the labels are not of its classes, or its last layer is not linear.
    """
    net = deepcopy(model.module).requires_grad_(True)
    if proxy.fresh:
        _replace_head(net, last, proxy.classes, ctx)
    with torch.no_grad():
        classes = net.eval()(proxy.first(1)).shape[1]
    if proxy.classes > classes or (proxy.soft is not None and proxy.classes != classes):
        raise BenchError(
            "the images' labels are not of the network's classes",
            where=model.name,
            got=f"{proxy.classes} classes",
            expected=f"{classes}",
            hint="head: new trains a classifier of their own",
        )
    return net


def _replace_head(net: nn.Module, last: str, classes: int, ctx: RunContext) -> None:
    old = net.get_submodule(last)
    if not isinstance(old, nn.Linear):
        raise BenchError("only a linear last layer can be replaced", where=last, got=type(old).__name__)
    new = nn.utils.skip_init(nn.Linear, old.in_features, classes)
    bound = 1 / math.sqrt(old.in_features)  # torch's own start, from our generator
    with torch.no_grad():
        for parameter in new.parameters():
            parameter.copy_(bound * (2 * torch.rand(parameter.shape, generator=ctx.generator) - 1))
    parent, _, name = last.rpartition(".")
    setattr(net.get_submodule(parent), name, new.to(old.weight))


def pretrain(net: nn.Module, proxy: Proxy, params: Any, ctx: RunContext) -> float:
    """Train ``net`` in floating point for ``pretrain_epochs``; the passes it took, a backward as one more."""
    steps = params.pretrain_epochs * proxy.steps(params.batch)
    batches = proxy.batches(params.batch, ctx.generator)
    rule = torch.optim.SGD(net.parameters(), lr=params.lr, momentum=params.momentum, weight_decay=params.decay)
    passes = 0.0
    with own_draws(net, ctx):
        for step in range(steps):
            batch = next(batches)
            training(net, len(batch.images))
            for group in rule.param_groups:
                group["lr"] = params.lr * 0.5 * (1 + math.cos(math.pi * step / steps))
            loss = F.cross_entropy(net(batch.images), batch.wanted)
            rule.zero_grad(set_to_none=True)
            loss.backward()
            if params.clip:
                nn.utils.clip_grad_norm_(net.parameters(), params.clip)
            rule.step()
            passes += 2.0 * len(batch.images)
            ctx.report("pretrain", step + 1, steps)
    net.eval()
    return passes


def training(net: nn.Module, count: int) -> None:
    """Training mode; with a batch of one image, which has no variance, normalisation as in evaluation."""
    net.train()
    if count == 1:
        for part in net.modules():
            if isinstance(part, _BatchNorm):
                part.eval()


@contextmanager
def own_draws(net: nn.Module, ctx: RunContext) -> Iterator[None]:
    """Dropout draws from torch's global generators: seeded from the context's here, and put back afterwards."""
    kinds = [type(part).__name__ for part in net.modules()]
    if not any("Drop" in kind or kind == "StochasticDepth" for kind in kinds):
        yield
        return
    with torch.random.fork_rng([ctx.device] if ctx.device.type == "cuda" else []):
        torch.manual_seed(int(torch.randint(2**62, (), generator=ctx.generator)))
        yield
