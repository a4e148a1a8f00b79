"""Data sets as tensors, read as they are used: the test set in batches, training images by their places."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from bench.data.places import open_split
from bench.data.splits import Ints, Split, balanced_picks
from bench.data.table import spec_of
from bench.interfaces import DatasetSpec, ModelHandle

Arrays = tuple[Tensor, Tensor]

Constants = DatasetSpec | ModelHandle
"""What has a mean and a deviation per channel."""

BATCH = 250
"""Images of an evaluation batch; fewer where they are large (:func:`batch_size`)."""

BATCH_VALUES = 5_000_000
"""Values of an evaluation batch at most: 33 images of 3×224×224.  A network's activations are tens of times its input,
and 250 such images would ask for gigabytes.  Images up to 3×81×81 come 250 at a time."""


def batch_size(shape: tuple[int, ...], most: int = BATCH) -> int:
    """How many images of ``shape`` (C, H, W) are taken at once: ``most``, or as many as BATCH_VALUES allow."""
    return max(1, min(most, BATCH_VALUES // math.prod(shape)))


def labels_of(split: Split) -> Tensor:
    """Labels int64 [N]; shared, not to be written to."""
    return torch.from_numpy(split.labels)


def images_at(split: Split, picks: Tensor, draw: int | None = None) -> Tensor:
    """The images at ``picks`` (int64 [n]) in that order, uint8 [n,C,H,W]; no other is read.  ``draw`` as in ``Split``.

    Raises:
        DataError: an image cannot be read.
    """
    return torch.from_numpy(split.read(picks.numpy(), draw))


def batches_of(split: Split, size: int, picks: Tensor | None = None, draw: int | None = None) -> Iterator[Arrays]:
    """Images uint8 [B,C,H,W] and labels int64 [B] of the split (of ``picks`` in that order), read batch by batch;
    ``draw`` as in ``Split``.

    Raises:
        DataError: an image cannot be read.
    """
    labels = labels_of(split)
    for part in (torch.arange(len(labels)) if picks is None else picks).split(size):
        yield images_at(split, part, draw), labels[part]


def whole(split: Split, draw: int | None = None) -> Arrays:
    """All images uint8 [N,C,H,W] and labels int64 [N] at once, as copies: for a set that fits into memory; ``draw`` as
    in ``Split``.

    Raises:
        DataError: an image cannot be read.
    """
    labels = labels_of(split)
    return images_at(split, torch.arange(len(labels)), draw), labels.clone()


@dataclass(frozen=True)
class Dataset:
    """One data set: its constants, and its splits opened when asked for (see `bench.data.splits.Split`)."""

    spec: DatasetSpec
    train_part: Callable[[], Split]
    full_part: Callable[[], Split]
    test_part: Callable[[], Split]

    def train(self) -> Split:
        """The training images sources may draw from (for Fashion-MNIST the 10,000 embedded ones).

        Raises:
            DataError: they are not on this machine.
        """
        return self.train_part()

    def full_train(self) -> Split:
        """The complete training set, as the zoo is trained on.

        Raises:
            DataError: it is not on this machine; the hint says how to fetch it.
        """
        return self.full_part()

    def test(self) -> Split:
        """The complete test set.

        Raises:
            DataError: it is not on this machine.
        """
        return self.test_part()

    def test_batches(self, subset: int | None = None, size: int | None = None) -> Iterator[Arrays]:
        """The test set, or its fixed class-balanced subset of ``subset`` images (the first of each class), as batches
        of images uint8 [B,C,H,W] and labels int64 [B]; never more than a batch of large images is in memory.

        Args:
            size: images per batch; by default what :func:`batch_size` says.

        Raises:
            DataError: the subset is no multiple of the classes or more than there is; while the batches come, an image
                cannot be read.
        """
        split = self.test()
        picks = None if subset is None else torch.from_numpy(self._picks(split, subset))
        return batches_of(split, size or batch_size(self.spec.shape), picks)

    def test_labels(self, subset: int | None = None) -> Tensor:
        """Labels int64 [N] of the images of :meth:`test_batches`, in their order.

        Raises:
            DataError: as there.
        """
        split = self.test()
        labels = labels_of(split)
        return labels if subset is None else labels[torch.from_numpy(self._picks(split, subset))]

    def test_digest(self, subset: int | None = None) -> str:
        """SHA-256 over the bytes of test images and labels; identity of what is measured on."""
        split = self.test()
        return split.digest(None if subset is None else self._picks(split, subset))

    def train_digest(self) -> str:
        """SHA-256 over the bytes of the training images and labels a source may draw from."""
        return self.train().digest()

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 [N,C,H,W] to normalised float32 of the same shape."""
        return (images.float() / 255 - _channels(self.spec.mean, images)) / _channels(self.spec.std, images)

    def denormalise(self, images: Tensor) -> Tensor:
        """Normalised float32 [N,C,H,W] back to pixels in [0, 1], clipped."""
        return (images * _channels(self.spec.std, images) + _channels(self.spec.mean, images)).clamp(0, 1)

    def normalised_at(self, split: Split, picks: Tensor, draw: int | None = None) -> Tensor:
        """The images at ``picks`` (int64 [n]) of one of the splits, normalised float32 [n,C,H,W]; ``draw`` as in
        ``Split``.

        Raises:
            DataError: an image cannot be read.
        """
        found = torch.empty(len(picks), *self.spec.shape)
        size = batch_size(self.spec.shape)  # the bytes and what arithmetic leaves behind never beside all the floats
        for start, part in zip(range(0, len(picks), size), picks.split(size), strict=True):
            found[start : start + size] = self.normalise(images_at(split, part, draw))
        return found

    def _picks(self, split: Split, subset: int) -> Ints:
        return balanced_picks(split.labels, self.spec.classes, subset)


def renormalise(images: Tensor, given: Constants, wanted: Constants) -> Tensor:
    """Normalised images [N,C,H,W] in the constants of ``wanted`` instead of those of ``given``; the very tensor where
    they are the same."""
    if (given.mean, given.std) == (wanted.mean, wanted.std):
        return images
    mean, std, own_mean, own_std = (
        _channels(values, images) for values in (given.mean, given.std, wanted.mean, wanted.std)
    )
    return (images * std + mean - own_mean) / own_std


def _channels(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, device=like.device).view(1, -1, 1, 1)


def get_dataset(name: str, root: Path | None = None) -> Dataset:
    """The data set called ``name``; ``root`` is the folder of those that are not embedded.

    Raises:
        DataError: unknown name. What is missing on disk is reported when images are asked for.
    """
    return Dataset(
        spec_of(name),
        partial(open_split, name, "train", root),
        partial(open_split, name, "full", root),
        partial(open_split, name, "test", root),
    )
