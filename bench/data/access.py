"""Who may read what: the handle a method gets denies any read beyond its tier and records every one
(docs/architecture.md#rule-3).

There is no way to the test split from here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.data.datasets import Dataset, batches_of, images_at, labels_of, whole
from bench.errors import AccessDenied, DataError
from bench.interfaces import TIERS, Tier

MANY = 64
"""Classes from which on a set of images may hold fewer of them than there are: they are then drawn at random."""


def balanced_order(labels: Tensor, classes: int, generator: torch.Generator) -> Tensor:
    """A random order int64 [N'] in which every ``classes`` images hold each class once, as long as all classes last.

    Classes without images, as in a sample of ImageNet, do not count.  Where they are more than MANY their order is
    random, too, so that the first images are of any classes.
    """
    per_class = []
    for c in range(classes):
        found = torch.nonzero(labels == c).flatten()
        if len(found):
            per_class.append(found[torch.randperm(len(found), generator=generator)])
    if not per_class:
        return torch.empty(0, dtype=torch.int64)
    shortest = min(len(p) for p in per_class)
    order = torch.stack([p[:shortest] for p in per_class], dim=1)
    if len(per_class) > MANY:
        order = order[:, torch.randperm(len(per_class), generator=generator)]
    return order.flatten()


@dataclass(frozen=True)
class _Behind:
    """What lies behind a handle."""

    dataset: Dataset
    tier: Tier
    unrelated: Dataset | None
    audit: list[dict[str, Any]] = field(default_factory=list)

    def allow(self, needed: Tier, what: str, count: int) -> None:
        if TIERS.index(self.tier) < TIERS.index(needed):
            self.audit.append({"read": what, "count": count, "denied": True})
            raise AccessDenied(f"a method of tier {self.tier} may not read {what}", expected=f"tier {needed} or beyond")

    def pick(self, split: str, order: Tensor, count: int, start: int | None) -> Tensor:
        """``count`` of ``order``, recorded: all of them its first ones, or from ``start`` on as many as are left."""
        if start is None and not 0 < count <= len(order):
            raise DataError(f"no such number of images ({split})", got=count, expected=f"1 to {len(order)}")
        if start is not None and (count < 1 or not 0 <= start < len(order)):
            raise DataError(
                f"no such images ({split})", got=f"{count} from image {start + 1} on", expected=f"1 to {len(order)}"
            )
        picks = order[start or 0 :][:count]
        self.record(split, len(picks), picks)
        return picks

    def draw(self, generator: torch.Generator) -> int | None:
        """The number that draws the frames of training clips; images need none, and nothing is drawn for them."""
        if self.dataset.spec.frames == 1:
            return None
        return int(torch.randint(2**62, (), generator=generator))

    def record(self, split: str, count: int, picks: Tensor) -> None:
        digest = hashlib.sha256(picks.numpy().tobytes()).hexdigest()[:16]
        self.audit.append({"read": split, "count": count, "indices": digest, "denied": False})


class DataAccess:
    """A method's only door to data.

    The handle itself holds nothing: no attribute of it leads to the data set, and none can be set.

    Args:
        dataset: the suite's data set; images come out in its constants.
        tier: what the method declared; reads beyond it raise AccessDenied.
        unrelated: the data set that serves as another domain, None when there is none.
    """

    __slots__ = ("__weakref__",)

    def __init__(self, dataset: Dataset, tier: Tier, unrelated: Dataset | None = None) -> None:
        _BEHIND[self] = _Behind(dataset, tier, unrelated)

    @property
    def audit(self) -> tuple[dict[str, Any], ...]:
        """Every read so far, granted or denied, as copies: what read, how many images, digest of their indices."""
        return tuple(dict(entry) for entry in _BEHIND[self].audit)

    def train_images(
        self, count: int, generator: torch.Generator, start: int | None = None
    ) -> tuple[Tensor, Tensor, list[int]]:
        """``count`` class-balanced training images (normalised [n,C,H,W]), labels [n] and their indices. Tier T5 up.

        ``start`` serves batches that are read one by one: those from place ``start`` on of the same order (that of the
        generator's state), fewer where the split ends; only they are read.  So in the other reads of images.

        Raises:
            AccessDenied: the method's tier is below T5.
            DataError: fewer images than asked for; none from ``start`` on.
        """
        behind = _BEHIND[self]
        behind.allow("T5", "labelled training images", count)
        split = behind.dataset.train()
        labels = labels_of(split)
        picks = behind.pick("train", balanced_order(labels, behind.dataset.spec.classes, generator), count, start)
        images = behind.dataset.normalised_at(split, picks, behind.draw(generator))
        return images, labels[picks], [int(i) for i in picks]

    def unlabelled_images(
        self, count: int, generator: torch.Generator, start: int | None = None
    ) -> tuple[Tensor, list[int]]:
        """``count`` training images drawn without a look at the labels (normalised [n,C,H,W]) and their indices. Tier
        T4 up.

        Raises:
            AccessDenied: the method's tier is below T4.
            DataError: fewer images than asked for; none from ``start`` on.
        """
        behind = _BEHIND[self]
        behind.allow("T4", "unlabelled training images", count)
        split = behind.dataset.train()
        order = torch.randperm(len(split.labels), generator=generator)
        picks = behind.pick("train, unlabelled", order, count, start)
        return behind.dataset.normalised_at(split, picks, behind.draw(generator)), [int(i) for i in picks]

    def training_set(self) -> tuple[Tensor, Tensor]:
        """The complete training set: uint8 [N,C,H,W] and labels [N], as copies; of videos the frames in the centres of
        the segments. Tier T6.

        For a set that fits into memory; `training_batches` reads as it goes.

        Raises:
            AccessDenied: the method's tier is below T6.
            DataError: the complete set is not on this machine.
        """
        behind = _BEHIND[self]
        behind.allow("T6", "the complete training set", 0)
        images, labels = whole(behind.dataset.full_train())
        behind.record("complete training set", len(labels), torch.arange(len(labels)))
        return images, labels

    def training_batches(self, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """One pass over the complete training set in random order, read as it goes: uint8 [B,C,H,W] and labels [B], the
        last batch shorter where the count asks for it. Tier T6.

        Raises:
            AccessDenied: the method's tier is below T6.
            DataError: the complete set is not on this machine; while the batches come, an image cannot be read.
        """
        behind = _BEHIND[self]
        behind.allow("T6", "the complete training set", 0)
        split = behind.dataset.full_train()
        order = torch.randperm(len(split.labels), generator=generator)
        behind.record("complete training set", len(order), order)
        return batches_of(split, size, order, behind.draw(generator))

    def unrelated_images(self, count: int, generator: torch.Generator, start: int | None = None) -> Tensor:
        """``count`` images of another domain in this data set's shape and constants, float32 [n,C,H,W]. Tier T3 up.

        Raises:
            AccessDenied: the method's tier is below T3.
            DataError: there is no other domain, or it has too few images, or none from ``start`` on.
        """
        return _unrelated(_BEHIND[self], count, generator, start)[0]

    def unrelated_labelled(
        self, count: int, generator: torch.Generator, start: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """As :meth:`unrelated_images`, with the other domain's own labels, int64 [n]. Tier T3 up."""
        return _unrelated(_BEHIND[self], count, generator, start)


def _unrelated(behind: _Behind, count: int, generator: torch.Generator, start: int | None) -> tuple[Tensor, Tensor]:
    """Images of the other domain and their labels there."""
    behind.allow("T3", "unrelated images", count)
    if behind.unrelated is None:
        raise DataError(
            "no data set of another domain is named", expected="a data set of unrelated images, e.g. digits"
        )
    split = behind.unrelated.train()
    order = torch.randperm(len(split.labels), generator=generator)
    picks = behind.pick(behind.unrelated.spec.name, order, count, start)
    found = _fitted(images_at(split, picks), behind.unrelated, behind.dataset)
    return behind.dataset.normalise(found), labels_of(split)[picks]


def _fitted(images: Tensor, given: Dataset, wanted: Dataset) -> Tensor:
    """Images uint8 [n,C,H,W] of the data set ``given`` in the shape of ``wanted``: floats from 0 to 255, grey where the
    channels differ.  Of a clip the frame in the middle counts; for clips the image is shown in every frame."""
    channels, size = wanted.spec.channels, wanted.spec.shape[1:]
    found = images.unflatten(1, (given.spec.frames, -1))[:, given.spec.frames // 2].float()
    if found.shape[1] != channels:
        found = found.mean(1, keepdim=True).expand(-1, channels, -1, -1)
    if found.shape[2:] != size:
        found = F.interpolate(found, size=size, mode="bilinear", antialias=True, align_corners=False)
    still: Tensor = found.repeat(1, wanted.spec.frames, 1, 1)
    return still


_BEHIND: WeakKeyDictionary[DataAccess, _Behind] = WeakKeyDictionary()
"""Beside the handles, not in them: a method holds its handle and must not reach the rest by an attribute."""


def note_denied(access: DataAccess, what: str) -> None:
    """Record a read that was denied elsewhere: of a file, by the process a method ran in."""
    _BEHIND[access].audit.append({"read": what, "count": 0, "denied": True})
