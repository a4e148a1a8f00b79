"""One split of a data set: labels at hand, images read when asked for, a digest. No torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from bench.errors import DataError

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

HELD_OUT_SHARE = 5
"""One image of so many is held out for tuning."""


class Split(Protocol):
    """Images uint8 [N,C,H,W] of which only those asked for are read."""

    @property
    def labels(self) -> Ints:
        """int64 [N]; shared between callers, not to be written to."""

    def read(self, picks: Ints, draw: int | None = None) -> Bytes:
        """The images at ``picks`` in that order, uint8 [n,C,H,W], as a copy.

        Args:
            draw: of videos, the number that draws which frames are read; by default the fixed ones that a test sees.
                Images are what they are.

        Raises:
            DataError: an image cannot be read.
        """

    def digest(self, picks: Ints | None = None) -> str:
        """SHA-256 over the bytes of the images (at ``picks``, else all) and of their labels.

        Raises:
            DataError: an image cannot be read.
        """


class ArraySplit:
    """A split that lies in memory: images uint8 [N,C,H,W], labels int64 [N]."""

    def __init__(self, images: Bytes, labels: Ints) -> None:
        self._images, self._labels = images, labels

    @property
    def labels(self) -> Ints:
        """As :class:`Split`."""
        return self._labels

    def read(self, picks: Ints, draw: int | None = None) -> Bytes:
        """As :class:`Split`."""
        found: Bytes = self._images[picks]
        return found

    def digest(self, picks: Ints | None = None) -> str:
        """As :class:`Split`."""
        if picks is None:
            return digest_of([self._images], self._labels)
        return digest_of([self._images[picks]], self._labels[picks])


class PartSplit:
    """The images of another split at ``places`` (int64 [N]), in that order; as :class:`Split`."""

    def __init__(self, whole: Split, places: Ints) -> None:
        self._whole, self._places = whole, places

    @property
    def labels(self) -> Ints:
        """As :class:`Split`."""
        found: Ints = self._whole.labels[self._places]
        return found

    def read(self, picks: Ints, draw: int | None = None) -> Bytes:
        """As :class:`Split`."""
        return self._whole.read(self._places[picks], draw)

    def digest(self, picks: Ints | None = None) -> str:
        """As :class:`Split`."""
        return self._whole.digest(self._places if picks is None else self._places[picks])


def held_out(labels: Ints, classes: int) -> tuple[Ints, Ints]:
    """Places (kept, held out), both ascending: of each class the last fifth, in the order of the split, is held out.

    Raises:
        DataError: a class has too few images to hold one out.
    """
    each = [np.flatnonzero(labels == c) for c in range(classes)]
    if min(map(len, each)) < HELD_OUT_SHARE:
        got, allowed = min(map(len, each)), f"at least {HELD_OUT_SHARE} training images of each class"
        raise DataError("a class has too few images to hold one out", got=got, expected=allowed)
    last = [places[-(len(places) // HELD_OUT_SHARE) :] for places in each]
    rest = [places[: -(len(places) // HELD_OUT_SHARE)] for places in each]
    return np.sort(np.concatenate(rest)), np.sort(np.concatenate(last))


def digest_of(images: Iterable[Bytes], labels: Ints) -> str:
    """SHA-256 over the images' bytes, part by part (uint8 [...,C,H,W]), then the labels' (int64 [N])."""
    found = hashlib.sha256()
    for part in images:
        found.update(np.ascontiguousarray(part).reshape(-1).data)
    found.update(np.ascontiguousarray(labels, dtype=np.int64).data)
    return found.hexdigest()


def balanced_picks(labels: Ints, classes: int, subset: int) -> Ints:
    """The fixed class-balanced choice of ``subset`` images: the first of each class, in the order of the split.

    Raises:
        DataError: the subset is no multiple of the classes or more than there is.
    """
    each, rest = divmod(subset, classes)
    least = int(np.bincount(labels, minlength=classes).min())
    if rest or each < 1 or each > least:
        allowed = f"a multiple of {classes} up to {least * classes}"
        raise DataError("no class-balanced test subset of this size", got=subset, expected=allowed)
    return np.sort(np.concatenate([np.flatnonzero(labels == c)[:each] for c in range(classes)]))
