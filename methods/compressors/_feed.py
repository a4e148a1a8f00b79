"""Batches for a training loop, from a stored image set or from a generator that is trained along."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch

from bench.errors import NotApplicable
from bench.interfaces import Batch, BatchHook, ImageBatch, ImageSet, ImageStream, RunContext
from methods.compressors._training import shuffled


def feed(images: ImageSet, size: int, ctx: RunContext, look: int = 0) -> tuple[torch.Tensor, Iterator[Batch]]:
    """Images to look at before training (for ranges), [n,C,H,W], and endless batches; both on the context's device and
    channels last, while the set stays where it is.

    Of a stored set the first ``look`` are looked at; it is shuffled anew each epoch into batches of ``size``.  A stream
    has its own batch size; its first batch is the one to look at, and is trained on as well.
    """
    if images.stream is None:
        batches = shuffled(images.images, size, ctx.generator, images.labels, images.soft_labels)
        return ordered(images.images[:look], ctx), (_batch(b.images, b.labels, b.soft, ctx) for b in batches)
    first = images.stream.next_batch()
    made = itertools.chain([first], _endless(images.stream))
    return ordered(first.images, ctx), (_batch(b.images, b.labels, b.soft_labels, ctx) for b in made)


def offered(images: ImageSet, asked: bool) -> tuple[BatchHook, ...]:
    """The source's own extra when ``asked`` for.

    Raises:
        NotApplicable: asked for, and the source offers none.
    """
    if not asked:
        return ()
    if images.hook is None:
        raise NotApplicable("the source offers no hook for a training", got="source_hook: true")
    return (images.hook,)


def _endless(stream: ImageStream) -> Iterator[ImageBatch]:
    while True:
        yield stream.next_batch()


def _batch(images: torch.Tensor, labels: torch.Tensor | None, soft: torch.Tensor | None, ctx: RunContext) -> Batch:
    there = [None if part is None else part.to(ctx.device) for part in (labels, soft)]
    return Batch(ordered(images, ctx), *there)


def ordered(images: torch.Tensor, ctx: RunContext) -> torch.Tensor:
    """On the context's device, channels last: what convolutions are fastest with."""
    return images.to(ctx.device, ctx.dtype).contiguous(memory_format=torch.channels_last)


def order_weights(network: torch.nn.Module) -> None:
    """Tensors of four axes channels last, as the images are: a third to a half less time per step on a CPU.

    Torch's own conversion refuses a network with a buffer of five, such as a traced mask of shifted windows.
    """
    network._apply(lambda value: value.to(memory_format=torch.channels_last) if value.dim() == 4 else value)
