"""Batches for a training loop, from a stored image set or from a generator that is trained along."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch

from bench.interfaces import ImageBatch, ImageSet, ImageStream, RunContext
from methods.compressors._training import Batch, shuffled


def feed(images: ImageSet, size: int, ctx: RunContext) -> tuple[torch.Tensor, Iterator[Batch]]:
    """Images to look at before training (for ranges), float32 [n,C,H,W] on the context's device, and endless batches.

    A stored set is shuffled anew each epoch into batches of ``size``.  A stream has its own batch size; its first batch
    is the one to look at, and is trained on as well.
    """
    if images.stream is None:
        data, labels, soft = (
            None if part is None else part.to(ctx.device) for part in (images.images, images.labels, images.soft_labels)
        )
        assert data is not None
        data = data.to(ctx.dtype)
        return data, shuffled(data, size, ctx.generator, labels, soft)
    first = images.stream.next_batch()
    made = itertools.chain([first], _endless(images.stream))
    return first.images.to(ctx.device, ctx.dtype), (_batch(batch, ctx) for batch in made)


def _endless(stream: ImageStream) -> Iterator[ImageBatch]:
    while True:
        yield stream.next_batch()


def _batch(made: ImageBatch, ctx: RunContext) -> Batch:
    labels, soft = (None if part is None else part.to(ctx.device) for part in (made.labels, made.soft_labels))
    return Batch(made.images.to(ctx.device, ctx.dtype), labels, soft)
